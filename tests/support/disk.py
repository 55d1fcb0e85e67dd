"""Disks that fail: one that forgets what was not synchronised, one that is full.

Each is a file system of SQLite's, registered with apsw under a name, over the real one.
"""

# apsw's own annotations name a type that Python 3.11 does not have, so that half of it is unknown.
# pyright: reportUnknownMemberType=false

import random
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw

SECTOR_BYTES: Final = 512


@dataclass
class _File:
    """What of a file is on the platter, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list[tuple[int, bytes | None]])
    """Offset and bytes of each write; `None` for a truncation to the offset."""


class LossyDisk:
    """Remembers what is on the platter: what was written and synchronised.

    A power failure leaves that, and of each later write all, nothing, or some sectors from its
    beginning, one independently of the other.
    """

    def __init__(self) -> None:
        """Begin with no files."""
        self.checkpoints = 0
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def write(self, path: str, offset: int, content: bytes | None) -> None:
        """Hear of a write or a truncation."""
        with self._lock:
            self._files.setdefault(path, _File()).pending.append((offset, content))

    def sync(self, path: str) -> None:
        """Put what was written to a file on the platter."""
        with self._lock:
            file = self._files.setdefault(path, _File())
            for offset, content in file.pending:
                _apply(file.durable, offset, content)
            file.pending.clear()
            self.checkpoints += path.endswith(".db")

    def delete(self, path: str) -> None:
        """Hear of a file's end."""
        with self._lock:
            self._files.pop(path, None)

    def pull_the_plug(self, rng: random.Random, target: Path) -> None:
        """Write the files to the folder `target` as they are found when the power is back."""
        with self._lock:
            for path, file in self._files.items():
                content = bytearray(file.durable)
                for offset, written in file.pending:
                    fate = rng.choice(["kept", "lost", "torn"])
                    if fate == "torn" and written is not None:
                        sectors = rng.randint(0, len(written) // SECTOR_BYTES)
                        _apply(content, offset, written[: sectors * SECTOR_BYTES])
                    elif fate == "kept":
                        _apply(content, offset, written)
                (target / Path(path).name).write_bytes(content)


def _apply(content: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(written)] = written


class _LossyFile(apsw.VFSFile):
    """A file that tells the disk what happens to it, and never waits for the real one."""

    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], disk: LossyDisk
    ) -> None:
        super().__init__("", name, flags)
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, and tell."""
        super().xWrite(data, offset)
        self._disk.write(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Truncate, and tell."""
        super().xTruncate(newsize)
        self._disk.write(self._path, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Tell."""
        del flags
        self._disk.sync(self._path)


class _LossyVFS(apsw.VFS):
    def __init__(self, name: str, disk: LossyDisk) -> None:
        super().__init__(name, base="")
        self._disk = disk

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file that tells."""
        return _LossyFile(name, flags, self._disk)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's
        """Delete, and tell."""
        super().xDelete(filename, syncdir)
        self._disk.delete(filename)


@contextmanager
def lossy_disk(name: str) -> Generator[LossyDisk]:
    """Register a disk that forgets under `name`."""
    disk = LossyDisk()
    vfs = _LossyVFS(name, disk)
    try:
        yield disk
    finally:
        vfs.unregister()


class SmallDisk:
    """Says how much room there is; `None` is any amount."""

    def __init__(self) -> None:
        """Begin with plenty."""
        self.room_bytes: int | None = None
        self.refused = 0

    def grow(self, size_bytes: int) -> None:
        """Take room.

        Raises:
            apsw.FullError: There is not so much.
        """
        if self.room_bytes is None:
            return
        if size_bytes > self.room_bytes:
            self.refused += 1
            raise apsw.FullError
        self.room_bytes -= size_bytes


class _SmallFile(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], disk: SmallDisk
    ) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write if there is room."""
        self._disk.grow(max(0, offset + len(data) - self.xFileSize()))
        super().xWrite(data, offset)


class _SmallVFS(apsw.VFS):
    def __init__(self, name: str, disk: SmallDisk) -> None:
        super().__init__(name, base="")
        self._disk = disk

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file that takes room."""
        return _SmallFile(name, flags, self._disk)


@contextmanager
def small_disk(name: str) -> Generator[SmallDisk]:
    """Register a disk that can be full under `name`."""
    disk = SmallDisk()
    vfs = _SmallVFS(name, disk)
    try:
        yield disk
    finally:
        vfs.unregister()


class UnsoundDisk:
    """Cannot synchronise while it is `broken`."""

    def __init__(self) -> None:
        """Begin sound."""
        self.broken = False


class _UnsoundFile(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], disk: UnsoundDisk
    ) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Fail, or synchronise."""
        if self._disk.broken:
            raise apsw.IOError
        super().xSync(flags)


class _UnsoundVFS(apsw.VFS):
    def __init__(self, name: str, disk: UnsoundDisk) -> None:
        super().__init__(name, base="")
        self._disk = disk

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file that may fail."""
        return _UnsoundFile(name, flags, self._disk)


@contextmanager
def unsound_disk(name: str) -> Generator[UnsoundDisk]:
    """Register a disk that can break under `name`."""
    disk = UnsoundDisk()
    vfs = _UnsoundVFS(name, disk)
    try:
        yield disk
    finally:
        vfs.unregister()
