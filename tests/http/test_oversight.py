"""What operators see: locations at central, what each holds of a key, a journal at its location."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atoll.core.session import Asked
from atoll.principal import EVERY_ACCOUNT, Permission
from atoll.whereabouts import CONNECTED_MS_MAX, OUTBOX_MAX, QUESTIONS_MAX, TEXT_MAX, VIA_MAX
from tests.http.locations import World
from tests.http.site import Reply, Site

pytestmark = pytest.mark.anyio

KEY = "/values/k"


@pytest.fixture
async def world(anyio_backend: str, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world that has settled, asked by somebody who administers all of it."""
    assert anyio_backend == "asyncio"
    world = World(tmp_path)
    await world.open()
    _, secret = await world.sites["central"].accounts.create_token(
        EVERY_ACCOUNT, name="operator", permission=Permission.ADMIN
    )
    for site in world.sites.values():
        site.headers = {"authorization": f"Bearer {secret}"}
    async with world:
        for site in world.sites.values():  # Credentials and namespace are known from now on.
            assert (await site.ask("GET", site.v1 + "/values/first")).status == 404
        await world.pass_time(8)
        yield world


async def listed(world: World) -> dict[str, Any]:
    """Return the locations as central lists them."""
    reply = await world.sites["central"].ask("GET", "/v1/locations")
    assert reply.status == 200
    return {one["name"]: one for one in reply.json()["locations"]}


async def where(world: World, site: Site, key: str = "k") -> dict[str, Any]:
    """Ask where a key is, and let the time pass that answers may take."""
    asking = asyncio.create_task(site.ask("GET", f"{site.v1}/where/{key}"))
    await world.pass_time(3)
    reply = await asking
    assert reply.status == 200, reply.body
    return {one["name"]: one for one in reply.json()["locations"]} | {
        "central": reply.json()["central"]
    }


def sample(reply: Reply, name: str) -> str:
    """Return the value of one series."""
    values = dict(line.rsplit(" ", 1) for line in reply.body.decode().splitlines())
    return values.get(name, "absent")


async def test_central_lists_every_location(world: World) -> None:
    """Also those below others: with how each is, and whom its word came through."""
    a, d = world.sites["A"], world.sites["D"]
    before = await listed(world)
    for site in (a, a, d):
        assert (await site.ask("GET", site.v1 + "/values/none")).status == 404
    await world.pass_time(6)

    found = await listed(world)

    assert list(found) == ["A", "B", "D"]
    assert all(one["connected"] and not one["forgotten"] for one in found.values())
    assert found["A"]["status"]["via"] == found["B"]["status"]["via"] == []
    assert found["D"]["status"]["via"] == ["A"]
    assert {one["node"] for one in found.values()} == {1, 2, 3}
    for one in found.values():
        status = one["status"]
        assert status["feed_age_ms"] <= 2000
        assert status["clock_error_ms"] >= 1
        assert status["software"]
        assert one["behind"] == 0
        assert one["journal_empty_us"] is not None
        assert not one["holds_up_sweeping"]
    counted = [
        found["A"]["status"][name] - before["A"]["status"][name]
        for name in ("hits", "misses", "stale", "negative")
    ]
    assert counted == [0, 1, 0, 2]  # What was read at D was asked of A.
    assert found["B"]["status"]["misses"] == before["B"]["status"]["misses"]


async def test_a_silent_location_is_not_connected(world: World) -> None:
    """It is listed with what it said last, and its journal holds up sweeping in the end."""
    world.a.wire.cut()
    await world.pass_time(CONNECTED_MS_MAX / 1000 + 6)
    found = await listed(world)
    await world.pass_time(60)
    later = await listed(world)
    world.a.wire.heal()
    await world.pass_time(20)
    healed = await listed(world)

    assert [name for name, one in found.items() if not one["connected"]] == ["A", "D"]
    assert found["A"]["silent_ms"] > CONNECTED_MS_MAX
    assert later["A"]["holds_up_sweeping"]
    assert not later["B"]["holds_up_sweeping"]
    assert healed["A"]["connected"]
    assert healed["D"]["connected"]
    assert not healed["A"]["holds_up_sweeping"]


async def test_a_forgotten_location_sets_its_journal_aside(world: World) -> None:
    """What it journaled is refused, listed, handed out, and gone only once it is discarded."""
    central, a = world.sites["central"], world.sites["A"]
    world.a.wire.cut()
    await world.pass_time(10)
    assert (await a.ask("PUT", a.v1 + KEY, body=b"text")).status == 202
    binary = await a.ask(
        "PUT",
        a.v1 + "/values/b?expiration=4000000000",
        body=b"\xff",
        headers={"atoll-metadata": '{"m":1}'},
    )
    assert binary.status == 202
    assert (await a.ask("DELETE", a.v1 + "/values/gone")).status == 202
    waiting = (await a.ask("GET", "/v1/journal")).json()["entries"]

    forgotten = await central.ask("DELETE", "/v1/locations/A")
    again = await central.ask("DELETE", "/v1/locations/never")
    world.a.wire.heal()
    await world.pass_time(20)
    found = await listed(world)
    entries = (await a.ask("GET", "/v1/journal")).json()
    page = (await a.ask("GET", "/v1/journal?limit=1&after=1")).json()
    exported = await a.ask("GET", "/v1/journal/refused")
    rest = await a.ask("GET", "/v1/journal/refused?after=2")
    still = await a.ask("GET", "/v1/journal/refused")
    discarded = await a.ask("DELETE", "/v1/journal/refused/1")
    twice = await a.ask("DELETE", "/v1/journal/refused/1")
    nonsense = await a.ask("DELETE", "/v1/journal/refused/x")
    left = (await a.ask("GET", "/v1/journal")).json()["entries"]

    assert [(one["sequence"], one["state"]) for one in waiting] == [
        (1, "waiting"),
        (2, "waiting"),
        (3, "waiting"),
    ]
    assert forgotten.json() == {"name": "A", "forgotten": True}
    assert again.code == (404, "location_not_found")
    assert found["A"]["forgotten"]
    assert not found["A"]["holds_up_sweeping"]
    assert found["A"]["status"]["journal_refused"] == 3
    assert [one["state"] for one in entries["entries"]] == ["refused"] * 3
    assert {one["code"] for one in entries["entries"]} == {"location_forgotten"}
    assert [one["keys"] for one in entries["entries"]] == [["k"], ["b"], ["gone"]]
    assert [one["sequence"] for one in page["entries"]] == [2]
    assert not page["list_complete"]
    lines = [json.loads(line) for line in exported.body.splitlines()]
    assert exported.headers["content-type"] == "application/x-ndjson"
    assert exported.body == still.body
    assert [line["key"] for line in lines] == ["k", "b", "gone"]
    assert lines[0]["value"] == "text"
    assert lines[1]["value"] == "/w=="
    assert lines[1]["base64"] is True
    assert lines[1]["metadata"] == {"m": 1}
    assert lines[1]["expiration"] == 4000000000
    assert lines[2]["deleted"] is True
    assert {line["code"] for line in lines} == {"location_forgotten"}
    assert all(line["reason"] and line["version"] and line["sequence"] for line in lines)
    assert [json.loads(line)["key"] for line in rest.body.splitlines()] == ["gone"]
    assert discarded.json() == {"sequence": 1, "discarded": True}
    assert twice.code == nonsense.code == (404, "journal_entry_not_found")
    assert [one["sequence"] for one in left] == [2, 3]


async def test_where_says_what_everybody_holds(world: World) -> None:
    """A value, knowledge that it is missing, nothing, a journaled write, no answer."""
    central, a, d = (world.sites[name] for name in ("central", "A", "D"))
    await central.ask("PUT", central.v1 + KEY, body=b"v1")
    await d.ask("GET", d.v1 + KEY)
    await a.ask("GET", a.v1 + "/values/absent")
    await world.pass_time(3)

    found = await where(world, central)
    absent = await where(world, central, "absent")
    world.b.wire.cut()
    world.d.wire.cut()
    await world.pass_time(10)
    b = world.sites["B"]
    assert (await b.ask("PUT", b.v1 + KEY, body=b"mine")).status == 202
    cut = await where(world, central)
    world.b.wire.feed_cut = False
    await world.pass_time(3)
    feed = await where(world, central)

    version = found["central"]["version"]
    assert found["central"]["holds"] == "value"
    assert found["B"] == {"name": "B", "holds": "nothing", "journaled": None}
    for name in "AD":
        assert found[name]["holds"] == "value"
        assert found[name]["version"] == version
        assert found[name]["current"]
        assert found[name]["age_ms"] <= 3000
        assert not found[name]["stale"]
        assert found[name]["position"] == found["central"]["position"]
    assert absent["central"] | {"position": ""} == {
        "holds": "missing",
        "version": None,
        "position": "",
    }
    assert absent["A"]["holds"] == "missing"
    assert absent["D"]["holds"] == "nothing"
    assert cut["B"] == {"name": "B", "holds": "no answer"}
    assert cut["D"] == {"name": "D", "holds": "no answer"}
    assert cut["A"]["holds"] == "value"
    assert feed["B"]["holds"] == "nothing"
    assert int(feed["B"]["journaled"]) > int(version)


async def test_where_shows_what_was_overwritten_unseen(world: World) -> None:
    """A location that was cut off holds what is not current any more, and says how old it is."""
    central, a = world.sites["central"], world.sites["A"]
    await central.ask("PUT", central.v1 + KEY, body=b"v1")
    await a.ask("GET", a.v1 + KEY)
    await world.pass_time(3)
    world.a.wire.cut()
    await world.pass_time(70)
    await central.ask("PUT", central.v1 + KEY, body=b"v2")

    # Its session is dead here, but what it would say can be asked of it all the same.
    question = Asked(number=1, namespace=central.namespace.id, key="k")
    held = world.a.keeper.telling.held(question)
    assert held.pinned is None
    put = await a.ask("PUT", a.v1 + KEY, body=b"mine")
    pinned = world.a.keeper.telling.held(question)
    found = await where(world, central)

    assert held.stale
    assert held.age_ms is not None
    assert held.age_ms >= 70_000
    assert str(held.version) != found["central"]["version"]
    assert put.status == 202
    assert (pinned.position, pinned.version) == (held.position, held.version)
    assert put.headers["etag"] == f'"{pinned.pinned}"'


async def test_who_may_ask(world: World) -> None:
    """Locations and journals are for who administers all; where a key is, for who may read it."""
    central, a = world.sites["central"], world.sites["A"]
    mine = central.account.id
    made: Mapping[str, tuple[str, Permission]] = {
        "reader": (mine, Permission.READ),
        "owner": (mine, Permission.ADMIN),
        "watcher": (EVERY_ACCOUNT, Permission.READ),
    }
    for name, (account, permission) in made.items():
        _, secret = await central.accounts.create_token(account, name=name, permission=permission)
        headers = {"authorization": f"Bearer {secret}"}
        for site, method, path in (
            (central, "GET", "/v1/locations"),
            (central, "DELETE", "/v1/locations/A"),
            (a, "GET", "/v1/status"),
            (a, "GET", "/v1/journal"),
            (a, "GET", "/v1/journal/refused"),
            (a, "DELETE", "/v1/journal/refused/1"),
        ):
            refused = await site.ask(method, path, headers=headers)
            nobody = await site.ask(method, path, as_nobody=True)
            assert (refused.status, nobody.status) == (403, 401), (name, path)
    other = await central.accounts.create_namespace(mine, "other")
    _, secret = await central.accounts.create_token(
        mine, name="limited", permission=Permission.READ, namespaces=[other.id]
    )
    limited = {"authorization": f"Bearer {secret}"}
    path = f"{central.v1}/where/k"
    assert (await central.ask("GET", path, headers=limited)).status == 403
    assert (await central.ask("GET", path, as_nobody=True)).status == 401
    assert not (await listed(world))["A"]["forgotten"]


async def test_each_node_has_its_own_part(world: World) -> None:
    """Locations are central's to tell of, a journal its location's; each says where to go."""
    central, a = world.sites["central"], world.sites["A"]
    for method, path in (
        ("GET", "/v1/locations"),
        ("DELETE", "/v1/locations/A"),
        ("GET", a.v1 + "/where/k"),
    ):
        assert (await a.ask(method, path)).code == (421, "central_only")
    for method, path in (
        ("GET", "/v1/status"),
        ("GET", "/v1/journal"),
        ("GET", "/v1/journal/refused"),
        ("DELETE", "/v1/journal/refused/1"),
    ):
        assert (await central.ask(method, path)).code == (421, "location_only")
        assert (await a.ask("POST", path)).status == 405
    for site, path in (
        (central, "/v1/locations/"),
        (central, "/v1/locationsome"),
        (a, "/v1/journal/"),
        (a, "/v1/journal/else"),
        (a, "/v1/statuses"),
        (a, "/v1/journal/refused/"),
    ):
        assert (await site.ask("GET", path)).code == (404, "route_not_found"), path


async def test_a_location_tells_how_it_is_while_it_is_cut_off(world: World) -> None:
    """The same as central shows, and whether its upstream answers."""
    a = world.sites["A"]
    before = (await a.ask("GET", "/v1/status")).json()
    world.a.wire.cut()
    await world.pass_time(12)
    await a.ask("PUT", a.v1 + KEY, body=b"1")
    after = (await a.ask("GET", "/v1/status")).json()

    assert (before["name"], before["connected"], before["upstream_open"]) == ("A", True, True)
    assert before["status"]["journal_entries"] == 0
    assert before["status"]["journal_oldest_us"] is None
    assert not after["connected"]
    assert after["status"]["journal_entries"] == 1
    assert after["status"]["journal_bytes"] > 0
    assert after["status"]["journal_oldest_us"] is not None
    assert after["status"]["feed_age_ms"] >= 11_000
    assert after["status"]["clock_error_ms"] > before["status"]["clock_error_ms"]


async def test_metrics_say_it_by_the_same_names(world: World) -> None:
    """At central as last told, at the location as it is."""
    central, a = world.sites["central"], world.sites["A"]
    for _ in range(3):
        await a.ask("GET", a.v1 + "/values/none")
    status = (await a.ask("GET", "/v1/status")).json()["status"]
    assert (status["misses"], status["negative"]) == (2, 3)  # `first`, also for D, and `none`.
    await world.pass_time(6)
    await world.central.sweep()
    told = await central.ask("GET", "/metrics")
    own = await a.ask("GET", "/metrics")
    world.a.wire.cut()
    await world.pass_time(30)
    await a.ask("PUT", a.v1 + KEY, body=b"1")
    cut = await a.ask("GET", "/metrics")
    silent = await central.ask("GET", "/metrics")

    for reply in (told, own):
        assert sample(reply, 'atoll_location_connected{location="A"}') == "1.0"
        assert sample(reply, 'atoll_location_reads_total{how="negative",location="A"}') == "3.0"
        assert sample(reply, 'atoll_location_reads_total{how="miss",location="A"}') == "2.0"
        assert float(sample(reply, 'atoll_location_feed_age_seconds{location="A"}')) <= 2
        assert sample(reply, 'atoll_location_journal_refused{location="A"}') == "0.0"
    assert sample(told, 'atoll_location_behind_changes{location="D"}') == "0.0"
    assert float(sample(told, "atoll_sweeping_behind_seconds")) < 20
    assert sample(cut, 'atoll_location_connected{location="A"}') == "0.0"
    assert sample(cut, 'atoll_location_journal_entries{location="A"}') == "1.0"
    assert float(sample(cut, 'atoll_location_feed_age_seconds{location="A"}')) > 25
    assert sample(silent, 'atoll_location_connected{location="A"}') == "0.0"
    assert sample(silent, 'atoll_location_connected{location="B"}') == "1.0"
    assert float(sample(silent, "atoll_sweeping_behind_seconds")) > 20


async def test_what_no_location_would_say_is_not_kept(world: World) -> None:
    """A name without end, or a status that goes in circles."""
    central = world.central.whereabouts
    status = world.a.keeper.telling.status()
    before = dict(central.said())
    for wild in (
        replace(status, location="x" * (TEXT_MAX + 1)),
        replace(status, software="x" * (TEXT_MAX + 1)),
        replace(status, via=("x",) * (VIA_MAX + 1)),
    ):
        central.note(wild, behind=0)

    assert dict(central.said()) == before


async def test_questions_are_bounded(world: World) -> None:
    """More than so many at a time are refused, and none of them is left over."""
    central = world.sites["central"]
    world.a.wire.cut()
    asking = [
        asyncio.create_task(central.ask("GET", central.v1 + "/where/k"))
        for _ in range(QUESTIONS_MAX + 1)
    ]
    await world.pass_time(3)
    replies = [await one for one in asking]
    after = await where(world, central)

    assert sorted(reply.status for reply in replies) == [200] * QUESTIONS_MAX + [503]
    assert OUTBOX_MAX >= QUESTIONS_MAX
    assert after["B"]["holds"] == "nothing"
