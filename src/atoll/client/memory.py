"""What a session presents, so that it reads its own writes anywhere.

Reading a key needs no more than the place of the last write to that key: positions and places in
journals cannot be compared with each other, so each key keeps its own.
"""

from collections import OrderedDict
from typing import Final

from atoll.core.model import AtLeast, JournalToken, Position, parse_at_least

KEYS_MAX: Final = 10_000
"""How many keys are remembered; what is forgotten counts for every key from then on."""


class Memory:
    """The places of a session's writes."""

    def __init__(self) -> None:
        """Begin with none."""
        self._keys: OrderedDict[tuple[str, str], AtLeast] = OrderedDict()
        self._all: AtLeast | None = None
        self._floor: AtLeast | None = None

    def wrote(self, namespace: str, key: str, position: str) -> None:
        """Remember a write."""
        place = parse_at_least(position)
        self._all = _later(self._all, place)
        self._keys[namespace, key] = place
        self._keys.move_to_end((namespace, key))
        if len(self._keys) > KEYS_MAX:
            _, forgotten = self._keys.popitem(last=False)
            self._floor = _later(self._floor, forgotten)

    def wrote_many(self, position: str) -> None:
        """Remember a write of keys that are not known by name."""
        place = parse_at_least(position)
        self._all = _later(self._all, place)
        self._floor = _later(self._floor, place)

    def of_key(self, namespace: str, key: str) -> AtLeast | None:
        """Return what a read of a key must include."""
        return self._keys.get((namespace, key), self._floor)

    @property
    def of_all(self) -> AtLeast | None:
        """What a listing must include."""
        return self._all


def _later(held: AtLeast | None, place: AtLeast) -> AtLeast:
    """Return which of two places includes the other, as far as that can be told: else the newer."""
    if (
        isinstance(held, Position)
        and isinstance(place, Position)
        and held.incarnation == place.incarnation
        and held.sequence > place.sequence
    ):
        return held
    if (
        isinstance(held, JournalToken)
        and isinstance(place, JournalToken)
        and held.location == place.location
        and held.sequence > place.sequence
    ):
        return held
    return place
