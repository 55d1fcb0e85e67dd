"""Holds a running deployment to the promises, from outside: see `Verifier`."""
