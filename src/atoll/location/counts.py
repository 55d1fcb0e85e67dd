"""How reads were answered at a location: by its keeper, and by its readers as they were collected.

Reads of the system namespace are not counted: every request of a user makes two of them, and they
would drown what the user asked for. Totals begin anew with the keeper. What a reader counts stands
in its own mapping until the keeper has collected it, so the death of a reader loses nothing.
"""

from collections.abc import Mapping

from atoll.core.model import SYSTEM_NAMESPACE, CacheStatus


class Counts:
    """Totals, by how an answer was come by."""

    def __init__(self) -> None:
        """Start at zero."""
        self._totals = dict.fromkeys(CacheStatus, 0)

    def note(self, namespace: str, status: CacheStatus) -> None:
        """Count an answer of the keeper's own."""
        if namespace != SYSTEM_NAMESPACE:
            self._totals[status] += 1

    def add(self, collected: Mapping[CacheStatus, int]) -> None:
        """Count what readers have counted since the last time."""
        for status, number in collected.items():
            self._totals[status] += number

    def total(self, status: CacheStatus) -> int:
        """Return how many answers were come by like this."""
        return self._totals[status]
