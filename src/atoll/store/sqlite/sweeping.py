"""Removing what is dead, in bounded rounds."""

from collections.abc import Sequence
from typing import Final, cast

from atoll.core.version import CENTRAL_NODE, version_at
from atoll.store.protocol import SweepOrder, Swept
from atoll.store.sqlite.applying import BURY, DELETE
from atoll.store.sqlite.records import chunk_id
from atoll.store.sqlite.transaction import SLICE_ROWS, Transaction

US_PER_S: Final = 1_000_000

_EXPIRED: Final = """
SELECT namespace, key, version, sequence, held, typeof(value) = 'null'
  FROM entries WHERE expiration <= ? ORDER BY expiration LIMIT ?
"""
_DROPPED: Final = """
SELECT namespace, key, version, sequence, held, typeof(value) = 'null'
  FROM entries WHERE namespace = ? LIMIT ?
"""
_DROPPED_TOMBSTONES: Final = "SELECT namespace, key FROM tombstones WHERE namespace = ? LIMIT ?"
_TOMBSTONES: Final = "SELECT namespace, key FROM tombstones WHERE version < ? LIMIT ?"
_REMOVE_TOMBSTONE: Final = "DELETE FROM tombstones WHERE namespace = ? AND key = ?"
_CHUNKS: Final = "SELECT id FROM chunks WHERE id >= ? AND id < ?"
_OUTCOMES: Final = "SELECT origin, name FROM outcomes WHERE kept_since_us < ? LIMIT ?"
_FORGET: Final = "DELETE FROM outcomes WHERE origin = ? AND name = ?"
_LOG_END: Final = "SELECT sequence FROM log ORDER BY sequence LIMIT 1 OFFSET ?"
_TRUNCATE: Final = "DELETE FROM log WHERE sequence <= ?"

_Row = tuple[int, bytes, int, int, int, int]
"""Namespace, key, version, sequence, bytes held, whether in chunks."""


async def sweep(transaction: Transaction, order: SweepOrder) -> Swept:
    """See `Store`."""
    dropped = await _drop(transaction, order)
    reclaimed = await _reclaim(transaction, order.limit)
    query = transaction.database.query
    found = query(_EXPIRED, (order.now_us // US_PER_S, order.limit))
    expired = cast("list[_Row]", found)
    await _remove(transaction, expired, bury=True)
    if expired:
        by = version_at(order.now_us, CENTRAL_NODE)
        transaction.head.last_version = max(transaction.head.last_version, by)
    tombstones = query(_TOMBSTONES, (order.tombstones_below, order.limit))
    await _delete(transaction, _REMOVE_TOMBSTONE, tombstones)
    outcomes = query(_OUTCOMES, (order.outcomes_before_us, order.limit))
    await _delete(transaction, _FORGET, outcomes)
    return Swept(
        expired=len(expired),
        removed=len(tombstones),
        dropped=dropped,
        forgotten=len(outcomes),
        truncated=_truncate(transaction, order),
        reclaimed=reclaimed,
    )


async def _remove(transaction: Transaction, rows: Sequence[_Row], *, bury: bool) -> None:
    """Remove entries, leaving tombstones or not."""
    database = transaction.database
    for at in range(0, len(rows), SLICE_ROWS):
        part = rows[at : at + SLICE_ROWS]
        if bury:
            database.run_many(BURY, [row[:4] for row in part])
        database.run_many(DELETE, [row[:2] for row in part])
        transaction.doom([(row[3],) for row in part if row[5]])
        for number, _, _, _, held, _ in part:
            transaction.account(number, keys=-1, size_bytes=-held)
        await transaction.pause()


async def _delete(transaction: Transaction, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
    for at in range(0, len(rows), SLICE_ROWS):
        part = cast("Sequence[tuple[bytes, ...]]", rows[at : at + SLICE_ROWS])
        transaction.database.run_many(sql, part)
        await transaction.pause()


async def _drop(transaction: Transaction, order: SweepOrder) -> int:
    """Remove entries and tombstones of namespaces that are no more."""
    query = transaction.database.query
    room = order.limit
    for name in order.dropped:
        number = transaction.number(name)
        if number is None or not room:
            continue
        rows = cast("list[_Row]", query(_DROPPED, (number, room)))
        await _remove(transaction, rows, bury=False)
        room -= len(rows)
        tombstones = query(_DROPPED_TOMBSTONES, (number, room))
        await _delete(transaction, _REMOVE_TOMBSTONE, tombstones)
        room -= len(tombstones)
    return order.limit - room


async def _reclaim(transaction: Transaction, limit: int) -> int:
    """Remove large values that were overwritten, unless somebody is still reading them.

    What was doomed in this very transaction is left: until it is committed, a reader may still
    come upon it.
    """
    query, run = transaction.database.query, transaction.database.run
    spared = {*transaction.records.in_hand, *transaction.doomed}
    rows = query("SELECT blob FROM doomed LIMIT ?", (limit + len(spared),))
    blobs = [blob for (blob,) in cast("list[tuple[int]]", rows) if blob not in spared]
    done = chunks = 0
    for blob in blobs[:limit]:
        found = query(_CHUNKS, (chunk_id(blob, 0), chunk_id(blob + 1, 0)))
        for row in found:
            run("DELETE FROM chunks WHERE id = ?", row)
            await transaction.pause()
        run("DELETE FROM doomed WHERE blob = ?", (blob,))
        done += 1
        chunks += len(found)
        if chunks >= limit:
            break
    return done


def _truncate(transaction: Transaction, order: SweepOrder) -> int:
    """Cut the log's oldest rows off."""
    database, head = transaction.database, transaction.head
    count = min(order.limit, head.log_rows - order.log_rows_max)
    if count <= 0:
        return 0
    transaction.flush_log()
    head.log_start = cast("int", database.query(_LOG_END, (count - 1,))[0][0])
    head.log_rows -= count
    database.run(_TRUNCATE, (head.log_start,))
    return count
