"""The faces behind a real server and real sockets: what clients can do to bytes on a wire."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn

from atoll.core.limits import MIB, Limits
from atoll.http.connection import Connection
from tests.http.site import Reply, Site

pytestmark = pytest.mark.anyio

ANSWER_S_MAX = 20.0
LOST_S_MAX = 10.0


@dataclass(slots=True, kw_only=True)
class Wire:
    """A connection on which a test writes and reads bytes."""

    site: Site
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    read: list[Reply] = field(default_factory=list[Reply])

    def head(self, line: str, *headers: str) -> bytes:
        """Write a request's head, with credentials."""
        fields = [f"{name}: {value}" for name, value in self.site.headers.items()]
        return "\r\n".join([line, "host: x", *fields, *headers, "", ""]).encode("latin-1")

    async def send(self, data: bytes) -> None:
        """Write and wait until it is gone."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head_only: bool = False) -> Reply:
        """Read one answer."""
        async with asyncio.timeout(ANSWER_S_MAX):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")[:-2]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            size_bytes = 0 if head_only else int(headers.get("content-length", "0"))
            body = await self.reader.readexactly(size_bytes)
        return Reply(status=int(first.split()[1]), headers=headers, body=body)

    async def ended(self) -> bytes:
        """Read until the server closes, and return what came."""
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self.reader.read()

    def close(self) -> None:
        """Break off."""
        self.writer.transport.abort()


@dataclass(slots=True, kw_only=True)
class Server:
    """A site that listens."""

    site: Site
    port: int
    listening: uvicorn.Server

    async def begin_to_stop(self) -> None:
        """Have it stop, and wait until it takes no new connection."""
        self.listening.should_exit = True
        async with asyncio.timeout(ANSWER_S_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionError:
                    return
                writer.close()

    @asynccontextmanager
    async def wire(self) -> AsyncGenerator[Wire]:
        """Connect."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        wire = Wire(site=self.site, reader=reader, writer=writer)
        try:
            yield wire
        finally:
            wire.close()


@asynccontextmanager
async def serving(site: Site, *, http: type[Connection] = Connection) -> AsyncGenerator[Server]:
    """Serve a site on a free port, as `serve` does."""
    # With the protocol named, asyncio sends answers at once; else each waits to be acknowledged.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    config = uvicorn.Config(
        site.app, http=http, lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve(sockets=[listening]))
        try:
            yield Server(site=site, port=listening.getsockname()[1], listening=server)
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def server(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve a site with small limits."""
    assert anyio_backend == "asyncio"
    limits = Limits(value_bytes_max=2 * MIB, discard_bytes_max=8 * MIB)
    async with serving(await Site.make(tmp_path, limits=limits)) as server:
        yield server


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("a/b", "a/b"),
        ("//x//", "//x//"),
        ("a/../b", "a/../b"),
        ("../b", "../b"),
        ("a/.", "a/."),
        ("a//b/", "a//b/"),
        ("%2F%2Fx%2F%2F", "//x//"),
        ("a%252Fb", "a%2Fb"),
        ("100%25", "100%"),
        ("a+b", "a+b"),
        ("a;b=c:@&$,!'()*~", "a;b=c:@&$,!'()*~"),
        ("%00%0A%7f", "\0\n\x7f"),
        ("%D0%BA", "к"),
        ('"<>^`{|}[]\\', '"<>^`{|}[]\\'),
        ("a?b=c", "a"),
    ],
)
async def test_what_stands_in_the_request_line_is_the_key(
    server: Server, target: str, key: str
) -> None:
    """The server folds nothing, and the absolute form of a target means the same."""
    path = server.site.value(target)
    async with server.wire() as wire:
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 1") + b"v")
        put = await wire.answer()
        await wire.send(wire.head(f"GET http://127.0.0.1{path} HTTP/1.1"))
        got = await wire.answer()

    assert put.result is None
    assert got.body == b"v"
    assert await server.site.keys() == [key]


@pytest.mark.parametrize(
    "fields",
    [
        ('if-match: "5"', "if-match: *"),
        ("if-none-match: *", 'if-none-match: "5"'),
        ("if-match: *", "if-none-match: *"),
    ],
)
async def test_of_two_conditions_none_is_overlooked(
    server: Server, fields: tuple[str, str]
) -> None:
    """Two headers are one list, which no write takes; the key is not written."""
    path = server.site.value("k")
    async with server.wire() as wire:
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 1", *fields) + b"v")
        assert (await wire.answer()).refused == (400, 20400)
        twice = wire.head(f"GET {path} HTTP/1.1", f"authorization: {server.site.headers}")
        await wire.send(twice)
        assert (await wire.answer()).refused[0] == 401

    assert await server.site.keys() == []


@pytest.mark.parametrize("target", ["", ".", "..", "%2e", "%2E%2E", "100%", "%zz", "%ff"])
async def test_what_is_no_key_is_refused(server: Server, target: str) -> None:
    """400 in the envelope, and the connection goes on."""
    path = server.site.value(target)
    async with server.wire() as wire:
        for _ in range(2):
            await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 1") + b"v")
            assert (await wire.answer()).refused == (400, 10042)

    assert await server.site.keys() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET /client/v4/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"PUT / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_in_the_envelope(server: Server, raw: bytes) -> None:
    """Also where no face was reached, and then the connection ends."""
    async with server.wire() as wire:
        await wire.send(raw)
        answer = await wire.answer()
        rest = await wire.ended()

    assert answer.refused == (400, 20400)
    assert rest == b""


async def test_a_body_that_breaks_off_stores_nothing(server: Server) -> None:
    """Raw, as a form, in a bulk, chunked; short and longer than what memory keeps."""
    site = server.site
    form = b'--b\r\nContent-Disposition: form-data; name="value"\r\n\r\nv\r\n--b--\r\n'
    for path, headers, body in (
        (site.value("k"), ["content-length: 10"], b"123456789"),
        (site.value("k"), [f"content-length: {2 * MIB}"], bytes(2 * MIB - 1)),
        (site.value("k"), ["transfer-encoding: chunked"], b"5\r\n12345\r\n"),
        (site.value("k"), ["transfer-encoding: chunked"], b"5\r\n12345\r\nnonsense\r\n"),
        (
            site.value("k"),
            ["content-type: multipart/form-data; boundary=b", f"content-length: {len(form) + 1}"],
            form,
        ),
        (f"{site.home}/bulk", ["content-length: 99"], b'[{"key":"k","value":"v"}]'),
        (f"{site.v1}/values/k", ["content-length: 10"], b"123"),
    ):
        async with server.wire() as wire:
            await wire.send(wire.head(f"PUT {path} HTTP/1.1", *headers) + body)
            wire.writer.write_eof()
            await wire.ended()
    await lost(server, count=7)

    assert await site.keys() == []


async def lost(server: Server, *, count: int) -> None:
    """Wait until so many requests were counted whose client had gone."""
    async with asyncio.timeout(LOST_S_MAX):
        while True:
            text = (await server.site.ask("GET", "/metrics")).body.decode()
            lines = [
                line
                for line in text.splitlines()
                if line.startswith("atoll_http_requests_total") and 'status="499"' in line
            ]
            if sum(float(line.rpartition(" ")[2]) for line in lines) >= count:
                return


async def test_chunked_bodies_are_bodies(server: Server) -> None:
    """With trailers, extensions and pieces of any size."""
    async with server.wire() as wire:
        head = wire.head(f"PUT {server.site.value('k')} HTTP/1.1", "transfer-encoding: chunked")
        await wire.send(head + b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\ntrailer: x\r\n\r\n")
        put = await wire.answer()

    assert put.result is None
    assert await server.site.get("k") == b"abcd"


async def test_who_expects_to_be_told_to_continue_is_told(server: Server) -> None:
    """100 before the body; 413 instead where it is too large, without taking any of it."""
    path = server.site.value("k")
    async with server.wire() as wire:
        expect = "expect: 100-continue"
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 1", expect))
        told = await wire.answer()
        await wire.send(b"v")
        put = await wire.answer()
        vast = f"content-length: {100 * MIB}"
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", vast, expect))
        refused = await wire.answer()

    assert told.status == 100
    assert put.result is None
    assert refused.refused == (413, 10024)


async def test_a_client_that_sends_before_it_reads_sees_413(server: Server) -> None:
    """The body is read on, and the connection lives; behind the second bound it ends."""
    path = server.site.value("k")
    async with server.wire() as wire:
        length = f"content-length: {4 * MIB}"
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", length) + bytes(4 * MIB))
        refused = await wire.answer()
        await wire.send(wire.head(f"GET {path} HTTP/1.1"))
        after = await wire.answer()
    async with server.wire() as wire:
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", f"content-length: {64 * MIB}"))
        await wire.send(bytes(10 * MIB))
        ended = await wire.answer()

    assert refused.refused == ended.refused == (413, 10024)
    assert after.refused == (404, 10009)
    assert ended.headers["connection"] == "close"


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Bodies, errors and HEAD among them."""
    site = server.site
    async with server.wire() as wire:
        await wire.send(
            wire.head(f"PUT {site.value('a')} HTTP/1.1", "content-length: 3") + b"one"
            + wire.head(f"GET {site.value('a')} HTTP/1.1")
            + wire.head(f"HEAD {site.value('a')} HTTP/1.1")
            + wire.head(f"GET {site.value('nope')} HTTP/1.1")
            + wire.head(f"DELETE {site.home}/bulk HTTP/1.1", "content-length: 5") + b'["a"]'
            + wire.head(f"GET {site.value('a')} HTTP/1.1")
        )  # fmt: skip
        put = await wire.answer()
        got = await wire.answer()
        head = await wire.answer(head_only=True)
        answers = [await wire.answer() for _ in range(3)]

    assert put.result is None
    assert got.body == b"one"
    assert (head.status, head.headers["content-length"]) == (200, "3")
    assert answers[0].refused == answers[2].refused == (404, 10009)
    assert answers[1].result["successful_key_count"] == 1


async def test_a_refusal_before_the_body_leaves_the_connection_usable(server: Server) -> None:
    """Who may not write is told so, and what they sent is passed over."""
    path = server.site.value("k")
    async with server.wire() as wire:
        body = bytes(3 * MIB)
        head = f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        await wire.send(head + body)
        refused = await wire.answer()
        await wire.send(wire.head(f"GET {path} HTTP/1.1"))
        after = await wire.answer()

    assert refused.refused == (401, 9106)
    assert after.refused == (404, 10009)


async def test_a_large_value_comes_back_in_pieces_of_its_length(server: Server) -> None:
    """Content-Length is announced, and holds."""
    value = bytes(range(256)) * 8192
    await server.site.put("k", value)
    async with server.wire() as wire:
        await wire.send(wire.head(f"GET {server.site.value('k')} HTTP/1.1"))
        got = await wire.answer()

    assert got.body == value


async def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    """Health checks of old load balancers."""
    async with server.wire() as wire:
        await wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = await wire.ended()

    assert answer.startswith(b"HTTP/1.1 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"alive": True}


class Hasty(Connection):
    """A connection that does not wait long."""

    body_idle_s_max = 0.2


async def test_a_body_that_stops_arriving_ends_the_connection(tmp_path: Path) -> None:
    """Nothing is stored, nobody is answered, and other connections go on."""
    async with serving(await Site.make(tmp_path), http=Hasty) as server:
        path = server.site.value("k")
        async with server.wire() as idle, server.wire() as busy:
            await idle.send(idle.head(f"PUT {path} HTTP/1.1", "content-length: 9") + b"1")
            await busy.send(busy.head(f"PUT {path} HTTP/1.1", "content-length: 2") + b"1")
            await busy.send(b"2")
            put = await busy.answer()
            left = await idle.ended()

        assert put.result is None
        assert left == b""
        assert await server.site.get("k") == b"12"


class Lingering(Connection):
    """A connection that waits for long when the server stops."""

    stopping_s = ANSWER_S_MAX


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("used", [True, False])
async def test_a_request_under_way_when_the_server_stops_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, direct: bool, used: bool
) -> None:
    """Be it the connection's first or not; the connection ends with the answer."""
    monkeypatch.setattr(Lingering, "direct", direct)
    async with (
        serving(await Site.make(tmp_path), http=Lingering) as server,
        server.wire() as wire,
    ):
        request = wire.head(f"PUT {server.site.value('k')} HTTP/1.1", "content-length: 1")
        if used:
            await wire.send(request + b"1")
            await wire.answer()
        await server.begin_to_stop()
        await wire.send(request + b"2")
        answer = await wire.answer()
        left = await wire.ended()

    assert (answer.status, answer.headers["connection"], left) == (200, "close", b"")


async def test_idle_connections_do_not_keep_a_server_that_stops(tmp_path: Path) -> None:
    """Neither one that was used nor one that never was."""
    async with (
        serving(await Site.make(tmp_path)) as server,
        server.wire() as fresh,
        server.wire() as used,
    ):
        await used.send(used.head(f"GET {server.site.value('k')} HTTP/1.1"))
        await used.answer()
        await server.begin_to_stop()
        left = await fresh.ended(), await used.ended()

    assert left == (b"", b"")
