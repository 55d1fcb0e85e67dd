"""The peer face: an upstream's five verbs for other nodes; see docs/protocol.md.

Nodes are admitted by their own credentials, and on a keeper's unix socket by whoever may open it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Protocol, cast

from starlette.requests import ClientDisconnect

from atoll.core.errors import (
    AtollError,
    MethodNotAllowedError,
    RouteNotFoundError,
    UnauthenticatedError,
)
from atoll.core.session import Downward, Hello, Upward
from atoll.http.body import Bodies
from atoll.http.exchange import Answer, Header, Request
from atoll.http.rest_form import REFUSALS
from atoll.location.link import retrieve
from atoll.peer import codec
from atoll.peer.client import taken_frames
from atoll.peer.codec import LENGTH_BYTES, MalformedError
from atoll.upstream import Upstream

PREFIX: Final = b"/peer/"
INTERNAL_STATUS: Final = 500
ADMITTED_S: Final = 1.0
"""How long a session goes on before its credential is looked at again."""
LOOK_S: Final = 0.25
"""How often a silent session looks whether the server goes on."""

_CONTENT_TYPE: Final[Header] = (b"content-type", codec.CONTENT_TYPE)


class Admission(Protocol):
    """Who may call."""

    async def admit(self, authorization: str | None) -> str:
        """Return the caller's name, or raise `UnauthenticatedError`."""
        ...


class Everybody:
    """Admits whoever can connect: the socket is private."""

    async def admit(self, authorization: str | None) -> str:
        """See `Admission`."""
        return "" if authorization is None else authorization


class Peer:
    """See `Face`."""

    name = "peer"

    def __init__(
        self,
        upstream: Upstream,
        admission: Admission,
        bodies: Bodies,
        *,
        stays: Callable[[], bool],
    ) -> None:
        """Serve `upstream`.

        Args:
            upstream: What nodes read through.
            admission: Who they may be.
            bodies: Reads what they send.
            stays: Whether the server goes on; else sessions end.
        """
        self._upstream = upstream
        self._admission = admission
        self._bodies = bodies
        self._stays = stays
        self._verbs: Mapping[bytes, Callable[[Request], Awaitable[Answer]]] = {
            b"read": self._read,
            b"read_many": self._read_many,
            b"write": self._write,
            b"list": self._list,
            b"follow": self._follow,
        }

    async def answer(self, request: Request) -> Answer:
        """See `Face`.

        Raises:
            RouteNotFoundError: Another version of the protocol is asked for, or no verb of it.
            MethodNotAllowedError: All of it is POST.
        """
        run = self._verbs.get(request.path.removeprefix(codec.PREFIX))
        if not request.path.startswith(codec.PREFIX) or run is None:
            spoken = f"{request.path.decode('latin-1')} (this node speaks version {codec.VERSION})"
            raise RouteNotFoundError(path=spoken)
        if request.method != "POST":
            raise MethodNotAllowedError(method=request.method, allowed=("POST",))
        request.operation = run.__name__.removeprefix("_")
        await self._admission.admit(request.header(b"authorization"))
        return await run(request)

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`. An error crosses by its code and its facts."""
        del request  # Nodes are told no more than the error itself.
        told = error if isinstance(error, AtollError) else AtollError("internal error")
        status = REFUSALS[told.code].status if isinstance(error, AtollError) else INTERNAL_STATUS
        body = codec.pack_error(told)
        return Answer(
            status=status,
            headers=[_CONTENT_TYPE, (b"content-length", b"%d" % len(body))],
            body=body,
        )

    async def _payload(self, request: Request) -> bytes:
        """Read the one frame that a request is."""
        async with self._bodies.whole(request, bytes_max=codec.FRAME_BYTES_MAX) as body:
            if int.from_bytes(body[:LENGTH_BYTES], "big") != len(body) - LENGTH_BYTES:
                raise MalformedError(detail="its length is not what its first four bytes say")
            return body[LENGTH_BYTES:]

    async def _read(self, request: Request) -> Answer:
        asked = codec.READ.unpack(await self._payload(request))
        if len(asked.keys) != 1:
            raise MalformedError(detail="read asks for one key")
        return _answered(await self._upstream.read(asked))

    async def _read_many(self, request: Request) -> Answer:
        asked = codec.READ.unpack(await self._payload(request))
        return _answered(tuple(await self._upstream.read_many(asked)))

    async def _write(self, request: Request) -> Answer:
        batch = codec.BATCH.unpack(await self._payload(request))
        return _answered(await self._upstream.write(batch))

    async def _list(self, request: Request) -> Answer:
        query = codec.QUERY.unpack(await self._payload(request))
        return _answered(await self._upstream.list(query))

    async def _follow(self, request: Request) -> Answer:
        arriving = _Arriving(request)
        first = await arriving.frame()
        if first is None:
            raise MalformedError(detail="a session begins with a greeting")
        session = _Session(self, request, arriving, codec.HELLO.unpack(first))
        return Answer(headers=[_CONTENT_TYPE], body=session)

    @property
    def stays(self) -> bool:
        """Whether sessions may go on: the server does."""
        return self._stays()

    async def is_admitted(self, request: Request) -> bool:
        """Whether a session may go on: its credential may have been revoked since it began."""
        try:
            await self._admission.admit(request.header(b"authorization"))
        except UnauthenticatedError:
            return False
        except AtollError:
            pass  # Nobody can say now, and who was admitted stays.
        return True

    def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncGenerator[Downward]:
        """Open a session with what is served."""
        messages = self._upstream.follow(hello, upward)
        assert isinstance(messages, AsyncGenerator), messages
        return cast("AsyncGenerator[Downward]", messages)


def _answered(value: object) -> Answer:
    packed = codec.pack(value)
    size = b"%d" % packed.size_bytes
    return Answer(
        headers=[_CONTENT_TYPE, (b"content-length", size)],
        body=packed if packed.large else packed.frame,
    )


class _Arriving:
    """The frames of a session that come up, in their order."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pending = bytearray()
        self._whole: deque[bytes] = deque()
        self._more = True

    async def frame(self) -> bytes | None:
        """Return the next one, `None` when the other end has closed."""
        while not self._whole and self._more:
            message = await self._request.receive()
            if message["type"] != "http.request":
                return None
            self._request.body_bytes += len(message["body"])
            self._pending += message["body"]
            self._more = message["more_body"]
            self._whole += taken_frames(self._pending)
        return self._whole.popleft() if self._whole else None


class _Session:
    """What goes down in one session, as the body of an answer."""

    def __init__(self, face: Peer, request: Request, arriving: _Arriving, hello: Hello) -> None:
        self._face = face
        self._request = request
        self._arriving = arriving
        self._hello = hello
        self._admitted_s = asyncio.get_running_loop().time()
        self.size_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield messages as frames until either end closes, or the server stops."""
        messages = self._face.follow(self._hello, self._upward())
        coming: asyncio.Future[Downward] | None = None
        try:
            while self._face.stays and await self._is_admitted():
                coming = coming or asyncio.ensure_future(anext(messages))
                await asyncio.wait({coming}, timeout=LOOK_S)
                if coming.done():
                    frame = codec.pack(coming.result()).frame
                    coming = None
                    self.size_bytes += len(frame)
                    yield frame
        except (AtollError, StopAsyncIteration):
            return  # What ends a session for the node itself ends it for who follows.
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})
                retrieve(coming)
            with contextlib.suppress(AtollError, ClientDisconnect):
                await messages.aclose()

    async def _upward(self) -> AsyncIterator[Upward]:
        while (payload := await self._arriving.frame()) is not None:
            try:
                message: Upward = codec.UPWARD.unpack(payload)
            except MalformedError:
                return
            yield message

    async def _is_admitted(self) -> bool:
        """Whether the credential still holds; looked at once in a while."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._admitted_s < ADMITTED_S:
            return True
        self._admitted_s = now_s
        return await self._face.is_admitted(self._request)
