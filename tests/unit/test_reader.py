"""What a reader answers by itself, and what it asks the keeper."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.location_errors import CutOffError
from atoll.core.model import SYSTEM_NAMESPACE, CacheStatus, Read, Reading
from atoll.location.cache import MemoryCache
from atoll.location.lookup import MemorySight
from atoll.location.mapping import Collector, ReaderMapping
from atoll.location.reader import Reader
from tests.support.location import NS, Place, Setup, Wire, beside, value_of

pytestmark = pytest.mark.anyio

READ = Read(namespace=NS, keys=("k",), age_ms_max=60_000)


class Side:
    """A reader of location A, and the wire to its keeper."""

    def __init__(self, place: Place) -> None:
        assert isinstance(place.cache, MemoryCache)
        self.memory = place.cache
        self.wire = Wire(place)
        self.reader = Reader(
            place.name, self.wire, MemorySight(place.cache), clock=place.clock, boot=place.boot
        )

    async def read(self, request: Read = READ) -> Reading:
        """Read through it."""
        return await self.reader.read(request)

    @property
    def asked(self) -> int:
        """How often the keeper was asked."""
        return len(self.wire.reads)


@pytest.fixture(name="setup")
async def fixture_setup() -> AsyncIterator[Setup]:
    """Run central and its locations."""
    async with Setup() as setup:
        yield setup


async def test_what_is_held_is_answered_without_the_keeper(setup: Setup) -> None:
    """Only the first read asks, and a change is seen when the feed has told it."""
    side = Side(setup.a)
    await setup.write(b"1")
    await side.read()
    await setup.pass_time(1.5)

    again = await side.read()

    assert (value_of(again), again.cache, side.asked) == (b"1", CacheStatus.HIT, 1)
    await setup.write(b"2")
    await setup.pass_time(1.5)
    assert value_of(await side.read()) == b"2"


async def test_a_journaled_write_is_the_keepers_to_show(setup: Setup) -> None:
    """Its key is pinned, after a restart and the loss of the cache as well."""
    side = Side(setup.a)
    await setup.write(b"1")
    await side.read()
    setup.a.wire.cut()
    await setup.pass_time(10)
    await setup.a.write(b"2")

    assert value_of(await side.read()) == b"2"
    side.wire.cut()
    with pytest.raises(CutOffError):
        await side.read()
    await setup.a.restart(cache_lost=True)
    assert value_of(await Side(setup.a).read()) == b"2"


async def test_without_a_keeper_it_answers_by_age(setup: Setup) -> None:
    """What is past its bound is stale, with its age, and refused where the request says so."""
    side = Side(setup.a)
    await setup.write(b"1")
    await side.read()
    await setup.a.stop()
    side.wire.cut()
    await setup.pass_time(50)
    fresh = await side.read()
    await setup.pass_time(50)

    stale = await side.read()

    assert not fresh.stale
    assert stale.stale
    assert stale.age_ms is not None
    assert stale.age_ms >= 90_000
    with pytest.raises(CutOffError):
        await side.read(replace(READ, stale_ms_max=0))


async def test_what_has_expired_is_buried_by_the_keeper_first(setup: Setup) -> None:
    """A reader answers that it is missing only once that cannot be taken back."""
    side = Side(setup.a)
    await setup.write(b"1")
    await side.read()
    assert isinstance(setup.a.cache, MemoryCache)
    record = setup.a.cache.get(NS, "k")
    assert record is not None
    assert record.entry is not None
    past = replace(record.entry, expiration=1)
    setup.a.cache.put(NS, "k", replace(record, entry=past))

    reading = await side.read()

    assert reading.entry is None
    assert side.asked == 2
    assert (await side.read()).cache is CacheStatus.NEGATIVE
    assert side.asked == 2


async def test_reads_of_users_are_counted_and_others_are_not(setup: Setup, tmp_path: Path) -> None:
    """Credentials are read with each request; what counts is what the request asked for."""
    side = Side(setup.a)
    mapping = beside(lambda: ReaderMapping(tmp_path))
    side.reader = Reader(
        "A",
        side.wire,
        MemorySight(side.memory),
        clock=setup.clock,
        boot=setup.a.boot,
        mapping=mapping,
    )
    await setup.write(b"1")
    system = Read(namespace=SYSTEM_NAMESPACE, keys=("token/none",), age_ms_max=60_000)
    for request in (READ, system):
        await side.read(request)
    await setup.pass_time(1.5)
    for request in (READ, READ, system, system, system):
        await side.read(request)

    counted = beside(lambda: Collector(tmp_path).collect())
    beside(mapping.close)

    assert side.asked == 2
    assert {status: number for status, number in counted.items() if number} == {CacheStatus.HIT: 2}
