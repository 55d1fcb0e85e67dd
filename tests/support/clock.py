"""A clock that goes only when told to."""

import asyncio


class ManualClock:
    """See `atoll.clock.Clock`."""

    def __init__(self, *, now_s: float = 1_800_000_000) -> None:
        """Start at a time in 2027, the wall clock and elapsed time together."""
        self._now_us = int(now_s * 1_000_000)
        self._elapsed_ms = 0
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def now_us(self) -> int:
        """Return what it was set to."""
        return self._now_us

    @property
    def now_s(self) -> float:
        """The same in seconds."""
        return self._now_us / 1_000_000

    def elapsed_ms(self) -> int:
        """Return how far it was advanced."""
        return self._elapsed_ms

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who slept that long."""
        self._now_us += int(seconds * 1_000_000)
        self._elapsed_ms += int(seconds * 1_000)
        for until_ms, event in self._sleepers:
            if until_ms <= self._elapsed_ms:
                event.set()

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would."""
        self._now_us += int(seconds * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """Wait until it has been advanced that far; no time at all is a turn of the loop."""
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - a turn, not a wait
            return
        event = asyncio.Event()
        self._sleepers.append((self._elapsed_ms + int(seconds * 1_000), event))
        await event.wait()
