"""The journal on disk: one file that is only appended to, synced before anything is answered.

    length   4 bytes   of the payload
    crc32    4 bytes   of the payload
    payload            one change, as MessagePack

Opening replays the changes up to the first that is not whole: what comes behind it was never
answered for. Changes that come while one is being synced are written and synced together. When
little of the file is still of use, it is written anew and put in the old one's place.
"""

import asyncio
import fcntl
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from atoll.core.errors import DiskFullError
from atoll.core.location_errors import JournalFullError
from atoll.location.journal import Journaled, JournalState, Refused, raised

FRAME: Final = struct.Struct("<II")

COMPACT_BYTES_MIN: Final = 2**22
COMPACT_FACTOR: Final = 4
"""The file is written anew when it is larger than this many times what waits."""

# On macOS fsync leaves the data in the drive's cache.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class _State(msgspec.Struct, frozen=True, tag="state"):
    state: JournalState


class _Added(msgspec.Struct, frozen=True, tag="added"):
    entry: Journaled


class _Resolved(msgspec.Struct, frozen=True, tag="resolved"):
    sequence: int
    refused: Refused | None


class _Discarded(msgspec.Struct, frozen=True, tag="discarded"):
    sequence: int


class _Restated(msgspec.Struct, frozen=True, tag="restated"):
    """The beginning of a file that was written anew."""

    last_sequence: int
    refused: tuple[Refused, ...]


_Change = _State | _Added | _Resolved | _Discarded | _Restated

_decoder = msgspec.msgpack.Decoder(_Change)


@dataclass(slots=True, kw_only=True, eq=False)
class _Contents:
    state: JournalState = field(default_factory=JournalState)
    last_sequence: int = 0
    entries: deque[Journaled] = field(default_factory=deque[Journaled])
    refused: list[Refused] = field(default_factory=list[Refused])
    size_bytes: int = 0

    def apply(self, change: _Change) -> None:
        """Become what a change makes of it."""
        match change:
            case _State(state=state):
                self.state = state
            case _Added(entry=entry):
                self.entries.append(entry)
                self.size_bytes += entry.size_bytes
                self.last_sequence = entry.sequence
                self.state = raised(self.state, entry)
            case _Resolved(refused=refused):
                self.size_bytes -= self.entries.popleft().size_bytes
                if refused is not None:
                    self.refused.append(refused)
            case _Discarded(sequence=sequence):
                self.refused = [one for one in self.refused if one.entry.sequence != sequence]
            case _Restated(last_sequence=last_sequence, refused=refused):
                self.last_sequence = last_sequence
                self.refused = list(refused)

    def restated(self) -> Iterator[_Change]:
        """Yield the changes that lead here from nothing."""
        yield _Restated(self.last_sequence, tuple(self.refused))
        for entry in self.entries:
            yield _Added(entry)
        # Behind the entries, whose stamps raise the floor, and may be below it.
        yield _State(self.state)


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    change: _Change
    durable: "asyncio.Future[None]"


class FileJournal:
    """See `Journal`. The caller holds the location's lock."""

    def __init__(self, path: Path, *, size_bytes_max: int) -> None:
        """Open the journal at `path`, or make one.

        Args:
            path: The file.
            size_bytes_max: The bound of what waits.
        """
        self.size_bytes_max = size_bytes_max
        self._path = path
        self._contents = _Contents()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._length = 0
        for change, end in _replayed(path.read_bytes()):
            self._contents.apply(change)
            self._length = end
        os.ftruncate(self._file, self._length)
        _sync(self._file)
        _sync_folder(path.parent)
        # What is asked for and not yet durable: later changes build on it.
        self._state_asked = self._contents.state
        self._sequence_asked = self._contents.last_sequence
        self._bytes_asked = self._contents.size_bytes
        self._queue: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    @property
    def size_bytes(self) -> int:
        """See `Journal`."""
        return self._contents.size_bytes

    @property
    def state(self) -> JournalState:
        """See `Journal`."""
        return self._contents.state

    @property
    def last_sequence(self) -> int:
        """See `Journal`."""
        return self._contents.last_sequence

    @property
    def entries(self) -> Sequence[Journaled]:
        """See `Journal`."""
        return self._contents.entries

    @property
    def refused(self) -> Sequence[Refused]:
        """See `Journal`."""
        return self._contents.refused

    async def update(self, change: Callable[[JournalState], JournalState]) -> None:
        """See `Journal`."""
        self._state_asked = change(self._state_asked)
        await self._make(_State(self._state_asked))

    async def append(self, entry: Journaled) -> Journaled:
        """See `Journal`.

        Raises:
            JournalFullError: As there.
        """
        if self._bytes_asked + entry.size_bytes > self.size_bytes_max:
            raise JournalFullError(size_bytes_max=self.size_bytes_max)
        self._sequence_asked += 1
        self._bytes_asked += entry.size_bytes
        entry = replace(entry, sequence=self._sequence_asked)
        self._state_asked = raised(self._state_asked, entry)
        await self._make(_Added(entry))
        return entry

    async def resolve(self, sequence: int, refused: Refused | None = None) -> None:
        """See `Journal`."""
        assert self.entries[0].sequence == sequence, sequence
        size_bytes = self.entries[0].size_bytes
        await self._make(_Resolved(sequence, refused))
        self._bytes_asked -= size_bytes

    async def discard(self, sequence: int) -> None:
        """See `Journal`."""
        await self._make(_Discarded(sequence))

    async def _make(self, change: _Change) -> None:
        """Wait until a change is durable. It goes on if whoever waits is cancelled."""
        waiting = _Waiting(change=change, durable=asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_queue())
        await asyncio.shield(waiting.durable)

    async def _write_queue(self) -> None:
        """Write what has queued, and what queues meanwhile, each time as one."""
        while self._queue:
            batch = list(self._queue)
            self._queue.clear()
            raw = b"".join(_framed(waiting.change) for waiting in batch)
            try:
                await asyncio.to_thread(self._append_durably, raw)
            except OSError:
                self._fail([*batch, *self._queue])
                return
            self._length += len(raw)
            for waiting in batch:
                self._contents.apply(waiting.change)
                if not waiting.durable.done():
                    waiting.durable.set_result(None)
            if self._length > max(COMPACT_BYTES_MIN, COMPACT_FACTOR * self._contents.size_bytes):
                await self._compact()

    def _fail(self, failed: Sequence[_Waiting]) -> None:
        """Tell everybody, and forget what was asked for: nothing of it was done."""
        self._queue.clear()
        self._state_asked = self._contents.state
        self._sequence_asked = self._contents.last_sequence
        self._bytes_asked = self._contents.size_bytes
        for waiting in failed:
            if not waiting.durable.done():
                waiting.durable.set_exception(DiskFullError())
                waiting.durable.exception()  # Whoever asked may have gone.

    def _append_durably(self, raw: bytes) -> None:
        """Write behind what is there, and sync; take back what could not be made durable."""
        try:
            os.lseek(self._file, self._length, os.SEEK_SET)
            view = memoryview(raw)
            while view:
                view = view[os.write(self._file, view) :]
            _sync(self._file)
        except OSError:
            os.ftruncate(self._file, self._length)
            _sync(self._file)
            raise

    async def _compact(self) -> None:
        """Write the file anew with what is still of use."""
        raw = b"".join(_framed(change) for change in self._contents.restated())
        try:
            file = await asyncio.to_thread(self._replace, raw)
        except OSError:
            return  # There is no room: the old file goes on.
        os.close(self._file)
        self._file = file
        self._length = len(raw)

    def _replace(self, raw: bytes) -> int:
        """Put a new file in the old one's place, and return it open."""
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(file, view) :]
            _sync(file)
            fresh.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError:
            os.close(file)
            raise
        return file


def _framed(change: _Change) -> bytes:
    """Encode a change as it stands in the file."""
    payload = msgspec.msgpack.encode(change)
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _replayed(raw: bytes) -> Iterator[tuple[_Change, int]]:
    """Yield the changes in a file and where each ends, up to the first that is not whole."""
    at = 0
    while at + FRAME.size <= len(raw):
        length, crc = FRAME.unpack_from(raw, at)
        start, at = at + FRAME.size, at + FRAME.size + length
        payload = raw[start:at]
        if len(payload) != length or zlib.crc32(payload) != crc:
            return
        yield _decoder.decode(payload), at


def _sync(file: int) -> None:
    """Wait until what was written is on the disk itself."""
    if _FULL_SYNC is None:
        os.fsync(file)
    else:
        fcntl.fcntl(file, _FULL_SYNC)


def _sync_folder(path: Path) -> None:
    """Wait until names that were changed in a folder are on the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
