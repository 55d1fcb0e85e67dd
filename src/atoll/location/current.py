"""Which of the cache's files counts: eight bytes that the keeper changes and every reader looks at.

The keeper changes them before it changes anything in another file, so that a reader who still has
the old one open never answers from it what a later write contradicts. Numbers are never used again,
and the file is never replaced: it outlives every cache that is thrown away.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final, Self

NAME: Final = "current"
FORM: Final = struct.Struct("<II")
"""The generation of boots, and the number of the file; 0 for none."""


class Current:
    """The mapping."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Map the file; a writer makes it if it is not there or too short.

        Raises:
            OSError: It cannot be opened.
        """
        self._path = path
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        self._file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            self._map = self._mapped(writable=writable)
        except OSError:
            os.close(self._file)
            raise

    def _mapped(self, *, writable: bool) -> mmap.mmap:
        seen = os.fstat(self._file)
        self._inode = seen.st_dev, seen.st_ino
        if writable and seen.st_size < FORM.size:
            os.ftruncate(self._file, FORM.size)
        elif seen.st_size < FORM.size:
            raise OSError(f"{self._path} is too short")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return mmap.mmap(self._file, FORM.size, access=access)

    @classmethod
    def of(cls, folder: Path, *, writable: bool) -> Self:
        """Map the one of a cache's folder."""
        return cls(folder / NAME, writable=writable)

    @property
    def value(self) -> bytes:
        """The generation and the number as they stand there."""
        return self._map[:]

    @property
    def number(self) -> int:
        """Which file counts."""
        return int(FORM.unpack(self._map)[1])

    def set(self, *, generation: int, number: int) -> None:
        """Say that another file counts from now on."""
        self._map[:] = FORM.pack(generation, number)

    def is_there(self) -> bool:
        """Whether its path still names this file: a folder that was removed is not the cache."""
        try:
            seen = self._path.stat()
        except OSError:
            return False
        return (seen.st_dev, seen.st_ino) == self._inode

    def is_unlinked(self) -> bool:
        """Whether no path names this file any more, as far as that shows without a look at one."""
        return os.fstat(self._file).st_nlink == 0

    def close(self) -> None:
        """Let go of it."""
        self._map.close()
        os.close(self._file)
