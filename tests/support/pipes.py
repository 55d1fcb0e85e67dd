"""Waiting for what a process says."""

import selectors
from typing import IO, AnyStr


def has_come(pipe: IO[AnyStr], *, within_s: float) -> bool:
    """Wait until something can be read from a pipe, its end included.

    `select` cannot, in a process that has a thousand files open.
    """
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        return bool(waiting.select(within_s))
