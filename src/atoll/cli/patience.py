"""Trying again what a server could not do at the moment."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from atoll.clock import Clock
from atoll.core.errors import AtollError, RemoteError, UnavailableError

ATTEMPTS_MAX: Final = 8
PAUSE_S_FIRST: Final = 0.25
PAUSE_S_MAX: Final = 8.0

AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})

Result = TypeVar("Result")


async def patiently(request: Callable[[], Awaitable[Result]], *, clock: Clock) -> Result:
    """Send a request that may safely be sent twice, again after pauses where that may help.

    Args:
        request: Sends it.
        clock: To pause by: half a minute, all in all.
    """
    for attempt in range(ATTEMPTS_MAX - 1):
        try:
            return await request()
        except AtollError as error:
            if not may_pass(error):
                raise
        await clock.sleep(min(PAUSE_S_FIRST * 2**attempt, PAUSE_S_MAX))
    return await request()


def may_pass(error: AtollError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, RemoteError):
        return error.status in AGAIN
    return isinstance(error, UnavailableError)
