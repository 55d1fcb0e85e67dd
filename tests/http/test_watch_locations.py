"""Watching at a location: the same events as at central, and what it cannot tell is said."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.core.model import Batch, Mutation, Position
from atoll.http import v1_watch
from atoll.location import children
from tests.http.locations import World
from tests.http.watcher import Event, Watcher

pytestmark = pytest.mark.anyio

LARGE = b"x" * 20_000


@pytest.fixture
async def world(anyio_backend: str, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world in which nobody has read anything."""
    assert anyio_backend == "asyncio"
    world = World(tmp_path)
    await world.open()
    async with world:
        yield world


async def write(world: World, *mutations: Mutation) -> Position:
    """Write at central."""
    namespace = world.sites["central"].namespace.id
    written = await world.central.write(Batch(namespace=namespace, mutations=mutations))
    return written.position


CHANGES = (
    Mutation(key="small", value=b"v", metadata=b'{"m":1}', expiration=4_000_000_000),
    Mutation(key="large", value=LARGE, metadata=b'{"m":2}'),
    Mutation(key="gone", value=None),
)


def as_central_tells(told: list[Event]) -> list[tuple[str, object, object, object]]:
    """Return what must not depend on where one watches."""
    return [
        (event.name, event.id, event.data["key"], {**event.data, "value": 0, "value_omitted": 0})
        for event in told
    ]


async def test_every_node_tells_the_same(world: World) -> None:
    """Put or deleted, version, metadata, expiration: of keys held and not held, in tiers too."""
    central, a, d = (world.sites[name] for name in ("central", "A", "D"))
    async with (
        Watcher(central, "?include=values") as at_central,
        Watcher(a, "?include=values") as at_a,
        Watcher(d, "?include=values") as at_d,
    ):
        watchers = (at_central, at_a, at_d)
        for watcher in watchers:
            await watcher.until("present")
        await write(world, *CHANGES)
        unheld = [[await watcher.event() for _ in CHANGES] for watcher in watchers]
        for site in (a, d):
            for mutation in CHANGES:
                await site.ask("GET", f"{site.v1}/values/{mutation.key}")
        await write(world, *CHANGES)
        held = [[await watcher.event() for _ in CHANGES] for watcher in watchers]

    for told in (*unheld, *held):
        assert [event.said for event in told] == [
            ("put", "small"),
            ("put", "large"),
            ("delete", "gone"),
        ]
        assert told[0].data["metadata"] == {"m": 1}
        assert told[0].data["expiration"] == 4_000_000_000
        assert told[1].data["value_omitted"] is True
    for round_told in (unheld, held):
        first, *others = [as_central_tells(told) for told in round_told]
        assert others == [first, first]
    assert [told[0].data.get("value") for told in unheld] == ["v", None, None]
    assert [told[0].data.get("value_omitted") for told in unheld] == [None, True, True]
    assert [told[0].data.get("value") for told in held] == ["v", "v", "v"]


async def test_going_on_at_a_location(world: World) -> None:
    """What was remembered is told as it would have been: also that a key was deleted."""
    a = world.sites["A"]
    async with Watcher(a) as watcher:
        await watcher.until("present")
        await write(world, *CHANGES)
        live = [await watcher.event() for _ in CHANGES]

    for at in range(len(live)):
        async with Watcher(a, f"?since={live[at].id}") as watcher:
            *told, _ = await watcher.until("present")
        assert told == live[at + 1 :]


async def test_a_position_from_elsewhere(world: World) -> None:
    """Before the location followed the namespace it knows nothing; 410, and from there it does."""
    a = world.sites["A"]
    old = await write(world, Mutation(key="before", value=b"1"))
    await world.pass_time(2)

    async with Watcher(a, f"?since={old}") as watcher:
        refused = await watcher.refusal()
    start_at = refused.json()["error"]["start_at"]
    await write(world, Mutation(key="behind", value=b"2"))
    async with Watcher(a, f"?since={start_at}") as watcher:
        told = await watcher.until("present")

    assert refused.code == (410, "position_too_old")
    assert [event.said for event in told[:-1]] == [("put", "behind")]


async def test_a_position_that_has_not_come_this_far(world: World) -> None:
    """Central's newest is not too old at a location that has not heard of it: it is waited for."""
    a = world.sites["A"]
    async with Watcher(a) as watcher:
        await watcher.until("present")
    world.a.wire.cut()
    await world.pass_time(1)
    new = await write(world, Mutation(key="k", value=b"1"))

    world.a.wire.heal()
    passing = asyncio.create_task(world.pass_time(4))
    async with Watcher(a, f"?since={new}") as watcher:
        told = await watcher.until("present")
        await write(world, Mutation(key="k", value=b"2"))
        told.append(await watcher.event())
    await passing

    assert [event.name for event in told] == ["present", "put"]


async def test_while_cut_off(world: World) -> None:
    """A watch goes on, and says how old what it knows is."""
    a = world.sites["A"]
    async with Watcher(a) as watcher:
        fresh = await watcher.event()
        world.a.wire.cut()
        await write(world, Mutation(key="k", value=b"1"))
        passing = asyncio.create_task(world.pass_time(45))
        stale = [await watcher.event() for _ in range(3)]
        await passing
        passing = asyncio.create_task(world.pass_time(v1_watch.OPEN_S_MAX + 1))
        world.a.wire.heal()
        told = await watcher.until("put")
        await passing

    assert fresh.data["age_s"] <= 2
    assert [event.name for event in stale] == ["position"] * 3
    ages = [event.data["age_s"] for event in stale]
    assert ages == sorted(ages)
    assert ages[-1] >= 20
    assert told[-1].said == ("put", "k")


async def test_a_feed_that_cannot_begin(world: World) -> None:
    """503 after a moment, where central cannot be asked and the namespace was not followed."""
    site = world.sites["A"]
    assert (await site.ask("GET", f"{site.v1}/settings")).status == 200  # It knows who asks.
    world.a.wire.cut()
    await world.pass_time(1)

    passing = asyncio.create_task(world.pass_time(v1_watch.OPEN_S_MAX + 1))
    async with Watcher(site) as watcher:
        refused = await watcher.refusal()
    await passing

    assert refused.code == (503, "cut_off")


async def test_who_is_too_slow_is_told(world: World) -> None:
    """The watch ends, loudly. Central remembers more, and there nothing is missed."""
    central, a = world.sites["central"], world.sites["A"]
    count = children.QUEUE_MAX + 1000
    async with Watcher(a) as watcher:
        await watcher.until("present")
        watcher.stall()
        for first in range(0, count, 1000):
            end = await write(
                world, *(Mutation(key=f"k{first + i}", value=b"") for i in range(1000))
            )
            while world.a.keeper.knowledge.feed.told < end.sequence:
                await world.settle()
        watcher.go_on()
        *told, last = await watcher.until("end")
    async with Watcher(a, f"?since={last.id}") as watcher:
        refused = await watcher.refusal()
    async with Watcher(central, f"?since={last.id}") as watcher:
        *rest, _ = await watcher.until("present")

    assert refused.code == (410, "position_too_old")
    assert (last.data["code"], last.data["status"]) == ("feed_started_over", 503)
    assert len(told) < count
    assert [event.data["key"] for event in (*told, *rest)] == [f"k{i}" for i in range(count)]


async def test_a_location_that_starts_over(world: World) -> None:
    """Its cache was discarded or its upstream is another: the watch ends, and says so."""
    a, d = world.sites["A"], world.sites["D"]
    async with Watcher(a) as at_a, Watcher(d) as at_d:
        for watcher in (at_a, at_d):
            await watcher.until("present")
        world.a.keeper.switch(world.a.wire, "another")
        passing = asyncio.create_task(world.pass_time(3))
        ends = [await watcher.ended() for watcher in (at_a, at_d)]
        await passing

    assert [end.data["code"] for end in ends] == ["feed_started_over"] * 2


async def test_a_journaled_write_is_told_once_central_has_it(world: World) -> None:
    """What only the journal has is no change yet."""
    a = world.sites["A"]
    async with Watcher(a) as watcher:
        await watcher.until("present")
        world.a.wire.cut()
        await world.pass_time(10)
        put = await a.ask("PUT", f"{a.v1}/values/k", body=b"mine")
        assert put.status == 202
        passing = asyncio.create_task(world.pass_time(20))
        before = await watcher.event()
        world.a.wire.heal()
        told = await watcher.until("put")
        await passing

    assert before.name == "position"
    assert told[-1].data["version"] == put.json()["version"]
