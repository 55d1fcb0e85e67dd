"""Atoll, a self-hosted Workers KV: one durable centre, and locations that answer from disk."""

from atoll.client import connect, connect_async
from atoll.core.errors import AtollError

__version__ = "0.1.0"

__all__ = ["AtollError", "__version__", "connect", "connect_async"]
