"""Atoll where Python people already are: Django's cache, Starlette and FastAPI."""
