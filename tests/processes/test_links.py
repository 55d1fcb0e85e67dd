"""The ways between nodes of `atoll dev`: what they carry, and what they lose."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atoll.core.errors import ParameterInvalidError, UnavailableError
from atoll.location.sockets import PATH_BYTES_MAX, socket_path
from atoll.serve.links import Link, Links, LinkState, Order, give

LARGE = bytes(range(256)) * 40_000


class Far:
    """A server at the far end that gives back what it got, and remembers it."""

    def __init__(self) -> None:
        self.got = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo until there is no more."""
        while piece := await reader.read(65_536):
            self.got += piece
            writer.write(piece)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def way(*, rtt_ms: float = 0.0) -> AsyncGenerator[tuple[Far, Link, int]]:
    """Have a server, a link to it, and the link's port."""
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    link = Link("SIN", host="127.0.0.1", port=server.sockets[0].getsockname()[1], rtt_ms=rtt_ms)
    async with server, link.opened() as port:
        yield far, link, port


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Have a connection, and close it whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("rtt_ms", [0.0, 20.0])
async def test_everything_arrives_in_order(rtt_ms: float) -> None:
    """Ten megabytes go there and come back unchanged, and the end of the stream with them."""
    async with way(rtt_ms=rtt_ms) as (_, _, port), connected(port) as (reader, writer):
        reading = asyncio.create_task(reader.read(-1))
        writer.write(LARGE)
        writer.write_eof()

        assert await reading == LARGE


async def test_what_is_sent_into_a_cut_is_lost(tmp_path: Path) -> None:
    """It never arrives, not even after the healing, which ends the connections from before."""
    path = tmp_path / "s"
    async with way() as (far, link, port), Links({"SIN": link}).controlled(path):
        async with connected(port) as (before, writer):
            writer.write(b"before")
            assert await before.readexactly(6) == b"before"

            cut = await give(path, Order(link="SIN", action="cut"))
            writer.write(b"lost")
            async with connected(port) as (during, _):
                healed = await give(path, Order(link="SIN", action="heal"))

                for ended in (before, during):
                    with contextlib.suppress(ConnectionError):
                        assert await ended.read() == b""
        async with connected(port) as (after, writer):
            writer.write(b"after")
            assert await after.readexactly(5) == b"after"

        assert bytes(far.got) == b"beforeafter"
        assert cut == (LinkState(name="SIN", rtt_ms=0.0, cut=True),)
        assert healed == (LinkState(name="SIN", rtt_ms=0.0, cut=False),)


async def test_an_end_that_falls_into_a_cut_holds_up_nobody() -> None:
    """Who closes while nothing gets through is let go of when the link closes."""
    async with way() as (_, link, port), connected(port) as (reader, writer):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        link.sever()


async def test_orders_that_cannot_be_obeyed(tmp_path: Path) -> None:
    """Nothing runs there, or there is no such location: both are said."""
    with pytest.raises(UnavailableError, match="start `atoll dev` first"):
        await give(tmp_path / "s", Order(link="SIN", action="cut"))

    async with way() as (_, link, _), Links({"SIN": link}).controlled(tmp_path / "s"):
        with pytest.raises(ParameterInvalidError, match="run here: SIN"):
            await give(tmp_path / "s", Order(link="LHR", action="cut"))


def test_long_folders_have_their_sockets_elsewhere(tmp_path: Path) -> None:
    """A path too long for a unix socket is replaced, by the same one each time."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()

    path = socket_path(folder, "a.sock")

    assert path == socket_path(folder, "a.sock")
    assert len(str(path)) <= PATH_BYTES_MAX
    assert path.parent.stat().st_mode & 0o077 == 0
    path.parent.rmdir()
    assert socket_path(tmp_path, "a").name == "a"
