"""A location over a central in memory, with links that a test cuts and clocks that it turns."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from atoll.central import Central, CentralSettings
from atoll.core.limits import Limits
from atoll.core.location_errors import UnreachableError
from atoll.core.model import AtLeast, Batch, ListQuery, Mutation, Page, Read, Reading, Written
from atoll.core.session import Downward, Hello, Upward
from atoll.location.cache import MemoryCache
from atoll.location.journal import MemoryJournal
from atoll.location.keeper import Keeper
from atoll.location.lmdb_cache import LmdbCache
from atoll.store.memory import MemoryStore
from atoll.upstream import Upstream
from tests.support.clock import ManualClock

NS = "1" * 32
ROUNDS_TO_SETTLE = 60

Made = TypeVar("Made")


class Wire:
    """An upstream at the other end of a wire: it can be cut, and hold or lose what passes."""

    def __init__(self, upstream: "Upstream | Place") -> None:
        self._upstream = upstream
        self.calls_cut = False
        self.feed_cut = False
        self.lose_answers = False
        """Calls arrive, and their answers do not."""
        self.lose_requests = False
        """Writes do not arrive, and nobody says so."""
        self.lost: list[Batch] = []
        self.writes_cut = False
        self.reads: list[Read] = []
        self.writes: list[Batch] = []
        self.held: asyncio.Event | None = None
        """While set and not released, answers to reads wait on the way back."""

    @property
    def upstream(self) -> Upstream:
        """What is there now: a location that was restarted is another keeper."""
        return self._upstream.keeper if isinstance(self._upstream, Place) else self._upstream

    def cut(self) -> None:
        """Let nothing through."""
        self.calls_cut = self.feed_cut = True

    def heal(self) -> None:
        """Let everything through."""
        self.calls_cut = self.feed_cut = self.writes_cut = False
        self.lose_answers = self.lose_requests = False

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        self._pass()
        self.reads.append(request)
        reading = await self.upstream.read(request)
        if self.held is not None:
            await self.held.wait()
        await self._answered()
        return reading

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        self._pass()
        return await self.upstream.read_many(request)

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        self._pass()
        if self.writes_cut:
            raise UnreachableError(sent=False)
        if self.lose_requests:
            self.lost.append(batch)
            await asyncio.Event().wait()
        self.writes.append(batch)
        written = await self.upstream.write(batch)
        await self._answered()
        return written

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`."""
        self._pass()
        return await self.upstream.list(query)

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        async for message in self.upstream.follow(hello, upward):
            if self.feed_cut:
                raise UnreachableError(sent=True)
            yield message

    def _pass(self) -> None:
        if self.calls_cut:
            raise UnreachableError(sent=False)

    async def _answered(self) -> None:
        if self.lose_answers:
            await asyncio.Event().wait()


class Place:
    """One location, with its clock, its disk, and the wire to what it reads through."""

    def __init__(
        self,
        name: str,
        upstream: "Upstream | Place",
        clock: ManualClock,
        *,
        disk: Path | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.wire = Wire(upstream)
        self.journal = MemoryJournal()
        self.boot = "first boot"
        self.upstream_name = "the first"
        self._disk = disk
        self.cache: MemoryCache | LmdbCache = self._opened_cache()
        self.keeper = self.made()
        self._running: asyncio.Task[None] | None = None

    def made(self) -> Keeper:
        """Make a keeper over the disk and the wire as they are."""
        return Keeper(
            self.name,
            self.wire,
            cache=self.cache,
            journal=self.journal,
            clock=self.clock,
            boot=self.boot,
            limits=Limits(),
            upstream_name=self.upstream_name,
        )

    def start(self) -> None:
        """Let it run."""
        self._running = asyncio.create_task(self.keeper.run())

    async def stop(self) -> None:
        """End it, as `kill` would: what is in memory is gone."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _opened_cache(self) -> MemoryCache | LmdbCache:
        """Open its cache: on its disk, if it has one."""
        if self._disk is None:
            return MemoryCache()
        return beside(
            partial(LmdbCache, self._disk / self.name, boot=self.boot, size_bytes_max=2**22)
        )

    def _closed_cache(self, *, lost: bool) -> None:
        """Close the cache, as a machine that shuts down does; and perhaps lose it."""
        if isinstance(self.cache, LmdbCache):
            beside(self.cache.close)
            if lost:
                assert self._disk is not None
                beside(partial(shutil.rmtree, self._disk / self.name))
        elif lost:
            self.cache = MemoryCache()

    async def restart(self, *, cache_lost: bool = False, rebooted: bool = False) -> None:
        """End it and start it again over the same disk."""
        await self.stop()
        if rebooted and not cache_lost:
            beside(self.keeper.close)
        self._closed_cache(lost=cache_lost)
        if rebooted:
            self.boot += ", and again"
            if isinstance(self.cache, MemoryCache):
                self.cache.reboot()
        if self._disk is not None:
            self.cache = self._opened_cache()
        self.keeper = self.made()
        self.start()

    async def read(
        self,
        key: str = "k",
        *,
        age_ms_max: int = 60_000,
        stale_ms_max: int | None = None,
        at_least: AtLeast | None = None,
    ) -> Reading:
        """Read one key here."""
        return await self.keeper.read(
            Read(
                namespace=NS,
                keys=(key,),
                age_ms_max=age_ms_max,
                stale_ms_max=stale_ms_max,
                at_least=at_least,
            )
        )

    async def write(self, value: bytes | None, key: str = "k") -> Written:
        """Write one key here."""
        return await self.keeper.write(batch(value, key))


class Setup:
    """A central, location A under it, B under it as well, and D under A."""

    disk: ClassVar[Path | None] = None
    """Where locations keep their caches; in memory if nowhere. A fixture sets it."""

    def __init__(self, *, log_rows_max: int = 1000) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(incarnation=7)
        settings = CentralSettings(log_rows_max=log_rows_max)
        self.central = Central(self.store, clock=self.clock, limits=Limits(), settings=settings)
        self.a = Place("A", self.central, self.clock, disk=self.disk)
        self.b = Place("B", self.central, self.clock, disk=self.disk)
        self.d = Place("D", self.a, self.clock, disk=self.disk)
        self.places = [self.a, self.b, self.d]

    async def __aenter__(self) -> Self:
        """Start all, and let them meet."""
        for place in self.places:
            place.start()
            await self.settle()
            await self.pass_time(1.5)
        await self.pass_time(1.5)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all."""
        for place in self.places:
            await place.stop()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(ROUNDS_TO_SETTLE):
            await asyncio.sleep(0)  # noqa: TID251 - gives way, and waits for nothing

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, a little at a time."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            await self.settle()

    async def write(self, value: bytes | None, key: str = "k") -> Written:
        """Write one key at central."""
        return await self.central.write(batch(value, key))


def beside(make: Callable[[], Made]) -> Made:
    """Do in a thread what may block, and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def batch(value: bytes | None, key: str = "k") -> Batch:
    """Make a batch of one mutation."""
    return Batch(namespace=NS, mutations=(Mutation(key=key, value=value),))


def value_of(reading: Reading) -> bytes | None:
    """Return what was read."""
    if reading.entry is None:
        return None
    assert isinstance(reading.entry.value, bytes)
    return reading.entry.value
