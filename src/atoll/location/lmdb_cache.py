"""The cache on disk, in LMDB: written by the keeper, read by every process of the location.

A folder holds `cache-N.mdb`, of which the largest N counts, `large/` with one file for each large
value, and `opened`, which says under which boot of the machine the cache was opened and whether it
was closed. Nothing is synced: after the death of a process the kernel still has all of it, and
after a boot without a clean close the cache is thrown away, because LMDB would not notice a page
that never reached the disk.

A reader that was stopped inside a transaction keeps freed pages from being used again until the
map is full. What lives is then copied to `cache-N+1.mdb`, and readers follow.
"""

import asyncio
import contextlib
import os
import shutil
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from atoll.core.errors import DiskFullError
from atoll.core.model import VALUE_INLINE_BYTES_MAX, LargeValue
from atoll.location import codec
from atoll.location.age import Record
from atoll.location.cache import CacheLostError, CacheState
from atoll.location.codec import LargeName, digest_of
from atoll.location.current import Current

MAP_FACTOR: Final = 2
"""The map is larger than the bound, for pages that a reader still looks at."""
MAP_BYTES_MIN: Final = 2**23

DATABASES: Final = 4

READERS_MAX: Final = 256
READ_LATELY_MAX: Final = 100_000
"""How many keys are remembered as read; twice as many, in two halves."""
UNREAD_PAGE: Final = 64

WRITE_ATTEMPTS: Final = 3
"""The first, one behind dead readers, one in a file of its own."""

STATE_KEY: Final = b"state"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Under which boot the cache was opened."""

    boot: str
    generation: int
    """Counts the boots; an instant from another one says nothing."""
    opens: int
    """Counts the times it was opened, so that files of large values have names of their own."""
    clean: bool
    """Whether it was closed since."""


class LargeFile:
    """A large value in a file, open for as long as somebody has this."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Open the file, so that it stays readable when it is unlinked."""
        self.path = path
        self._size_bytes = size_bytes
        self._file = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        """Close the file."""
        file = getattr(self, "_file", None)
        if file is not None:
            os.close(file)

    @property
    def size_bytes(self) -> int:
        """See `LargeValue`."""
        return self._size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        at = 0
        while at < self._size_bytes:
            chunk = await asyncio.to_thread(os.pread, self._file, VALUE_INLINE_BYTES_MAX, at)
            assert chunk, self.path
            at += len(chunk)
            yield chunk


class LmdbCache:
    """See `Cache`."""

    def __init__(self, folder: Path, *, boot: str, size_bytes_max: int) -> None:
        """Open what is in `folder`, or begin anew if it cannot be trusted.

        Args:
            folder: The cache's own. The caller holds the location's lock.
            boot: Names the boot of the machine.
            size_bytes_max: The bound of what it holds.
        """
        self.size_bytes_max = size_bytes_max
        self._folder = folder
        self._read_lately: set[bytes] = set()
        self._read_before: set[bytes] = set()
        self._hand = b""
        self._files = 0
        self.read_elsewhere: Callable[[bytes], bool] = lambda _: False
        """Whether another process read what is found by a digest lately."""
        self._pinned: set[bytes] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._current = Current.of(folder, writable=True)
        numbers = _numbers(folder)
        # A number that readers may have open is never used for another file.
        self._number = max(self._current.number, *numbers, 0)
        before = _opened_before(folder)
        same_boot = before is not None and before.boot == boot
        usable = before is not None and (same_boot or before.clean)
        if not usable or self._number not in numbers:
            self._throw_away()
        self._opened = Opened(
            boot=boot,
            generation=before.generation + (not same_boot) if before is not None else 1,
            opens=before.opens + 1 if before is not None else 1,
            clean=False,
        )
        _write_durably(folder / "opened", msgspec.json.encode(self._opened))
        (folder / "large").mkdir(mode=0o700, exist_ok=True)
        try:
            self._open()
        except (lmdb.Error, OSError, ValueError, DamagedError):
            self._throw_away()
            (folder / "large").mkdir(mode=0o700, exist_ok=True)
            self._open()
        self._remove_strays()

    def _throw_away(self) -> None:
        """Let readers know that no file counts, remove them all, and go on with the next."""
        self._number += 1
        self._current.set(generation=0, number=0)
        _remove([*self._folder.glob("cache-*")])
        shutil.rmtree(self._folder / "large", ignore_errors=True)

    def _open(self) -> None:
        self._current.set(generation=self._opened.generation, number=self._number)
        self._env = lmdb.open(
            str(_file(self._folder, self._number)),
            subdir=False,
            map_size=max(MAP_BYTES_MIN, MAP_FACTOR * self.size_bytes_max),
            mode=0o600,
            max_dbs=DATABASES,
            max_readers=READERS_MAX,
            sync=False,
            metasync=False,
        )
        try:
            check_length(self._env, _file(self._folder, self._number))
            self._open_databases()
        except (lmdb.Error, ValueError, DamagedError):
            self._env.close()
            raise

    def _open_databases(self) -> None:
        self._env.reader_check()
        self._records = self._env.open_db(b"records")
        self._meta = self._env.open_db(b"meta")
        self._large_names = self._env.open_db(b"large")
        self._pins = self._env.open_db(b"pins")
        with self._env.begin(db=self._large_names) as look:
            self._large_held = {bytes(name).decode(): int(size) for name, size in look.cursor()}

    def _remove_strays(self) -> None:
        """Remove files that an earlier process left and nothing names."""
        with self._env.begin(db=self._large_names) as look:
            for path in (self._folder / "large").iterdir():
                if look.get(path.name.encode()) is None:
                    path.unlink()
        for number in _numbers(self._folder):
            if number != self._number:
                self._unlink(f"cache-{number}.mdb", f"cache-{number}.mdb-lock")

    def close(self) -> None:
        """Close it, so that it is trusted after a boot of the machine as well."""
        self._env.sync(True)  # noqa: FBT003 - the library takes it by position alone
        self._env.close()
        self._current.close()
        clean = msgspec.structs.replace(self._opened, clean=True)
        _write_durably(self._folder / "opened", msgspec.json.encode(clean))

    @property
    def size_bytes(self) -> int:
        """See `Cache`."""
        with self._env.begin() as look:
            stat = look.stat(self._records)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * stat["psize"] + sum(self._large_held.values())

    @property
    def entries(self) -> int:
        """See `Cache`."""
        with self._env.begin() as look:
            return int(look.stat(self._records)["entries"])

    def load(self) -> CacheState | None:
        """See `Cache`."""
        with self._env.begin(db=self._meta) as look:
            raw = look.get(STATE_KEY)
        return None if raw is None else msgspec.json.decode(raw, type=CacheState)

    def save(self, state: CacheState) -> None:
        """See `Cache`."""
        raw = msgspec.json.encode(state)
        self._write(lambda change: change.put(STATE_KEY, raw, db=self._meta))

    def get(self, namespace: str, key: str) -> Record | None:
        """See `Cache`.

        Raises:
            CacheLostError: The files are not what they were: a page, or the file of a value.
        """
        digest = digest_of(namespace, key)
        try:
            raw = self.raw(digest)
            if raw is None:
                return None
            found = codec.decode(raw, generation=self.generation, opened=self._large)
        except (lmdb.Error, OSError, struct.error, UnicodeDecodeError) as error:
            self._start_empty()
            raise CacheLostError from error
        return found[2] if found[:2] == (namespace, key) else None

    @property
    def generation(self) -> int:
        """The present generation of boots."""
        return self._opened.generation

    def raw(self, digest: bytes) -> bytes | None:
        """Return the bytes of a record, and note that it was read.

        Raises:
            lmdb.Error: The file is not what it was.
        """
        look = self._env.begin(self._records)
        try:
            raw = look.get(digest)
        finally:
            look.abort()
        if raw is not None:
            self._read_lately.add(digest)
            if len(self._read_lately) > READ_LATELY_MAX:
                self._read_before, self._read_lately = self._read_lately, set()
        return raw

    def put(self, namespace: str, key: str, record: Record) -> None:
        """See `Cache`."""
        value = None if record.entry is None else record.entry.value
        large: LargeName | None = None
        if isinstance(value, LargeFile):
            large = LargeName(name=value.path.name, size_bytes=value.size_bytes)
        assert large is not None or value is None or isinstance(value, bytes)
        raw = codec.encode(namespace, key, record, generation=self._opened.generation, large=large)
        self._write(lambda change: self._replace(change, digest_of(namespace, key), raw))

    def remove(self, namespace: str, key: str) -> None:
        """See `Cache`."""
        self._write(lambda change: self._replace(change, digest_of(namespace, key), None))

    def _replace(self, change: lmdb.Transaction, digest: bytes, raw: bytes | None) -> None:
        """Put or remove a record, and keep account of the files of large values."""
        held = change.get(digest, db=self._records)
        before = codec.large_of(None if held is None else bytes(held))
        after = codec.large_of(raw)
        if raw is None:
            change.delete(digest, db=self._records)
        else:
            change.put(digest, raw, db=self._records)
        if before == after:
            return
        if after is not None:
            size = b"%d" % after.size_bytes
            change.put(after.name.encode(), size, db=self._large_names)
            self._large_held[after.name] = after.size_bytes
        if before is not None:
            change.delete(before.name.encode(), db=self._large_names)
            self._large_held.pop(before.name, None)
            self._unlink(f"large/{before.name}")

    def _write(self, make: Callable[[lmdb.Transaction], object]) -> None:
        """Make a change in a transaction of its own.

        Raises:
            CacheLostError: It could not be made, so that what is held would be out of date.
        """
        for attempt in range(WRITE_ATTEMPTS):
            try:
                with self._env.begin(write=True) as change:
                    make(change)
            except lmdb.MapFullError:
                # Readers that died hold pages no longer once they are cleared away; one that was
                # stopped holds them for ever, so the living move to another file.
                if attempt == 0:
                    self._env.reader_check()
                elif not self._move():
                    break
            except lmdb.Error:
                break
            else:
                return
        self._start_empty()
        raise CacheLostError

    def _move(self) -> bool:
        """Copy what lives to the next file, and say whether that went well."""
        target = _file(self._folder, self._number + 1)
        copying = str(target) + ".copying"
        try:
            self._env.copy(copying, compact=True)
        except lmdb.Error:
            self._unlink(Path(copying).name)
            return False
        os.rename(copying, target)  # noqa: PTH104 - which tests watch as if it could block
        self._current.set(generation=self._opened.generation, number=self._number + 1)
        self._env.close()
        self._unlink(f"cache-{self._number}.mdb", f"cache-{self._number}.mdb-lock")
        self._number += 1
        self._open()
        return True

    def _start_empty(self) -> None:
        """Leave the present file and begin another, of which readers know the pins at once."""
        self._current.set(generation=0, number=0)
        self._env.close()
        self._unlink(f"cache-{self._number}.mdb", f"cache-{self._number}.mdb-lock")
        self._unlink(*(f"large/{name}" for name in self._large_held))
        self._number += 1
        self._open()
        with self._env.begin(write=True) as change:
            self._put_pins(change, self._pinned)

    def pin_only(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        self._pinned = {digest_of(*place) for place in places}

        def make(change: lmdb.Transaction) -> None:
            change.drop(self._pins, delete=False)
            self._put_pins(change, self._pinned)

        self._write(make)

    def pin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        digests = {digest_of(*place) for place in places}
        self._pinned |= digests
        self._write(lambda change: self._put_pins(change, digests))

    def unpin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        digests = {digest_of(*place) for place in places}
        self._pinned -= digests

        def make(change: lmdb.Transaction) -> None:
            for digest in digests:
                change.delete(digest, db=self._pins)

        self._write(make)

    def _put_pins(self, change: lmdb.Transaction, digests: Iterable[bytes]) -> None:
        for digest in digests:
            change.put(digest, b"1", db=self._pins)

    def clear(self) -> None:
        """See `Cache`."""
        self._unlink(*(f"large/{name}" for name in self._large_held))
        self._write(self._drop_all)
        self._large_held.clear()

    def _drop_all(self, change: lmdb.Transaction) -> None:
        for database in (self._records, self._meta, self._large_names):
            change.drop(database, delete=False)

    def _unlink(self, *names: str) -> None:
        """Remove files, beside the loop where there is one. What is left over is a stray."""
        paths = [self._folder / name for name in names]
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _remove(paths)
        else:
            loop.run_in_executor(None, _remove, paths)

    def unread(self) -> Iterator[tuple[str, str]]:
        """See `Cache`. A hand goes round the digests, and passes over what was read lately."""
        for sparing in (True, False):  # Once sparing what was read lately, once not.
            passed_end = False
            while not passed_end:
                page: list[tuple[bytes, tuple[str, str]]] = []
                with self._env.begin(db=self._records) as look:
                    cursor = look.cursor(self._records)
                    found = cursor.set_range(self._hand)
                    while found and len(page) < UNREAD_PAGE:
                        page.append((cursor.key(), codec.place_of(cursor.value())))
                        found = cursor.next()
                    self._hand = cursor.key() if found else b""
                    passed_end = not found
                for digest, place in page:
                    here = digest in self._read_lately or digest in self._read_before
                    if not here and not (sparing and self.read_elsewhere(digest)):
                        yield place
            self._read_before, self._read_lately = set(), set()

    async def hold(self, value: LargeValue | bytes) -> LargeValue:
        """See `Cache`.

        Raises:
            DiskFullError: There is no room for it.
        """
        self._files += 1
        name = f"{self._opened.opens}-{self._files}"
        path = self._folder / "large" / name
        size_bytes = len(value) if isinstance(value, bytes) else value.size_bytes
        try:
            file = await asyncio.to_thread(path.open, "wb")
            try:
                if isinstance(value, bytes):
                    await asyncio.to_thread(file.write, value)
                else:
                    async for chunk in value.chunks():
                        await asyncio.to_thread(file.write, chunk)
            finally:
                await asyncio.to_thread(file.close)
            return LargeFile(path, size_bytes)
        except OSError as error:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(path.unlink)
            raise DiskFullError from error

    def _large(self, large: LargeName) -> LargeValue:
        return LargeFile(self._folder / "large" / large.name, large.size_bytes)


class DamagedError(Exception):
    """A file is shorter than the pages that it says it has."""


def check_length(env: lmdb.Environment, path: Path) -> None:
    """Refuse a file that was cut short: touching a page past its end would kill the process.

    Raises:
        DamagedError: It is too short.
    """
    if path.stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
        raise DamagedError


def _file(folder: Path, number: int) -> Path:
    return folder / f"cache-{number}.mdb"


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the files that are there."""
    return [int(path.stem.partition("-")[2]) for path in folder.glob("cache-*.mdb")]


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _opened_before(folder: Path) -> Opened | None:
    """Read under which boot the cache was opened last."""
    try:
        return msgspec.json.decode((folder / "opened").read_bytes(), type=Opened)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write_durably(path: Path, content: bytes) -> None:
    """Replace a file, so that after a crash it is the old one or the new one."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
