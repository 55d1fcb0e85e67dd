"""Time, passed in wherever it is needed, so that a test or the simulator can decide what it is."""

import asyncio
import time
from typing import Final, Protocol

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
US_PER_MS: Final = 1_000

# CLOCK_MONOTONIC stands still on Linux while the machine sleeps, and an age that ignores a
# night of sleep is a lie. On macOS clock_gettime(CLOCK_MONOTONIC) does count sleep.
_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What a node may know about time."""

    def now_us(self) -> int:
        """Wall clock, in microseconds since the Unix epoch. It may step."""
        ...

    def elapsed_ms(self) -> int:
        """Milliseconds since some instant, sleep of the machine included. It never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """See `Clock`."""
        return time.time_ns() // NS_PER_US  # noqa: TID251 - the one place that reads it

    def elapsed_ms(self) -> int:
        """See `Clock`."""
        return time.clock_gettime_ns(_ELAPSED) // NS_PER_MS

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)  # noqa: TID251 - the one place that waits


class SteadyTime:
    """A wall clock that never goes back, and stands still for nobody.

    While the wall clock is behind what it said before, time goes on by the elapsed clock. So
    whoever was told the time and goes on by a clock of their own is never ahead of it.
    """

    def __init__(self, clock: Clock, *, floor_us: int = 0) -> None:
        """Read `clock`, and begin no earlier than `floor_us`."""
        self._clock = clock
        self._from_us = max(floor_us, clock.now_us())
        self._from_ms = clock.elapsed_ms()
        self._last_us = self._from_us

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch."""
        wall_us, elapsed_ms = self._clock.now_us(), self._clock.elapsed_ms()
        # Less a millisecond, in which the elapsed clock may have been read late.
        reckoned_us = self._from_us + max(0, elapsed_ms - self._from_ms - 1) * US_PER_MS
        if wall_us >= reckoned_us:
            self._from_us, self._from_ms = wall_us, elapsed_ms
        self._last_us = max(self._last_us, wall_us, reckoned_us)
        return self._last_us
