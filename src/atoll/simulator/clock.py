"""The clocks of a simulated machine: they run fast or slow, step, stand still and start again."""

import asyncio
from typing import Final

WALL_START_US: Final = 1_800_000_000_000_000
"""True time at the beginning of every simulation; some moment in 2027."""

US_PER_S: Final = 1_000_000
MS_PER_S: Final = 1_000


class SimClock:
    """See `atoll.clock.Clock`. True time is the loop's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        rate: float = 1.0,
        ahead_s: float = 0.0,
        up_s: float = 1.0,
    ) -> None:
        """Set a machine's clocks.

        Args:
            loop: Whose time is the true one.
            rate: How many seconds it counts for a true one.
            ahead_s: How far its wall clock is ahead of true time.
            up_s: How long the machine has been up.
        """
        self._loop = loop
        self.rate = rate
        self._ahead_s = ahead_s
        self._booted_s = loop.time() * rate - up_s
        self.boot_id = 1

    def now_us(self) -> int:
        """See `Clock`."""
        return WALL_START_US + int((self._loop.time() * self.rate + self._ahead_s) * US_PER_S)

    def elapsed_ms(self) -> int:
        """See `Clock`."""
        return int((self._loop.time() * self.rate - self._booted_s) * MS_PER_S)

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds / self.rate)  # noqa: TID251 - virtual seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock ahead, or back."""
        self._ahead_s += seconds

    def pause(self, seconds: float) -> None:
        """Take back elapsed time that a paused virtual machine did not count."""
        self._booted_s += seconds * self.rate

    def reboot(self, *, up_s: float) -> None:
        """Start counting elapsed time anew, under another boot id."""
        self._booted_s = self._loop.time() * self.rate - up_s
        self.boot_id += 1
