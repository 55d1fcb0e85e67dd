"""Rows and what they stand for: entries are read here, whoever asks and on whatever connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast
from weakref import WeakValueDictionary

from atoll.core.errors import StoppingError
from atoll.core.model import VALUE_INLINE_BYTES_MAX, Entry
from atoll.store import sealing
from atoll.store.sealing import Sealing
from atoll.store.sqlite.driver import Database, Row

if TYPE_CHECKING:
    from atoll.core.version import Version

T = TypeVar("T")

ROW_BYTES_MAX: Final = 900
"""How much key, metadata and value may be together for the value to be in the row. A row that is
larger would overflow into a page that it has for itself; other values are in chunks."""
JOINED_BYTES_MAX: Final = 512
"""Up to so many bytes, a value and its metadata are sealed as one, which costs half as much."""
JOINED: Final = b""
"""Stands where the metadata would: no sealed metadata is empty."""
CHUNK_BYTES: Final = VALUE_INLINE_BYTES_MAX
CHUNK_BITS: Final = 12
"""A value has at most 2^12 chunks; a chunk's id is the value's with so many bits for its number."""
EAGER_BYTES_MAX: Final = 16 * 1024
"""Where many entries are read at once, larger values are left to be read when they are needed."""

READERS_MAX: Final = 4
"""How many connections read in threads at once; the others wait."""

_ENTRY: Final = """
SELECT e.version, e.sequence, e.expiration, e.size, e.seal, e.metadata, e.value, c.seal, c.sealed
  FROM entries e
  LEFT JOIN chunks c ON c.id = e.sequence << 12 AND e.value IS NULL AND e.size <= ?3
 WHERE e.namespace = ?1 AND e.key = ?2
UNION ALL
SELECT t.version, t.sequence, NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM tombstones t WHERE t.namespace = ?1 AND t.key = ?2
"""
_CHUNK: Final = "SELECT seal, sealed FROM chunks WHERE id = ?"


def chunk_id(blob: int, n: int) -> int:
    """Return where chunk `n` of a value is."""
    assert n < 1 << CHUNK_BITS, n
    return blob << CHUNK_BITS | n


def bound_by(size_bytes: int) -> bytes:
    """Return what the chunks of a value are sealed with besides."""
    return size_bytes.to_bytes(8, "big")


_EntryRow = tuple[
    "Version",
    int,
    int | None,
    int | None,
    int,
    bytes | None,
    bytes | None,
    int | None,
    bytes | None,
]


class Pool:
    """Connections that read in threads, where one call may take long."""

    def __init__(self, connect: Callable[[], Database], executor: Executor) -> None:
        """Open connections with `connect` as they are needed, and use them on `executor`."""
        self._connect = connect
        self._executor = executor
        self._idle: list[Database] = []
        self._slots = asyncio.Semaphore(READERS_MAX)
        self._closed = False

    async def run(self, work: Callable[[Database], T]) -> T:
        """Return what `work` makes of a connection, in a thread and in one read transaction.

        Raises:
            StoppingError: The store was closed.
            StoreError: The database failed.
        """
        if self._closed:
            raise StoppingError
        await self._slots.acquire()
        job = asyncio.get_running_loop().run_in_executor(self._executor, self._work, work)
        job.add_done_callback(self._finish)
        # Whoever waits may be cancelled; a thread may not be, and keeps its slot until it is done.
        return await asyncio.shield(job)

    def _work(self, work: Callable[[Database], T]) -> T:
        database = self._idle.pop() if self._idle else self._connect()
        try:
            with database.transaction():
                return work(database)
        finally:
            self._idle.append(database)

    def _finish(self, job: asyncio.Future[T]) -> None:
        self._slots.release()
        if not job.cancelled():
            job.exception()  # Seen, even if whoever asked is gone.

    async def close(self) -> None:
        """Close every connection once its work is done."""
        self._closed = True
        for _ in range(READERS_MAX):
            await self._slots.acquire()
        for database in self._idle:
            database.close()
        for _ in range(READERS_MAX):
            self._slots.release()


@dataclass(slots=True, kw_only=True, weakref_slot=True, eq=False)
class StoredValue:
    """See `LargeValue`. As long as one is referenced, the sweeper leaves its chunks."""

    records: "Records"
    namespace: str
    key: bytes
    blob: int
    size_bytes: int

    @property
    def count(self) -> int:
        """How many chunks it was cut into."""
        return -(-self.size_bytes // CHUNK_BYTES)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        for n in range(self.count):
            yield await self.records.pool.run(partial(self.piece, n=n))

    async def whole(self) -> bytes:
        """Read all of it; meant for values of one chunk."""
        return b"".join([piece async for piece in self.chunks()])

    def piece(self, database: Database, n: int) -> bytes:
        """Read one chunk.

        Raises:
            CorruptDataError: It is not there, or not what was written.
        """
        rows = database.query(_CHUNK, (chunk_id(self.blob, n),))
        if not rows:
            raise sealing.corrupt(self.namespace, self.key)
        seal_id, sealed = cast("tuple[int, bytes]", rows[0])
        return self.unseal(seal_id, sealed, n)

    def unseal(self, seal_id: int, sealed: bytes, n: int) -> bytes:
        """Open one chunk.

        Raises:
            CorruptDataError: It is not what was written.
        """
        opener = self.records.sealing.opener(seal_id, self.namespace, self.key)
        part = sealing.PART_FIRST_CHUNK + n
        return opener.unseal(sealed, self.key, self.blob, part, bound=bound_by(self.size_bytes))


class Records:
    """Turns rows into entries; `in_hand` are the large values that somebody may still read."""

    def __init__(self, sealing_: Sealing, pool: Pool) -> None:
        """Open what rows hold with `sealing_`, and read large values through `pool`."""
        self.sealing = sealing_
        self.pool = pool
        self.in_hand: WeakValueDictionary[int, StoredValue] = WeakValueDictionary()

    def find(
        self,
        database: Database,
        number: int,
        namespace: str,
        key: str,
        *,
        chunk_bytes_max: int = CHUNK_BYTES,
    ) -> Entry | None:
        """Read one entry or tombstone, in the transaction that `database` is in.

        Args:
            database: Reads it.
            number: The namespace's.
            namespace: Its name.
            key: The key.
            chunk_bytes_max: Up to which size a value of one chunk is read at once.
        """
        raw = key.encode()
        rows = database.query(_ENTRY, (number, raw, chunk_bytes_max))
        return self.entry(namespace, key, raw, rows[0]) if rows else None

    def entry(self, namespace: str, key: str, raw: bytes, row: Row) -> Entry:
        """Make an entry.

        Args:
            namespace: Where it is.
            key: Its key.
            raw: The key in UTF-8.
            row: Version, sequence, expiration, size (`None` for a tombstone), seal, metadata,
                value, and the chunk's seal and content if it was read.

        Raises:
            CorruptDataError: Something in it cannot be opened.
        """
        version, sequence, expiration, size, seal_id, sealed, value, chunk_seal, chunk = cast(
            "_EntryRow", row
        )
        if size is None:
            return Entry(key=key, version=version, value=None, sequence=sequence)
        opener = self.sealing.opener(seal_id, namespace, raw)
        content: bytes | StoredValue
        metadata: bytes | None = None
        if value is None:
            content = self.chunked(namespace, raw, sequence, size, chunk_seal, chunk)
        elif sealed == JOINED:
            metadata, content = opener.unseal_joined(value, raw, sequence)
        else:
            content = opener.unseal(value, raw, sequence, sealing.PART_VALUE)
        if sealed:
            metadata = opener.unseal(sealed, raw, sequence, sealing.PART_METADATA)
        return Entry(
            key=key,
            version=version,
            value=content,
            metadata=metadata,
            expiration=expiration,
            sequence=sequence,
        )

    def chunked(  # noqa: PLR0917 - columns of a row
        self,
        namespace: str,
        key: bytes,
        blob: int,
        size_bytes: int,
        seal_id: int | None,
        sealed: bytes | None,
    ) -> bytes | StoredValue:
        """Return a value that is in chunks: itself if its one chunk was read, or in hand."""
        value = self.in_hand.get(blob)
        if value is None:
            value = StoredValue(
                records=self, namespace=namespace, key=key, blob=blob, size_bytes=size_bytes
            )
        if sealed is not None and seal_id is not None:
            return value.unseal(seal_id, sealed, 0)
        self.in_hand[blob] = value
        return value


def split(value: bytes) -> Sequence[memoryview]:
    """Cut a value into chunks without copying it."""
    view = memoryview(value)
    return [view[at : at + CHUNK_BYTES] for at in range(0, len(view), CHUNK_BYTES)]
