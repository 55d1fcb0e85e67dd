"""The composition root: the only package that chooses implementations.

log        where events go
server     listening, signals, TLS: what every node that answers HTTP needs
central    central over a data folder
location   a location over its folder and its upstream
links      the ways between nodes of `atoll dev`, which can be slow or cut
"""
