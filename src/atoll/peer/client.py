"""An upstream in another process, over HTTP/1.1: connections are kept and used again.

What could not be sent is `UnreachableError(sent=False)`; whatever else goes wrong may have arrived,
and is `UnreachableError(sent=True)`. A write is sent once: its identity makes sending it again
safe, and whether to is for the caller to decide. A connection that was idle and turns out dead is
no answer to a read, which is tried once more on a new one.
"""

import asyncio
import contextlib
import ssl
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from atoll.core.errors import (
    AtollError,
    ForbiddenError,
    MethodNotAllowedError,
    RouteNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from atoll.core.location_errors import NotAdmittedError, UnreachableError
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    LargeValue,
    ListQuery,
    Page,
    Read,
    Reading,
    Written,
)
from atoll.core.session import Downward, Hello, Upward
from atoll.peer import codec
from atoll.peer.codec import LENGTH_BYTES, MalformedError

CONNECT_S: Final = 5.0
IDLE_S: Final = 30.0
"""How long an idle connection is kept: less than servers keep theirs."""
IDLE_MAX: Final = 64
CALLS_MAX: Final = 256
"""How many calls may be under way; others wait."""
HEAD_BYTES_MAX: Final = 65_536
PIECE_BYTES: Final = 2**18
STATUS_OK: Final = 200

REFUSED: Final = (
    UnauthenticatedError,
    ForbiddenError,
    RouteNotFoundError,
    MethodNotAllowedError,
)
"""What is no outcome of a request but says that this node may not make any."""

_Broken: Final = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What a connection that broke, or on which no HTTP came, ends in."""


class SpooledValue:
    """A large value that was received into a file of its own, which goes with it."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        """Read from `file`."""
        self._file = file
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        """See `LargeValue`."""
        return self._size_bytes

    def __del__(self) -> None:
        """Let go of the file."""
        self._file.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        at = 0
        while at < self._size_bytes:
            chunk = await asyncio.to_thread(self._piece, at)
            assert chunk, "the file of a large value is cut short"
            at += len(chunk)
            yield chunk

    def _piece(self, at: int) -> bytes:
        self._file.seek(at)
        return self._file.read(VALUE_INLINE_BYTES_MAX)


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection, for one call at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fresh: bool = True
    idle_since_s: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether nobody has closed it, as far as is known here."""
        return not (self.reader.at_eof() or self.writer.transport.is_closing())

    def abort(self) -> None:
        """Close it at once."""
        self.writer.transport.abort()

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Read a response's head: its status and its headers.

        Raises:
            ValueError: What came is none.
        """
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        version, _, rest = first.partition(b" ")
        if version != b"HTTP/1.1":
            raise ValueError(first)
        pairs = (line.partition(b":") for line in lines)
        return int(rest[:3]), {name.lower(): value.strip() for name, _, value in pairs}

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; the last is empty.

        Raises:
            ValueError: It is larger than any frame.
        """
        size = int((await self.reader.readuntil(b"\r\n"))[:-2].partition(b";")[0], 16)
        if size > codec.FRAME_BYTES_MAX:
            raise ValueError(size)
        return (await self.reader.readexactly(size + 2))[:-2]


class PeerClient:
    """See `Upstream`."""

    def __init__(
        self,
        url: str,
        *,
        credential: str | None = None,
        ca: Path | None = None,
        socket_path: Path | None = None,
        spool_dir: Path | None = None,
    ) -> None:
        """Call the node at `url`; nothing is connected before the first call.

        Args:
            url: Scheme, host and port.
            credential: What the node knows us by.
            ca: The authority that is trusted for TLS, in PEM; by default the system's. A file that
                changed is read anew with the next connection.
            socket_path: A unix socket to connect to instead.
            spool_dir: Where large values wait that are received; by default where the system
                keeps temporary files.
        """
        at = urlsplit(url)
        assert at.hostname is not None, url
        self._host = at.hostname
        self._port = at.port or (443 if at.scheme == "https" else 80)
        self._is_tls = at.scheme == "https"
        self._ca = ca
        self._socket_path = socket_path
        self._spool_dir = spool_dir
        authorization = "" if credential is None else f"authorization: Bearer {credential}\r\n"
        self._fields = f"host: {at.netloc}\r\n{authorization}".encode("latin-1")
        self._idle: deque[_Connection] = deque()
        self._calls = asyncio.Semaphore(CALLS_MAX)

    async def close(self) -> None:
        """End the connections that nobody uses."""
        self._end_idle()

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        packed = codec.pack(request)
        reading: Reading = await self._call(b"read", packed.frame, codec.READING, again=True)
        return reading

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        packed = codec.pack(request)
        readings: Sequence[Reading] = await self._call(
            b"read_many", packed.frame, codec.READINGS, again=True
        )
        return readings

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        written: Written = await self._call(
            b"write", codec.pack(batch).frame, codec.WRITTEN, again=False
        )
        return written

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`."""
        page: Page = await self._call(b"list", codec.pack(query).frame, codec.PAGE, again=True)
        return page

    async def plain(self, method: str, target: bytes) -> tuple[int, bytes, bytes]:
        """Make a request that is not of the peer protocol, without a body.

        Returns:
            The status, the type of the answer's content, and the content.

        Raises:
            UnreachableError: There is no answer, or one larger than any frame.
        """
        async with self._calls:
            connection = await self._opened()
            try:
                head = method.encode() + b" " + target
                connection.writer.write(head + b" HTTP/1.1\r\n" + self._fields + b"\r\n")
                await connection.writer.drain()
                status, headers = await connection.head()
                size = int(headers[b"content-length"])
                if size > codec.FRAME_BYTES_MAX:
                    raise UnreachableError(sent=True)
                body = await connection.reader.readexactly(size)
                return status, headers.get(b"content-type", b""), body
            except (*_Broken, KeyError) as error:
                raise UnreachableError(sent=True) from error
            finally:
                connection.abort()

    # One call.

    async def _call(self, verb: bytes, body: bytes, form: codec.Form, *, again: bool) -> Any:  # noqa: ANN401 - what the form decodes
        """Send a request and return the answer.

        Args:
            verb: What is asked.
            body: The request's frame.
            form: What the answer is.
            again: Whether it may be sent a second time.

        Raises:
            UnreachableError: There is no answer.
            AtollError: The answer is one.
        """
        async with self._calls:
            connection = await self._connected()
            try:
                return await self._exchange(connection, verb, body, form)
            except UnreachableError:
                if connection.fresh or not again:
                    raise
            return await self._exchange(await self._opened(), verb, body, form)

    async def _exchange(
        self, connection: _Connection, verb: bytes, body: bytes, form: codec.Form
    ) -> Any:  # noqa: ANN401 - what the form decodes
        answered = kept = False
        try:
            connection.writer.write(
                b"POST %b%b HTTP/1.1\r\n%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
                % (codec.PREFIX, verb, self._fields, codec.CONTENT_TYPE, len(body), body)
            )
            await connection.writer.drain()
            status, headers = await connection.head()
            size = int(headers[b"content-length"])
            payload = await _frame(connection.reader, min(size, codec.FRAME_BYTES_MAX))
            answered = True
            if status != STATUS_OK:
                kept = b"close" not in headers.get(b"connection", b"")
                raise _told(payload)
            lowered = form.lowered(payload)
            if size != LENGTH_BYTES + len(payload) + sum(form.larges(lowered)):
                raise ValueError(size)
            large = [
                await _spooled(connection.reader, one, self._spool_dir)
                for one in form.larges(lowered)
            ]
            answer = form.raised(lowered, large)
            kept = b"close" not in headers.get(b"connection", b"")
        except (*_Broken, KeyError, MalformedError) as error:
            raise UnreachableError(sent=True) from error
        finally:
            # Also when the caller gave up: an answer that is still to come is nobody's.
            if kept:
                self._keep(connection)
            else:
                connection.abort()
            if not answered:
                # What swallowed this one has swallowed the others too; to find that out of each
                # would take a time limit each.
                self._end_idle()
        return answer

    # Connections.

    async def _connected(self) -> _Connection:
        """Return a connection: the one used last, if it is still good."""
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now_s - connection.idle_since_s < IDLE_S:
                connection.fresh = False
                return connection
            connection.abort()
        return await self._opened()

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def _keep(self, connection: _Connection) -> None:
        connection.idle_since_s = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if len(self._idle) > IDLE_MAX:
            self._idle.popleft().abort()

    async def _opened(self) -> _Connection:
        """Connect.

        Raises:
            UnreachableError: That did not work; nothing was sent.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                if self._socket_path is not None:
                    pair = await asyncio.open_unix_connection(
                        self._socket_path, limit=HEAD_BYTES_MAX
                    )
                else:
                    trusted = await asyncio.to_thread(self._trusted) if self._is_tls else None
                    pair = await asyncio.open_connection(
                        self._host, self._port, ssl=trusted, limit=HEAD_BYTES_MAX
                    )
        except (OSError, TimeoutError) as error:
            raise UnreachableError(sent=False) from error
        return _Connection(*pair)

    def _trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca)

    # The session.

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncGenerator[Downward]:
        """See `Upstream`. One request goes up for as long as its answer comes down.

        Raises:
            UnreachableError: There is no session, or no more.
        """
        connection = await self._opened()
        sending: asyncio.Task[None] | None = None
        try:
            connection.writer.write(
                b"POST %bfollow HTTP/1.1\r\n%bcontent-type: %b\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
                % (codec.PREFIX, self._fields, codec.CONTENT_TYPE)
            )
            _write_chunk(connection.writer, codec.pack(hello).frame)
            await connection.writer.drain()
            sending = asyncio.create_task(_send_up(connection.writer, upward))
            status, headers = await connection.head()
            if status != STATUS_OK:
                size = int(headers[b"content-length"])
                error = _told(await _frame(connection.reader, size))
                raise error if isinstance(error, UnavailableError) else UnreachableError(sent=True)
            pending = bytearray()
            while chunk := await connection.chunk():
                pending += chunk
                for payload in taken_frames(pending):
                    message: Downward = codec.DOWNWARD.unpack(payload)
                    yield message
        except (*_Broken, KeyError, MalformedError) as error:
            raise UnreachableError(sent=True) from error
        finally:
            connection.abort()
            if sending is not None:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending


def _told(payload: bytes) -> AtollError:
    """Return the error that a node told; one about us is no answer to what was asked."""
    error = codec.unpack_error(payload)
    if isinstance(error, REFUSED):
        return NotAdmittedError(reason=str(error))
    return error


def taken_frames(pending: bytearray) -> list[bytes]:
    """Take the whole frames out of what has come of a session so far.

    Raises:
        MalformedError: A frame is longer than a message may be.
    """
    taken: list[bytes] = []
    while len(pending) >= LENGTH_BYTES:
        size = int.from_bytes(pending[:LENGTH_BYTES], "big")
        if size > codec.MESSAGE_BYTES_MAX:
            raise MalformedError(detail=f"a message of {size} bytes")
        if len(pending) < LENGTH_BYTES + size:
            break
        taken.append(bytes(pending[LENGTH_BYTES : LENGTH_BYTES + size]))
        del pending[: LENGTH_BYTES + size]
    return taken


async def _send_up(writer: asyncio.StreamWriter, upward: AsyncIterator[Upward]) -> None:
    """Send what goes up, as it comes."""
    async for message in upward:
        _write_chunk(writer, codec.pack(message).frame)
        await writer.drain()
    writer.write(b"0\r\n\r\n")


def _write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _frame(reader: asyncio.StreamReader, size_max: int) -> bytes:
    """Read a frame's payload.

    Raises:
        ValueError: It is longer than the body that it stands in.
    """
    size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if size > size_max - LENGTH_BYTES:
        raise ValueError(size)
    return await reader.readexactly(size)


def _opened_file(folder: Path | None) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


async def _spooled(
    reader: asyncio.StreamReader, size_bytes: int, folder: Path | None
) -> LargeValue:
    """Receive a large value into a file, which nobody else sees and which goes with it."""
    file = await asyncio.to_thread(_opened_file, folder)
    value = SpooledValue(file, size_bytes)
    left = size_bytes
    while left:
        piece = await reader.read(min(left, PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        await asyncio.to_thread(file.write, piece)
        left -= len(piece)
    return value
