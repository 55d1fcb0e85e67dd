"""Pins: journaled writes as readers see them, until their outcome is known."""

from collections.abc import Iterator
from dataclasses import dataclass

from atoll.core.model import Entry, Mutation
from atoll.core.version import NO_VERSION, Version
from atoll.location.journal import Journaled

Place = tuple[str, str]
"""A namespace and a key."""


@dataclass(slots=True, kw_only=True)
class Pin:
    """One key of one journaled batch."""

    sequence: int
    """Where in the journal it stands."""
    mutation: Mutation
    hidden: bool = False
    """A record with a larger version is known, so this write has lost: never shown again."""
    order_unknown: bool = False
    """It was rebuilt without the cache, which may have known that it lost."""

    @property
    def version(self) -> Version:
        """The version that the location gave it."""
        return self.mutation.stamp or NO_VERSION

    def entry(self) -> Entry:
        """The entry that it would be."""
        mutation = self.mutation
        return Entry(
            key=mutation.key,
            version=self.version,
            value=mutation.value,
            metadata=mutation.metadata,
            expiration=mutation.expiration,
        )


class Pins:
    """What the journal holds, by key."""

    def __init__(self) -> None:
        """Start empty."""
        self._by_place: dict[Place, list[Pin]] = {}

    def add(self, entry: Journaled, *, order_unknown: bool = False) -> None:
        """Show what was journaled. Of two mutations of one key the later counts."""
        for mutation in {mutation.key: mutation for mutation in entry.mutations}.values():
            pin = Pin(sequence=entry.sequence, mutation=mutation, order_unknown=order_unknown)
            self._by_place.setdefault((entry.namespace, mutation.key), []).append(pin)

    def remove(self, entry: Journaled) -> None:
        """Show it no longer: its outcome is known."""
        for key in {mutation.key for mutation in entry.mutations}:
            place = (entry.namespace, key)
            kept = [pin for pin in self._by_place[place] if pin.sequence != entry.sequence]
            if kept:
                self._by_place[place] = kept
            else:
                del self._by_place[place]

    def hide_below(self, place: Place, version: Version) -> None:
        """Hide for good what has lost to a record of this version."""
        for pin in self._by_place.get(place, ()):
            pin.hidden = pin.hidden or pin.version < version

    def shown(self, place: Place) -> Pin | None:
        """Return what readers see at `place`, if it is a journaled write."""
        for pin in reversed(self._by_place.get(place, ())):
            if not pin.hidden:
                return pin
        return None

    def show_all(self) -> None:
        """Hide nothing any more: what anything had lost to was of an incarnation that is over."""
        for pins in self._by_place.values():
            for pin in pins:
                pin.hidden = False

    def holds(self, place: Place) -> bool:
        """Whether a journaled write for the key waits, shown or not."""
        return place in self._by_place

    def places(self) -> list[Place]:
        """Return the keys for which a journaled write waits, shown or not."""
        return list(self._by_place)

    def of_prefix(self, namespace: str, prefix: str) -> Iterator[Pin]:
        """Yield what is shown under a prefix."""
        for place in self._by_place:
            pin = self.shown(place)
            if pin is not None and place[0] == namespace and place[1].startswith(prefix):
                yield pin
