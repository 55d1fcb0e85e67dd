"""Flights: of all who wait for one key, one asks the upstream.

A reader joins the flight that is under way only if its answer can be good enough: if it was sent,
less its own bound, no earlier than the reader's bound allows, and asks for at least the reader's
position. Else it waits for the next: one flying, one waiting, however many readers.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from atoll.core.errors import AtollError, NotArrivedError, StoppingError, UnavailableError
from atoll.core.location_errors import CutOffError, UnreachableError
from atoll.core.model import AtLeast, CacheStatus, Entry, JournalToken, Position, Read, Reading
from atoll.core.version import NO_VERSION
from atoll.location.age import NEVER
from atoll.location.judging import Demand
from atoll.location.knowledge import Knowledge, version_known
from atoll.location.link import Link
from atoll.location.pins import Place

TRIES_MAX: Final = 2
"""After so many flights whose answers were not good enough, the best that is held has to do."""

WAITERS_MAX: Final = 100_000
"""How many readers may wait at a time."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter:
    demand: Demand
    reading: "asyncio.Future[Reading]"
    tries: int = 0
    delivered_at: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    place: Place
    sent_ms: int
    age_ms_max: int
    at_least: AtLeast | None
    waiters: list[_Waiter]
    task: "asyncio.Task[None] | None" = field(default=None)

    def serves(self, demand: Demand) -> bool:
        """Whether its answer will do for a reader who comes now."""
        oldest_ms = self.sent_ms - self.age_ms_max
        return oldest_ms >= demand.asked_ms - demand.age_ms_max and _covers(
            self.at_least, demand.at_least
        )


class Flights:
    """Everybody who waits for an answer from above."""

    def __init__(self, knowledge: Knowledge, link: Link, *, timeout_s: float) -> None:
        """Ask through `link` and learn into `knowledge`.

        Args:
            knowledge: Where answers go, and from where readers are then answered.
            link: The upstream.
            timeout_s: How long a flight may take.
        """
        self._knowledge = knowledge
        self._link = link
        self._timeout_s = timeout_s
        self._flying: dict[Place, _Flight] = {}
        self._waiting: dict[Place, list[_Waiter]] = {}
        self._waiters = 0

    def is_flying(self, place: Place) -> bool:
        """Whether the upstream is being asked about a key."""
        return place in self._flying

    async def ask(self, demand: Demand) -> Reading:
        """Answer a demand that what is held does not meet.

        Raises:
            CutOffError: The upstream cannot be asked, and nothing held is good enough.
            NotArrivedError: Nothing at or after the required position is to be had.
            UnavailableError: Too many wait already.
        """
        if self._waiters >= WAITERS_MAX:
            raise UnavailableError("too many requests wait for the upstream")
        reading: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(demand=demand, reading=reading)
        self._waiters += 1
        try:
            self._join(waiter)
            return await reading
        finally:
            self._waiters -= 1

    def refresh(self, demand: Demand, *, age_ms_max: int) -> None:
        """Ask before what is held is too old, with nobody waiting, if nobody has asked yet."""
        if self._link.usable and demand.place not in self._flying:
            self._launch(demand.place, [], age_ms_max)

    def restart(self) -> None:
        """Ask again, everything: the upstream is another now, late answers are ignored."""
        flights, self._flying = self._flying, {}
        for flight in flights.values():
            assert flight.task is not None
            flight.task.cancel()
            for waiter in flight.waiters:
                self._join(waiter)
        for place in list(self._waiting):
            if place not in self._flying:
                self._launch_next(place)

    def _join(self, waiter: _Waiter) -> None:
        place = waiter.demand.place
        flight = self._flying.get(place)
        if flight is not None:
            if flight.serves(waiter.demand):
                flight.waiters.append(waiter)
            else:
                self._waiting.setdefault(place, []).append(waiter)
        elif self._link.usable:
            self._launch(place, [waiter])
        else:
            self._finish(waiter)

    def _launch(self, place: Place, waiters: list[_Waiter], age_ms_max: int = 0) -> None:
        """Send a question that is good enough for all of `waiters` that one question can serve."""
        now_ms = self._knowledge.time.elapsed_ms()
        at_least: AtLeast | None = None
        if waiters:
            at_least = _largest(waiters)
            later = [w for w in waiters if not _covers(at_least, w.demand.at_least)]
            waiters = [w for w in waiters if _covers(at_least, w.demand.at_least)]
            if later:
                self._waiting.setdefault(place, []).extend(later)
            age_ms_max = max(
                0, min(now_ms - w.demand.asked_ms + w.demand.age_ms_max for w in waiters)
            )
        flight = _Flight(
            place=place,
            sent_ms=now_ms,
            age_ms_max=age_ms_max,
            at_least=at_least,
            waiters=waiters,
        )
        self._flying[place] = flight
        flight.task = asyncio.create_task(self._fly(flight))

    async def _fly(self, flight: _Flight) -> None:
        """Ask, and answer who waits."""
        request = Read(
            namespace=flight.place[0],
            keys=(flight.place[1],),
            age_ms_max=flight.age_ms_max,
            at_least=flight.at_least,
        )
        try:
            with self._knowledge.in_air([flight.place]):
                try:
                    reading = await self._link.call(
                        lambda upstream: upstream.read(request), timeout_s=self._timeout_s
                    )
                    reading = await self._held(reading)
                except AtollError as error:
                    if self._take_off(flight):
                        self._failed(flight, error)
                else:
                    if self._take_off(flight):
                        self._landed(flight, reading)
        finally:
            # Nobody is left waiting, also if this was cancelled or went wrong in a new way.
            if self._take_off(flight):
                for waiter in flight.waiters:
                    self._finish(waiter, StoppingError())
        if flight.place not in self._flying:
            self._launch_next(flight.place)

    def _take_off(self, flight: _Flight) -> bool:
        """Take a flight off the list; one that was replaced is on it no longer."""
        if self._flying.get(flight.place) is not flight:
            return False
        del self._flying[flight.place]
        return True

    async def _held(self, reading: Reading) -> Reading:
        """Take a large value over from the upstream, so that it can be kept."""
        entry = reading.entry
        if entry is None or entry.value is None or isinstance(entry.value, bytes):
            return reading
        value = await self._knowledge.cache.hold(entry.value)
        return replace(reading, entry=replace(entry, value=value))

    def _failed(self, flight: _Flight, error: AtollError) -> None:
        """Answer who waited with what is held, or let them wait for the next flight."""
        for waiter in flight.waiters:
            required = waiter.demand.at_least
            if isinstance(error, NotArrivedError) and required != flight.at_least:
                self._waiting.setdefault(flight.place, []).append(waiter)
            else:
                self._finish(waiter, error)

    def _landed(self, flight: _Flight, reading: Reading) -> None:
        """Answer who waited for this flight, or let them wait for the next."""
        if reading.journaled:
            for waiter in flight.waiters:
                self._pass_on(waiter, reading)
            return
        counts = self._learn(flight, reading)
        for waiter in flight.waiters:
            if not counts:
                self._finish(waiter, UnreachableError(sent=True))
                continue
            waiter.tries += 1
            if isinstance(flight.at_least, JournalToken):
                waiter.delivered_at = reading.position.sequence
            answer = self._knowledge.answer(
                waiter.demand, fetched=True, delivered_at=waiter.delivered_at
            )
            if answer is not None:
                _resolve(waiter, answer)
            elif reading.stale or waiter.tries > TRIES_MAX:
                self._finish(waiter)
            else:
                self._waiting.setdefault(flight.place, []).append(waiter)

    def _learn(self, flight: _Flight, reading: Reading) -> bool:
        """Learn what the upstream answered."""
        entry = reading.entry
        if entry is None and reading.buried is not None:
            entry = Entry(key=flight.place[1], version=reading.buried, value=None)
        if reading.order_unknown:
            self._knowledge.lost_ms = max(self._knowledge.lost_ms, flight.sent_ms)
        return self._knowledge.learn(
            flight.place,
            entry,
            position=reading.position,
            sent_ms=NEVER if reading.age_ms is None else flight.sent_ms - reading.age_ms,
        )

    def _pass_on(self, waiter: _Waiter, reading: Reading) -> None:
        """Show what is journaled further up, unless it is known here that it has lost."""
        held = self._knowledge.held(waiter.demand.place)
        version = reading.buried if reading.entry is None else reading.entry.version
        if (version or NO_VERSION) < version_known(held):
            self._finish(waiter)
            return
        lost = self._knowledge.lost_ms != NEVER
        _resolve(
            waiter,
            replace(
                reading,
                order_unknown=reading.order_unknown or lost,
                cache=CacheStatus.MISS,
                node=self._knowledge.name,
            ),
        )

    def _launch_next(self, place: Place) -> None:
        """Ask for those who could not join."""
        waiting = self._waiting.pop(place, [])
        if waiting and self._link.usable:
            self._launch(place, waiting)
        else:
            for waiter in waiting:
                self._finish(waiter)

    def _finish(self, waiter: _Waiter, error: AtollError | None = None) -> None:
        """Answer with what is held, or say why not."""
        if waiter.reading.done():
            return
        demand = waiter.demand
        answer = self._knowledge.answer(demand, final=True, delivered_at=waiter.delivered_at)
        if answer is not None:
            waiter.reading.set_result(answer)
        elif isinstance(error, UnreachableError) or error is None:
            waiter.reading.set_exception(_refusal(demand, self._knowledge))
        else:
            waiter.reading.set_exception(error)


def _resolve(waiter: _Waiter, reading: Reading) -> None:
    """Answer, unless whoever asked has gone."""
    if not waiter.reading.done():
        waiter.reading.set_result(reading)


def _refusal(demand: Demand, knowledge: Knowledge) -> UnavailableError:
    """Say why what is held is no answer."""
    if demand.at_least is not None:
        return NotArrivedError(required=str(demand.at_least), held=str(knowledge.position))
    held = knowledge.held(demand.place)
    if held is None:
        return CutOffError(detail="nothing is held of this key")
    return CutOffError(detail="what is held of this key is older than the request allows")


def _covers(asked: AtLeast | None, required: AtLeast | None) -> bool:
    """Whether an answer at or after `asked` is one at or after `required`."""
    if required is None or asked == required:
        return True
    return (
        isinstance(asked, Position)
        and isinstance(required, Position)
        and asked.incarnation == required.incarnation
        and asked.sequence >= required.sequence
    )


def _largest(waiters: list[_Waiter]) -> AtLeast | None:
    """Choose what to ask for: what the first needs who needs something, and more of its kind."""
    required = [w.demand.at_least for w in waiters if w.demand.at_least is not None]
    if not required:
        return None
    chosen = required[0]
    for other in required[1:]:
        if _covers(other, chosen):
            chosen = other
    return chosen
