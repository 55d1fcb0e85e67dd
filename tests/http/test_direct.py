"""The short way of requests that arrive whole: the same answers, byte for byte, as uvicorn's."""

import itertools
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.core.limits import MIB, Limits
from atoll.http.connection import Connection
from tests.http.site import Site
from tests.http.test_wire import Server, serving

pytestmark = pytest.mark.anyio

CLOSED = "connection: close"
LARGE_BYTES = 2 * MIB + 17

# What differs between two answers to the same request: when it was, and which request it was.
_MOVING = re.compile(
    rb"(?<=date: )[^\r]+|(?<=request-id: )[^\r]+|(?<=etag: )[^\r]+|(?<=position: )[^\r]+"
    rb'|(?<="version":")\d+|(?<="position":")[^"]+|(?<=under request )[^"]+'
)


class Counting(Connection):
    """Counts the requests that go the short way."""

    counted: list[bytes]

    def on_message_complete(self) -> None:
        """See `Connection`."""
        if self._held:
            type(self).counted.append(self.url)
        super().on_message_complete()


class Roundabout(Connection):
    """Sends every request uvicorn's way."""

    direct = False


@asynccontextmanager
async def both(folder: Path) -> AsyncGenerator[tuple[Server, Server]]:
    """Serve one site in the short way and in the other."""
    Counting.counted = []
    limits = Limits(value_bytes_max=3 * MIB, discard_bytes_max=8 * MIB, rewrite_interval_ms=0)
    site = await Site.make(folder, limits=limits)
    async with serving(site, http=Counting) as short, serving(site, http=Roundabout) as long:
        yield short, long


async def answers(server: Server, *requests: bytes) -> bytes:
    """Send requests, each whole, and return everything that comes until the server closes."""
    async with server.wire() as wire:
        for request in requests:
            await wire.send(request)
        return _MOVING.sub(b"...", await wire.ended())


def request_of(site: Site, line: str, *headers: str, body: bytes | None = None) -> bytes:
    """Write a request with credentials, after which the connection ends."""
    sized = () if body is None else (f"content-length: {len(body)}",)
    fields = [f"{name}: {value}" for name, value in site.headers.items()]
    head = "\r\n".join([line, "host: x", *fields, *sized, *headers, CLOSED, "", ""])
    return head.encode("latin-1") + (body or b"")


ODD = (
    ("GET", "greeting", (), None),
    ("HEAD", "greeting", (), None),
    ("GET", "none", (), None),
    ("HEAD", "none", (), None),
    ("GET", "large", (), None),
    ("HEAD", "large", (), None),
    ("GET", "100%", (), None),
    ("GET", "", (), None),
    ("PATCH", "greeting", (), b"x"),
    ("PUT", "new", (), b""),
    ("PUT", "new", (), b"value"),
    ("PUT", "new", ("content-type: multipart/form-data; boundary=x",), b"--x--\r\n"),
    ("PUT", "new?expiration_ttl=1", (), b"value"),
    ("PUT", "greeting", ("if-none-match: *",), b"value"),
    ("DELETE", "none", (), None),
    ("DELETE", "none", (), b"a body"),
    ("GET", "greeting", ("authorization: Bearer wrong",), None),
    ("GET", "greeting", ("x-twice: 1", "x-twice: 2"), None),
)


@pytest.mark.parametrize("face", ["rest", "v1"])
async def test_both_ways_answer_alike(tmp_path: Path, face: str) -> None:
    """Status line, headers in their order, body, and whether the connection goes on."""
    async with both(tmp_path) as (short, long):
        site = short.site
        await site.put("greeting", b"hello")
        await site.put("large", b"x" * LARGE_BYTES)
        for version, odd in itertools.product(("1.1", "1.0"), ODD):
            method, key, headers, body = odd
            at = site.value(key) if face == "rest" else f"{site.v1}/values/{key}"
            request = request_of(site, f"{method} {at} HTTP/{version}", *headers, body=body)
            Counting.counted.clear()

            said = await answers(short, request)
            expected = await answers(long, request)

            assert said == expected, odd
            assert said.startswith(b"HTTP/1.1 ")
            assert len(Counting.counted) == 1, odd


@given(
    line=st.sampled_from(["GET /metrics", "GET /healthz", "POST /healthz", "GET /v1/", "PUT /x"]),
    headers=st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True),
            st.from_regex(r"[ -~]{0,20}", fullmatch=True),
        ).filter(lambda header: header[0].lower() not in {"content-length", "te", "host"}),
        max_size=5,
    ),
    body=st.binary(max_size=100),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_headers_are_answered_alike(
    tmp_path_factory: pytest.TempPathFactory,
    line: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    """Whatever headers a client thinks of, also ones that choose the way."""
    import anyio  # noqa: PLC0415 - Hypothesis calls no coroutine

    async def compare() -> None:
        async with both(tmp_path_factory.mktemp("both")) as (short, long):
            written = [f"{name}: {value}" for name, value in headers]
            request = request_of(short.site, f"{line} HTTP/1.1", *written, body=body)
            if line == "GET /metrics":
                request = request.replace(b"GET /metrics", b"HEAD /openapi.json")
            assert await answers(short, request) == await answers(long, request)

    anyio.run(compare)


async def test_what_comes_in_pieces_takes_the_other_way(tmp_path: Path) -> None:
    """A body that is still to come is waited for, and stored whole."""
    async with both(tmp_path) as (short, _), short.wire() as wire:
        path = short.site.value("k")
        await wire.send(wire.head(f"PUT {path} HTTP/1.1", "content-length: 6") + b"abc")
        async with short.wire() as other:
            await other.send(other.head(f"GET {path} HTTP/1.1"))
            before = await other.answer()
        await wire.send(b"def")
        put = await wire.answer()
        await wire.send(wire.head(f"GET {path} HTTP/1.1"))
        got = await wire.answer()

    assert (before.status, put.status, got.body) == (404, 200, b"abcdef")
    assert len(Counting.counted) == 2


async def test_a_pipeline_is_answered_in_its_order(tmp_path: Path) -> None:
    """Requests in one piece: the first takes the short way, the others wait for it."""
    async with both(tmp_path) as (short, _), short.wire() as wire:
        path = short.site.value("k")
        put = wire.head(f"PUT {path} HTTP/1.1", "content-length: 1") + b"v"
        get = wire.head(f"GET {path} HTTP/1.1")
        await wire.send(put + get + get)

        statuses = [(await wire.answer()).status for _ in range(3)]
        await wire.send(get)
        last = await wire.answer()

    assert statuses == [200, 200, 200]
    assert last.body == b"v"
    assert len(Counting.counted) == 2


async def test_a_client_that_leaves_is_no_error(tmp_path: Path) -> None:
    """What it asked for is done, nothing is written to it, and the server goes on."""
    async with both(tmp_path) as (short, _):
        path = short.site.value("large")
        await short.site.put("large", b"x" * LARGE_BYTES)
        for _ in range(5):
            async with short.wire() as leaving:
                await leaving.send(leaving.head(f"GET {path} HTTP/1.1"))
        async with short.wire() as wire:
            await wire.send(wire.head(f"GET {path} HTTP/1.1"))
            assert len((await wire.answer()).body) == LARGE_BYTES
