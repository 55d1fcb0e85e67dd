"""Rotation: after the sealing key was replaced, what was sealed by earlier ones is sealed anew.

Entries are walked in their order, a bounded number in each transaction, while the store is in
use; how far the walk is, and for which key, is stored with it, so that it goes on after a restart.
What is written meanwhile is sealed by the new key, so nothing is missed behind the walk.
"""

from dataclasses import dataclass
from typing import Final, cast

from atoll.store import sealing
from atoll.store.sqlite.records import JOINED, StoredValue, bound_by, chunk_id
from atoll.store.sqlite.transaction import Transaction

ROUND_BYTES_MAX: Final = 8 * 2**20
"""A round ends after the entry with which it exceeds this."""

_NEXT: Final = """
SELECT e.namespace, n.name, e.key, e.sequence, e.size, e.seal, e.metadata, e.value
  FROM entries e JOIN namespaces n ON n.number = e.namespace
 WHERE (e.namespace, e.key) > (?, ?) ORDER BY e.namespace, e.key LIMIT ?
"""
_RESEAL: Final = """
UPDATE entries SET seal = ?, metadata = ?, value = ? WHERE namespace = ? AND key = ?
"""
_RESEAL_CHUNK: Final = "UPDATE chunks SET seal = ?, sealed = ? WHERE id = ?"

_Row = tuple[int, str, bytes, int, int, int, bytes | None, bytes | None]
"""Number and name of the namespace, key, sequence, size, seal, metadata, value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """How far the walk is."""

    done: int
    """How many entries it has passed."""
    total: int
    """About how many there are."""
    complete: bool
    """Whether nothing is sealed by an earlier key any more."""


async def reseal(transaction: Transaction, limit: int) -> Resealed:
    """Go on for at most `limit` entries."""
    database = transaction.database
    outdated = frozenset(transaction.sealing.outdated)
    total = cast("int", database.query("SELECT ifnull(sum(keys), 0) FROM namespaces")[0][0])
    target = transaction.sealing.fingerprint
    stored = database.query(
        "SELECT namespace, key, done FROM resealing WHERE target = ?", (target,)
    )
    number, key, done = cast("tuple[int, bytes, int]", stored[0] if stored else (0, b"", 0))
    rows = cast("list[_Row]", database.query(_NEXT, (number, key, limit)))
    size_bytes = 0
    for row in rows:
        number, _, key, _, size, seal_id, *_ = row
        if seal_id in outdated:
            await _reseal_entry(transaction, row)
            size_bytes += size
        done += 1
        await transaction.pause()
        if size_bytes > ROUND_BYTES_MAX:
            break
    else:
        if len(rows) < limit:
            database.run("DELETE FROM resealing")
            database.run_many("DELETE FROM seals WHERE id = ?", [(i,) for i in outdated])
            return Resealed(done=done, total=done, complete=True)
    database.run(
        "REPLACE INTO resealing (id, target, namespace, key, done) VALUES (1, ?, ?, ?, ?)",
        (target, number, key, done),
    )
    return Resealed(done=done, total=max(done, total), complete=False)


async def _reseal_entry(transaction: Transaction, row: _Row) -> None:
    number, namespace, key, sequence, size, seal_id, metadata, value = row
    records = transaction.records
    opener = records.sealing.opener(seal_id, namespace, key)
    sealer = records.sealing.sealer(namespace)

    def again(sealed: bytes, part: int) -> bytes:
        return sealer.seal(opener.unseal(sealed, key, sequence, part), key, sequence, part)

    if value is None:
        await _reseal_chunks(transaction, namespace, key, sequence, size)
    else:
        value = again(value, sealing.PART_JOINED if metadata == JOINED else sealing.PART_VALUE)
    if metadata:
        metadata = again(metadata, sealing.PART_METADATA)
    transaction.database.run(_RESEAL, (sealer.seal_id, metadata, value, number, key))


async def _reseal_chunks(
    transaction: Transaction, namespace: str, key: bytes, blob: int, size: int
) -> None:
    stored = StoredValue(
        records=transaction.records, namespace=namespace, key=key, blob=blob, size_bytes=size
    )
    sealer = transaction.sealing.sealer(namespace)
    for n in range(stored.count):
        sealed = sealer.seal(
            stored.piece(transaction.database, n),
            key,
            blob,
            sealing.PART_FIRST_CHUNK + n,
            bound=bound_by(size),
        )
        transaction.database.run(_RESEAL_CHUNK, (sealer.seal_id, sealed, chunk_id(blob, n)))
        await transaction.pause()
