"""What is answered at a location, and what while it is cut off: consistency.md has the table."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.principal import Permission
from tests.http.locations import GRACE_S, World

pytestmark = pytest.mark.anyio

KEY = "/values/k"


@pytest.fixture
async def world(anyio_backend: str, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world in which A has read `k`."""
    assert anyio_backend == "asyncio"
    world = World(tmp_path)
    await world.open()
    async with world:
        central, a = world.sites["central"], world.sites["A"]
        assert (await central.ask("PUT", central.v1 + KEY, body=b"v1")).status == 200
        assert (await a.ask("GET", a.v1 + KEY)).status == 200
        await world.pass_time(2)
        assert (await a.ask("GET", a.v1 + KEY)).body == b"v1"
        yield world


async def cut_off(world: World, seconds: float = 90) -> None:
    """Cut A off for longer than the default bound."""
    world.a.wire.cut()
    await world.pass_time(seconds)


async def test_an_answer_says_where_it_came_from(world: World) -> None:
    """A hit, its age and its position; a missing key the same."""
    a = world.sites["A"]

    got = await a.ask("GET", a.v1 + KEY)
    same = await a.ask("GET", a.v1 + KEY, headers={"if-none-match": got.headers["etag"]})
    head = await a.ask("HEAD", a.v1 + KEY)
    missing = [await a.ask("GET", a.v1 + "/values/none") for _ in range(2)]

    assert got.headers["cache-status"] == "A; hit"
    assert {"age", "etag", "atoll-position"} <= got.headers.keys()
    assert not {"atoll-stale", "atoll-order-unknown", "atoll-journaled"} & got.headers.keys()
    assert same.status == 304
    assert same.headers["cache-status"] == head.headers["cache-status"] == "A; hit"
    assert [reply.status for reply in missing] == [404, 404]
    assert missing[0].headers["cache-status"] == "A; fwd=miss"
    assert missing[1].headers["cache-status"] == "A; hit; detail=negative"


async def test_within_its_bound_it_is_answered(world: World) -> None:
    """A cut shows only once the bound has passed."""
    a = world.sites["A"]
    await cut_off(world, 20)

    got = await a.ask("GET", a.v1 + KEY, headers={"cache-control": "max-age=50"})

    assert got.body == b"v1"
    assert "atoll-stale" not in got.headers
    assert "; ttl=" in got.headers["cache-status"]


@pytest.mark.parametrize(
    ("cache_control", "status"),
    [
        (None, 200),
        ("max-stale", 200),
        ("max-stale=3600", 200),
        ("max-stale=1", 503),
        ("max-age=5", 503),
        ("max-age=5, max-stale", 200),
        ("max-age=5, max-stale=5", 503),
        ("no-cache", 503),
        ("no-cache, max-stale", 200),
    ],
)
async def test_past_its_bound(world: World, cache_control: str | None, status: int) -> None:
    """The default bound is a preference; one that the caller sets is a demand."""
    a = world.sites["A"]
    await cut_off(world)

    headers = {} if cache_control is None else {"cache-control": cache_control}
    got = await a.ask("GET", a.v1 + KEY, headers=headers)

    assert got.status == status
    if status == 200:
        assert got.body == b"v1"
        assert got.headers["atoll-stale"] == "?1"
        assert got.headers["cache-status"].startswith("A; hit; detail=stale")
        assert int(got.headers["age"]) >= 90
    else:
        assert got.code == (503, "cut_off")
        assert got.headers["retry-after"] == "1"


async def test_only_if_cached_asks_nobody(world: World) -> None:
    """What is held is answered, also past the default bound; what is not held is 504."""
    a = world.sites["A"]
    only = {"cache-control": "only-if-cached"}
    await cut_off(world)
    late = await a.ask("GET", a.v1 + KEY, headers=only)
    strict = await a.ask("GET", a.v1 + KEY, headers={"cache-control": "only-if-cached, max-age=5"})
    world.a.wire.heal()
    await world.pass_time(30)
    asked = len(world.a.wire.reads)

    held = await a.ask("GET", a.v1 + KEY, headers=only)
    never = [await a.ask("GET", a.v1 + "/values/none", headers=only) for _ in range(2)]
    central = await world.sites["central"].ask("GET", a.v1 + "/values/none", headers=only)

    assert (late.status, late.headers["atoll-stale"]) == (200, "?1")
    assert strict.code == (504, "not_held")
    assert (held.status, held.headers["cache-status"]) == (200, "A; hit")
    assert [reply.code for reply in never] == [(504, "not_held")] * 2
    assert len(world.a.wire.reads) == asked
    assert central.code == (404, "key_not_found")


async def test_a_bulk_read_says_what_holds_for_all_of_it(world: World) -> None:
    """The age of the oldest, and each mark that one of them has; bounds hold for each key."""
    a = world.sites["A"]
    await a.ask("GET", a.v1 + KEY)
    await cut_off(world)
    await a.ask("PUT", a.v1 + "/values/new", body=b"journaled")
    body = json.dumps({"keys": ["new", KEY.removeprefix("/values/")]}).encode()

    got = await a.ask("POST", a.v1 + "/get", body=body)
    strict = await a.ask("POST", a.v1 + "/get", body=body, headers={"cache-control": "max-age=5"})
    one = await a.ask("POST", a.v1 + "/get", body=b'{"keys": ["new"]}')

    rows = got.json()["keys"]
    assert [(row["value"], row.get("journaled", False)) for row in rows] == [
        ("journaled", True),
        ("v1", False),
    ]
    assert int(got.headers["age"]) >= 90
    assert got.headers["atoll-stale"] == got.headers["atoll-journaled"] == "?1"
    assert got.headers["cache-status"].startswith("A; hit; detail=stale")
    assert strict.code == (503, "cut_off")
    assert "atoll-stale" not in one.headers
    assert one.headers["atoll-position"] == rows[0]["position"]


async def test_a_position_that_has_not_arrived(world: World) -> None:
    """503, unless what is stale will do."""
    central, a = world.sites["central"], world.sites["A"]
    await cut_off(world, 5)  # Within the bound: it is the position alone that is not met.
    put = await central.ask("PUT", central.v1 + KEY, body=b"v2")
    ahead = {"atoll-at-least": put.headers["atoll-position"]}

    refused = await a.ask("GET", a.v1 + KEY, headers=ahead)
    got = await a.ask("GET", a.v1 + KEY, headers={**ahead, "cache-control": "max-stale"})

    assert refused.code == (503, "not_arrived")
    assert refused.headers["retry-after"] == "1"
    assert got.body == b"v1"
    assert got.headers["atoll-stale"] == "?1"


async def test_what_needs_central_is_refused(world: World) -> None:
    """A key never seen, conditions, lists, deleting by prefix, settings."""
    a = world.sites["A"]
    await cut_off(world)

    replies = [
        await a.ask("GET", a.v1 + "/values/never"),
        await a.ask("PUT", a.v1 + KEY, body=b"x", headers={"if-match": '"1"'}),
        await a.ask("GET", a.v1 + "/keys"),
        await a.ask_json("POST", a.v1 + "/delete", {"prefix": "k"}),
        await a.ask_json("PUT", a.v1 + "/settings", {"stale": "refuse"}),
    ]

    assert [reply.status for reply in replies] == [503] * len(replies)


async def test_a_plain_write_is_journaled(world: World) -> None:
    """202 with a place in the journal, shown here at once, and everywhere after the cut."""
    central, a = world.sites["central"], world.sites["A"]
    await cut_off(world)

    put = await a.ask("PUT", a.v1 + KEY, body=b"mine")
    got = await a.ask("GET", a.v1 + KEY)
    world.a.wire.heal()
    await world.pass_time(30)

    assert put.status == 202
    assert put.json()["journaled"] is True
    assert put.json()["position"] == put.headers["atoll-position"]
    assert got.body == b"mine"
    assert got.headers["atoll-journaled"] == "?1"
    assert got.headers["atoll-position"] == put.headers["atoll-position"]
    late = await central.ask(
        "GET", central.v1 + KEY, headers={"atoll-at-least": put.headers["atoll-position"]}
    )
    assert late.body == b"mine"
    assert late.headers["etag"] == put.headers["etag"]


async def test_a_namespace_may_refuse_what_is_weaker(world: World) -> None:
    """`stale: refuse` and `journal: refuse` reach the location like any change."""
    central, a = world.sites["central"], world.sites["A"]
    wrong = await central.ask_json("PUT", central.v1 + "/settings", {"stale": "maybe"})
    unknown = await central.ask_json("PUT", central.v1 + "/settings", {"stail": "refuse"})
    rules = {"stale": "refuse", "journal": "refuse", "bound_s": 30}
    changed = await central.ask_json("PUT", central.v1 + "/settings", rules)
    await world.pass_time(3)
    assert (await a.ask("GET", a.v1 + "/settings")).json() == changed.json() == rules
    await cut_off(world, 40)

    read = await a.ask("GET", a.v1 + KEY, headers={"cache-control": "max-stale"})
    write = await a.ask("PUT", a.v1 + KEY, body=b"x")

    assert wrong.code == unknown.code == (400, "body_invalid")
    assert read.code == (503, "cut_off")
    assert write.status == 503


async def test_credentials_while_cut_off(world: World) -> None:
    """Known ones for the grace, then 503; unknown ones are 503, not 401."""
    a = world.sites["A"]
    unknown = {"authorization": f"Bearer atoll_{'0' * 16}_{'0' * 40}"}
    before = await a.ask("GET", a.v1 + KEY, headers=unknown)
    await cut_off(world)

    known = await a.ask("GET", a.v1 + KEY)
    stranger = await a.ask("GET", a.v1 + KEY, headers=unknown)
    world.clock.advance(GRACE_S)
    late = await a.ask("GET", a.v1 + KEY)

    assert before.status == 401
    assert known.status == 200
    assert stranger.code == (503, "cut_off")
    assert late.code == (503, "cut_off")


async def test_a_token_ends_by_central_time(world: World) -> None:
    """A wall clock that was set back gives no token more life."""
    a, made_by = world.sites["A"], world.sites["central"].accounts
    _, secret = await made_by.create_token(
        a.account.id,
        name="brief",
        permission=Permission.READ,
        expires_s=int(world.clock.now_s) + 30,
    )
    brief = {"authorization": f"Bearer {secret}"}
    before = await a.ask("GET", a.v1 + KEY, headers=brief)
    await cut_off(world, 5)
    world.clock.step(-1000)
    await world.pass_time(30)

    after = await a.ask("GET", a.v1 + KEY, headers=brief)

    assert before.status == 200
    assert after.code == (401, "unauthenticated")


async def test_the_story_of_the_announcement(world: World) -> None:
    """Matthew and Michelle move lunch at the same time, and Lee reads; then Lee moves it too."""
    matthew, michelle, lee = (world.sites[name] for name in ("A", "B", "D"))
    lunch = matthew.v1 + "/values/lunch"
    await matthew.ask("PUT", lunch, body=b"noon")
    await world.pass_time(3)
    await michelle.ask("GET", lunch)
    plan = await lee.ask("GET", lunch)
    assert plan.body == b"noon"

    # Both are cut off from central, so each location takes the word of its own.
    world.a.wire.cut()
    world.b.wire.cut()
    await world.pass_time(10)
    first = await matthew.ask("PUT", lunch, body=b"one")
    await world.pass_time(2)
    last = await michelle.ask("PUT", lunch, body=b"two")
    assert (first.status, last.status) == (202, 202)
    world.b.wire.heal()
    await world.pass_time(20)
    world.a.wire.heal()
    await world.pass_time(60)

    # The last write won everywhere, and Matthew sees that his is not the current version.
    for somebody in (matthew, michelle, lee):
        got = await somebody.ask("GET", lunch)
        assert got.body == b"two"
        assert got.headers["etag"] == last.headers["etag"] != first.headers["etag"]

    # Lee decides by the plan as it was, and is told at once that it has changed.
    refused = await lee.ask("PUT", lunch, body=b"three", headers={"if-match": plan.headers["etag"]})
    assert refused.code == (412, "condition_failed")
    assert refused.headers["etag"] == last.headers["etag"]
