"""How often each kind of fault met each checker: histories count only if they were hard."""

from collections import Counter
from typing import Final

QUIET: Final = "nothing"
"""What a check met that came long after the last fault, or before the first."""

CHECKERS: Final = (
    "reads",
    "at least",
    "expiry",
    "journal",
    "availability",
    "writes",
    "conditions",
    "lists",
    "feed",
)
"""Each stands for the promises that one kind of answer is held to."""


class Coverage:
    """Counts what was checked while which kinds of faults were at work, or just had been."""

    def __init__(self) -> None:
        self._active: tuple[str, ...] = (QUIET,)
        self._met: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()

    def set_active(self, kinds: tuple[str, ...]) -> None:
        """Say which kinds of faults are at work from now on."""
        self._active = kinds or (QUIET,)

    def met(self, *checkers: str) -> None:
        """Note that something was held to these checkers."""
        self._met[self._active, checkers] += 1

    def counts(self) -> Counter[str]:
        """Return a count for each pair."""
        counts: Counter[str] = Counter()
        for (kinds, checkers), times in self._met.items():
            for kind in kinds:
                for checker in checkers:
                    counts[f"{checker} under {kind}"] += times
        return counts
