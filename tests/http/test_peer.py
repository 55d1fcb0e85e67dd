"""Nodes over real sockets: an upstream at the other end of a wire is the upstream itself."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvicorn

from atoll.core.errors import (
    ConditionFailedError,
    InvalidRequestError,
    NodeNotFoundError,
)
from atoll.core.location_errors import NotAdmittedError, UnreachableError
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    Entry,
    ListQuery,
    Mutation,
    Presence,
    Read,
    Reading,
)
from atoll.core.session import (
    Changed,
    Downward,
    Echo,
    Heartbeat,
    Hello,
    StartedOver,
    Subscribe,
    Subscribed,
    Upward,
)
from atoll.http.app import create_app
from atoll.http.connection import Connection
from atoll.http.peer import Everybody
from atoll.location.cache import HeldValue
from atoll.nodes import Nodes
from atoll.peer import codec
from atoll.peer.client import PeerClient
from atoll.upstream import Upstream
from tests.http.site import Site
from tests.support.rng import seeded_bytes

pytestmark = pytest.mark.anyio

NS = "7" * 32
PATIENCE_S = 20.0
LARGE = bytes(range(256)) * (25 * 2**20 // 256)


@dataclass(slots=True, kw_only=True)
class Far:
    """A node that listens, and what is needed to call it."""

    site: Site
    port: int
    nodes: Nodes
    credential: str

    def client(self, credential: str | None = None) -> PeerClient:
        """Make a client of it."""
        shown = self.credential if credential is None else credential
        return PeerClient(f"http://127.0.0.1:{self.port}", credential=shown)

    async def put(self, key: str, value: bytes | None, condition: Presence | None = None) -> None:
        """Write at the node itself."""
        mutation = Mutation(key=key, value=value, condition=condition)
        await self.site.node.upstream.write(Batch(namespace=NS, mutations=(mutation,)))


@asynccontextmanager
async def listening(
    site: Site, *, at: Path | None = None, upstream: Upstream | None = None
) -> AsyncGenerator[Far]:
    """Serve nodes over a site's central, or over another upstream, on a free port or a socket."""
    nodes = Nodes(site.node.upstream, clock=site.clock, random_bytes=seeded_bytes(5))
    credential = await nodes.create("LHR")
    server: uvicorn.Server | None = None
    node = replace(
        site.node,
        peers=Everybody() if at is not None else nodes,
        nodes=nodes,
        upstream=upstream or site.node.upstream,
        ready=lambda: server is not None and not server.should_exit,
        is_private=at is not None,
    )
    config = uvicorn.Config(
        create_app(node),
        http=Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    if at is None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.bind(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(at))
    sock.listen()
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve(sockets=[sock]))
        try:
            port = sock.getsockname()[1] if at is None else 0
            yield Far(site=site, port=port, nodes=nodes, credential=credential)
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def far(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Far]:
    """Listen as central."""
    assert anyio_backend == "asyncio"
    async with listening(await Site.make(tmp_path)) as far:
        yield far


class Largely:
    """An upstream that hands large values around piece by piece, as the one on disk does."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.write = upstream.write
        self.list = upstream.list
        self.follow = upstream.follow

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        return _held(await self._upstream.read(request))

    async def read_many(self, request: Read) -> list[Reading]:
        """See `Upstream`."""
        return [_held(reading) for reading in await self._upstream.read_many(request)]


def _held(reading: Reading) -> Reading:
    entry = reading.entry
    if entry is None or not isinstance(entry.value, bytes):
        return reading
    if len(entry.value) <= VALUE_INLINE_BYTES_MAX:
        return reading
    return replace(reading, entry=replace(entry, value=HeldValue(entry.value)))


async def value_of(entry: Entry | None) -> bytes:
    """Return a value, large or not."""
    assert entry is not None
    assert entry.value is not None
    if isinstance(entry.value, bytes):
        return entry.value
    return b"".join([chunk async for chunk in entry.value.chunks()])


async def test_the_verbs_are_the_upstream_s(far: Far) -> None:
    """What is written through the wire is read through it, and both ends agree."""
    client = far.client()
    mutations = (
        Mutation(key="a", value=b"1", metadata=b'{"m":1}', expiration=2_000_000_000),
        Mutation(key="b", value=b""),
    )

    written = await client.write(Batch(namespace=NS, mutations=mutations))
    read = Read(namespace=NS, keys=("a",), age_ms_max=0, at_least=written.position)
    many = Read(namespace=NS, keys=("a", "none", "b"))
    query = ListQuery(namespace=NS)

    assert await client.read(read) == await far.site.node.upstream.read(read)
    assert list(await client.read_many(many)) == list(await far.site.node.upstream.read_many(many))
    page = await client.list(query)
    assert [item.key for item in page.items] == ["a", "b"]
    assert page.position == (await far.site.node.upstream.list(query)).position
    await client.close()


async def test_errors_cross(far: Far) -> None:
    """With their facts; and the connection goes on after them."""
    client = far.client()
    await far.put("k", b"1")
    mutation = Mutation(key="k", value=b"2", condition=Presence.ABSENT)

    for _ in range(3):
        with pytest.raises(ConditionFailedError) as failed:
            await client.write(Batch(namespace=NS, mutations=(mutation,)))
        assert failed.value.key == "k"
        assert failed.value.version_current is not None
    await client.close()


@pytest.fixture
async def far_and_large(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Far]:
    """Listen as a central whose large values are read piece by piece."""
    assert anyio_backend == "asyncio"
    site = await Site.make(tmp_path)
    async with listening(site, upstream=Largely(site.node.upstream)) as far:
        yield far


async def test_large_values_stream(far_and_large: Far) -> None:
    """25 MiB arrive unchanged, in pieces, one beside another."""
    far = far_and_large
    await far.put("large", LARGE)
    client = far.client()

    readings = await asyncio.gather(
        *(client.read(Read(namespace=NS, keys=("large",))) for _ in range(3))
    )
    both = await client.read_many(Read(namespace=NS, keys=("large", "none", "large")))

    for reading in (*readings, both[0], both[2]):
        entry = reading.entry
        assert entry is not None
        assert not isinstance(entry.value, bytes)
        assert entry.value is not None
        sizes = [len(chunk) async for chunk in entry.value.chunks()]
        assert max(sizes) <= VALUE_INLINE_BYTES_MAX
        assert await value_of(entry) == LARGE
    await client.close()


@dataclass(slots=True, eq=False)
class Talk:
    """A session, message by message."""

    session: AsyncGenerator[Downward]
    upward: "asyncio.Queue[Upward]"

    @classmethod
    def begin(cls, client: PeerClient, hello: Hello) -> "Talk":
        """Open a session."""
        upward: asyncio.Queue[Upward] = asyncio.Queue()

        async def drained() -> AsyncIterator[Upward]:
            while True:
                yield await upward.get()

        return cls(client.follow(hello, drained()), upward)

    async def said(self) -> Downward:
        """Return what comes down next."""
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self.session)

    def say(self, message: Upward) -> None:
        """Send a message up."""
        self.upward.put_nowait(message)


async def test_a_session_is_one_ordered_conversation(far: Far) -> None:
    """Subscriptions, changes and echoes, each where it belongs; and it resumes where it ended."""
    client = far.client()
    talk = Talk.begin(client, Hello())
    assert isinstance(await talk.said(), StartedOver)

    talk.say(Subscribe(namespace=NS))
    subscribed = await talk.said()
    await far.put("k", b"1")
    talk.say(Heartbeat(instant_ms=42))
    changed, echo = await talk.said(), await talk.said()
    await talk.session.aclose()
    await far.put("k", b"2")
    assert isinstance(echo, Echo)
    hello = Hello(resume_after=echo.position, namespaces=frozenset({NS}))
    again = Talk.begin(client, hello)
    resumed, missed = await again.said(), await again.said()
    await again.session.aclose()

    assert isinstance(subscribed, Subscribed)
    assert isinstance(changed, Changed)
    assert changed.entry.value == b"1"
    assert echo.instant_ms == 42
    assert type(resumed).__name__ == "Resumed"
    assert isinstance(missed, Changed)
    assert missed.entry.value == b"2"


class Noting:
    """An upstream that notes when sessions begin and end."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.read = upstream.read
        self.read_many = upstream.read_many
        self.write = upstream.write
        self.list = upstream.list
        self.open = 0
        self.ended = asyncio.Event()

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        self.open += 1
        try:
            async for message in self._upstream.follow(hello, upward):
                yield message
        finally:
            self.open -= 1
            self.ended.set()


async def test_a_session_ends_at_both_ends(tmp_path: Path) -> None:
    """When who follows goes away, when its credential is revoked, and when the server stops."""
    site = await Site.make(tmp_path)
    noting = Noting(site.node.upstream)
    async with listening(site, upstream=noting) as far:
        client = far.client()
        talk = Talk.begin(client, Hello())
        await talk.said()
        assert noting.open == 1
        await talk.session.aclose()
        async with asyncio.timeout(PATIENCE_S):
            await noting.ended.wait()
        assert noting.open == 0

        revoked = Talk.begin(client, Hello())
        await revoked.said()
        await far.nodes.revoke("LHR")
        with pytest.raises(StopAsyncIteration):
            await revoked.said()
        with pytest.raises(NotAdmittedError):
            await client.read(Read(namespace=NS, keys=("k",)))
        with pytest.raises(NodeNotFoundError):
            await far.nodes.revoke("LHR")

        again = far.client(await far.nodes.create("LHR"))
        last = Talk.begin(again, Hello())
        await last.said()
        await client.close()
        await again.close()
    with contextlib.suppress(UnreachableError, StopAsyncIteration):
        await last.said()
    assert noting.open == 0


@pytest.mark.parametrize(
    "shown", ["", "atoll_0123456789abcdef_0", "atollnode_LHR_0", "atollnode_none_0", "atollnode_"]
)
async def test_only_nodes_are_admitted(far: Far, shown: str) -> None:
    """No user's token, no other's credential, and nothing made up."""
    client = far.client(shown)

    with pytest.raises(NotAdmittedError):
        await client.read(Read(namespace=NS, keys=("k",)))
    with pytest.raises(UnreachableError):
        await Talk.begin(client, Hello()).said()
    await client.close()


async def test_users_do_not_reach_the_nodes_door(far: Far) -> None:
    """A token that may do everything opens nothing here."""
    token = far.site.headers["authorization"].removeprefix("Bearer ")
    client = far.client(token)

    with pytest.raises(NotAdmittedError):
        await client.read(Read(namespace=NS, keys=("k",)))
    await client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05abc",
        b"\xff\xff\xff\xffabc",
        b"\0\0\0\x01\xc1",
        codec.pack(Read(namespace=NS, keys=())).frame,
        codec.pack(ListQuery(namespace=NS)).frame,
    ],
)
async def test_what_is_no_frame_is_refused(far: Far, body: bytes) -> None:
    """By every verb, and the node goes on."""
    for verb in ("read", "read_many", "write", "list", "follow"):
        if verb == "list" and body == codec.pack(ListQuery(namespace=NS)).frame:
            continue
        reader, writer = await asyncio.open_connection("127.0.0.1", far.port)
        head = (
            f"POST /peer/v1/{verb} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            f"authorization: Bearer {far.credential}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        many = verb == "read_many" and body == codec.pack(Read(namespace=NS, keys=())).frame
        assert answer[9:12] == (b"200" if many else b"400"), verb

    client = far.client()
    assert (await client.read(Read(namespace=NS, keys=("k",)))).entry is None
    await client.close()


async def test_another_version_is_told_which_one_is_spoken(far: Far) -> None:
    """A node of a later release learns from the refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", far.port)
    writer.write(b"POST /peer/v2/read HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()

    assert answer[9:12] == b"404"
    assert b"speaks version 1" in answer


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]


async def _read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await reader.read()


async def _half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    writer.close()


async def _half_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 104\r\n\r\n\0\0\0\x64half")
    writer.close()


async def _nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("serve", [_read_nothing, _half_a_head, _half_a_body, _nonsense])
async def test_what_may_have_arrived_is_said_to(serve: Serve) -> None:
    """An answer that is not whole is none, and never a shorter value."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = PeerClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async with server:
        with pytest.raises(UnreachableError) as lost:
            await client.write(Batch(namespace=NS, mutations=(Mutation(key="k", value=b"v"),)))
        with pytest.raises(UnreachableError):
            await client.read(Read(namespace=NS, keys=("k",)))
        with pytest.raises(UnreachableError):
            await Talk.begin(client, Hello()).said()
    with pytest.raises(UnreachableError) as never:
        await client.write(Batch(namespace=NS, mutations=(Mutation(key="k", value=b"v"),)))

    assert lost.value.sent
    assert not never.value.sent


async def test_a_connection_that_was_idle_and_is_dead_fails_nobody(tmp_path: Path) -> None:
    """The node was started anew on the same port between two reads."""
    site = await Site.make(tmp_path)
    async with listening(site) as first:
        client = first.client()
        reading: Reading = await client.read(Read(namespace=NS, keys=("k",)))
        port = first.port
    with pytest.raises(UnreachableError) as down:
        await client.read(Read(namespace=NS, keys=("k",)))
    async with listening(site) as second:
        moved = PeerClient(f"http://127.0.0.1:{second.port}", credential=second.credential)
        assert (await moved.read(Read(namespace=NS, keys=("k",)))).entry is None
        await moved.close()

    assert port
    assert reading.entry is None
    assert not down.value.sent
    await client.close()


async def test_connections_that_went_silent_cost_one_wait(tmp_path: Path) -> None:
    """What swallowed a call on one of them has swallowed the others too; new ones are good."""
    async with listening(await Site.make(tmp_path)) as far:
        silent: set[asyncio.StreamReader] = set()
        swallowed = asyncio.Event()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Pass on what comes, on wires that are not cut."""
            there, onward = await asyncio.open_connection("127.0.0.1", far.port)
            wires.add(reader)

            async def answers() -> None:
                while piece := await there.read(2**16):
                    writer.write(piece)

            answering = asyncio.create_task(answers())
            while piece := await reader.read(2**16):
                if reader in silent:
                    swallowed.set()
                else:
                    onward.write(piece)
            answering.cancel()
            onward.close()
            writer.close()

        wires: set[asyncio.StreamReader] = set()
        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = PeerClient(f"http://127.0.0.1:{port}", credential=far.credential)
        read = Read(namespace=NS, keys=("k",))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client.read(read) for _ in range(5)))
            silent |= wires
            waiting = asyncio.create_task(client.read(read))
            await swallowed.wait()
            waiting.cancel()
            await asyncio.wait({waiting})
            found = await client.read(read)
        await client.close()
        server.close()

    assert len(silent) == 5
    assert found.entry is None


async def test_a_private_socket_needs_no_credential(tmp_path: Path) -> None:
    """Whoever may open it is a reader of the location; REST is not served there."""
    site = await Site.make(tmp_path)
    path = tmp_path / "k.sock"
    async with listening(site, at=path):
        client = PeerClient("http://keeper", socket_path=path)
        written = await client.write(
            Batch(namespace=NS, mutations=(Mutation(key="k", value=b"v"),))
        )
        reading = await client.read(Read(namespace=NS, keys=("k",), at_least=written.position))
        assert await value_of(reading.entry) == b"v"
        with pytest.raises(UnreachableError):
            await PeerClient("http://keeper", socket_path=tmp_path / "none").read(
                Read(namespace=NS, keys=("k",))
            )
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /client/v4/accounts HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read())[9:12] == b"404"
        writer.close()
        await client.close()


def test_frames_are_bounded() -> None:
    """A session whose frame is longer than a message may be is at its end."""
    from atoll.peer.client import taken_frames  # noqa: PLC0415 - used here alone

    pending = bytearray(codec.pack(Heartbeat(instant_ms=1)).frame * 2 + b"\0")

    assert len(taken_frames(pending)) == 2
    assert bytes(pending) == b"\0"
    with pytest.raises(InvalidRequestError):
        taken_frames(bytearray(b"\x7f\xff\xff\xff"))
