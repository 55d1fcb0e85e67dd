"""Atoll, a self-hosted Workers KV: one durable centre, and locations that answer from disk."""

from atoll.client import connect, connect_async
from atoll.core.errors import AtollError
from atoll.core.release import VERSION

__version__ = VERSION

__all__ = ["AtollError", "__version__", "connect", "connect_async"]
