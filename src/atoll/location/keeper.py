"""The keeper: a location as an `Upstream`, made of a cache, a journal and another `Upstream`.

It is the one process of a location that writes the cache and talks upstream. What it knows and
what may be answered from it is `knowledge`'s; `flights` ask, `session` follows, `children` are
followed, `writes` go up or into the journal. Here they are put together, and requests come in.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from atoll.clock import Clock
from atoll.core.limits import Limits
from atoll.core.location_errors import CutOffError, NotHeldError, UnreachableError
from atoll.core.model import (
    USAGE_NAMESPACE,
    Batch,
    ListQuery,
    Page,
    Read,
    Reading,
    Written,
)
from atoll.core.session import Downward, Hello, Upward
from atoll.core.version import Version
from atoll.location import listing
from atoll.location.cache import Cache
from atoll.location.counts import Counts
from atoll.location.flights import Flights
from atoll.location.journal import Journal
from atoll.location.judging import Demand, refresh_age_ms
from atoll.location.knowledge import Knowledge
from atoll.location.link import Link
from atoll.location.session import Session, SessionSettings
from atoll.location.telling import Telling
from atoll.location.writes import Writes, WriteSettings
from atoll.registry import Registered, register
from atoll.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """What an operator decides about a location."""

    age_ms_max: int = 60_000
    """The bound of a read that states none."""
    read_s: float = 2.0
    """How long the upstream may take to answer a read or a list."""
    refresh_at: float = 0.75
    """A read whose answer is older than this part of its bound has it asked for anew."""
    recent_changes_max: int = 100_000
    """How many changed keys are remembered, to judge by what is read meanwhile."""
    session: SessionSettings = field(default_factory=SessionSettings)
    writes: WriteSettings = field(default_factory=WriteSettings)


class Keeper:
    """See `Upstream`."""

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        *,
        cache: Cache,
        journal: Journal,
        clock: Clock,
        boot: str,
        limits: Limits,
        upstream_name: str = "",
        settings: KeeperSettings | None = None,
    ) -> None:
        """Go on from what the cache and the journal hold; `run` does the rest.

        Args:
            name: The location's.
            upstream: What it reads through.
            cache: What it holds. Nobody else writes it.
            journal: What waits to be delivered. Nobody else has it.
            clock: This machine's clocks.
            boot: Names the boot of the machine.
            limits: The rule of one write a second per key, where a write is journaled.
            upstream_name: Tells this upstream from others. If the cache was filled through another
                one, it is as if that had been switched.
            settings: What the operator decided.
        """
        self._settings = settings or KeeperSettings()
        self._link = Link(upstream, clock)
        self.knowledge = Knowledge(
            name,
            cache,
            journal,
            clock=clock,
            boot=boot,
            upstream=upstream_name,
            recent_changes_max=self._settings.recent_changes_max,
        )
        self._flights = Flights(self.knowledge, self._link, timeout_s=self._settings.read_s)
        self.writes = Writes(
            self.knowledge,
            self._link,
            journal,
            clock=clock,
            limits=limits,
            settings=self._settings.writes,
            registering=self._register,
        )
        self.session = Session(
            self.knowledge,
            self._link,
            clock=clock,
            settings=self._settings.session,
            on_heartbeat=self.writes.say_empty,
            telling=lambda: self.telling,
        )
        self.counts = Counts()
        self.telling = Telling(
            self.knowledge,
            self.counts,
            age_ms_max=self._settings.age_ms_max,
            round_trip_ms=lambda: self.session.round_trip_ms,
        )

    @property
    def name(self) -> str:
        """The location's."""
        return self.knowledge.name

    @property
    def link_open(self) -> bool:
        """Whether calls are let through to the upstream: its breaker has not tripped."""
        return self._link.usable

    async def run(self) -> None:
        """Follow the upstream and deliver the journal, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.session.run())
            tasks.create_task(self.writes.deliver())

    async def _register(self) -> tuple[Registered, Version]:
        return await register(self, self.name)

    def close(self) -> None:
        """Keep what a restart needs, behind everything else. The cache is the caller's to close."""
        self.knowledge.save()

    def switch(self, upstream: Upstream, upstream_name: str) -> None:
        """Read through another upstream from now on.

        It may know less than the one before: until it was asked, answers say that their order
        is unknown.
        """
        self._link.switch(upstream)
        self.session.end()
        self.knowledge.switched(upstream_name)
        self.session.children.start_over()
        self._flights.restart()

    def evict(self, namespace: str, key: str) -> bool:
        """Let go of what is held of a key, unless something for it is under way."""
        return self.knowledge.evict((namespace, key))

    # Reading.

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        assert len(request.keys) == 1, request.keys
        return await self._read_key(request, request.keys[0], self.knowledge.time.elapsed_ms())

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        asked_ms = self.knowledge.time.elapsed_ms()
        return await asyncio.gather(
            *(self._read_key(request, key, asked_ms) for key in request.keys)
        )

    async def _read_key(self, request: Read, key: str, asked_ms: int) -> Reading:
        """Answer from what is held if that is good enough, else ask."""
        self.session.want(request.namespace)
        bound_ms = request.age_ms_max
        demand = Demand(
            namespace=request.namespace,
            key=key,
            asked_ms=asked_ms,
            age_ms_max=self._settings.age_ms_max if bound_ms is None else bound_ms,
            stale_ms_max=request.stale_ms_max,
            at_least=self.knowledge.required(request.at_least),
        )
        if request.held_only:
            return self._held_only(demand)
        reading = self.knowledge.answer(demand)
        if reading is None:
            reading = await self._flights.ask(demand)
            self.counts.note(request.namespace, reading.cache)
            return reading
        self.counts.note(request.namespace, reading.cache)
        age_ms_max = refresh_age_ms(
            demand, reading, self.knowledge.ground, refresh_at=self._settings.refresh_at
        )
        if age_ms_max is not None:
            self._flights.refresh(demand, age_ms_max=age_ms_max)
        return reading

    def _held_only(self, demand: Demand) -> Reading:
        """Answer without asking anybody."""
        reading = self.knowledge.answer(demand, final=True)
        if reading is None:
            raise NotHeldError
        self.counts.note(demand.namespace, reading.cache)
        return reading

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`.

        Raises:
            CutOffError: Central cannot be asked: a list is never partial.
        """
        query = replace(query, at_least=self.knowledge.required(query.at_least))
        try:
            return await listing.merged(
                query,
                pins=self.knowledge.pins,
                now_us=self.knowledge.time.central_us() or 0,
                ask=lambda asked: self._link.call(
                    lambda upstream: upstream.list(asked), timeout_s=self._settings.read_s
                ),
            )
        except UnreachableError as error:
            raise CutOffError(detail="only central can list keys") from error

    # Writing, and being followed.

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        if batch.namespace == USAGE_NAMESPACE:
            # Counts pass through, ours and those from below: nobody here reads them.
            return await self._link.call(
                lambda upstream: upstream.write(batch), timeout_s=self._settings.read_s
            )
        self.session.want(batch.namespace)
        return await self.writes.write(batch)

    def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        return self.session.children.follow(hello, upward)
