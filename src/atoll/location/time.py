"""What a location knows about time: its own elapsed clock, and central's time as last heard.

The wall clock serves one purpose here: when it runs ahead of the elapsed clock by a jump, the
machine stood still without noticing, and no instant from before says how old anything is.
"""

from dataclasses import dataclass
from typing import Final

from atoll.clock import Clock
from atoll.location.age import NEVER

DRIFT_PPM_MAX: Final = 500
"""How much faster than true time an elapsed clock may run."""

JUMP_MS_MAX: Final = 1000
"""How far the wall clock may move against the elapsed clock between two looks, and more the
longer they lie apart."""
JUMP_PPM_MAX: Final = 1000

PPM: Final = 1_000_000
US_PER_MS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What both clocks showed at a time."""

    elapsed_ms: int
    wall_ms: int


class LocationTime:
    """Instants, and central time. Neither ever goes back."""

    def __init__(
        self,
        clock: Clock,
        *,
        central_us: int | None = None,
        central_at_ms: int = NEVER,
        looked: Look | None = None,
        trusted_ms: int = NEVER,
    ) -> None:
        """Go on from what was known before a restart.

        Args:
            clock: This machine's clocks.
            central_us: Central time as it was known at `central_at_ms`.
            central_at_ms: `NEVER` if that was under another boot, and so below.
            looked: What both clocks showed when the state was saved, `None` for another boot.
            trusted_ms: What is known as of earlier instants is of unknown age.
        """
        self._clock = clock
        self._central_us = central_us
        self._central_at_ms = central_at_ms
        self._latest_us = central_us
        self.trusted_ms = trusted_ms
        """What is known as of earlier instants is of unknown age."""
        self._error_ms: int | None = None
        self._error_at_ms = NEVER
        # Two numbers and no `Look`: every read of a key makes one.
        if looked is None:
            self._elapsed_ms, self._wall_ms = clock.elapsed_ms(), clock.now_us() // US_PER_MS
        else:
            self._elapsed_ms, self._wall_ms = looked.elapsed_ms, looked.wall_ms
        self.elapsed_ms()

    @property
    def looked(self) -> Look:
        """What both clocks showed last."""
        return Look(elapsed_ms=self._elapsed_ms, wall_ms=self._wall_ms)

    def elapsed_ms(self) -> int:
        """Read the elapsed clock, and notice if it stood still."""
        elapsed_ms, wall_ms = self._clock.elapsed_ms(), self._clock.now_us() // US_PER_MS
        passed_ms = elapsed_ms - self._elapsed_ms
        ahead_ms = (wall_ms - self._wall_ms) - passed_ms
        self._elapsed_ms, self._wall_ms = elapsed_ms, wall_ms
        if ahead_ms > JUMP_MS_MAX + passed_ms * JUMP_PPM_MAX // PPM:
            # What is known as of this very millisecond is from before the jump as well.
            self.trusted_ms = elapsed_ms + 1
        return elapsed_ms

    def trusted(self, instant_ms: int) -> int:
        """Return `instant_ms`, or `NEVER` if nobody can say how long ago that was."""
        return instant_ms if instant_ms >= self.trusted_ms else NEVER

    def heard(self, central_us: int, *, error_ms: int | None = None) -> None:
        """Learn that central time is `central_us` by now, or later.

        Args:
            central_us: Microseconds since the Unix epoch.
            error_ms: How much later at most, if that is known.
        """
        now_us = self.central_us()
        if error_ms is not None:
            # A reckoning that was ahead of what came stays, and is closer still.
            known_ms = self.error_ms()
            self._error_ms = error_ms if known_ms is None else min(known_ms, error_ms)
            self._error_at_ms = self._clock.elapsed_ms()
        if now_us is None or central_us >= now_us or self._central_at_ms == NEVER:
            self._central_us = max(central_us, now_us or 0)
            self._central_at_ms = self._clock.elapsed_ms()

    def central_us(self) -> int | None:
        """Return central time as known here, never ahead of central's own.

        Returns:
            Microseconds since the Unix epoch, `None` if it was never heard.
        """
        if self._central_us is None:
            return None
        now_us = self._central_us
        if self._central_at_ms != NEVER:
            passed_us = (self._clock.elapsed_ms() - self._central_at_ms) * US_PER_MS
            now_us += passed_us * (PPM - DRIFT_PPM_MAX) // PPM
        self._latest_us = max(self._latest_us or 0, now_us)
        return self._latest_us

    def error_ms(self) -> int | None:
        """Return how far `central_us` may lie behind central's own.

        It is the round trip of the last echo, and what both clocks may have drifted since.

        Returns:
            Milliseconds, `None` if nobody can say.
        """
        if self._error_ms is None or self._error_at_ms < self.trusted_ms:
            return None
        passed_ms = self._clock.elapsed_ms() - self._error_at_ms
        return self._error_ms - (-passed_ms * 2 * DRIFT_PPM_MAX // PPM)

    @property
    def heard_us(self) -> int | None:
        """The last central time that was heard, as opposed to reckoned."""
        return self._central_us

    @property
    def reckoned_at_ms(self) -> int:
        """The instant at which `central_us` is what it is; `NEVER` if it stands still."""
        return NEVER if self._central_at_ms == NEVER else self._clock.elapsed_ms()
