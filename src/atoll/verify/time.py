"""What verify knows of central's time: bounds, from the versions that central stamps.

A version says central's time at some moment between the sending of a write and its answer. A few of
them, widened by a stated allowance, bound it now. No other machine's clock is believed.
"""

from collections import deque
from typing import Final

from atoll.checking.facts import DRIFT_MAX, US_PER_S
from atoll.core.version import Version, micros_of

KEPT_S: Final = 30.0
"""Older stamps say nothing: a clock that was set meanwhile must accuse nobody for long."""

ALLOWANCE_US: Final = US_PER_S
"""How far off an expiration may be seen, beyond what the bounds say."""

NOT_KNOWN_US: Final = 2**63
"""Beyond all times."""


class CentralTime:
    """Bounds of central's time, in microseconds since the Unix epoch."""

    def __init__(self) -> None:
        self._stamps: deque[tuple[float, float, int]] = deque()

    def stamped(self, version: Version, *, asked_s: float, answered_s: float) -> None:
        """Take in a version that central gave between two times."""
        self._stamps.append((asked_s, answered_s, micros_of(version)))
        while self._stamps[0][1] < answered_s - KEPT_S:
            self._stamps.popleft()

    def _bounds(self, now_s: float) -> tuple[int, int] | None:
        fresh = [one for one in self._stamps if one[1] >= now_s - KEPT_S]
        if not fresh:
            return None
        low = min(
            us + int((now_s - answered_s) * (1 - 2 * DRIFT_MAX) * US_PER_S)
            for _, answered_s, us in fresh
        )
        high = max(
            us + int((now_s - asked_s) * (1 + 2 * DRIFT_MAX) * US_PER_S) for asked_s, _, us in fresh
        )
        return low - ALLOWANCE_US, high + ALLOWANCE_US

    def least_us(self, now_s: float) -> int:
        """Return what it is at least; 0 if that is not known."""
        bounds = self._bounds(now_s)
        return 0 if bounds is None else bounds[0]

    def most_us(self, now_s: float) -> int:
        """Return what it is at most; `NOT_KNOWN_US` if that is not known."""
        bounds = self._bounds(now_s)
        return NOT_KNOWN_US if bounds is None else bounds[1]
