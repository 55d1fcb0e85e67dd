"""What is counted arrives in the ledger, each once, whatever is lost or ends in between."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.central import Central
from atoll.core.errors import AtollError
from atoll.core.limits import Limits
from atoll.core.location_errors import UnreachableError
from atoll.core.model import USAGE_NAMESPACE, Batch, Mutation, Written
from atoll.store.memory import MemoryStore
from atoll.store.protocol import Usage
from atoll.usage.collector import Collector, Courier
from atoll.usage.counts import (
    KINDS,
    US_PER_HOUR,
    WORDS,
    Kind,
    ages_in,
    hour_of,
    latency_in,
    merged,
    operations_in,
)
from atoll.usage.counts import Operation as Op
from atoll.usage.histogram import quantile
from atoll.usage.ledger import HOURS_KEPT_S, Counted, Ledger, Owned
from atoll.usage.meter import FILES_MAX, ROWS_PER_FILE, Meter, rows_in
from tests.support.clock import ManualClock
from tests.support.location import Setup as Places
from tests.support.rng import seeded_bytes

pytestmark = pytest.mark.anyio

ACCOUNT, NS, OTHER_NS = "a" * 32, "1" * 32, "2" * 32


class Setup:
    """A central with its ledger, and a location that counts; either may begin anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = MemoryStore(incarnation=7)
        self.owned = [Owned(account=ACCOUNT, namespace=NS)]
        self.fail = ""
        self.sent = 0
        self.restart_central()
        self.restart_keeper()
        self.meters = [Meter(self.collector.counts), Meter(self.collector.counts)]

    @classmethod
    async def make(cls, folder: Path) -> Self:
        """Make files where they may be touched."""
        return await asyncio.to_thread(cls, folder)

    def restart_central(self) -> None:
        """Forget all but what is stored."""
        self.central = Central(self.store, clock=self.clock, limits=Limits())
        self.ledger = Ledger(
            self.central, clock=self.clock, owned=self.namespaces, stored=self.stored
        )

    def restart_keeper(self) -> None:
        """Forget all but what is in files."""
        self.collector = Collector(self.folder, node="LHR", random_bytes=seeded_bytes())
        self.courier = Courier(self.collector, self.write)

    def restart_reader(self, number: int) -> None:
        """End a process that counts, which the kernel notices as it closes its files."""
        self.meters[number].close()
        self.meters[number] = Meter(self.collector.counts)

    async def namespaces(self) -> list[Owned]:
        """What there is to sample."""
        return self.owned

    async def stored(self, namespace: str) -> Usage:
        """What it holds."""
        return await self.store.usage(namespace, now_us=self.clock.now_us())

    async def write(self, batch: Batch) -> Written:
        """Send a batch to central; it, or its answer, may be lost."""
        self.sent += 1
        if self.fail == "before":
            raise UnreachableError(sent=False)
        written = await self.central.write(batch)
        if self.fail == "after":
            raise UnreachableError(sent=True)
        return written

    async def deliver(self, fail: str = "") -> None:
        """Deliver, and lose what is asked for."""
        self.fail = fail
        try:
            await self.courier.deliver()
        except AtollError:
            assert fail
        self.fail = ""

    def files(self) -> int:
        """How many files of counts there are, spare ones among them."""
        return len(list(self.collector.counts.iterdir()))

    def count(self, reader: int, kind: Kind, keys: int, namespace: str = NS) -> None:
        """Count so many operations."""
        row = self.meters[reader].row(namespace, "v1", ACCOUNT, self.clock.now_us())
        row.count_keys(kind, keys)
        row.count_request(kind, received=keys, sent=2 * keys, elapsed_us=100 * keys)

    async def counted(self) -> list[Counted]:
        """All that the ledger has of today."""
        await self.ledger.settle()
        return await self.ledger.by_day(ACCOUNT, [self.ledger.now_hour() // 24])


STEPS = (
    "count",
    "count",
    "deliver",
    "lose batch",
    "lose answer",
    "keeper",
    "reader",
    "central",
    "settle",
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=40), st.integers(0, 1000))
async def test_nothing_is_lost_or_counted_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    """Through lost batches, lost answers, and processes that end between any two of them."""
    setup = await Setup.make(tmp_path_factory.mktemp("usage"))
    rng = random.Random(seed)  # noqa: S311 - a seeded generator is the point
    truth: Counter[tuple[str, Kind]] = Counter()
    for step in steps:
        reader = rng.randrange(2)
        match step:
            case "count":
                kind, keys = rng.choice(KINDS), rng.randint(1, 5)
                namespace = rng.choice([NS, OTHER_NS])
                setup.count(reader, kind, keys, namespace)
                truth[namespace, kind] += keys
            case "deliver":
                await setup.deliver()
            case "lose batch":
                await setup.deliver("before")
            case "lose answer":
                await setup.deliver("after")
            case "keeper":
                await asyncio.to_thread(setup.restart_keeper)
            case "reader":
                await asyncio.to_thread(setup.restart_reader, reader)
            case "central":
                setup.restart_central()
            case _:
                await setup.ledger.settle()
    await setup.deliver()

    found: Counter[tuple[str, Kind]] = Counter()
    for one in await setup.counted():
        assert (one.node, one.face) == ("LHR", "v1")
        found += Counter({(one.namespace, kind): one.counts.get(kind, 0) for kind in KINDS})
    assert found == truth


async def test_a_lost_answer_leads_to_the_same_batch_again(tmp_path: Path) -> None:
    """Also of a keeper that was killed and remembers only what is on disk."""
    setup = await Setup.make(tmp_path)
    setup.count(0, Kind.HIT, 3)

    await setup.deliver("after")
    setup.count(0, Kind.HIT, 4)
    await asyncio.to_thread(setup.restart_keeper)
    await setup.deliver()

    assert setup.sent == 3
    assert operations_in(merged(one.counts for one in await setup.counted()))[Op.READ] == 7


async def test_a_batch_that_was_added_up_is_not_taken_again(tmp_path: Path) -> None:
    """Central knows its number after the batch itself is gone."""
    setup = await Setup.make(tmp_path)
    setup.count(0, Kind.WRITE, 3)

    await setup.deliver("after")
    await setup.ledger.settle()
    setup.restart_central()
    await setup.deliver()

    assert operations_in(merged(one.counts for one in await setup.counted()))[Op.WRITE] == 3


async def test_each_hour_has_its_own(tmp_path: Path) -> None:
    """However late it is collected; and hours are kept for a stated time."""
    setup = await Setup.make(tmp_path)
    hour = setup.ledger.now_hour()
    setup.count(0, Kind.LIST, 1)
    await asyncio.to_thread(setup.meters[0].prepare)
    setup.clock.advance(3600)
    setup.count(0, Kind.LIST, 2)
    await setup.deliver()

    await setup.ledger.settle()

    by_hour = await setup.ledger.by_hour(ACCOUNT, [hour, hour + 1])
    assert [(one.at - hour, one.counts[Kind.LIST]) for one in by_hour] == [(0, 1), (1, 2)]
    setup.clock.advance(HOURS_KEPT_S)
    assert await setup.ledger.by_hour(ACCOUNT, [hour, hour + 1]) == []
    days = [hour // 24, (hour + 1) // 24]
    assert len(await setup.ledger.by_day(ACCOUNT, set(days))) in {1, 2}


async def test_quantiles_are_of_what_was_merged(tmp_path: Path) -> None:
    """A slow location of few requests does not weigh as much as a fast one of many."""
    setup = await Setup.make(tmp_path)
    for elapsed_us in [10] * 99 + [9000]:
        row = setup.meters[elapsed_us == 9000].row(NS, "v1", ACCOUNT, setup.clock.now_us())
        row.count_read(Kind.HIT, sent=1, elapsed_us=elapsed_us, age_ms=elapsed_us // 10)
    await setup.deliver()

    found = merged(one.counts for one in await setup.counted())

    assert quantile(latency_in(found, Op.READ), 0.5) == pytest.approx(10, rel=0.125)
    assert quantile(latency_in(found, Op.READ), 0.999) == pytest.approx(9000, rel=0.125)
    assert quantile(ages_in(found), 0.999) == pytest.approx(900, rel=0.125)
    assert latency_in(found, Op.WRITE) == {}


async def test_more_rows_than_a_batch_or_a_file_holds(tmp_path: Path) -> None:
    """Go into several."""
    setup = await Setup.make(tmp_path)
    names = [f"{n:032x}" for n in range(ROWS_PER_FILE * 2 + 5)]
    for name in names:
        await asyncio.to_thread(setup.meters[0].prepare)
        setup.count(0, Kind.WRITE, 1, name)

    await setup.deliver()

    assert setup.sent == 3
    assert sorted(one.namespace for one in await setup.counted()) == names


async def test_files_of_the_dead_are_removed_once_they_are_on_their_way(tmp_path: Path) -> None:
    """And those that are counted in stay."""
    setup = await Setup.make(tmp_path)
    setup.count(0, Kind.WRITE, 1)
    setup.count(1, Kind.WRITE, 1)
    setup.meters[0].close()

    await setup.deliver()

    assert setup.files() == 1
    setup.meters[1].close()
    await setup.deliver()
    assert setup.files() == 0


async def test_a_torn_file_says_less_and_never_more(tmp_path: Path) -> None:
    """As a power cut leaves it."""
    setup = await Setup.make(tmp_path)
    setup.count(0, Kind.WRITE, 5)
    setup.meters[1].close()
    await setup.deliver()
    setup.meters[0].close()

    def tear() -> None:
        (path,) = (path for path in setup.collector.counts.iterdir() if any(rows_in(path)[1]))
        raw = bytearray(path.read_bytes())
        raw[-WORDS * 8 :] = bytes(WORDS * 8)
        raw[64 + 128 : 64 + 128 + WORDS * 8] = bytes(WORDS * 8)
        path.write_bytes(raw)
        (setup.collector.counts / "counts-torn").write_bytes(b"\1")

    await asyncio.to_thread(tear)
    await setup.deliver()

    assert operations_in(merged(one.counts for one in await setup.counted()))[Op.WRITE] == 5


def test_a_process_has_so_many_files_at_most(tmp_path: Path) -> None:
    """Beyond that it begins anew, and leaves the old ones to be collected."""
    meter = Meter(tmp_path)
    for n in range(ROWS_PER_FILE * FILES_MAX + 1):
        meter.prepare()
        meter.row(f"{n:032x}", "v1", ACCOUNT, 1_800_000_000_000_000).count_keys(Kind.HIT, 1)

    left = [rows_in(path)[0] for path in tmp_path.iterdir()]
    meter.close()
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())

    assert (left.count(True), left.count(False)) == (FILES_MAX, 1)
    assert sizes[0] * 50 < sizes[1]  # What waits to be collected takes no more room than it needs.


async def test_storage_is_sampled_once_an_hour(tmp_path: Path) -> None:
    """While central does not run, what was stored is still stored; what was dropped is not."""
    setup = await Setup.make(tmp_path)
    hour = setup.ledger.now_hour()
    mutations = (Mutation(key="key", value=b"x" * 97), Mutation(key="k", value=b"x" * 99))
    await setup.central.write(Batch(namespace=NS, mutations=mutations[:1]))
    await setup.ledger.sample()
    await setup.central.write(Batch(namespace=NS, mutations=mutations[1:]))
    await setup.ledger.sample()
    setup.clock.advance(3 * 3600)
    setup.restart_central()
    await setup.ledger.sample()
    setup.owned.clear()
    setup.clock.advance(3600)
    await setup.ledger.sample()

    days = range(hour // 24, (hour + 4) // 24 + 1)
    samples = await setup.ledger.stored(ACCOUNT, days)

    assert [(one.hour - hour, one.bytes, one.keys) for one in samples] == [
        (0, 100, 1),
        (1, 100, 1),
        (2, 100, 1),
        (3, 200, 2),
    ]


def test_where_no_file_can_be_made_nothing_is_counted(tmp_path: Path) -> None:
    """And it goes on when one can."""
    counts = tmp_path / "counts"
    counts.mkdir(mode=0o500)
    meter = Meter(counts)
    meter.close()
    counts.rename(tmp_path / "elsewhere")
    now_us = hour_of(1_800_000_000_000_000) * US_PER_HOUR

    meter.row(NS, "v1", ACCOUNT, now_us).count_keys(Kind.HIT, 1)
    counts.mkdir()
    meter.row(NS, "v1", ACCOUNT, now_us + 1).count_keys(Kind.HIT, 1)
    meter.row(NS, "v1", ACCOUNT, now_us + 2_000_000).count_keys(Kind.HIT, 1)

    (path,) = counts.iterdir()
    assert [found for _, _, found in rows_in(path)[1]] == [{Kind.HIT: 1}]


async def test_counts_pass_through_a_tier(tmp_path: Path) -> None:
    """Once, though an answer is lost on the way; and no location subscribes to them."""

    def make(node: str) -> tuple[Collector, Meter]:
        """Make what counts at a location."""
        collector = Collector(tmp_path / node, node=node, random_bytes=seeded_bytes())
        return collector, Meter(collector.counts)

    async with Places() as places:
        collector, meter = await asyncio.to_thread(make, "D")
        courier = Courier(collector, places.d.keeper.write)
        ledger = Ledger(places.central, clock=places.clock, owned=nobody, stored=nothing)
        row = meter.row(NS, "v1", ACCOUNT, places.clock.now_us())
        row.count_keys(Kind.HIT, 3)
        places.a.wire.lose_answers = True  # Between the tier and central.
        lost = asyncio.create_task(courier.deliver())
        while not lost.done():
            await places.pass_time(1)
        assert isinstance(lost.exception(), AtollError)
        places.a.wire.heal()
        await places.pass_time(3)
        await courier.deliver()
        row.count_keys(Kind.HIT, 4)
        await courier.deliver()
        await ledger.settle()

        (found,) = await ledger.by_day(ACCOUNT, [ledger.now_hour() // 24])
        assert (found.node, found.counts) == ("D", {Kind.HIT: 7})
        for place in places.places:
            assert USAGE_NAMESPACE not in place.keeper.knowledge.feed.subscribed
        meter.close()


async def nobody() -> list[Owned]:
    """There are no namespaces."""
    return []


async def nothing(namespace: str) -> Usage:
    """Nothing is stored."""
    raise AssertionError(namespace)
