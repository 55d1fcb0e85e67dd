"""Plain reads are answered before they are requests; nobody can tell from the answers."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from atoll.core.model import CacheStatus
from atoll.http.app import create_app
from atoll.http.hot import GRANT_MS
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.quick import KeeperQuick
from atoll.principal import Permission
from atoll.usage.counts import READ_KINDS, SENT_AT, Kind, Operation
from atoll.usage.meter import Meter, rows_in
from atoll.usage.prices import Meter as ReadMeter
from atoll.usage.prices import Period
from atoll.usage.quotas import Stop
from tests.http.locations import World
from tests.http.site import Site
from tests.http.test_wire import Server, Wire, serving
from tests.support.location import beside

pytestmark = pytest.mark.anyio

MASKED: Final = re.compile(rb"(?m)^(date|atoll-request-id): [^\r]*")
LAST: Final = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
KEYS: Final = ("plain", "with%20metadata", "expiring", "a/b", "missing", "no-such", "%C3%A9", "~!$")


@dataclass(slots=True, kw_only=True)
class Pair:
    """A location that answers plain reads at once, and the same one without that."""

    world: World
    hot: Server
    cold: Server
    counted: list[tuple[str, CacheStatus]]
    counts: Path
    """Where operations are counted."""

    async def said(self, server: Server, *requests: bytes) -> bytes:
        """Have a reading admitted, send requests at once, and return what comes back."""
        async with server.wire() as wire:
            for warm in (self.v1(wire, "plain"), self.bound(wire, "plain")):
                await wire.send(warm)
                await wire.answer()
            await wire.send(b"".join(requests) + LAST)
            return MASKED.sub(rb"\1: -", await wire.ended())

    async def same(self, *requests: bytes) -> bytes:
        """Send requests to both, and return what both say."""
        await self.said(self.cold, *requests)  # What is to be fetched is fetched by this.
        hot = await self.said(self.hot, *requests)
        cold = await self.said(self.cold, *requests)
        assert hot == cold, requests
        return hot

    def at_once(self) -> int:
        """Return how many answers were given at once since the last time."""
        number = len(self.counted)
        self.counted.clear()
        return number

    def v1(self, wire: Wire | Site, key: str, *headers: str, target: str = "") -> bytes:
        """Write a read by `/v1`."""
        site = wire.site if isinstance(wire, Wire) else wire
        return self._head(site, target or f"{site.v1}/values/{key}", headers)

    def bound(self, wire: Wire | Site, key: str, *headers: str, query: str = "") -> bytes:
        """Write a read by a binding."""
        site = wire.site if isinstance(wire, Wire) else wire
        named = f"atoll-namespace: {site.namespace.id}"
        return self._head(site, f"/{key}{query or '?urlencoded=true'}", (named, *headers))

    def _head(self, site: Site, target: str, headers: Sequence[str]) -> bytes:
        fields = [f"{name}: {value}" for name, value in site.headers.items()]
        lines = (f"GET {target} HTTP/1.1", "host: x", *fields, *headers, "", "")
        return "\r\n".join(lines).encode("latin-1")


@pytest.fixture
async def pair(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """Serve location A, whose cache is on disk, in both ways."""
    assert anyio_backend == "asyncio"
    monkeypatch.setattr(World, "disk", tmp_path)
    world = World(tmp_path)
    await world.open()
    async with world, AsyncExitStack() as stack:
        central, cold = world.sites["central"], world.sites["A"]
        await fill(central)
        await world.pass_time(1)
        for key in KEYS:
            await cold.ask("GET", f"{cold.v1}/values/{key}")
        await world.pass_time(2)
        cache = world.a.cache
        assert isinstance(cache, LmdbCache)
        counted: list[tuple[str, CacheStatus]] = []
        near = KeeperQuick(
            world.a.keeper.knowledge,
            cache,
            age_ms_max=60_000,
            count=lambda namespace, status: counted.append((namespace, status)),
        )
        counts = tmp_path / "counts"
        meter = await asyncio.to_thread(Meter, counts)
        node = replace(cold.node, near=near, meter=meter)
        hot = replace(cold, app=create_app(node), node=node)
        servers = [await stack.enter_async_context(serving(site)) for site in (hot, cold)]
        yield Pair(world=world, hot=servers[0], cold=servers[1], counted=counted, counts=counts)
        meter.close()
        for place in world.places:
            await place.stop()
            assert isinstance(place.cache, LmdbCache)
            beside(place.cache.close)


async def fill(site: Site) -> None:
    """Write what is read."""
    await site.ask("PUT", f"{site.v1}/values/plain", body=bytes(range(256)))
    metadata = {"atoll-metadata": '{"a":"\\u00e9\\u007f"}'}
    await site.ask("PUT", f"{site.v1}/values/with%20metadata", body=b"", headers=metadata)
    await site.ask("PUT", f"{site.v1}/values/expiring?expiration_ttl=600", body=b"soon gone")
    for key in ("a/b", "missing", "%C3%A9", "~!$"):
        await site.ask("PUT", f"{site.v1}/values/{key}", body=key.encode())
    site.clock.advance(2)
    await site.ask("DELETE", f"{site.v1}/values/missing")


@pytest.mark.parametrize("key", KEYS)
async def test_what_is_held_is_answered_at_once(pair: Pair, key: str) -> None:
    """By either face, whether it is there or known to be missing; with or without the version."""
    site = pair.hot.site
    etag = (await site.ask("GET", f"{site.v1}/values/{key}")).headers.get("etag", '"1"')
    requests = (
        pair.v1(site, key),
        pair.v1(site, key, f"if-none-match: {etag}"),
        pair.v1(site, key, "if-none-match: *"),
        pair.v1(site, key, 'if-none-match: "1", W/"2"'),
        pair.v1(site, key, "accept: text/html", "user-agent: x", "cookie: y"),
        pair.bound(site, key),
        pair.bound(site, key, 'if-none-match: "1"'),
    )

    pair.at_once()
    for request in requests:
        await pair.same(request)
    assert pair.at_once() == 2 * len(requests) + len(requests)
    await pair.same(*requests)


@pytest.mark.parametrize(
    "wish",
    [
        "cache-control: no-cache",
        "cache-control: max-age=1",
        "cache-control: only-if-cached",
        "atoll-at-least: 0000000000000007-1",
        "atoll-at-least: nonsense",
        "x-auth-key: x",
        "x-auth-email: a@b.c",
        "authorization: Bearer another",
        "if-none-match: *\r\nif-none-match: *",
        "atoll-namespace: x",
        "connection: close",
        "content-length: 1\r\n\r\nx",
        "transfer-encoding: chunked\r\n\r\n0",
    ],
)
async def test_a_wish_goes_the_ordinary_way(pair: Pair, wish: str) -> None:
    """And is answered as it is there."""
    site = pair.hot.site

    pair.at_once()
    await pair.same(pair.v1(site, "plain", wish))
    assert pair.at_once() == 1  # It was `said` that asked for this one.
    await pair.same(pair.bound(site, "plain", wish))


@pytest.mark.parametrize(
    "target",
    [
        "{v1}/values/",
        "{v1}/values/.",
        "{v1}/values/..",
        "{v1}/values/%",
        "{v1}/values/%zz",
        "{v1}/values/%ff",
        "{v1}/values/plain?",
        "{v1}/values/plain?x=1",
        "{v1}/values/plain#x",
        "{v1}/values//plain",
        "{v1}/values/plain/",
        "{v1}/value/plain",
        "{v1}//values/plain",
        "/v1/namespaces/00000000000000000000000000000000/values/plain",
        "http://x{v1}/values/plain",
        "{v1}/values/" + "k" * 513,
        "{v1}/keys",
        "//{v1}/values/plain",
    ],
)
async def test_odd_targets_are_answered_alike(pair: Pair, target: str) -> None:
    """Whatever stands in the request's line."""
    site = pair.hot.site

    await pair.same(pair.v1(site, "", target=target.format(v1=site.v1)))


async def test_what_is_answered_at_once_is_counted(pair: Pair) -> None:
    """As the ordinary way counts it: by face, found or not, with what was sent."""
    site = pair.hot.site
    etag = (await site.ask("GET", f"{site.v1}/values/plain")).headers["etag"]
    before = await operations(pair)
    pair.at_once()

    await pair.said(
        pair.hot,
        *(pair.v1(site, "plain") for _ in range(3)),
        pair.v1(site, "no-such"),
        pair.v1(site, "plain", f"if-none-match: {etag}"),
        *(pair.bound(site, "plain") for _ in range(2)),
    )

    assert pair.at_once() >= 7
    found = await operations(pair) - before
    # The first of each face is what `said` has admitted by.
    assert found == {
        ("v1", Kind.HIT): 5,
        ("v1", Kind.NEGATIVE): 1,
        ("v1", SENT_AT): 4 * 256,
        ("binding", Kind.HIT): 3,
        ("binding", SENT_AT): 3 * 256,
    }


async def operations(pair: Pair) -> Counter[tuple[str, int]]:
    """Return what was counted of reads, by face and place."""

    def read() -> Counter[tuple[str, int]]:
        rows = (row for path in pair.counts.iterdir() for row in rows_in(path)[1])
        places = (*READ_KINDS, SENT_AT)
        return sum(
            (
                Counter({(key.face, at): counts.get(at, 0) for at in places})
                for _, key, counts in rows
            ),
            Counter[tuple[str, int]](),
        )

    return await asyncio.to_thread(read)


async def test_what_a_quota_stops_is_not_answered_at_once(pair: Pair) -> None:
    """Nobody relies on having been admitted before; what is lifted goes on."""
    site = pair.hot.site
    stop = Stop(
        operation=Operation.READ,
        until_s=int(site.clock.now_s) + 1000,
        limit=1,
        period=Period.DAY,
        meter=ReadMeter.READ,
    )
    accounts = pair.world.sites["central"].accounts
    await accounts.change_stops(site.account.id, site.namespace.id, (stop,))
    await pair.world.pass_time(2)
    pair.at_once()

    refused = await pair.said(pair.hot, *(pair.v1(site, "plain") for _ in range(3)))

    assert refused.count(b"429 ") == 3
    assert pair.at_once() == 0
    await accounts.change_stops(site.account.id, site.namespace.id, ())
    await pair.world.pass_time(2)
    assert (await pair.said(pair.hot, pair.v1(site, "plain"))).count(b"200 OK") == 2
    assert pair.at_once() > 0


async def test_random_requests_are_answered_alike(pair: Pair) -> None:
    """Plain ones and odd ones, one behind the other."""
    rng = random.Random(7)  # noqa: S311 - to vary tests, not to keep secrets
    site = pair.hot.site
    for _ in range(40):
        await pair.same(*(made(pair, site, rng) for _ in range(rng.randrange(1, 6))))
    assert pair.at_once() > 100


async def test_broken_requests_are_answered_alike(pair: Pair) -> None:
    """Where a plain read stands before what is broken, its answer comes first, and not too late."""
    rng = random.Random(8)  # noqa: S311 - as above
    site = pair.hot.site
    for _ in range(150):
        request = bytes(broken(rng, made(pair, site, rng)))
        await pair.said(pair.cold, request)
        hot = await pair.said(pair.hot, request)
        cold = await pair.said(pair.cold, request)
        assert hot == cold or (cold.startswith(b"HTTP/1.1 400") and hot.endswith(cold)), request


def made(pair: Pair, site: Site, rng: random.Random) -> bytes:
    """Write a request that is plain, or nearly."""
    headers = rng.sample(
        ("accept: */*", 'if-none-match: "1"', "cache-control: max-age=5", "x: y", "expect: z"),
        k=rng.randrange(3),
    )
    key = rng.choice(KEYS)
    if rng.random() < 0.5:
        return pair.v1(site, key, *headers)
    query = rng.choice(("", "?urlencoded=true", "?cache_ttl=60", "?x", "?urlencoded=true&x=1"))
    return pair.bound(site, key, *headers, query=query)


def broken(rng: random.Random, request: bytes) -> bytearray:
    """Change some bytes of a request."""
    changed = bytearray(request)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return changed


async def test_a_token_is_looked_at_again_and_again(pair: Pair) -> None:
    """One that was revoked, or has ended, reads nothing a moment later."""
    site = pair.hot.site
    central = pair.world.sites["central"]
    accounts = central.accounts
    made_at = int(site.clock.now_s)
    token, secret = await accounts.create_token(
        site.account.id, name="t", permission=Permission.READ, expires_s=made_at + 60
    )
    other, revoked = await accounts.create_token(
        site.account.id, name="u", permission=Permission.READ
    )
    async with pair.hot.wire() as wire:

        async def status(of: str) -> int:
            wire.site.headers["authorization"] = f"Bearer {of}"
            await wire.send(pair.v1(wire, "plain"))
            return (await wire.answer()).status

        before = [await status(of) for of in (secret, revoked) for _ in range(2)]
        await accounts.revoke_token(site.account.id, other.id)
        await pair.world.pass_time(GRANT_MS / 1000 + 1)
        after = [await status(of) for of in (secret, revoked)]
        kept = [await status(secret) for _ in range(2)]
        site.clock.advance(made_at + 60.1 - site.clock.now_s)
        ended = await status(secret)

    assert token.expires_s == made_at + 60
    assert before == [200] * 4
    assert after == [200, 401]
    assert kept == [200, 200]
    assert ended == 401


async def test_an_expired_value_is_not_answered(pair: Pair) -> None:
    """From the very second on; by then nobody has looked whether the token holds."""
    site = pair.hot.site
    before = await pair.same(pair.v1(site, "expiring"))
    await pair.world.pass_time(600)
    after = await pair.same(pair.v1(site, "expiring"))

    assert b"soon gone" in before
    assert b"soon gone" not in after
    assert b"404" in after


async def test_what_is_too_old_is_not_answered_at_once(pair: Pair) -> None:
    """Cut off, the location goes on in the ordinary way, which says what is stale."""
    site = pair.hot.site
    pair.world.a.wire.cut()
    await pair.world.pass_time(90)
    pair.at_once()

    answer = await pair.same(pair.v1(site, "plain"))

    assert b"atoll-stale: ?1" in answer
    assert pair.at_once() == 0


async def test_an_own_write_is_seen_at_once(pair: Pair) -> None:
    """Whether it went up or is in the journal."""
    site = pair.hot.site
    for value in (b"first", b"second"):
        await pair.world.pass_time(2)
        put = await site.ask("PUT", f"{site.v1}/values/plain", body=value)
        assert put.status in {200, 202}
        assert value in await pair.same(pair.v1(site, "plain"))
        pair.world.a.wire.cut()
