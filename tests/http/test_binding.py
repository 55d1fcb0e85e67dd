"""The binding protocol on the wire: what workerd is answered, to the status line."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.limits import MIB, Limits
from atoll.http.app import create_app
from atoll.principal import Permission
from tests.http.locations import World
from tests.http.site import Reply, Site
from tests.http.test_wire import Server, Wire, serving

pytestmark = pytest.mark.anyio

LIMIT = 2 * MIB
NAMED = "Atoll-Namespace"


@pytest.fixture
async def server(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve a site with small limits."""
    assert anyio_backend == "asyncio"
    limits = Limits(value_bytes_max=LIMIT, discard_bytes_max=8 * MIB)
    async with serving(await Site.make(tmp_path, limits=limits)) as server:
        yield server


class Kv:
    """Speaks as a binding does, over one connection."""

    def __init__(self, wire: Wire, namespace: str) -> None:
        self.wire = wire
        self.namespace = namespace

    async def ask(self, line: str, *headers: str, body: bytes = b"") -> Reply:
        """Send a request and read its answer."""
        named = f"{NAMED}: {self.namespace}"
        size = f"Content-Length: {len(body)}"
        await self.wire.send(self.wire.head(f"{line} HTTP/1.1", named, size, *headers) + body)
        return await self.wire.answer()

    async def refused(self, line: str, *headers: str, body: bytes = b"") -> str:
        """Return the status line of a refusal, which has no body and leaves the connection open."""
        named = f"{NAMED}: {self.namespace}"
        size = f"Content-Length: {len(body)}"
        await self.wire.send(self.wire.head(f"{line} HTTP/1.1", named, size, *headers) + body)
        head = (await self.wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        assert "content-length: 0\r\n" in head
        assert "connection:" not in head
        return head.partition("\r\n")[0].removeprefix("HTTP/1.1 ")


async def test_a_key_of_any_name(server: Server) -> None:
    """By its header a binding's request is told from those of all other faces."""
    keys = [
        "healthz",
        "metrics",
        "%2Fv1%2Fnamespaces",
        "%2Fclient%2Fv4%2Fuser",
        "bulk%2Fget",
        "%2F",
    ]
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        for key in keys:
            assert (await kv.ask(f"PUT /{key}?urlencoded=true", body=key.encode())).status == 200
        for key in keys:
            got = await kv.ask(f"GET /{key}?urlencoded=true")
            assert (got.status, got.body) == (200, key.encode())
        await wire.send(wire.head("GET /healthz HTTP/1.1"))
        assert (await wire.answer()).headers["content-type"] == "application/json"


async def test_several_namespaces_over_one_connection(server: Server) -> None:
    """Each request says which it is about."""
    site = server.site
    other = await site.accounts.create_namespace(site.account.id, "other")
    async with server.wire() as wire:
        first, second = Kv(wire, site.namespace.id), Kv(wire, other.id)
        await first.ask("PUT /k?urlencoded=true", body=b"first")
        await second.ask("PUT /k?urlencoded=true", body=b"second")
        found = [(await kv.ask("GET /k?urlencoded=true")).body for kv in (first, second)]

    assert found == [b"first", b"second"]


async def test_an_answer_carries_what_workerd_reads(server: Server) -> None:
    """And no encoding; metadata is plain ASCII, in a list it is text."""
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        said = json.dumps({"a": "\x7f\u00e9"}, ensure_ascii=False).encode().decode("latin-1")
        await kv.ask("PUT /k?urlencoded=true", f"CF-KV-Metadata: {said}", body=b"\x7f")
        got = await kv.ask("GET /k?urlencoded=true")
        listed = await kv.ask("GET /")
        missing = await kv.ask("GET /none?urlencoded=true")

    assert got.body == b"\x7f"
    assert got.headers["cf-kv-metadata"] == r'{"a":"\u007f\u00e9"}'
    assert got.headers["cf-cache-status"] == "MISS"
    assert "content-encoding" not in got.headers
    assert listed.json()["keys"] == [{"name": "k", "metadata": '{"a":"\x7f\u00e9"}'}]
    assert (missing.status, missing.body, missing.headers["cf-cache-status"]) == (404, b"", "MISS")


async def test_metadata_must_be_json(server: Server) -> None:
    """Else every later read of the key would throw."""
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        why = await kv.refused("PUT /k", "CF-KV-Metadata: undefined", body=b"v")
        got = await kv.ask("GET /k")

    assert why.startswith("400 Metadata must be valid JSON: ")
    assert got.status == 404


async def test_what_looks_like_a_form_is_a_value(server: Server) -> None:
    """A Worker stores bytes, whatever their type says they are."""
    form = b'--b\r\nContent-Disposition: form-data; name="value"\r\n\r\nv\r\n--b--\r\n'
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        await kv.ask("PUT /k", "content-type: multipart/form-data; boundary=b", body=form)
        assert (await kv.ask("GET /k")).body == form


async def test_only_a_missing_key_is_404(server: Server) -> None:
    """A Worker would take anything else for null, and not notice."""
    site = server.site
    async with server.wire() as wire:
        gone = await Kv(wire, "a" * 32).refused("GET /k")
        none = await Kv(wire, "nonsense").refused("GET /k")
        odd = await Kv(wire, site.namespace.id).refused("PATCH /k")

    assert gone == "400 namespace not found"
    assert none == "400 namespace ID 'nonsense' is not 32 hexadecimal digits"
    assert odd == "405 Method PATCH not allowed here; use GET or PUT or DELETE"


async def test_who_may_not(server: Server) -> None:
    """No token, one that only reads, and one for another namespace."""
    site = server.site
    other = await site.accounts.create_namespace(site.account.id, "other")
    lines: list[str] = []
    for permission, namespaces in (
        (None, ()),
        (Permission.READ, (site.namespace.id,)),
        (Permission.WRITE, (other.id,)),
    ):
        headers = {}
        if permission is not None:
            _, secret = await site.accounts.create_token(
                site.account.id, name="w", permission=permission, namespaces=namespaces
            )
            headers = {"authorization": f"Bearer {secret}"}
        asking = replace(server, site=replace(site, headers=headers))
        async with asking.wire() as wire:
            kv = Kv(wire, site.namespace.id)
            lines.append(await kv.refused("PUT /k", body=bytes(LIMIT)))

    assert [line[:3] for line in lines] == ["401", "403", "403"]
    assert lines[0].startswith("401 Missing Authorization header")


async def test_a_refusal_comes_behind_the_body(server: Server) -> None:
    """Whatever it is about, all that was sent has been read by then."""
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        for line, why in (
            (
                f"PUT /{'k' * 513}",
                "414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
            ),
            ("PUT /%FF", "400 Could not URL-decode key name."),
            ("PUT /k?expiration_ttl=1", "400 Invalid expiration_ttl of 1. Expiration TTL must be"),
            ("PUT /k", f"413 Value length of {3 * MIB} exceeds limit of {LIMIT}."),
            ("POST /k", "405 Method POST not allowed here"),
            ("POST /bulk/get", "413 The request body exceeds the limit of 1048576 bytes."),
        ):
            assert (
                await kv.refused(line, body=bytes(3 * MIB if "413" in why else LIMIT))
            ).startswith(why)
        # A body that announces no length, cut into chunks.
        named = f"{NAMED}: {kv.namespace}"
        head = wire.head("PUT /k HTTP/1.1", named, "transfer-encoding: chunked")
        piece = b"100000\r\n" + bytes(MIB) + b"\r\n"
        await wire.send(head + 3 * piece + b"0\r\n\r\n")
        answer = await wire.answer()

    assert answer.status == 413


async def test_a_reason_is_one_line_of_ascii(server: Server) -> None:
    """Of a bounded length, whatever a caller had us repeat."""
    async with server.wire() as wire:
        kv = Kv(wire, server.site.namespace.id)
        odd = await kv.refused("GET /k?cache_ttl=%0D%0Ax%7F%C3%A9")
        long = await kv.refused("GET /?key_count_limit=" + "9" * 5000)

    assert odd == "400 Invalid cache_ttl of ??x??. Cache TTL must be at least 30."
    assert len(long) == len("400 ") + 512


async def test_what_is_no_request(server: Server) -> None:
    """Is said in the status line as well."""
    async with server.wire() as wire:
        await wire.send(wire.head("GET /k HTTP/1.1", f"{NAMED}: x", "CF-KV-Metadata: \x01"))
        line = (await wire.ended()).partition(b"\r\n")[0]

    assert line == b"HTTP/1.1 400 Bad Request: Invalid HTTP request received."


async def test_it_expires_to_the_second(site: Site) -> None:
    """A minute after it was written for a minute, and not before."""
    named = {NAMED.lower(): site.namespace.id}
    await site.ask("PUT", "/k?urlencoded=true&expiration_ttl=60", headers=named, body=b"v")
    site.clock.advance(seconds=59)
    before = await site.ask("GET", "/k?urlencoded=true", headers=named)
    site.clock.advance(seconds=1)
    after = await site.ask("GET", "/k?urlencoded=true", headers=named)
    listed = await site.ask("GET", "/", headers=named)

    assert (before.status, after.status) == (200, 404)
    assert listed.json() == {"keys": [], "list_complete": True}


async def test_one_key_once_a_second(site: Site) -> None:
    """Deleting what is not there is not counted."""
    named = {NAMED.lower(): site.namespace.id}
    statuses = [
        (await site.ask(method, "/k", headers=named)).status
        for method in ("DELETE", "PUT", "PUT", "DELETE")
    ]
    site.clock.advance(seconds=1)
    again = await site.ask("PUT", "/k", headers=named)

    assert statuses == [200, 200, 429, 429]
    assert again.status == 200


async def test_a_cut_off_location(tmp_path: Path) -> None:
    """A stale value and its mark, 202 for a write, and no 404 for what was never seen."""
    world = World(tmp_path)
    await world.open()
    async with world:
        central, a = world.sites["central"], world.sites["A"]
        named = {NAMED.lower(): a.namespace.id}
        await central.ask("PUT", central.v1 + "/values/k", body=b"v1")
        found = [await a.ask("GET", "/k", headers=named)]
        await world.pass_time(2)
        found.append(await a.ask("GET", "/k", headers=named))
        world.a.wire.cut()
        await world.pass_time(90)
        found.append(await a.ask("GET", "/k", headers=named))
        found.append(await a.ask("GET", "/k?cache_ttl=86400", headers=named))
        never = await a.ask("GET", "/never", headers=named)
        put = await a.ask("PUT", "/k", headers=named, body=b"v2")
        after = await a.ask("GET", "/k", headers=named)

    states = [(got.body, got.headers["cf-cache-status"]) for got in found]
    assert states == [(b"v1", "MISS"), (b"v1", "HIT"), (b"v1", "STALE"), (b"v1", "HIT")]
    assert (never.status, put.status, put.body) == (503, 202, b"")
    assert (after.body, after.headers["cf-cache-status"]) == (b"v2", "HIT")


async def test_a_keeper_serves_no_users(site: Site) -> None:
    """On its own socket the header means nothing."""
    private = create_app(replace(site.node, is_private=True))
    asked = replace(site, app=private)

    named = {NAMED.lower(): site.namespace.id}
    got = [await asked.ask("GET", path, headers=named) for path in ("/healthz", "/k")]

    assert [reply.headers.get("content-type") for reply in got] == ["application/json"] * 2
