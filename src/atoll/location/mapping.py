"""What a reader says to the keeper without asking: what was read lately, and counts.

Each reader has a file of its own, mapped, and holds a lock on it for as long as it lives. The
keeper collects from all of them. What it has collected stands in the file too, so that nothing is
counted twice, and what a reader counted before it was killed is still there to be collected.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import Final

from atoll.core.model import CacheStatus

COUNTED: Final = (CacheStatus.HIT, CacheStatus.MISS, CacheStatus.STALE, CacheStatus.NEGATIVE)
COUNTS: Final = struct.Struct("<4Q")
COLLECTED_AT: Final = COUNTS.size
TABLE_AT: Final = 2 * COUNTS.size
LEFT_MAX: Final = 10_000
"""How many mappings of processes of one number may wait to be collected."""
TABLE_BYTES: Final = 2**16
"""One byte for all keys whose digests begin with the same two bytes."""
SIZE: Final = TABLE_AT + TABLE_BYTES


def slot_of(digest: bytes) -> int:
    """Return where the marks of a key stand."""
    return digest[0] << 8 | digest[1]


class ReaderMapping:
    """A reader's own."""

    def __init__(self, folder: Path) -> None:
        """Make one in `folder`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A process that was killed may have left one under the same number.
        names = (f"{os.getpid()}-{number}" for number in range(LEFT_MAX))
        name = next(name for name in names if not (folder / name).exists())
        making = folder / f".{name}"
        self._file = os.open(making, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.ftruncate(self._file, SIZE)
        self._map = mmap.mmap(self._file, SIZE)
        self._view = memoryview(self._map)
        self._counts = self._view[: COUNTS.size].cast("Q")
        # It has a lock before it has a name by which the keeper finds it.
        making.rename(folder / name)

    def mark(self, digest: bytes) -> None:
        """Mark a key as read."""
        self._map[TABLE_AT + slot_of(digest)] = 1

    def note(self, digest: bytes, status: CacheStatus) -> None:
        """Count an answer, and mark its key as read."""
        self.note_at(slot_of(digest), status)

    def note_at(self, slot: int, status: CacheStatus) -> None:
        """Do as `note` does, given the slot of the key."""
        self._map[TABLE_AT + slot] = 1
        self._counts[COUNTED.index(status)] += 1

    def close(self) -> None:
        """Leave it to the keeper."""
        self._counts.release()
        self._view.release()
        self._map.close()
        os.close(self._file)


class Collector:
    """The keeper's side."""

    def __init__(self, folder: Path) -> None:
        """Collect from `folder`."""
        self._folder = folder
        self._recent = self._before = bytes(TABLE_BYTES)

    def was_read(self, digest: bytes) -> bool:
        """Whether a reader read a key like this between the last two collections, or since."""
        slot = slot_of(digest)
        return bool(self._recent[slot] or self._before[slot])

    def collect(self) -> dict[CacheStatus, int]:
        """Return what was counted since the last time; files of the dead go with it."""
        total = [0, 0, 0, 0]
        table = 0
        for path in self._folder.glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                counts, marks = _taken(path)
                total = [a + b for a, b in zip(total, counts, strict=True)]
                table |= int.from_bytes(marks, "little")
        self._before, self._recent = self._recent, table.to_bytes(TABLE_BYTES, "little")
        return dict(zip(COUNTED, total, strict=True))


def _taken(path: Path) -> tuple[list[int], bytes]:
    """Take what one file holds; it is removed if its reader is dead."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        dead = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            dead = False
        with mmap.mmap(file, SIZE) as held:
            counts = COUNTS.unpack_from(held, 0)
            collected = COUNTS.unpack_from(held, COLLECTED_AT)
            COUNTS.pack_into(held, COLLECTED_AT, *counts)
            marks = held[TABLE_AT:]
            held[TABLE_AT:] = bytes(TABLE_BYTES)
        if dead:
            path.unlink()
    finally:
        os.close(file)
    return [a - b for a, b in zip(counts, collected, strict=True)], marks
