"""Watching at central: nothing is missed, and whatever ends a watch is told."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from atoll.central import Central, CentralSettings
from atoll.core.model import Batch, Mutation, Position
from atoll.core.session import Downward, Echo, Hello, Upward
from atoll.http import v1_watch
from atoll.http.app import create_app
from atoll.principal import Permission
from atoll.upstream import Upstream
from tests.http.site import Site
from tests.http.watcher import Event, Watcher

pytestmark = pytest.mark.anyio

BEATS_S = v1_watch.HEARTBEAT_S + v1_watch.LOOK_S
ADMITTED_S = v1_watch.ADMITTED_S


async def write(site: Site, key: str, value: bytes | None, metadata: bytes | None = None) -> str:
    """Write past the faces, which allow one write a second, and return the position."""
    mutation = Mutation(key=key, value=value, metadata=metadata)
    written = await site.node.upstream.write(
        Batch(namespace=site.namespace.id, mutations=(mutation,))
    )
    return str(written.position)


async def versions(site: Site) -> dict[str, str]:
    """Return the version of every key that is there."""
    rows = (await site.ask("GET", f"{site.v1}/keys")).json()["keys"]
    return {row["name"]: row["version"] for row in rows}


def last_told(events: list[Event]) -> dict[str, Event]:
    """Return the last event of each key."""
    return {event.data["key"]: event for event in events if "key" in event.data}


async def test_what_changes_is_told(site: Site) -> None:
    """First where the present is, then each change with its version and what belongs to it."""
    async with Watcher(site) as watcher:
        present = await watcher.event()
        put = await site.ask(
            "PUT",
            f"{site.v1}/values/a%0Ab?expiration_ttl=3600",
            body=b"1",
            headers={"atoll-metadata": '{"m": 1}'},
        )
        told_put = await watcher.event()
        deleted = await site.ask("DELETE", f"{site.v1}/values/c")
        told_delete = await watcher.event()

    assert watcher.status == 200
    assert watcher.headers["content-type"] == "text/event-stream"
    assert watcher.headers["cache-control"] == "no-store"
    assert watcher.headers["x-accel-buffering"] == "no"
    assert "content-length" not in watcher.headers
    assert (present.name, present.data) == ("present", {"age_s": 0})
    assert told_put == Event(
        name="put",
        id=put.headers["atoll-position"],
        data={
            "key": "a\nb",
            "version": put.json()["version"],
            "metadata": {"m": 1},
            "expiration": int(site.clock.now_s) + 3600,
        },
    )
    assert told_delete == Event(
        name="delete",
        id=deleted.headers["atoll-position"],
        data={"key": "c", "version": deleted.json()["version"]},
    )


async def test_values_where_they_are_asked_for(site: Site) -> None:
    """Text as it is, bytes in base64, and of a large one that it was left out."""
    async with Watcher(site, "?include=values") as watcher:
        await watcher.until("present")
        for key, value in (("a", b"text"), ("b", b"\xff"), ("c", b"x" * 20_000)):
            await write(site, key, value)
        told = [(await watcher.event()).data for _ in range(3)]

    for data in told:
        del data["version"]
    assert told == [
        {"key": "a", "value": "text"},
        {"key": "b", "value": "/w==", "base64": True},
        {"key": "c", "value_omitted": True},
    ]


async def test_only_what_begins_with_the_prefix(site: Site) -> None:
    """Of other keys and namespaces nothing is told but how far the feed has come."""
    async with Watcher(site, "?prefix=a%2F") as watcher:
        await watcher.until("present")
        for key in ("a", "b/1", "a/2", "aa"):
            await write(site, key, b"v")
        other = await site.accounts.create_namespace(site.account.id, "other")
        written = await site.node.upstream.write(
            Batch(namespace=other.id, mutations=(Mutation(key="a/3", value=b"v"),))
        )
        mine = await watcher.event()
        site.clock.advance(BEATS_S)
        beat = await watcher.event()

    assert mine.said == ("put", "a/2")
    assert (beat.name, beat.id) == ("position", str(written.position))


async def test_nothing_is_missed_from_any_position(site: Site) -> None:
    """From wherever one goes on: of each key that changed since, the last change is told."""
    rng = random.Random(4)  # noqa: S311 - drawn again the same
    positions = [await write(site, "first", b"")]
    changed: list[str] = []
    for number in range(40):
        key = rng.choice("abc")
        changed.append(key)
        positions.append(await write(site, key, rng.choice((None, b"%d" % number))))
    now = await versions(site)

    for at, position in enumerate(positions):
        async with Watcher(site, f"?since={position}") as watcher:
            *told, present = await watcher.until("present")
        last = last_told(told)
        assert last.keys() == set(changed[at:])
        for key, event in last.items():
            assert event.name == ("put" if key in now else "delete")
            assert event.data["version"] == now.get(key, event.data["version"])
        ids = [Position.parse(event.id).sequence for event in (*told, present)]
        assert ids == sorted(ids)
        assert present.id == positions[-1]


@pytest.mark.parametrize("resumed", [False, True])
async def test_nothing_is_missed_while_it_begins(site: Site, *, resumed: bool) -> None:
    """What is written while a watch begins comes before the present or behind it."""
    start = await write(site, "first", b"")

    async def write_many() -> None:
        for number in range(200):
            await write(site, f"k{number % 7}", b"%d" % number)
            await site.clock.sleep(0)

    writing = asyncio.create_task(write_many())
    await turns(site)
    async with Watcher(site, f"?since={start}" if resumed else "") as watcher:
        assert not writing.done()
        told = await watcher.until("present")
        assert not writing.done()
        await writing
        await write(site, "last", b"")
        while told[-1].data.get("key") != "last":
            told.append(await watcher.event())

    now = await versions(site)
    last = {key: event.data["version"] for key, event in last_told(told).items()}
    assert last == {key: version for key, version in now.items() if key != "first"}


async def test_each_id_is_a_place_to_go_on(site: Site) -> None:
    """Who breaks off anywhere and comes back with the last id sees the rest, once."""
    begin = await write(site, "begin", b"")
    for number in range(6):
        await write(site, f"k{number}", b"v")
    async with Watcher(site, f"?since={begin}") as watcher:
        *whole, _ = await watcher.until("present")

    for at, event in enumerate(whole):
        headers = {"last-event-id": event.id}
        async with Watcher(site, f"?since={begin}", headers=headers) as watcher:
            *rest, _ = await watcher.until("present")
        assert rest == whole[at + 1 :]


async def test_what_has_expired_is_told_as_deleted(site: Site) -> None:
    """Whether it was swept or not: what is gone is not shown as if it were there."""
    begin = await write(site, "begin", b"")
    await site.ask("PUT", f"{site.v1}/values/k?expiration_ttl=60", body=b"1")
    site.clock.advance(61)
    async with Watcher(site, f"?since={begin}&include=values") as watcher:
        unswept = await watcher.event()
    central = site.node.upstream
    assert isinstance(central, Central)
    await central.sweep()
    async with Watcher(site, f"?since={begin}&include=values") as watcher:
        swept = await watcher.event()

    assert unswept.said == ("delete", "k")
    assert unswept == swept


# Positions that cannot be gone on from.


async def test_a_position_that_is_too_old(tmp_path: Path) -> None:
    """410 says where to start again, and there one can."""
    site = await Site.make(tmp_path, settings=CentralSettings(log_rows_max=5))
    old = await write(site, "first", b"")
    for number in range(20):
        await write(site, f"k{number}", b"v")
    central = site.node.upstream
    assert isinstance(central, Central)
    await central.sweep()

    async with Watcher(site, f"?since={old}") as watcher:
        refused = await watcher.refusal()
    start_at = refused.json()["error"]["start_at"]
    listed = await site.ask("GET", f"{site.v1}/keys", headers={"atoll-at-least": start_at})
    await write(site, "later", b"v")
    async with Watcher(site, f"?since={start_at}") as watcher:
        told = await watcher.until("present")

    assert refused.code == (410, "position_too_old")
    assert refused.json()["error"]["position"] == old
    assert "retry-after" not in refused.headers
    assert listed.status == 200
    assert [event.said for event in told[:-1]] == [("put", "later")]


async def test_a_position_of_another_incarnation(site: Site) -> None:
    """It is too old: after a restored backup everything is read anew."""
    async with Watcher(site, f"?since={'0' * 15}1-5") as watcher:
        assert (await watcher.refusal()).code == (410, "position_too_old")


async def test_a_position_that_has_not_arrived(site: Site) -> None:
    """It is waited for, a moment; if it comes meanwhile the watch goes on from there."""
    position = Position.parse(await write(site, "k", b"1"))
    ahead = replace(position, sequence=position.sequence + 1)

    async def arrive() -> None:
        await turns(site)
        await write(site, "k", b"2")
        await pass_time(site, v1_watch.ARRIVE_PAUSE_S)

    arriving = asyncio.create_task(arrive())
    async with Watcher(site, f"?since={ahead}") as watcher:
        come = await watcher.until("present")
    await arriving
    waiting = asyncio.create_task(pass_time(site, v1_watch.OPEN_S_MAX + 1))
    async with Watcher(site, f"?since={replace(position, sequence=99_999)}") as watcher:
        refused = await watcher.refusal()
    await waiting

    assert [event.name for event in come] == ["present"]
    assert refused.code == (503, "not_arrived")
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("query", ["?since=x", "?since=j-LHR~1-4", "?include=everything"])
async def test_a_parameter_that_is_none(site: Site, query: str) -> None:
    """A place in a journal is no place in the feed."""
    async with Watcher(site, query) as watcher:
        assert (await watcher.refusal()).code == (400, "parameter_invalid")


# What ends a watch.


async def turns(site: Site, count: int = 40) -> None:
    """Let everything happen that needs no time."""
    for _ in range(count):
        await site.clock.sleep(0)


async def pass_time(site: Site, seconds: float) -> None:
    """Let time pass, a little at a time."""
    for _ in range(round(seconds * 10)):
        site.clock.advance(0.1)
        await turns(site)


async def test_a_token_that_is_revoked(site: Site) -> None:
    """Nothing is told any more, once it has been looked at again."""
    token, secret = await site.accounts.create_token(
        site.account.id, name="reader", permission=Permission.READ
    )
    headers = {"authorization": f"Bearer {secret}"}
    async with Watcher(site, headers=headers) as watcher:
        await watcher.until("present")
        await write(site, "k", b"1")
        seen = await watcher.event()
        await site.accounts.revoke_token(site.account.id, token.id)
        site.clock.advance(ADMITTED_S)
        await turns(site)
        await write(site, "k", b"2")
        end = await watcher.event()

    assert seen.said == ("put", "k")
    assert end.name == "end"
    assert (end.data["code"], end.data["status"]) == ("unauthenticated", 401)
    assert end.id == seen.id


async def test_a_token_that_expires(site: Site) -> None:
    """The same, by central time."""
    _, secret = await site.accounts.create_token(
        site.account.id,
        name="brief",
        permission=Permission.READ,
        expires_s=int(site.clock.now_s) + 30,
    )
    async with Watcher(site, headers={"authorization": f"Bearer {secret}"}) as watcher:
        await watcher.until("present")
        site.clock.advance(29)
        await watcher.until("position")
        site.clock.advance(2)
        end = await watcher.ended()

    assert end.data["code"] == "unauthenticated"


async def test_a_namespace_that_is_deleted(site: Site) -> None:
    """It is not found, for who watches as well."""
    async with Watcher(site) as watcher:
        await watcher.until("present")
        await site.accounts.delete_namespace(site.account.id, site.namespace.id)
        site.clock.advance(ADMITTED_S)
        end = await watcher.ended()

    assert (end.data["code"], end.data["status"]) == ("namespace_not_found", 404)


async def test_who_may_not_read_may_not_watch(site: Site) -> None:
    """No credentials, those of another namespace, a namespace that is not there."""
    other = await site.accounts.create_namespace(site.account.id, "other")
    _, secret = await site.accounts.create_token(
        site.account.id, name="o", permission=Permission.ADMIN, namespaces=[other.id]
    )

    nobody = await site.ask("GET", f"{site.v1}/watch", as_nobody=True)
    elsewhere = await site.ask(
        "GET", f"{site.v1}/watch", headers={"authorization": f"Bearer {secret}"}
    )
    missing = await site.ask("GET", f"/v1/namespaces/{'9' * 32}/watch")
    system = await site.ask("GET", f"/v1/namespaces/{'0' * 32}/watch")

    assert [reply.status for reply in (nobody, elsewhere, missing, system)] == [401, 403, 404, 404]


async def test_a_server_that_stops(tmp_path: Path) -> None:
    """Its watches end at the next look, and say from where to go on."""
    ready = True
    site = await Site.make(tmp_path, ready=lambda: ready)
    async with Watcher(site) as watcher:
        present = await watcher.event()
        ready = False
        site.clock.advance(v1_watch.LOOK_S)
        end = await watcher.ended()

    assert (end.data["code"], end.data["status"]) == ("stopping", 503)
    assert end.id == present.id


class Mute:
    """An upstream whose feed falls silent, or whose echoes stay behind, when it is told to."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.read = upstream.read
        self.read_many = upstream.read_many
        self.write = upstream.write
        self.list = upstream.list
        self.silent = False
        self.behind = 0
        """How far echoes stand before what was told, as at a location between two of its own."""

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        async for message in self._upstream.follow(hello, upward):
            if self.silent:
                continue
            if isinstance(message, Echo):
                at = message.position
                at = replace(at, sequence=at.sequence - self.behind)
                yield replace(message, position=at)
            else:
                yield message


async def test_a_feed_that_falls_silent(tmp_path: Path) -> None:
    """A watch does not look alive while nobody tells it anything."""
    site = await Site.make(tmp_path, upstream=Mute)
    mute = site.node.upstream
    assert isinstance(mute, Mute)
    async with Watcher(site) as watcher:
        await watcher.until("present")
        mute.silent = True
        await pass_time(site, v1_watch.SILENCE_S_MAX + 1)
        end = await watcher.ended()

    assert (end.data["code"], end.data["status"]) == ("unreachable", 503)


async def test_ids_never_go_back(tmp_path: Path) -> None:
    """Also where an echo vouches for less than was told: who comes back is told nothing twice."""
    site = await Site.make(tmp_path, upstream=Mute)
    mute = site.node.upstream
    assert isinstance(mute, Mute)
    mute.behind = 1
    async with Watcher(site) as watcher:
        await watcher.until("present")
        position = await write(site, "k", b"1")
        told = await watcher.event()
        site.clock.advance(BEATS_S)
        beat = await watcher.event()

    assert told.id == beat.id == position


async def test_a_bound_on_how_many(site: Site) -> None:
    """503 beyond it, until somebody leaves. Who is refused, or asks for a head, takes no place."""
    few = replace(
        site, app=create_app(replace(site.node, watches_max=2, registry=CollectorRegistry()))
    )
    for _ in range(3):
        head = await few.ask("HEAD", f"{few.v1}/watch")
        old = await few.ask("GET", f"{few.v1}/watch?since={'0' * 15}1-5")
        assert (head.status, old.status) == (200, 410)
    async with Watcher(few) as first, Watcher(few):
        await first.until("present")
        async with Watcher(few) as third:
            refused = await third.refusal()
        counted = await few.ask("GET", "/metrics")
    async with Watcher(few) as again:
        await again.until("present")

    assert refused.code == (503, "too_many_watches")
    assert refused.headers["retry-after"] == "1"
    assert b"atoll_watches 2.0" in counted.body
    assert b"atoll_watches 0.0" in (await few.ask("GET", "/metrics")).body
