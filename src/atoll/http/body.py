"""Reading the bodies of requests, so that neither size nor slowness of one harms the others.

A body of up to a mebibyte stays in memory. A larger one waits in a temporary file until it has
arrived whole, and is then loaded when the memory set aside for large bodies has room for it: so
a slow sender holds no memory, and many large bodies take turns. What exceeds the limit of its
endpoint is read on and thrown away up to a second limit, because most clients only look at the
answer after they have sent everything.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from starlette.requests import ClientDisconnect

from atoll.core.errors import (
    AtollError,
    BodyTooLargeError,
    DiskFullError,
    ValueTooLargeError,
)
from atoll.core.limits import MIB, Limits
from atoll.http.exchange import Request
from atoll.http.form import Form, FormParser

IN_MEMORY_BYTES_MAX: Final = MIB
"""Larger bodies are spooled to a file."""

LOADED_BYTES_MAX: Final = 128 * MIB
"""How much memory all large bodies take together, decoding included; one is always let in."""

SPOOLING_MAX: Final = 64
"""How many large bodies may be arriving at once; further ones wait unread."""

FORM_OVERHEAD_BYTES_MAX: Final = MIB
"""What a form may hold besides its value."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SpoolFile(Protocol):
    """What is needed of an unbuffered temporary file; it is gone when closed."""

    def write(self, data: memoryview, /) -> int:
        """Append, and return how much of it was taken."""
        ...

    def seek(self, offset: int, /) -> int:
        """Move."""
        ...

    def read(self) -> bytes:
        """Read from here to the end."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class MemoryBudget:
    """Lets large bodies into memory in the order in which they ask."""

    def __init__(self, bytes_max: int) -> None:
        """Share out `bytes_max`; what alone is larger is let in when nothing else is."""
        self._bytes_max = bytes_max
        self._used_bytes = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def acquire(self, size_bytes: int) -> None:
        """Wait until there is room, and take it."""
        async with self._turn:
            while self._used_bytes and self._used_bytes + size_bytes > self._bytes_max:
                self._freed.clear()
                await self._freed.wait()
            self._used_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self._used_bytes -= size_bytes
        self._freed.set()


class Spool:
    """Bytes that arrive piece by piece: in memory at first, in a file once they are many."""

    __slots__ = (
        "_budget",
        "_file",
        "_held_bytes",
        "_open",
        "_pieces",
        "_waiting_bytes",
        "size_bytes",
    )

    def __init__(self, open_file: Callable[[], SpoolFile], budget: MemoryBudget) -> None:
        """Begin empty."""
        self._open = open_file
        self._budget = budget
        self._file: SpoolFile | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._held_bytes = 0
        self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        self.size_bytes += len(piece)

    async def settle(self) -> None:
        """Move what has piled up in memory to the file, if that is much.

        Raises:
            DiskFullError: There is no room for it.
        """
        if self._waiting_bytes > IN_MEMORY_BYTES_MAX:
            await self._flush()

    async def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        try:
            if self._file is None:
                self._file = await asyncio.to_thread(self._open)
            await asyncio.to_thread(_append, self._file, data)
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFullError from error
            raise

    async def load(self, memory_factor: int = 1) -> bytes:
        """Return the whole, waiting for memory if it is large.

        Args:
            memory_factor: How many times its size it will take, decoded forms included.

        Raises:
            DiskFullError: There is no room for what had not been written yet.
        """
        if self._file is None:
            return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if self._pieces:
            await self._flush()
        size_bytes = self.size_bytes * memory_factor
        await self._budget.acquire(size_bytes)
        self._held_bytes = size_bytes
        return await asyncio.to_thread(_read_all, self._file)

    def close(self) -> None:
        """Give back memory and file. Whoever still holds the bytes may go on using them."""
        self._pieces.clear()
        if self._held_bytes:
            self._budget.release(self._held_bytes)
            self._held_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get(b"content-length", b"")
    return int(announced) if announced.isdigit() else 0


def _append(file: SpoolFile, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # A file that is almost full takes a part, and then fails.
        rest = rest[file.write(rest) :]


def _read_all(file: SpoolFile) -> bytes:
    file.seek(0)
    return file.read()


class Bodies:
    """Reads the bodies of one node's requests."""

    def __init__(self, limits: Limits, open_file: Callable[[], SpoolFile]) -> None:
        """Spool to what `open_file` opens."""
        self._limits = limits
        self._open = open_file
        self._budget = MemoryBudget(LOADED_BYTES_MAX)
        self._spooling = asyncio.Semaphore(SPOOLING_MAX)

    @asynccontextmanager
    async def whole(
        self, request: Request, *, bytes_max: int, memory_factor: int = 1
    ) -> AsyncGenerator[bytes]:
        """Have the body in memory.

        Args:
            request: Whose body.
            bytes_max: How large it may be.
            memory_factor: How many times its size it will take, decoded forms included.

        Raises:
            BodyTooLargeError: It exceeds `bytes_max`.
            DiskFullError: There is no room to spool it.
        """
        spool = Spool(self._open, self._budget)
        try:
            await self._collect(
                request, spool, bytes_max, lambda _: BodyTooLargeError(size_bytes_max=bytes_max)
            )
            yield await spool.load(memory_factor)
        finally:
            spool.close()

    async def small_value(self, request: Request) -> bytes | None:
        """Return a value that is the whole body, if it came in one piece that memory may keep.

        Returns:
            `None` when it did not; `value` then goes on from here.
        """
        bytes_max = min(IN_MEMORY_BYTES_MAX, self._limits.value_bytes_max)
        if _announced_bytes(request) > bytes_max:
            return None
        piece, more = await self._receive(request)
        if not more and len(piece) <= bytes_max:
            return piece
        request.first_piece = piece, more
        return None

    @asynccontextmanager
    async def value(self, request: Request) -> AsyncGenerator[bytes]:
        """Have a value in memory that is the whole body.

        Raises:
            DiskFullError: There is no room to spool it.
            ValueTooLargeError: It exceeds the limit of values.
        """
        bytes_max = self._limits.value_bytes_max
        spool = Spool(self._open, self._budget)
        try:
            await self._collect(
                request,
                spool,
                bytes_max,
                lambda size: ValueTooLargeError(size_bytes=size, size_bytes_max=bytes_max),
            )
            yield await spool.load()
        finally:
            spool.close()

    @asynccontextmanager
    async def form(self, request: Request, boundary: bytes | None) -> AsyncGenerator[Form]:
        """Have the parts `value` and `metadata` of a multipart form in memory.

        Raises:
            BodyInvalidError: It is not a form, ends too early, or has no part `value`.
            ValueTooLargeError: The value exceeds the limit of values.
            BodyTooLargeError: It exceeds that limit by far.
            MetadataTooLargeError: The metadata exceeds every bound.
            DiskFullError: There is no room to spool it.
        """
        spool = Spool(self._open, self._budget)
        value_bytes_max = self._limits.value_bytes_max
        parser = FormParser(
            boundary,
            value_sink=spool.add,
            value_bytes_max=value_bytes_max,
            metadata_bytes_max=self._limits.metadata_bytes_max,
        )
        try:
            await self._parse(request, spool, parser, value_bytes_max + FORM_OVERHEAD_BYTES_MAX)
            metadata = parser.finish()
            yield Form(value=await spool.load(), metadata=metadata)
        finally:
            spool.close()

    async def _collect(
        self,
        request: Request,
        spool: Spool,
        bytes_max: int,
        too_large: Callable[[int], AtollError],
    ) -> None:
        """Read a whole body into `spool`, or make the error from the size that it has."""
        await self._refuse_announced(request, bytes_max, too_large)
        piece, more = await self._receive(request)
        spool.add(piece)
        if more:
            async with self._spooling:
                while more and spool.size_bytes <= bytes_max:
                    await spool.settle()
                    piece, more = await self._receive(request)
                    spool.add(piece)
        if spool.size_bytes > bytes_max:
            spool.close()
            await self.discard(request)
            raise too_large(request.body_bytes)

    async def _parse(
        self, request: Request, spool: Spool, parser: FormParser, bytes_max: int
    ) -> None:
        """Feed a whole body to `parser`."""

        def too_large(_size: int) -> AtollError:
            return BodyTooLargeError(size_bytes_max=bytes_max)

        await self._refuse_announced(request, bytes_max, too_large)
        more = True
        async with self._spooling:
            while more:
                piece, more = await self._receive(request)
                try:
                    if request.body_bytes > bytes_max:
                        raise too_large(request.body_bytes)
                    parser.feed(piece)
                    await spool.settle()
                except AtollError:
                    spool.close()
                    await self.discard(request)
                    raise

    async def _refuse_announced(
        self, request: Request, bytes_max: int, too_large: Callable[[int], AtollError]
    ) -> None:
        """Refuse a body by the length that it announces, before anything of it is kept."""
        announced_bytes = _announced_bytes(request)
        if announced_bytes > bytes_max:
            # A client that asks before it sends has not sent anything, and will not.
            if request.headers.get(b"expect", b"").lower() != b"100-continue":
                await self.discard(request)
            raise too_large(announced_bytes)

    async def discard(self, request: Request) -> None:
        """Read the body on without keeping it, so that the client gets to see the answer."""
        request.first_piece = None
        while request.more_body and request.body_bytes <= self._limits.discard_bytes_max:
            await self._receive(request)
        request.abandoned = request.more_body

    async def _receive(self, request: Request) -> tuple[bytes, bool]:
        """Return the next piece of the body, and whether more will come."""
        first = request.first_piece
        if first is not None:
            request.first_piece = None
            return first
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        piece: bytes = message["body"]
        request.body_bytes += len(piece)
        request.more_body = message["more_body"]
        return piece, request.more_body
