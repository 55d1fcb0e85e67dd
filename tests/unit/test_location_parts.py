"""The small parts of a location: its time, its link, its memory of changes, its lists."""

import asyncio

import pytest

from atoll.core.errors import ParameterInvalidError, StoreError
from atoll.core.location_errors import UnreachableError
from atoll.core.model import (
    Entry,
    Include,
    JournalToken,
    ListQuery,
    Mutation,
    Page,
    Position,
    Read,
    Reading,
    parse_at_least,
)
from atoll.core.version import Version
from atoll.location.age import NEVER
from atoll.location.journal import Journaled
from atoll.location.link import OPEN_MS, Link, within_time
from atoll.location.listing import merged
from atoll.location.pins import Pins
from atoll.location.recent import RecentChanges
from atoll.location.time import LocationTime
from atoll.upstream import Upstream
from tests.support.clock import ManualClock
from tests.support.location import NS, Setup

pytestmark = pytest.mark.anyio

HOUR_S = 3600


def test_places_in_logs_and_journals_have_texts_that_differ() -> None:
    """Each is read back as what it was; anything else is refused."""
    position = Position(incarnation=7, sequence=12)
    token = JournalToken(location="LHR-2", sequence=3)

    assert parse_at_least(str(position)) == position
    assert parse_at_least(str(token)) == token
    for text in ("", "j-", "j-3", "j--3", "j-LHR-", "j-LHR-x", "LHR-3", "j-LHR-" + "9" * 19):
        with pytest.raises(ParameterInvalidError):
            parse_at_least(text)


def test_central_time_never_runs_ahead_and_never_goes_back() -> None:
    """Though our own clock may be fast by as much as is allowed for, and echoes may be late."""
    clock = ManualClock()
    time = LocationTime(clock)
    assert time.central_us() is None
    time.heard(clock.now_us())

    seen: list[int] = []
    for late_us in (0, 5_000_000, 100_000):
        clock.advance(10)
        seen.append(time.central_us() or 0)
        time.heard(clock.now_us() - late_us)
        seen.append(time.central_us() or 0)

    assert seen == sorted(seen)
    assert all(one <= clock.now_us() for one in seen)
    clock.advance(HOUR_S)
    behind_us = clock.now_us() - (time.central_us() or 0)
    assert 0 < behind_us < 2_500_000


def test_the_error_of_central_time_is_never_larger_than_stated() -> None:
    """However late echoes are, and however long ago the last one came."""
    clock = ManualClock()
    time = LocationTime(clock)
    assert time.error_ms() is None

    stated: list[int] = []
    for late_ms, round_trip_ms in ((300, 500), (0, 20), (900, 1000), (5, 10), (4000, 4000)):
        time.heard(clock.now_us() - late_ms * 1000, error_ms=round_trip_ms)
        for passed_s in (0, 1, 30):
            clock.advance(passed_s)
            error_ms = time.error_ms()
            assert error_ms is not None
            stated.append(error_ms)
            assert clock.now_us() - (time.central_us() or 0) <= error_ms * 1000
    assert stated[:2] == [500, 501]
    assert stated[3] == 20
    assert max(stated[3:]) < 200  # A worse echo does not make worse what is known from a better.

    clock.step(HOUR_S)  # The machine stood still: nobody can say until the next echo.
    time.elapsed_ms()
    assert time.error_ms() is None


def test_a_clock_that_stood_still_makes_earlier_instants_worthless() -> None:
    """A wall clock that is slewed, or set back, does not."""
    clock = ManualClock()
    time = LocationTime(clock)
    before_ms = time.elapsed_ms()
    for _ in range(1000):
        clock.advance(1)
        clock.step(0.0005)
        time.elapsed_ms()
    clock.step(-HOUR_S)
    assert time.trusted(time.elapsed_ms()) != NEVER
    assert time.trusted(before_ms) == before_ms

    clock.step(2)
    at_ms = time.elapsed_ms()
    clock.advance(1)

    assert time.trusted(at_ms) == NEVER
    assert time.trusted(time.elapsed_ms()) == time.elapsed_ms()


def test_that_it_stood_still_is_noticed_across_a_restart() -> None:
    """What both clocks showed is kept with the cache."""
    clock = ManualClock()
    before = LocationTime(clock)
    before_ms = before.elapsed_ms()
    clock.step(HOUR_S)

    after = LocationTime(clock, looked=before.looked)

    assert after.trusted(before_ms) == NEVER


def entry_of(key: str, value: bytes | None = b"v") -> Entry:
    """Make an entry."""
    return Entry(key=key, version=Version(1), value=value, metadata=b"{}")


def test_changes_are_remembered_as_far_back_as_is_said() -> None:
    """Of one key the last, without its value; and the floor rises with what is forgotten."""
    recent = RecentChanges(2)
    recent.start_over(10)
    recent.note(NS, entry_of("a"), sequence=11)
    recent.note(NS, entry_of("b"), sequence=12)
    recent.note(NS, entry_of("a"), sequence=13)
    assert recent.floor == 10

    recent.note(NS, entry_of("c", None), sequence=14)

    assert recent.floor == 12
    assert recent.changed_after(NS, "a", 12)
    assert not recent.changed_after(NS, "a", 13)
    assert [entry for _, entry in recent.after(12)] == [
        Entry(key="a", version=Version(1), value=b"", metadata=b"{}", sequence=13),
        Entry(key="c", version=Version(1), value=None, metadata=b"{}", sequence=14),
    ]


class Silent(Setup):
    """A link whose upstream is there when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.link = Link(self.a.wire, self.clock)

    async def ask(self, *, patient: bool = False) -> Reading:
        """Ask for a key."""
        request = Read(namespace=NS, keys=("k",), age_ms_max=0)

        async def make(upstream: Upstream) -> Reading:
            """Make the call."""
            return await upstream.read(request)

        return await self.link.call(make, timeout_s=2, patient=patient)


async def test_a_silent_upstream_is_not_tried_by_everybody() -> None:
    """Two failures open the breaker; after a while one call tries, and closes it or not."""
    setup = Silent()
    setup.a.wire.calls_cut = True
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await setup.ask()

    setup.a.wire.calls_cut = False
    blocked = not setup.link.usable
    with pytest.raises(UnreachableError):
        await setup.ask()
    assert setup.a.wire.reads == []
    setup.clock.advance(OPEN_MS / 1000)
    await setup.ask()
    await setup.ask()

    assert blocked
    assert len(setup.a.wire.reads) == 2


async def test_who_is_patient_tries_whatever_others_met() -> None:
    """And its failures are no reason for others not to."""
    setup = Silent()
    setup.a.wire.calls_cut = True
    for _ in range(5):
        with pytest.raises(UnreachableError):
            await setup.ask(patient=True)
    assert setup.link.usable
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await setup.ask()

    setup.a.wire.calls_cut = False
    await setup.ask(patient=True)

    assert setup.link.usable


async def test_a_call_takes_a_limited_time_by_the_given_clock() -> None:
    """An answer that comes later is nobody's, and neither is its error."""
    clock = ManualClock()
    released = asyncio.Event()

    async def late() -> int:
        """Take long, and fail."""
        await released.wait()
        raise StoreError

    call = asyncio.create_task(within_time(clock, 2, late()))
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251 - gives way, and waits for nothing
    clock.advance(2)

    with pytest.raises(TimeoutError):
        await call


async def test_counts_and_pages_include_what_is_journaled() -> None:
    """And a page that grew beyond its limit ends earlier."""
    pins = Pins()
    for number, (key, value) in enumerate([("b", b"new"), ("c", None), ("x", b"beyond")], 1):
        mutation = Mutation(key=key, value=value, stamp=Version(100 + number))
        entry = Journaled(
            sequence=number, identity=number, namespace=NS, mutations=(mutation,), heard_us=1
        )
        pins.add(entry)
    setup = Setup()
    for key in ("a", "c", "d"):
        await setup.write(b"1", key)
    asked: list[ListQuery] = []

    async def ask(query: ListQuery) -> Page:
        """Ask central, whose versions are later than those above."""
        asked.append(query)
        return await setup.central.list(query)

    query = ListQuery(namespace=NS, limit=2)
    first = await merged(query, pins=pins, now_us=0, ask=ask)
    count = ListQuery(namespace=NS, include=Include.COUNT)
    counted = await merged(count, pins=pins, now_us=0, ask=ask)

    # The journaled deletion of "c" has lost: central's entry is later.
    assert [item.key for item in first.items] == ["a", "b"]
    assert first.after == "b"
    assert (counted.count, counted.items) == (5, ())
    assert asked[1].include is Include.KEYS
