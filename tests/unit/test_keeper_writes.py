"""Writes at a location: up while central answers, else journaled, and once whatever comes."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from atoll import registry
from atoll.core.errors import (
    ConditionFailedError,
    DeadlinePassedError,
    NotArrivedError,
    RewriteTooSoonError,
    StoreError,
)
from atoll.core.location_errors import (
    CutOffError,
    JournalFullError,
    LocationForgottenError,
    OutcomeUnknownError,
)
from atoll.core.model import (
    SYSTEM_NAMESPACE,
    Identity,
    ListQuery,
    Mutation,
    OutcomeKind,
    Position,
    Presence,
    Read,
    Written,
)
from atoll.core.version import NODE_BITS, micros_of, node_of
from atoll.location.journal import MemoryJournal
from tests.support.location import NS, Setup, batch, value_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True, params=["memory", "lmdb"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test over caches in memory, and over LMDB."""
    monkeypatch.setattr(Setup, "disk", tmp_path if request.param == "lmdb" else None)


async def written_at(setup: Setup, key: str = "k") -> bytes | None:
    """What central has."""
    return value_of(await setup.central.read(Read(namespace=NS, keys=(key,))))


async def answered(task: "asyncio.Task[Written]", setup: Setup) -> Written:
    """Let time pass until a write is answered."""
    for _ in range(100):
        if task.done():
            break
        await setup.pass_time(0.1)
    return await task


async def test_a_write_is_read_where_it_was_made_and_through_every_tier() -> None:
    """Each node on the way learns the key's record from the answer."""
    async with Setup() as setup:
        written = await setup.d.write(b"1")
        setup.a.wire.cut()

        assert not written.journaled
        assert value_of(await setup.d.read()) == b"1"
        assert value_of(await setup.a.read()) == b"1"
        assert await written_at(setup) == b"1"


async def test_cut_off_a_write_is_journaled_shown_and_delivered() -> None:
    """202: it is visible here at once, and everywhere when central is back."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)

        written = await setup.a.write(b"1")
        reading = await setup.a.read(at_least=written.token)

        assert written.token is not None
        assert (value_of(reading), reading.token) == (b"1", written.token)
        below = await setup.d.read()
        assert (value_of(below), below.journaled) == (b"1", True)
        with pytest.raises(NotArrivedError):
            await setup.b.read(at_least=written.token)
        setup.a.wire.heal()
        await setup.pass_time(4)
        assert (await setup.a.read()).token is None
        assert value_of(await setup.b.read(at_least=written.token)) == b"1"
        assert value_of(await setup.a.read(at_least=written.token)) == b"1"


async def test_a_lost_answer_does_not_apply_a_write_twice() -> None:
    """Central applied it and nobody heard: the journal delivers it again, as the same write."""
    async with Setup() as setup:
        setup.a.wire.lose_answers = True
        task = asyncio.create_task(setup.a.write(b"1"))
        await setup.pass_time(0.5)
        between = await setup.write(b"2")

        written = await answered(task, setup)
        setup.a.wire.heal()
        await setup.pass_time(15)

        assert written.journaled
        assert await written_at(setup) == b"2"
        reading = await setup.a.read()
        assert (value_of(reading), reading.journaled) == (b"2", False)
        assert reading.position.sequence >= between.position.sequence


async def test_a_write_is_journaled_only_when_central_would_refuse_its_first_copy() -> None:
    """The copy that is late by then is not applied."""
    async with Setup() as setup:
        setup.a.wire.lose_requests = True
        task = asyncio.create_task(setup.a.write(b"1"))
        await setup.pass_time(1)
        assert not task.done()

        written = await answered(task, setup)
        first_copy = setup.a.wire.lost[0]

        assert written.journaled
        assert first_copy.deadline_us is not None
        assert micros_of(written.outcomes[0].version) > first_copy.deadline_us
        with pytest.raises(DeadlinePassedError):
            await setup.central.write(first_copy)


async def test_a_journaled_write_loses_to_what_central_accepted_later() -> None:
    """It carries the time at which it was taken, and its location then shows the winner."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)
        await setup.a.write(b"journaled")
        await setup.pass_time(1)

        await setup.b.write(b"later")
        setup.a.wire.heal()
        await setup.pass_time(4)

        assert await written_at(setup) == b"later"
        assert value_of(await setup.a.read()) == b"later"
        assert not setup.a.journal.entries


async def test_a_journaled_write_beats_what_central_had_before() -> None:
    """Last write wins, whichever way it came."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.b.write(b"earlier")
        await setup.pass_time(1)

        await setup.a.write(b"journaled")
        setup.a.wire.heal()
        await setup.pass_time(4)

        assert await written_at(setup) == b"journaled"


async def test_what_is_journaled_survives_a_restart_and_the_loss_of_the_cache() -> None:
    """It is shown again, delivered once, and stamped with the location's own node."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)
        written = await setup.a.write(b"1")

        await setup.a.restart(cache_lost=True)
        reading = await setup.a.read()

        assert (value_of(reading), reading.token) == (b"1", written.token)
        assert reading.order_unknown
        assert 0 < node_of(written.outcomes[0].version) < 2**NODE_BITS
        setup.a.wire.heal()
        await setup.pass_time(4)
        assert await written_at(setup) == b"1"


async def test_a_pin_that_lost_is_not_shown_again() -> None:
    """A direct write of the same key that central acknowledged is not hidden by an older pin."""
    async with Setup() as setup:
        setup.a.wire.writes_cut = True
        await setup.a.write(b"pinned")
        await setup.pass_time(1)

        later = await setup.write(b"later")
        reading = await setup.a.read(at_least=later.position)

        assert (value_of(reading), reading.journaled) == (b"later", False)
        assert setup.a.journal.entries


async def test_conditions_are_central_s_to_decide() -> None:
    """Never from a cache, never from the journal; and behind what is journaled for the key."""
    async with Setup() as setup:
        first = await setup.a.write(b"1")
        version = first.outcomes[0].version
        setup.a.wire.feed_cut = True
        await setup.pass_time(1)
        second = await setup.write(b"2")
        mutation = Mutation(key="k", value=b"3", condition=version)

        with pytest.raises(ConditionFailedError) as caught:
            await setup.a.keeper.write(replace(batch(b"3"), mutations=(mutation,)))

        assert caught.value.version_current == second.outcomes[0].version
        setup.a.wire.cut()
        absent = mutation._replace(condition=Presence.ABSENT)
        with pytest.raises(CutOffError):
            await setup.a.keeper.write(replace(batch(b"3"), mutations=(absent,)))


async def test_a_conditional_write_without_an_answer_is_of_unknown_outcome() -> None:
    """It is not journaled, and nobody says that it was not applied."""
    async with Setup() as setup:
        setup.a.wire.lose_answers = True
        mutation = Mutation(key="k", value=b"3", condition=Presence.ABSENT)
        task = asyncio.create_task(
            setup.a.keeper.write(replace(batch(b"3"), mutations=(mutation,)))
        )

        with pytest.raises(OutcomeUnknownError):
            await answered(task, setup)

        assert not setup.a.journal.entries


async def test_a_client_s_own_identity_is_passed_up_and_not_journaled() -> None:
    """Its repeat finds the first outcome at central, through whichever location it comes."""
    async with Setup() as setup:
        identity = Identity(origin="token:1", name=b"once")
        one = replace(batch(b"1"), identity=identity)

        first = await setup.a.keeper.write(one)
        again = await setup.b.keeper.write(one)

        assert (first.repeated, again.repeated) == (False, True)
        assert again.outcomes[0].version == first.outcomes[0].version
        setup.a.wire.cut()
        with pytest.raises(CutOffError):
            await setup.a.keeper.write(one)


async def test_a_full_journal_says_so() -> None:
    """503, and what was taken before is kept."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)
        setup.a.journal.size_bytes_max = 1000
        await setup.a.write(b"x" * 500, "one")

        with pytest.raises(JournalFullError):
            await setup.a.write(b"x" * 500, "two")

        assert value_of(await setup.a.read("one")) == b"x" * 500
        with pytest.raises(CutOffError):
            await setup.a.read("two")


async def test_one_write_a_second_is_counted_where_it_is_taken() -> None:
    """Cut off, the location counts; delivering is never refused for it."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)
        limited = replace(batch(b"1"), rate_limited=True)
        await setup.a.keeper.write(limited)

        with pytest.raises(RewriteTooSoonError):
            await setup.a.keeper.write(limited)
        await setup.pass_time(1)
        await setup.a.keeper.write(limited)
        setup.a.wire.heal()
        await setup.pass_time(4)

        assert not setup.a.journal.entries
        assert not setup.a.journal.refused


async def test_numbers_are_never_given_twice() -> None:
    """Also not across a restart with nothing in the journal."""
    async with Setup() as setup:
        await setup.a.write(b"1")
        await setup.a.restart()
        await setup.pass_time(2)
        await setup.a.write(b"2")

        own = [one.identity for one in setup.a.wire.writes if one.identity is not None]
        names = [identity.name for identity in own if identity.origin == "A"]
        assert len(names) >= 3
        assert names == sorted(set(names))
        assert await written_at(setup) == b"2"


async def test_a_location_that_never_reached_central_journals_nothing() -> None:
    """Without a node id and central's time there is nothing to stamp with."""
    setup = Setup()
    setup.a.wire.cut()
    setup.a.start()
    await setup.pass_time(3)

    with pytest.raises(CutOffError):
        await setup.a.write(b"1")

    await setup.a.stop()


async def test_tombstones_wait_for_every_journal() -> None:
    """A deletion is not swept while a location may still hold an older write."""
    async with Setup() as setup:
        await setup.pass_time(12)
        setup.a.wire.cut()
        await setup.pass_time(1)
        await setup.a.write(b"old")
        await setup.pass_time(1)
        await setup.write(None)

        held = await setup.central.sweep()
        setup.a.wire.heal()
        await setup.pass_time(5)
        assert await written_at(setup) is None
        assert not setup.a.journal.entries
        await setup.pass_time(12)
        swept = await setup.central.sweep()

        assert held.removed == 0
        assert swept.removed >= 1


async def test_a_forgotten_location_holds_nothing_up_and_delivers_nothing() -> None:
    """Its journal is set aside, to be looked at."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)
        await setup.a.write(b"old")

        assert await registry.forget(setup.central, "A")
        setup.a.wire.heal()
        await setup.pass_time(5)

        assert await written_at(setup) is None
        assert [one.code for one in setup.a.journal.refused] == [LocationForgottenError.code]
        assert not setup.a.journal.entries
        assert value_of(await setup.a.read()) is None
        with pytest.raises(LocationForgottenError):
            await registry.register(setup.central, "A")


async def test_locations_get_nodes_of_their_own() -> None:
    """And keep them when they come again."""
    async with Setup() as setup:
        nodes = {place.journal.state.node for place in setup.places}
        again, _ = await registry.register(setup.central, "A")

        assert len(nodes) == 3
        assert None not in nodes
        assert again.node == setup.a.journal.state.node
        page = await setup.central.list(
            ListQuery(namespace=SYSTEM_NAMESPACE, prefix=registry.LOCATION_PREFIX)
        )
        assert page.count == 3


async def test_a_disk_that_fails_takes_nothing_into_the_journal() -> None:
    """The write is refused and not shown."""
    async with Setup() as setup:
        setup.a.wire.cut()
        await setup.pass_time(1)

        async def broken() -> None:
            """Be a disk that fails."""
            raise StoreError

        setup.a.journal._sync = broken  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

        with pytest.raises(StoreError):
            await setup.a.write(b"1")
        with pytest.raises(CutOffError):
            await setup.a.read()


async def test_a_list_shows_what_is_journaled() -> None:
    """Its own writes in their places, deletions included, in every kind of list."""
    async with Setup() as setup:
        for key in ("a", "b", "c"):
            await setup.write(b"1", key)
        setup.a.wire.writes_cut = True
        await setup.a.write(None, "a")
        await setup.a.write(b"2", "bb")
        await setup.pass_time(1)

        page = await setup.a.keeper.list(ListQuery(namespace=NS))
        first = await setup.a.keeper.list(ListQuery(namespace=NS, limit=1))

        assert [item.key for item in page.items] == ["b", "bb", "c"]
        assert first.count == len(first.items)


async def test_a_write_that_came_too_late_teaches_the_time() -> None:
    """A location whose clock stood still learns from the refusal and writes directly."""
    async with Setup() as setup:
        setup.a.wire.feed_cut = True
        await setup.pass_time(2)
        setup.clock.step(3600)

        written = await setup.a.write(b"1")

        assert not written.journaled
        assert written.outcomes[0].kind is OutcomeKind.APPLIED
        assert isinstance(written.position, Position)


async def test_matthew_michelle_and_lee() -> None:
    """Two write the plan at the same time, a third reads; the loser can be seen to have lost."""
    async with Setup() as setup:
        for place in setup.places:
            await place.read("plan")
        await setup.settle()
        matthew, michelle = await asyncio.gather(
            setup.a.write(b"pizza", "plan"), setup.b.write(b"sushi", "plan")
        )
        await setup.settle()
        later = max(matthew.outcomes[0].version, michelle.outcomes[0].version)
        seen = [await place.read("plan") for place in setup.places]
        versions = {reading.entry.version for reading in seen if reading.entry is not None}

        assert versions == {later}
        assert len({value_of(reading) for reading in seen}) == 1
        lee = Mutation(
            key="plan",
            value=b"salad",
            condition=min(matthew.outcomes[0].version, michelle.outcomes[0].version),
        )
        with pytest.raises(ConditionFailedError) as caught:
            await setup.d.keeper.write(replace(batch(b""), mutations=(lee,)))
        assert caught.value.version_current == later


async def test_what_a_loss_left_without_order_stays_so_across_a_restart() -> None:
    """A journaled write that may have lost is shown as such until its outcome is known."""
    async with Setup() as setup:
        setup.a.wire.writes_cut = True
        await setup.a.write(b"pinned")
        await setup.pass_time(1)
        later = await setup.write(b"later")
        assert value_of(await setup.a.read(at_least=later.position)) == b"later"
        setup.a.wire.cut()

        await setup.a.restart(cache_lost=True)
        await setup.a.restart()
        reading = await setup.a.read()

        assert (value_of(reading), reading.journaled) == (b"pinned", True)
        assert reading.order_unknown


async def test_a_journal_that_was_lost_leaves_no_numbers_behind() -> None:
    """A location whose disk was replaced writes anew: central takes nothing of it for a repeat."""
    async with Setup() as setup:
        first = await answered(asyncio.create_task(setup.a.write(b"first")), setup)
        setup.a.journal = MemoryJournal()
        await setup.a.journal.update(lambda state: replace(state, label="another"))
        await setup.a.restart(cache_lost=True)
        await setup.pass_time(3)

        second = await answered(asyncio.create_task(setup.a.write(b"second")), setup)

        assert second.outcomes[0].version > first.outcomes[0].version
        assert await written_at(setup) == b"second"
