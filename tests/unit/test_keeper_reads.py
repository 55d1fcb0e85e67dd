"""Reads at a location: bounds, the feed, flights, tiers, and what is said when cut off."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.errors import NotArrivedError
from atoll.core.location_errors import CutOffError
from atoll.core.model import Batch, CacheStatus, Entry, ListQuery, Mutation, Position
from atoll.core.session import Changed, Downward, Echo, Hello, StartedOver, Subscribed, Upward
from atoll.core.version import Version
from atoll.upstream import Upstream
from tests.support.location import NS, Setup, Wire, value_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True, params=["memory", "lmdb"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test over caches in memory, and over LMDB."""
    monkeypatch.setattr(Setup, "disk", tmp_path if request.param == "lmdb" else None)


async def test_a_change_arrives_by_the_feed() -> None:
    """A key that was read once is up to date from then on, with nobody asking."""
    async with Setup() as setup:
        await setup.write(b"1")
        assert value_of(await setup.a.read()) == b"1"
        await setup.settle()
        asked = len(setup.a.wire.reads)

        await setup.write(b"2")
        await setup.settle()
        reading = await setup.a.read()

        assert (value_of(reading), reading.cache) == (b"2", CacheStatus.HIT)
        assert len(setup.a.wire.reads) == asked


async def test_with_a_live_feed_everything_is_about_a_second_old() -> None:
    """A key that nobody wrote for an hour is as fresh as the last heartbeat."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        await setup.pass_time(2)
        await setup.a.read(age_ms_max=0)

        await setup.pass_time(60)
        reading = await setup.a.read()

        assert reading.cache is CacheStatus.HIT
        assert reading.age_ms is not None
        assert reading.age_ms <= 1100


async def test_without_the_feed_a_bound_has_the_key_asked_for_anew() -> None:
    """Cut from the feed alone, a location sees a change within the bound."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.feed_cut = True
        await setup.pass_time(1)
        await setup.write(b"2")

        assert value_of(await setup.a.read(age_ms_max=60_000)) == b"1"
        assert value_of(await setup.a.read(age_ms_max=500)) == b"2"


async def test_a_bound_of_zero_asks_central_through_tiers() -> None:
    """And so sees what was written just before."""
    async with Setup() as setup:
        await setup.d.read()
        setup.a.wire.feed_cut = True
        await setup.pass_time(2)
        await setup.write(b"2")

        reading = await setup.d.read(age_ms_max=0)

        assert (value_of(reading), reading.age_ms) == (b"2", 0)


async def test_ages_add_up_along_tiers() -> None:
    """What a tier read long ago is that old below it as well."""
    async with Setup() as setup:
        await setup.write(b"1")
        setup.a.wire.feed_cut = True
        await setup.pass_time(2)
        await setup.a.read()
        await setup.pass_time(40)

        reading = await setup.d.read()

        assert reading.age_ms is not None
        assert reading.age_ms >= 40_000


async def test_a_missing_key_is_known_and_its_creation_replaces_that() -> None:
    """A key that is not there is held like any other."""
    async with Setup() as setup:
        assert (await setup.a.read()).cache is CacheStatus.MISS
        await setup.settle()
        assert (await setup.a.read()).cache is CacheStatus.NEGATIVE

        await setup.write(b"1")
        await setup.settle()

        assert value_of(await setup.a.read()) == b"1"


async def test_cut_off_what_is_held_is_still_answered_and_marked() -> None:
    """Past its bound it is stale, with its age; a caller may refuse that; the unknown is 503."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.cut()
        await setup.pass_time(100)

        reading = await setup.a.read()

        assert (value_of(reading), reading.stale) == (b"1", True)
        assert reading.age_ms is not None
        assert 100_000 <= reading.age_ms <= 103_000
        assert reading.cache is CacheStatus.STALE
        with pytest.raises(CutOffError):
            await setup.a.read(stale_ms_max=0)
        assert value_of(await setup.a.read(stale_ms_max=60_000)) == b"1"
        with pytest.raises(CutOffError):
            await setup.a.read("never seen")
        with pytest.raises(CutOffError):
            await setup.a.keeper.list(ListQuery(namespace=NS))


async def test_a_large_change_marks_and_never_removes() -> None:
    """Of a change without its value is known that it was: the old value is stale, not gone."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        await setup.write(b"x" * 100_000)
        await setup.settle()
        setup.a.wire.calls_cut = True

        reading = await setup.a.read()

        assert (value_of(reading), reading.stale) == (b"1", True)
        setup.a.wire.calls_cut = False
        await setup.pass_time(2)
        assert value_of(await setup.a.read()) == b"x" * 100_000


async def test_however_many_readers_one_asks() -> None:
    """A thousand readers of one key cost one question."""
    async with Setup() as setup:
        await setup.write(b"1")
        asked = len(setup.a.wire.reads)

        readings = await asyncio.gather(*(setup.a.read() for _ in range(1000)))

        assert {value_of(reading) for reading in readings} == {b"1"}
        assert len(setup.a.wire.reads) == asked + 1


async def test_a_reader_does_not_join_a_flight_that_was_sent_too_early() -> None:
    """Who asks with a bound of 0 behind a write sees it, though a question was in the air."""
    async with Setup() as setup:
        await setup.write(b"1")
        setup.a.wire.held = asyncio.Event()
        early = asyncio.create_task(setup.a.read())
        await setup.settle()
        await setup.write(b"2")
        setup.clock.advance(0.01)

        late = asyncio.create_task(setup.a.read(age_ms_max=0))
        await setup.settle()
        setup.a.wire.held.set()

        assert value_of(await late) == b"2"
        assert value_of(await early) in {b"1", b"2"}


async def test_a_position_is_met_or_refused() -> None:
    """A write at central is read at the location by who presents its position; the future not."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.feed_cut = True
        await setup.pass_time(1)
        written = await setup.write(b"2")

        assert value_of(await setup.a.read(at_least=written.position)) == b"2"
        ahead = replace(written.position, sequence=written.position.sequence + 100)
        with pytest.raises(NotArrivedError):
            await setup.a.read(at_least=ahead)
        with pytest.raises(NotArrivedError):
            await setup.a.read(at_least=Position(incarnation=99, sequence=0))


async def test_a_popular_key_never_waits() -> None:
    """Without a feed, a read shortly before the bound has the key refreshed for the next."""
    async with Setup() as setup:
        await setup.write(b"1")
        setup.a.wire.feed_cut = True
        await setup.pass_time(2)
        await setup.a.read()
        await setup.pass_time(50)

        first = await setup.a.read()
        await setup.settle()
        second = await setup.a.read()

        assert first.cache is second.cache is CacheStatus.HIT
        assert first.age_ms is not None
        assert first.age_ms >= 50_000
        assert second.age_ms == 0


async def test_after_a_restart_what_is_held_still_counts() -> None:
    """The age goes on from where it was, and nothing is asked for."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.cut()
        await setup.pass_time(5)

        await setup.a.restart()
        reading = await setup.a.read()

        assert (value_of(reading), reading.order_unknown) == (b"1", False)
        assert reading.age_ms is not None
        assert 5000 <= reading.age_ms <= 7000


async def test_after_a_reboot_nobody_knows_how_old_it_is() -> None:
    """An elapsed clock of another boot says nothing."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.cut()

        await setup.a.restart(rebooted=True)
        reading = await setup.a.read()

        assert (value_of(reading), reading.age_ms, reading.stale) == (b"1", None, True)
        with pytest.raises(CutOffError):
            await setup.a.read(stale_ms_max=10**9)


async def test_what_expired_while_cut_off_is_gone_after_a_reboot() -> None:
    """Nobody had read it: the time that was reckoned until the machine stopped is kept."""
    async with Setup() as setup:
        mutation = Mutation(key="k", value=b"1", expiration=int(setup.clock.now_s) + 60)
        await setup.central.write(Batch(namespace=NS, mutations=(mutation,)))
        await setup.a.read()
        setup.a.wire.cut()
        await setup.pass_time(62)

        await setup.a.restart(rebooted=True)

        assert value_of(await setup.a.read()) is None


async def test_a_machine_that_stood_still_knows_no_age_until_the_next_echo() -> None:
    """The wall clock ran on and the elapsed clock did not."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.cut()
        setup.clock.step(3600)

        reading = await setup.a.read()

        assert reading.age_ms is None
        setup.a.wire.heal()
        await setup.pass_time(4)
        assert (await setup.a.read()).age_ms is not None


async def test_after_the_cache_was_lost_the_order_is_unknown_until_central_was_asked() -> None:
    """What a tier held from before may be older than what was told here."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.cut()
        await setup.pass_time(3)

        await setup.d.restart(cache_lost=True)
        await setup.pass_time(2)
        reading = await setup.d.read(age_ms_max=60_000)

        assert (value_of(reading), reading.order_unknown) == (b"1", True)
        setup.a.wire.heal()
        await setup.pass_time(4)
        assert not (await setup.d.read(age_ms_max=0)).order_unknown


async def test_a_switch_of_the_upstream_keeps_what_is_held() -> None:
    """And says that the order is unknown until the new one was asked."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.d.read()
        await setup.pass_time(1)

        setup.d.keeper.switch(setup.b.wire, "b")
        assert (await setup.d.read()).order_unknown
        await setup.write(b"2")
        await setup.pass_time(3)

        reading = await setup.d.read(age_ms_max=0)
        assert (value_of(reading), reading.order_unknown) == (b"2", False)


async def test_a_restart_with_another_upstream_is_a_switch() -> None:
    """What is held stays; the feed vouches for nothing, and the order is unknown until asked."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.d.read()
        await setup.pass_time(1)

        setup.d.upstream_name = "another"
        await setup.d.restart()
        reading = await setup.d.read()
        assert (value_of(reading), reading.order_unknown) == (b"1", True)
        await setup.pass_time(3)

        assert not (await setup.d.read(age_ms_max=0)).order_unknown
        await setup.d.restart()
        assert not (await setup.d.read()).order_unknown


async def test_a_switch_leaves_nobody_waiting() -> None:
    """Neither who waited for a flight to the old upstream, nor who waited behind one."""
    async with Setup() as setup:
        await setup.write(b"1")
        setup.b.wire.feed_cut = True
        setup.d.wire.feed_cut = True
        await setup.pass_time(2)
        await setup.d.read()
        await setup.pass_time(50)
        setup.d.wire.held = asyncio.Event()
        await setup.d.read()  # Has it refreshed, with nobody waiting.
        await setup.settle()
        behind = asyncio.create_task(setup.d.read(age_ms_max=0))
        await setup.settle()
        assert not behind.done()

        setup.d.keeper.switch(setup.b.wire, "b")
        await setup.pass_time(0.1)

        assert value_of(await behind) == b"1"


async def test_another_incarnation_makes_everything_held_void() -> None:
    """After a backup was restored, what is held may never have been."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()

        setup.store.__init__(incarnation=8)  # type: ignore[misc]
        await setup.pass_time(15)
        reading = await setup.a.read()

        assert value_of(reading) is None
        assert reading.position.incarnation == 8


async def test_an_incarnation_that_is_over_is_no_news() -> None:
    """A tier that has not heard of the restore is not believed; once it has, it is."""
    async with Setup() as setup:
        setup.store.__init__(incarnation=8)  # type: ignore[misc]
        await setup.pass_time(15)
        await setup.write(b"after")
        assert value_of(await setup.d.read(age_ms_max=0)) == b"after"

        setup.store.__init__(incarnation=7)  # type: ignore[misc]
        await setup.pass_time(15)
        late = await setup.d.read()
        setup.store.__init__(incarnation=9)  # type: ignore[misc]
        await setup.pass_time(15)
        reading = await setup.d.read(age_ms_max=0)

        assert (value_of(late), late.position.incarnation) == (b"after", 8)
        assert (value_of(reading), reading.position.incarnation) == (None, 9)


async def test_nothing_is_evicted_while_its_key_is_in_the_air() -> None:
    """Or an older answer could come and be believed."""
    async with Setup() as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.held = asyncio.Event()
        reading = asyncio.create_task(setup.a.read(age_ms_max=0))
        setup.clock.advance(0.01)
        late = asyncio.create_task(setup.a.read(age_ms_max=0))
        await setup.settle()

        assert not setup.a.keeper.evict(NS, "k")
        setup.a.wire.held.set()
        await asyncio.gather(reading, late)
        await setup.settle()
        assert setup.a.keeper.evict(NS, "k")


class Scripted(Wire):
    """An upstream whose feed says what the test wrote down, and then nothing more."""

    def __init__(self, upstream: Upstream, script: Sequence[Downward]) -> None:
        super().__init__(upstream)
        self._script = script

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        del hello, upward
        for message in self._script:
            yield message
        await asyncio.Event().wait()


def changed(key: str, sequence: int) -> Changed:
    """Make a change with its value."""
    entry = Entry(key=key, version=Version(sequence), value=b"%d" % sequence)
    position = Position(incarnation=7, sequence=sequence)
    return Changed(namespace=NS, entry=entry, position=position, value_included=True)


async def test_a_change_vouches_for_no_other_key() -> None:
    """Of two changes of a key only the later is told, and another key's may come before it."""
    setup = Setup()
    first = await setup.write(b"1")
    at = first.position
    key_twice = replace(at, sequence=at.sequence + 2)
    script: list[Downward] = [
        StartedOver(position=replace(at, sequence=0)),
        Subscribed(namespace=NS, position=replace(at, sequence=0)),
        changed("k", at.sequence),
        Echo(instant_ms=0, position=at, central_us=None),
        changed("other", key_twice.sequence),
    ]
    setup.a.wire = Scripted(setup.central, script)
    setup.a.keeper = setup.a.made()
    await setup.a.read()
    setup.a.start()
    await setup.settle()

    reading = await setup.a.read()

    assert reading.position == at
    assert setup.a.keeper.knowledge.feed.told == key_twice.sequence
    await setup.a.stop()


async def test_the_clock_error_is_the_upstream_s_and_the_round_trip() -> None:
    """An upstream that cannot say how wrong it is leaves a location without a word either."""
    for error_ms, stated in ((700, 701), (0, 1), (None, None)):
        setup = Setup()
        at = (await setup.write(b"1")).position
        script: list[Downward] = [
            StartedOver(position=at),
            Echo(instant_ms=0, position=at, central_us=setup.clock.now_us(), error_ms=error_ms),
        ]
        setup.a.wire = Scripted(setup.central, script)
        setup.a.keeper = setup.a.made()
        setup.a.start()
        await setup.settle()

        assert setup.a.keeper.telling.status().clock_error_ms == stated
        await setup.a.stop()


async def test_after_a_start_over_what_is_read_is_soon_as_fresh_as_the_feed() -> None:
    """Nothing vouches for it, so a read has it asked for again, and the feed covers the answer."""
    async with Setup(log_rows_max=1) as setup:
        await setup.write(b"1")
        await setup.a.read()
        setup.a.wire.feed_cut = True
        await setup.pass_time(2)
        for number in range(3):
            await setup.write(b"%d" % number, "other")
        await setup.central.sweep()
        setup.a.wire.heal()
        await setup.pass_time(6)

        first = await setup.a.read()
        await setup.pass_time(2)
        second = await setup.a.read()

        assert first.cache is second.cache is CacheStatus.HIT
        assert first.age_ms is not None
        assert second.age_ms is not None
        assert first.age_ms >= 5000
        assert second.age_ms <= 1100
