"""Requests that come whole take a short way; nobody can tell from the answers."""

import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from atoll.core.limits import MIB, Limits
from atoll.http.connection import Connection
from tests.http.site import Site
from tests.http.test_wire import Server, Wire, serving

pytestmark = pytest.mark.anyio

LARGE: Final = 2 * MIB
MASKED: Final = re.compile(rb"(?m)^(date|atoll-request-id): [^\r]*")
NAMES: Final = ("x", "Accept", "connection", "Cookie", "expect", "Upgrade", "content-type", "x-y")
PRINTABLE: Final = "".join(map(chr, range(32, 127)))
LAST: Final = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Short(Connection):
    """A connection that notes which way each request went."""

    went: Final[list[bool]] = []

    def on_message_complete(self) -> None:
        """Note it."""
        super().on_message_complete()
        self.went.append(type(self.cycle) is not RequestResponseCycle)


class Long(Connection):
    """A connection on which every request goes uvicorn's way."""

    direct = False


@pytest.fixture
async def pair(anyio_backend: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    """Serve two sites that are alike, but for the way that requests take."""
    assert anyio_backend == "asyncio"
    limits = Limits(value_bytes_max=LARGE, discard_bytes_max=8 * MIB)
    Short.went.clear()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serving(await Site.make(tmp_path, limits=limits), http=http)
            )
            for http in (Short, Long)
        ]
        for server in servers:
            await server.site.put("there", b"value", "?expiration_ttl=600")
            await server.site.put("large", bytes(LARGE))
        yield servers[0], servers[1]


Said = Callable[[Wire], bytes]


def request(line: str, *headers: str, body: bytes = b"") -> Said:
    """Say what to send: `{home}`, `{v1}` and `{value}` stand for paths of the site."""

    def said(wire: Wire) -> bytes:
        site = wire.site
        filled = line.format(home=site.home, v1=site.v1, value=site.value("there"))
        return wire.head(filled, *headers) + body

    return said


def sized(line: str, body: bytes, *headers: str) -> Said:
    """Say it with a body of an announced length."""
    return request(line, f"content-length: {len(body)}", *headers, body=body)


def bound(line: str, *headers: str, body: bytes = b"") -> Said:
    """Say it as a binding does."""

    def said(wire: Wire) -> bytes:
        named = f"atoll-namespace: {wire.site.namespace.id}"
        return wire.head(line, named, f"content-length: {len(body)}", *headers) + body

    return said


def raw(data: bytes) -> Said:
    """Send exactly this."""
    return lambda _wire: data


WHOLE: Final[dict[str, Said]] = {
    "put": sized("PUT {home}/values/a HTTP/1.1", b"1"),
    "put nothing": sized("PUT {home}/values/a HTTP/1.1", b""),
    "put without a length": request("PUT {home}/values/a HTTP/1.1"),
    "put chunked": request(
        "PUT {home}/values/a HTTP/1.1",
        "transfer-encoding: chunked",
        body=b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\ntrailer: x\r\n\r\n",
    ),
    "put in v1": sized("PUT {v1}/values/a HTTP/1.1", b"1", 'atoll-metadata: {"a":1}'),
    "put once": sized("PUT {v1}/values/there HTTP/1.1", b"1", "if-none-match: *"),
    "put too late": sized("PUT {home}/values/a?expiration=1 HTTP/1.1", b"1"),
    "put twice": sized("PUT {home}/values/a HTTP/1.1", b"1", "idempotency-key: b"),
    "put and end": sized("PUT {home}/values/a HTTP/1.1", b"1", "connection: close"),
    "put a form": sized(
        "PUT {home}/values/a HTTP/1.1",
        b'--b\r\nContent-Disposition: form-data; name="value"\r\n\r\nv\r\n--b--\r\n',
        "content-type: multipart/form-data; boundary=b",
    ),
    "bulk": sized("PUT {home}/bulk HTTP/1.1", b'[{"key":"a","value":"b"}]'),
    "bad bulk": sized("PUT {home}/bulk HTTP/1.1", b'[{"key":"","value":"b"}]'),
    "get": request("GET {value} HTTP/1.1"),
    "get large": request("GET {home}/values/large HTTP/1.1"),
    "get with a body": sized("GET {value} HTTP/1.1", b"ignored"),
    "get known": request("GET {v1}/values/there HTTP/1.1", "if-none-match: *"),
    "get absolute": request("GET http://x{value} HTTP/1.1"),
    "get a fragment": request("GET {value}#x HTTP/1.1"),
    "get with a query": request("GET {home}/keys?limit=10&prefix=th HTTP/1.1"),
    "get nothing": request("GET {home}/values/nope HTTP/1.1"),
    "get in 1.0": request("GET {value} HTTP/1.0"),
    "get in 1.0 and on": request("GET {value} HTTP/1.0", "connection: keep-alive"),
    "get nowhere": request("GET /nowhere HTTP/1.1"),
    "get the root": request("GET / HTTP/1.1"),
    "head": request("HEAD {value} HTTP/1.1"),
    "head large": request("HEAD {home}/values/large HTTP/1.1"),
    "head nothing": request("HEAD {home}/values/nope HTTP/1.1"),
    "delete": request("DELETE {value} HTTP/1.1"),
    "post": sized("POST {value} HTTP/1.1", b"x"),
    "options": request("OPTIONS {value} HTTP/1.1"),
    "two tokens": request("GET {value} HTTP/1.1", "authorization: Bearer x"),
    "nobody": raw(b"PUT /client/v4/user HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"),
    "odd headers": request("GET {value} HTTP/1.1", "X-EMPTY:", "x-high: \xff\xfe", "X:  \ty "),
    "a long header": request("GET {value} HTTP/1.1", "x: " + "y" * 30_000),
    "binding get": bound("GET /there?urlencoded=true HTTP/1.1"),
    "binding get nothing": bound("GET /nope?urlencoded=true HTTP/1.1"),
    "binding get too fresh": bound("GET /there?urlencoded=true&cache_ttl=1 HTTP/1.1"),
    "binding get many": bound("POST /bulk/get HTTP/1.1", body=b'{"keys":["there","nope"]}'),
    "binding put": bound("PUT /a?urlencoded=true HTTP/1.1", body=b"1"),
    "binding put late": bound("PUT /a?expiration=1 HTTP/1.1", body=b"1"),
    "binding put odd": bound("PUT /a HTTP/1.1", 'CF-KV-Metadata: "\x7f"', body=b"\x7f"),
    "binding delete": bound("DELETE /there?urlencoded=true HTTP/1.1"),
    "binding list": bound("GET /?key_count_limit=1 HTTP/1.1"),
    "binding head": bound("HEAD /there HTTP/1.1"),
    "upgrade without asking": request("GET {value} HTTP/1.1", "upgrade: websocket"),
}

OTHER: Final[dict[str, Said]] = {
    "expects": sized("PUT {home}/values/a HTTP/1.1", b"1", "expect: 100-continue"),
    "put large": sized("PUT {home}/values/a HTTP/1.1", bytes(LARGE)),
    "binding put large": bound("PUT /a HTTP/1.1", body=bytes(LARGE)),
    "binding put too large": bound("PUT /a HTTP/1.1", body=bytes(LARGE + 1)),
    "put too large": sized("PUT {home}/values/a HTTP/1.1", bytes(LARGE + 1)),
    "broken chunks": request(
        "PUT {home}/values/a HTTP/1.1", "transfer-encoding: chunked", body=b"1\r\na\r\nnonsense"
    ),
    "upgrade": request("GET {value} HTTP/1.1", "upgrade: h2c", "connection: upgrade"),
    "connect": raw(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"),
    "asterisk": raw(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n"),
    "nonsense": raw(b"nonsense\r\n\r\n"),
    "not ASCII": raw(b"GET /client/v4/\xff HTTP/1.1\r\nhost: x\r\n\r\n"),
    "a control character": request("GET {value} HTTP/1.1", "x: a\x01b"),
    "another version": raw(b"GET / HTTP/3.7\r\nhost: x\r\n\r\n"),
    "no version": raw(b"GET /\r\n\r\n"),
}


async def said_by(server: Server, *sayings: Said) -> bytes:
    """Send requests at once, and one that ends the connection; return all that comes back."""
    async with server.wire() as wire:
        await wire.send(b"".join(say(wire) for say in sayings) + LAST)
        return MASKED.sub(rb"\1: -", await wire.ended())


@pytest.mark.parametrize("name", [*WHOLE, *OTHER])
async def test_both_ways_give_the_same_answer(pair: tuple[Server, Server], name: str) -> None:
    """To the byte, but for the time and the request's id; and afterwards the same is stored."""
    short, long = pair
    say = WHOLE.get(name) or OTHER[name]

    assert await said_by(short, say) == await said_by(long, say)
    for key in ("a", "there"):
        assert await short.site.get(key) == await long.site.get(key)
    if name in WHOLE:
        assert Short.went[0], name


async def test_requests_in_one_piece_are_answered_alike(pair: tuple[Server, Server]) -> None:
    """All that leave the connection open, one behind the other."""
    short, long = pair
    # The last of these holds what is only mended in the first head of a piece.
    ends = {"put and end", "get in 1.0", "get in 1.0 and on", "binding put odd"}
    sayings = [say for name, say in WHOLE.items() if name not in ends]

    assert await said_by(short, *sayings) == await said_by(long, *sayings)
    assert Short.went == [True] + [False] * len(sayings)


async def test_a_connection_takes_the_short_way_again_and_again(
    pair: tuple[Server, Server],
) -> None:
    """Also after a request that did not come whole."""
    short, _ = pair
    async with short.wire() as wire:
        for _ in range(3):
            await wire.send(request("GET {value} HTTP/1.1")(wire))
            assert (await wire.answer()).body == b"value"
        await wire.send(sized("PUT {home}/values/a HTTP/1.1", b"1", "expect: 100-continue")(wire))
        assert [(await wire.answer()).status for _ in range(2)] == [100, 200]
        await wire.send(sized("PUT {home}/values/a HTTP/1.1", b"2")(wire))
        assert (await wire.answer()).status == 200

    assert Short.went == [True, True, True, False, True]


async def test_what_comes_in_pieces_is_waited_for(pair: tuple[Server, Server]) -> None:
    """A body that is still to come goes the other way, is stored whole, and holds nobody up."""
    short, _ = pair
    path = short.site.value("k")
    async with short.wire() as wire, short.wire() as other:
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 6") + b"abc")
        await other.send(other.head(f"GET {path} HTTP/1.1"))
        before = await other.answer()
        await wire.send(b"def")
        put = await wire.answer()
        await wire.send(wire.head(f"GET {path} HTTP/1.1"))
        got = await wire.answer()

    assert (before.status, put.status, got.body) == (404, 200, b"abcdef")
    assert Short.went == [True, False, True]


async def test_a_client_that_leaves_is_no_error(pair: tuple[Server, Server]) -> None:
    """Nothing more is written to it, and the server goes on."""
    short, _ = pair
    say = request("GET {home}/values/large HTTP/1.1")
    for _ in range(5):
        async with short.wire() as leaving:
            await leaving.send(say(leaving))
    async with short.wire() as wire:
        await wire.send(say(wire))
        assert len((await wire.answer()).body) == LARGE


@pytest.mark.parametrize("line", ["GET /healthz", "HEAD /openapi.json", "GET /v1/", "PUT /x"])
async def test_random_headers_are_answered_alike(pair: tuple[Server, Server], line: str) -> None:
    """Whatever headers a client thinks of, also ones that choose the way."""
    short, long = pair
    rng = random.Random(line)  # noqa: S311 - to vary tests, not to keep secrets
    for _ in range(50):
        headers = [
            f"{rng.choice(NAMES)}: {''.join(rng.choices(PRINTABLE, k=rng.randrange(20)))}"
            for _ in range(rng.randrange(5))
        ]
        say = sized(f"{line} HTTP/1.1", rng.randbytes(rng.randrange(100)), *headers)
        assert await said_by(short, say) == await said_by(long, say), headers
