"""What operators see of locations at central, and do about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atoll import registry
from atoll.central import Central
from atoll.core.location_errors import LocationNotFoundError
from atoll.core.model import Read, Reading
from atoll.core.session import Held
from atoll.registry import Registered
from atoll.whereabouts import Said

HOLDS_UP_US: Final = 60_000_000
"""Whose journal was last empty longer ago holds up sweeping; it is said every 5 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A registered location as central knows it."""

    registered: Registered
    said: Said | None
    """Its last status; `None` if it has said nothing since central's start."""
    silent_ms: int | None
    """How long ago that came."""
    is_connected: bool
    journal_empty_us: int | None
    """The last central time as of which its journal was empty."""
    holds_up_sweeping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is held of a key, at central and everywhere else."""

    central: Reading
    locations: Sequence[tuple[str, Held | None]]
    """By name; `None` where no answer came in time."""


class Oversight:
    """The locations below one central."""

    def __init__(self, central: Central) -> None:
        """Look after the locations of `central`."""
        self._central = central

    async def locations(self) -> Sequence[Located]:
        """Return the registered locations by name, the forgotten among them."""
        return self._located(await self._central.locations())

    def known(self) -> Sequence[Located]:
        """Return the same as the last sweep found it, at once."""
        return self._located(self._central.registered)

    def _located(self, registered: Sequence[Registered]) -> Sequence[Located]:
        now_us = self._central.now_us()
        return [self._one(location, now_us) for location in registered]

    def _one(self, location: Registered, now_us: int) -> Located:
        whereabouts = self._central.whereabouts
        said = whereabouts.said().get(location.name)
        empty_us = whereabouts.journal_empty_us(location.name)
        return Located(
            registered=location,
            said=said,
            silent_ms=None if said is None else whereabouts.silent_ms(said),
            is_connected=whereabouts.is_connected(location.name),
            journal_empty_us=empty_us,
            holds_up_sweeping=not location.forgotten and now_us - (empty_us or 0) > HOLDS_UP_US,
        )

    def sweeping_behind_us(self) -> int:
        """Return how long ago the time lies below which deletions may be swept.

        A location that has said nothing since central's start holds all of them back.
        """
        now_us = self._central.now_us()
        return now_us - min(
            [
                now_us,
                *(
                    one.journal_empty_us or 0
                    for one in self.known()
                    if not one.registered.forgotten
                ),
            ]
        )

    async def forget(self, name: str) -> None:
        """Release a location that never comes back; its journal, should it return, is refused.

        Raises:
            LocationNotFoundError: There is none of this name.
        """
        if not await registry.forget(self._central, name):
            raise LocationNotFoundError(name=name)

    async def where(self, namespace: str, key: str) -> Found:
        """Find out what everybody holds of a key; who does not answer in time is named as well."""
        names = [one.name for one in await self._central.locations() if not one.forgotten]
        connected = [name for name in names if self._central.whereabouts.is_connected(name)]
        answers = await self._central.whereabouts.ask(namespace, key, connected)
        reading = await self._central.read(Read(namespace=namespace, keys=(key,), age_ms_max=0))
        return Found(central=reading, locations=[(name, answers.get(name)) for name in names])
