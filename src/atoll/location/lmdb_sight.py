"""How a reader sees the cache on disk that the keeper writes."""

from pathlib import Path
from struct import error as StructError  # noqa: N812 - it is an exception's name
from typing import Final

import lmdb
import msgspec

from atoll.location import codec
from atoll.location.cache import CacheState
from atoll.location.codec import LargeName, digest_of
from atoll.location.current import FORM, Current
from atoll.location.lmdb_cache import (
    DATABASES,
    READERS_MAX,
    STATE_KEY,
    DamagedError,
    LargeFile,
    check_length,
)
from atoll.location.lookup import Seen

UNREADABLE: Final = (lmdb.Error, OSError, StructError, ValueError, DamagedError)
"""What a look at a cache that is gone, damaged or being replaced ends in."""


class LmdbSight:
    """Sees the cache on disk of another process, and follows it from file to file."""

    def __init__(self, folder: Path, *, opens: bool = True) -> None:
        """Look at the cache in `folder`, which need not be there yet.

        Args:
            folder: The cache's own.
            opens: Whether a look opens files by itself. Else it sees nothing when there is
                something to be opened, and never waits for a disk: `prepare` opens.
        """
        self._folder = folder
        self._opens = opens
        self._current: Current | None = None
        self._env: lmdb.Environment | None = None
        self._value = b""
        self.generation = 0
        self._raw: bytes = b""
        self.state = CacheState()

    def look(self, namespace: str, key: str) -> Seen | None:
        """See `Sight`."""
        try:
            return self._look(namespace, key)
        except UNREADABLE:
            self.close()
            return None

    def _look(self, namespace: str, key: str) -> Seen | None:
        if self._opens:
            self.prepare()
        current = self._current
        if current is None or current.is_unlinked():
            return None
        found = self._fetched(digest_of(namespace, key))
        if found is None:
            return None
        is_pinned, raw = found
        record = None
        if raw is not None and not is_pinned:
            *place, held = codec.decode(raw, generation=self.generation, opened=self._large)
            record = held if place == [namespace, key] else None
        return Seen(state=self.state, record=record, is_pinned=is_pinned)

    def raw(self, digest: bytes) -> bytes | None:
        """Return the bytes of a record that is held and not pinned; `state` is of the same moment.

        It neither opens files nor looks at their paths.
        """
        try:
            found = self._fetched(digest)
        except UNREADABLE:
            self.close()
            return None
        return None if found is None or found[0] else found[1]

    def _fetched(self, digest: bytes) -> tuple[bool, bytes | None] | None:
        """Return whether a key is pinned and its record; `None` if another file counts, or none."""
        env, current = self._env, self._current
        if env is None or current is None:
            return None
        look = env.begin(self._records)
        try:
            raw_state: bytes | None = look.get(STATE_KEY, None, self._meta)
            is_pinned = look.get(digest, None, self._pins) is not None
            raw: bytes | None = look.get(digest)
        finally:
            look.abort()
        if current.value != self._value or raw_state is None:
            return None
        if raw_state != self._raw:
            self.state = msgspec.json.decode(raw_state, type=CacheState)
            self._raw = raw_state
        return is_pinned, raw

    def prepare(self) -> None:
        """Open the file that counts, if that is not open already.

        Raises:
            OSError: It cannot be opened, or is being replaced; and so may be the other errors of
                `UNREADABLE`.
        """
        current = self._current
        if (
            current is None
            or self._env is None
            or current.value != self._value
            or not current.is_there()
        ):
            self.close()
            self._open()

    def _open(self) -> None:
        current = self._current = Current.of(self._folder, writable=False)
        self._value = current.value
        self.generation, number = FORM.unpack(self._value)
        path = self._folder / f"cache-{number}.mdb"
        if number == 0 or not path.exists():
            return
        env = lmdb.open(
            str(path),
            subdir=False,
            readonly=True,
            create=False,
            max_dbs=DATABASES,
            max_readers=READERS_MAX,
        )
        try:
            check_length(env, path)
            # Slots of processes that were killed are free again.
            env.reader_check()
            self._records = env.open_db(b"records", create=False)
            self._meta = env.open_db(b"meta", create=False)
            self._pins = env.open_db(b"pins", create=False)
        except UNREADABLE:
            env.close()
            raise
        self._env = env

    def _large(self, large: LargeName) -> LargeFile:
        return LargeFile(self._folder / "large" / large.name, large.size_bytes)

    def close(self) -> None:
        """Let go of the files. The next look opens them again."""
        if self._env is not None:
            self._env.close()
        if self._current is not None:
            self._current.close()
        self._env = self._current = None
        self._raw = b""
