"""The ways between the nodes of `atoll dev`: proxies that can be slow, and cut, on one machine.

A developer meets on a laptop what a wide-area network does: round trips take their time, and a
location that is cut off hears nothing any more, not even that its connections have ended.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from atoll.core.errors import ParameterInvalidError, UnavailableError
from atoll.location.sockets import socket_path

CONTROL_NAME: Final = "dev.sock"
PIECE_BYTES_MAX: Final = 65_536
WAITING_BYTES_MAX: Final = 4 * 2**20
"""How much is on its way in one direction of one connection; then its sender waits."""
ORDER_BYTES_MAX: Final = 4096
CONNECT_S: Final = 5.0
RTT_MS_MAX: Final = 60_000
MS_PER_S: Final = 1000


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """How one way is."""

    name: str
    rtt_ms: float
    cut: bool


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with one way."""

    link: str
    action: Literal["cut", "heal", "rtt"]
    rtt_ms: float = 0.0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order: how all ways are, or why it was refused."""

    links: tuple[LinkState, ...] = ()
    refused: str | None = None


class _Pipe:
    """One direction of one connection: each piece arrives half a round trip after it was sent."""

    def __init__(
        self, link: "Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Event()
        self._waiting_bytes = 0

    async def carry(self) -> None:
        """Carry everything up to the end of the stream."""
        loop = asyncio.get_running_loop()
        delivering = asyncio.create_task(self._deliver())
        try:
            while True:
                piece = await self._reader.read(PIECE_BYTES_MAX)
                delay_s = self._link.rtt_ms / 2 / MS_PER_S
                self._waiting.append((loop.time() + delay_s, piece))
                self._waiting_bytes += len(piece)
                self._changed.set()
                if not piece:
                    break
                while self._waiting_bytes > WAITING_BYTES_MAX and not delivering.done():
                    await asyncio.wait({delivering}, timeout=delay_s + 0.001)
            await delivering
        finally:
            delivering.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await delivering

    async def _deliver(self) -> None:
        """Write pieces when they are due; what is due while the way is cut is lost."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            due_s, piece = self._waiting[0]
            if (left_s := due_s - loop.time()) > 0:
                await asyncio.sleep(left_s)  # noqa: TID251 - the delay is the point
            self._waiting.popleft()
            self._waiting_bytes -= len(piece)
            if self._writer.transport.is_closing():
                return
            if not piece:
                if not self._link.cut:
                    self._writer.write_eof()
                return
            if self._link.cut:
                continue
            self._writer.write(piece)
            await self._writer.drain()


class Link:
    """The way from one location to what it reads through."""

    def __init__(self, name: str, *, host: str, port: int, rtt_ms: float = 0.0) -> None:
        """Lead to `host` and `port`, once opened.

        Args:
            name: The location's.
            host: Where it leads.
            port: Where it leads.
            rtt_ms: How long a round trip takes, half of it each way.
        """
        self.name = name
        self.rtt_ms = rtt_ms
        self.cut = False
        self._target = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> LinkState:
        """How it is."""
        return LinkState(name=self.name, rtt_ms=self.rtt_ms, cut=self.cut)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[int]:
        """Take connections on a free port of this machine; yield the port."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()
            self._break()
            await asyncio.gather(*self._carrying, return_exceptions=True)
            await server.wait_closed()

    def sever(self) -> None:
        """Let nothing through: what is sent is lost, and nobody is told."""
        self.cut = True

    def heal(self) -> None:
        """Let everything through. Connections from before end: what they carried is lost."""
        if self.cut:
            self.cut = False
            self._break()

    def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, until either end closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self._open.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            # While the way is cut the other end cannot be reached, and the caller waits in vain.
            if self.cut:
                await reader.read()
                return
            async with asyncio.timeout(CONNECT_S):
                back, onward = await asyncio.open_connection(*self._target)
            self._open.add(onward)
            async with asyncio.TaskGroup() as both:
                both.create_task(_Pipe(self, reader, onward).carry())
                both.create_task(_Pipe(self, back, writer).carry())
        except* (OSError, TimeoutError):
            pass
        finally:
            for end in (writer, onward):
                if end is not None:
                    self._open.discard(end)
                    end.transport.abort()
            self._carrying.discard(task)


class Links:
    """All ways of one `atoll dev`, and the socket on which it takes orders about them."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        """Take orders about `links`."""
        self._links = links

    @asynccontextmanager
    async def controlled(self, path: Path) -> AsyncGenerator[None]:
        """Take orders from whoever may connect to the unix socket at `path`."""
        server = await asyncio.start_unix_server(self._serve, path, limit=ORDER_BYTES_MAX)
        try:
            yield
        finally:
            server.close()
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one order."""
        try:
            raw = await reader.readline()
            writer.write(msgspec.json.encode(self._obey(raw)) + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # Whoever it was has gone, or sent no line.
        finally:
            writer.close()

    def _obey(self, raw: bytes) -> Done:
        try:
            order = msgspec.json.decode(raw, type=Order)
        except msgspec.MsgspecError as error:
            return Done(refused=str(error))
        link = self._links.get(order.link)
        if link is None:
            names = ", ".join(self._links) or "none"
            return Done(refused=f"it is none of the locations that run here: {names}")
        match order.action:
            case "cut":
                link.sever()
            case "heal":
                link.heal()
            case "rtt":
                link.rtt_ms = order.rtt_ms
        return Done(links=tuple(one.state for one in self._links.values()))


def control_path(data: Path) -> Path:
    """Return where the `atoll dev` that runs on a data folder takes orders."""
    return socket_path(data, CONTROL_NAME)


async def give(path: Path, order: Order) -> tuple[LinkState, ...]:
    """Give an order to the `atoll dev` that listens at `path`.

    Returns:
        How all ways are now.

    Raises:
        UnavailableError: Nothing runs there.
        ParameterInvalidError: It refused.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise UnavailableError(
            f"nothing runs on the data folder {path.parent}: start `atoll dev` first"
        ) from error
    try:
        writer.write(msgspec.json.encode(order) + b"\n")
        await writer.drain()
        done = msgspec.json.decode(await reader.readline(), type=Done)
    finally:
        writer.close()
    if done.refused is not None:
        raise ParameterInvalidError(name="location", given=order.link, rule=done.refused)
    return done.links
