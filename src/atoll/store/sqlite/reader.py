"""Reads: of keys, of pages, of the log, of what a namespace holds.

What is short runs on the caller's thread, the event loop's, on one connection and without a pause
inside a transaction; so what one transaction finds is one snapshot, and the position is read in
it. What may take long in a single call runs in a thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from atoll.core.errors import PositionTooOldError
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Entry,
    Include,
    Listed,
    ListQuery,
    Page,
    Position,
)
from atoll.core.version import Version
from atoll.store import sealing
from atoll.store.protocol import Change, Changes, Found, Usage
from atoll.store.sqlite.driver import Database, Row
from atoll.store.sqlite.records import EAGER_BYTES_MAX, JOINED, Records, StoredValue
from atoll.store.sqlite.transaction import Pause

US_PER_S: Final = 1_000_000

WINDOW_DEAD_ROWS_MAX: Final = 4_000
"""How many expired keys a listing steps over on the event loop before a thread takes over."""
WINDOW_VALUES_MAX: Final = 64
"""How many values a listing reads before it lets others run."""
CHANGES_ROWS_MAX: Final = 256
"""A stretch of the log is no longer than this, which takes the event loop a few milliseconds."""

_KEY_END: Final = b"\xff"
"""Larger than any UTF-8."""

_GET: Final = """
SELECT m.incarnation, m.sequence, t.version, t.sequence,
       e.version, e.sequence, e.expiration, e.size, e.seal, e.metadata, e.value, c.seal, c.sealed
  FROM meta m
  LEFT JOIN entries e ON e.namespace = ?1 AND e.key = ?2
  LEFT JOIN tombstones t ON t.namespace = ?1 AND t.key = ?2
  LEFT JOIN chunks c ON c.id = e.sequence << 12 AND e.value IS NULL AND e.size <= ?3
"""
_POSITION: Final = "SELECT incarnation, sequence, log_start FROM meta"
# The inner limit bounds how many rows are stepped over in one call, the dead ones included.
_WINDOW: Final = """
SELECT key, version, sequence, expiration, size, seal, metadata, value, NULL, NULL FROM (
    SELECT key, version, sequence, expiration, size, seal, metadata,
           CASE length(metadata) WHEN 0 THEN value END AS value FROM entries
     WHERE namespace = ?1 AND key >= ?2 AND key < ?3 ORDER BY key LIMIT ?5)
 WHERE expiration IS NULL OR expiration > ?4 LIMIT ?6
"""
_WINDOW_VALUES: Final = """
SELECT w.key, w.version, w.sequence, w.expiration, w.size, w.seal, w.metadata, w.value,
       c.seal, c.sealed
  FROM (
    SELECT key, version, sequence, expiration, size, seal, metadata, value FROM entries
     WHERE namespace = ?1 AND key >= ?2 AND key < ?3 ORDER BY key LIMIT ?5) w
  LEFT JOIN chunks c ON c.id = w.sequence << 12 AND w.value IS NULL AND w.size <= ?7
 WHERE w.expiration IS NULL OR w.expiration > ?4 LIMIT ?6
"""
_WINDOW_END: Final = """
SELECT key FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3
 ORDER BY key LIMIT 1 OFFSET ?4 - 1
"""
_NEXT_LIVE: Final = """
SELECT key FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3
   AND (expiration IS NULL OR expiration > ?4) ORDER BY key LIMIT 1
"""
_COUNT: Final = """
SELECT count(*), max(key) FROM (
    SELECT key FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3
       AND (expiration IS NULL OR expiration > ?4) ORDER BY key LIMIT ?5)
"""
_CHANGES: Final = """
SELECT l.sequence, n.name, l.key, l.version, t.version, t.sequence,
       e.version, e.sequence, e.expiration, e.size, e.seal, e.metadata, e.value, c.seal, c.sealed
  FROM log l
  JOIN namespaces n ON n.number = l.namespace
  LEFT JOIN entries e ON e.namespace = l.namespace AND e.key = l.key
  LEFT JOIN tombstones t ON t.namespace = l.namespace AND t.key = l.key
  LEFT JOIN chunks c ON c.id = e.sequence << 12 AND e.value IS NULL AND e.size <= ?3
 WHERE l.sequence > ?1 ORDER BY l.sequence LIMIT ?2
"""
_USAGE: Final = """
SELECT n.keys - d.keys, n.bytes - d.bytes FROM namespaces n, (
    SELECT count(*) AS keys, ifnull(sum(held), 0) AS bytes
      FROM entries INDEXED BY entries_by_expiration WHERE expiration <= ?2 AND namespace = ?1) d
 WHERE n.number = ?1
"""

_ListedRow = tuple[
    bytes,
    Version,
    int,
    int | None,
    int,
    int,
    bytes | None,
    bytes | None,
    int | None,
    bytes | None,
]
"""Key, version, sequence, expiration, size, seal, metadata, value, and seal and content of a chunk.
The value is there if it was asked for, or if it holds the metadata."""


class Reader:
    """Answers reads from what is committed."""

    def __init__(
        self,
        database: Database,
        records: Records,
        *,
        numbers: dict[str, int],
        pause: Pause,
    ) -> None:
        """Read on `database`; `numbers` maps the names of namespaces and is the writer's."""
        self._database = database
        self._records = records
        self._numbers = numbers
        self._pause = pause

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()

    def get(self, namespace: str, keys: Sequence[str]) -> Found:
        """See `Store`."""
        number = self._numbers.get(namespace, -1)
        if len(keys) == 1:
            return self._get_one(namespace, number, keys[0])
        held_bytes = 0
        entries: list[Entry | None] = []
        with self._database.transaction():
            for key in keys:
                # Beyond a mebibyte in all, what is not small is left to be read when needed.
                eager = VALUE_INLINE_BYTES_MAX - held_bytes
                entry = self._records.find(
                    self._database,
                    number,
                    namespace,
                    key,
                    chunk_bytes_max=max(eager, EAGER_BYTES_MAX),
                )
                if entry is not None and isinstance(entry.value, bytes):
                    held_bytes += len(entry.value)
                entries.append(entry)
            position, _ = _position(self._database)
        return Found(entries=entries, position=position)

    def _get_one(self, namespace: str, number: int, key: str) -> Found:
        """Read one key and the position with one statement, which is one snapshot."""
        raw = key.encode()
        row = self._database.query(_GET, (number, raw, VALUE_INLINE_BYTES_MAX))[0]
        incarnation, sequence, buried_version, buried_at = cast(
            "tuple[int, int, Version | None, int]", row[:4]
        )
        entry: Entry | None = None
        if row[4] is not None:
            entry = self._records.entry(namespace, key, raw, row[4:])
        elif buried_version is not None:
            entry = Entry(key=key, version=buried_version, value=None, sequence=buried_at)
        position = Position(incarnation=incarnation, sequence=sequence)
        return Found(entries=(entry,), position=position)

    async def scan(self, query: ListQuery, *, now_us: int) -> Page:
        """See `Store`."""
        prefix = query.prefix.encode()
        within = _Range(
            number=self._numbers.get(query.namespace, -1),
            start=prefix if query.after is None else max(prefix, query.after.encode() + b"\0"),
            # The last byte of UTF-8 text is at most 0xBF, so it can always be incremented.
            end=prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else _KEY_END,
            now_s=now_us // US_PER_S,
        )
        if query.include is Include.COUNT:
            return await self._count(within, query.limit)
        return await self._page(query, within)

    async def _page(self, query: ListQuery, within: "_Range") -> Page:
        """Collect a page, window by window.

        Each window is one snapshot, and the page stands at the position of the first: what a
        later window shows was true then or after.
        """
        items: list[Listed] = []
        position: Position | None = None
        values_bytes = 0
        following: bytes | None = within.start
        while following is not None:
            wanted = query.limit - len(items) + 1
            with self._database.transaction():
                if position is None:
                    position, _ = _position(self._database)
                window = self._window(within.behind(following), wanted, query.include)
                rows = [(row, *self._content(query, row)) for row in window.rows]
            for row, metadata, value in rows:
                key, version, _, expiration, size, *_ = row
                if value is not None:
                    values_bytes += size
                if len(items) == query.limit or (
                    items and value is not None and values_bytes > query.values_bytes_max
                ):
                    after = items[-1].key
                    return Page(items=items, count=len(items), after=after, position=position)
                items.append(
                    Listed(
                        key=key.decode(),
                        version=version,
                        size_bytes=size,
                        metadata=metadata,
                        expiration=expiration,
                        value=await value.whole() if isinstance(value, StoredValue) else value,
                    )
                )
            following = window.following
            if following is not None:
                if window.sparse:
                    following = await self._next_live(within.behind(following))
                await self._pause()
        assert position is not None
        return Page(items=items, count=len(items), after=None, position=position)

    def _window(self, within: "_Range", wanted: int, include: Include) -> "_Window":
        """Read up to `wanted` live rows without stepping over too many dead ones."""
        if include is Include.VALUES:
            wanted = min(wanted, WINDOW_VALUES_MAX)
        width = wanted + WINDOW_DEAD_ROWS_MAX
        limits = (*within.values, width, wanted)
        if include is Include.VALUES:
            found = self._database.query(_WINDOW_VALUES, (*limits, EAGER_BYTES_MAX))
        else:
            found = self._database.query(_WINDOW, limits)
        rows = cast("list[_ListedRow]", found)
        if len(rows) == wanted:
            return _Window(rows=rows, following=rows[-1][0] + b"\0", sparse=False)
        edge = self._database.query(_WINDOW_END, (within.number, within.start, within.end, width))
        if not edge:
            return _Window(rows=rows, following=None, sparse=False)
        return _Window(rows=rows, following=cast("bytes", edge[0][0]) + b"\0", sparse=True)

    def _content(
        self, query: ListQuery, row: "_ListedRow"
    ) -> tuple[bytes | None, bytes | StoredValue | None]:
        """Return the metadata and, where the page shows it, the value of a row.

        A value in chunks is in hand from now on, so that the sweeper leaves it.
        """
        key, _, sequence, _, size, seal_id, sealed, value, chunk_seal, chunk = row
        shown = query.include is Include.VALUES and size <= VALUE_INLINE_BYTES_MAX
        if sealed is None and not shown:
            return None, None
        opener = self._records.sealing.opener(seal_id, query.namespace, key)
        if sealed == JOINED:
            assert value is not None
            joined, plain = opener.unseal_joined(value, key, sequence)
            return joined, plain if shown else None
        metadata = opener.unseal(sealed, key, sequence, sealing.PART_METADATA) if sealed else None
        if not shown:
            return metadata, None
        if value is None:
            return metadata, self._records.chunked(
                query.namespace, key, sequence, size, chunk_seal, chunk
            )
        return metadata, opener.unseal(value, key, sequence, sealing.PART_VALUE)

    async def _next_live(self, within: "_Range") -> bytes | None:
        """Step over any number of expired keys, in a thread and in one call."""

        def work(database: Database) -> bytes | None:
            rows = database.query(_NEXT_LIVE, within.values)
            return cast("bytes", rows[0][0]) if rows else None

        return await self._records.pool.run(work)

    async def _count(self, within: "_Range", limit: int) -> Page:
        def work(database: Database) -> Page:
            position, _ = _position(database)
            row = database.query(_COUNT, (*within.values, limit))[0]
            count, last = cast("tuple[int, bytes | None]", row)
            after = None
            if last is not None and count == limit:
                more = database.query(_NEXT_LIVE, within.behind(last + b"\0").values)
                after = last.decode() if more else None
            return Page(items=(), count=count, after=after, position=position)

        return await self._records.pool.run(work)

    def changes(self, after: Position, *, limit: int) -> Changes:
        """See `Store`.

        Raises:
            PositionTooOldError: As there.
        """
        database = self._database
        with database.transaction():
            end, start = _position(database)
            if after.incarnation != end.incarnation or not start <= after.sequence <= end.sequence:
                oldest = Position(incarnation=end.incarnation, sequence=start)
                raise PositionTooOldError(position=str(after), start_at=str(oldest))
            rows_max = min(limit, CHANGES_ROWS_MAX)
            rows = database.query(_CHANGES, (after.sequence, rows_max, EAGER_BYTES_MAX))
            changes = [change for change in map(self._change, rows) if change is not None]
        reached = cast("int", rows[-1][0]) if rows else after.sequence
        return Changes(
            changes=changes,
            position=Position(incarnation=end.incarnation, sequence=reached),
            complete=reached == end.sequence,
        )

    def _change(self, row: Row) -> Change | None:
        """Say what a row of the log still means, `None` if a later row says more."""
        sequence, namespace, raw, version = cast("tuple[int, str, bytes, Version]", row[:4])
        key = raw.decode()
        buried_version, buried_at = row[4:6]
        if row[6] is not None:
            if row[7] != sequence:
                return None
            entry = self._records.entry(namespace, key, raw, row[6:])
            return Change(namespace=namespace, entry=entry)
        if buried_version is not None and buried_at != sequence:
            return None
        # Buried, or buried and swept: that it was deleted is still news to a follower.
        entry = Entry(key=key, version=version, value=None, sequence=sequence)
        return Change(namespace=namespace, entry=entry)

    async def usage(self, namespace: str, *, now_us: int) -> Usage:
        """See `Store`."""
        number = self._numbers.get(namespace, -1)
        at = (number, now_us // US_PER_S)

        def work(database: Database) -> Usage:
            rows = database.query(_USAGE, at)
            keys, size_bytes = cast("tuple[int, int]", rows[0]) if rows else (0, 0)
            return Usage(keys=keys, bytes=size_bytes)

        return await self._records.pool.run(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """Where a listing looks, and for what lives when."""

    number: int
    start: bytes
    end: bytes
    now_s: int

    @property
    def values(self) -> tuple[int, bytes, bytes, int]:
        """As the statements take them."""
        return (self.number, self.start, self.end, self.now_s)

    def behind(self, start: bytes) -> "_Range":
        """Return what is left of the range from `start` on."""
        return replace(self, start=start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Some live rows of a range."""

    rows: "list[_ListedRow]"
    following: bytes | None
    """Where to go on; `None` when nothing is left."""
    sparse: bool
    """Whether it ended early, for all the dead rows in it."""


def _position(database: Database) -> tuple[Position, int]:
    """Return the end of the log and its beginning, as the open transaction sees them."""
    row = database.query(_POSITION)[0]
    incarnation, sequence, start = cast("tuple[int, int, int]", row)
    return Position(incarnation=incarnation, sequence=sequence), start
