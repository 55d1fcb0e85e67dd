"""The dashboard: pages at central over what REST and `/v1` do, for whoever has a token."""
