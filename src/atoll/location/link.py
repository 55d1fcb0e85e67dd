"""Calls to the upstream: each has a time limit, and none is tried while the upstream is silent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from atoll.clock import Clock
from atoll.core.location_errors import UnreachableError
from atoll.upstream import Upstream

FAILURES_TO_OPEN: Final = 2
"""So many calls without an answer, and none with one between them, open the breaker."""

OPEN_MS: Final = 1000
"""How long nobody tries after that; then one call is let through."""

MS_PER_S: Final = 1000

Answer = TypeVar("Answer")


class Link:
    """The upstream, with a time limit and a circuit breaker."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        """Call `upstream`."""
        self._upstream = upstream
        self._clock = clock
        self._failures = 0
        self._open_until_ms: int | None = None
        self._trying = False

    @property
    def upstream(self) -> Upstream:
        """What is called."""
        return self._upstream

    def switch(self, upstream: Upstream) -> None:
        """Call another one from now on."""
        self._upstream = upstream
        self._failures = 0
        self._open_until_ms = None
        self._trying = False

    @property
    def usable(self) -> bool:
        """Whether a call would be let through now."""
        if self._open_until_ms is None:
            return True
        return not self._trying and self._clock.elapsed_ms() >= self._open_until_ms

    async def call(
        self,
        make: Callable[[Upstream], Awaitable[Answer]],
        *,
        timeout_s: float,
        patient: bool = False,
    ) -> Answer:
        """Make a call and wait for its answer.

        Args:
            make: Makes the call on the upstream it is given.
            timeout_s: How long to wait.
            patient: The caller paces itself: it tries whatever others met, and its failure is
                no reason for others not to.

        Raises:
            UnreachableError: No answer came, or the breaker is open and nothing was sent.
        """
        if not self.usable and not patient:
            raise UnreachableError(sent=False)
        upstream = self._upstream
        trial = self._open_until_ms is not None and not patient
        self._trying = self._trying or trial
        try:
            answer = await within_time(self._clock, timeout_s, make(upstream))
        except (UnreachableError, TimeoutError) as error:
            if upstream is self._upstream and not patient:
                self._failed(trial=trial)
            if isinstance(error, UnreachableError):
                raise
            raise UnreachableError(sent=True) from error
        except Exception:
            self._succeeded(upstream)
            raise
        finally:
            if trial and upstream is self._upstream:
                self._trying = False
        self._succeeded(upstream)
        return answer

    def _failed(self, *, trial: bool) -> None:
        self._failures += 1
        if trial or self._failures >= FAILURES_TO_OPEN:
            self._open_until_ms = self._clock.elapsed_ms() + OPEN_MS

    def _succeeded(self, upstream: Upstream) -> None:
        if upstream is self._upstream:
            self._failures = 0
            self._open_until_ms = None


async def within_time(clock: Clock, timeout_s: float, awaited: Awaitable[Answer]) -> Answer:
    """Await something for a limited time by `clock`.

    Raises:
        TimeoutError: It took longer; it was cancelled.
    """
    task = asyncio.ensure_future(awaited)
    alarm = asyncio.ensure_future(clock.sleep(timeout_s))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        alarm.cancel()
        task.add_done_callback(retrieve)
        task.cancel()


def retrieve(task: "asyncio.Future[Answer]") -> None:
    """Take note of how a call ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
