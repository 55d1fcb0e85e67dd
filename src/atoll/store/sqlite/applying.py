"""Applying a batch: what was said before, what is required, which write wins."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast, overload

from atoll.core import rules
from atoll.core.errors import (
    AtollError,
    ConditionFailedError,
    IdempotencyKeyReusedError,
    OutcomeForgottenError,
)
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    Entry,
    Identity,
    Mutation,
    Outcome,
    OutcomeKind,
    Written,
)
from atoll.core.version import NODE_BITS, Version, Versions
from atoll.store.protocol import Admit
from atoll.store.sealing import (
    PART_FIRST_CHUNK,
    PART_METADATA,
    PART_VALUE,
    Sealer,
)
from atoll.store.sqlite.driver import Row
from atoll.store.sqlite.records import (
    CHUNK_BYTES,
    EAGER_BYTES_MAX,
    JOINED,
    JOINED_BYTES_MAX,
    ROW_BYTES_MAX,
    bound_by,
    chunk_id,
    split,
)
from atoll.store.sqlite.transaction import SLICE_BYTES, SLICE_ROWS, Transaction

US_PER_S: Final = 1_000_000

VERSION_STEP: Final = 1 << NODE_BITS
"""How far the versions are apart that central stamps a batch with."""

FEW_KEYS: Final = 4
"""Up to so many keys are looked up one by one, which is quicker than as an array."""

_CURRENT: Final = """
SELECT ?2, version, sequence, expiration, held, typeof(value) = 'null'
  FROM entries WHERE namespace = ?1 AND key = ?2
UNION ALL
SELECT ?2, version, sequence, NULL, NULL, NULL
  FROM tombstones WHERE namespace = ?1 AND key = ?2
"""
_CURRENT_MANY: Final = """
SELECT k.value, e.version, e.sequence, e.expiration, e.held, typeof(e.value) = 'null'
  FROM carray(?2) k CROSS JOIN entries e ON e.namespace = ?1 AND e.key = k.value
UNION ALL
SELECT k.value, t.version, t.sequence, NULL, NULL, NULL
  FROM carray(?2) k CROSS JOIN tombstones t ON t.namespace = ?1 AND t.key = k.value
"""
_PUT: Final = """
REPLACE INTO entries (namespace, key, version, sequence, expiration, size, held, seal,
                     metadata, value)
"""
_UNBURY: Final = "DELETE FROM tombstones WHERE namespace = ? AND key = ?"
BURY: Final = "REPLACE INTO tombstones (namespace, key, version, sequence) VALUES (?, ?, ?, ?)"
DELETE: Final = "DELETE FROM entries WHERE namespace = ? AND key = ?"
_LOG_RUN: Final = """
INSERT INTO log (sequence, namespace, key, version)
SELECT ?1 + k.rowid, ?2, k.value, ?3 + (k.rowid - 1) * ?4 FROM carray(?5) k
"""
_CHUNK: Final = "INSERT INTO chunks (id, seal, sealed) VALUES (?, ?, ?)"

_KINDS: Final = (OutcomeKind.APPLIED, OutcomeKind.LOST)


_Current = tuple[bytes, Version, int, int | None, int | None, int | None]
"""What there is of a key: key, version, sequence, expiration, bytes held, whether in chunks. A
tombstone holds `None`."""
_VERSION: Final = 1
_HELD: Final = 4

_Part = list[tuple[bytes, Mutation, Version]]
"""Some mutations that win, with their keys in UTF-8 and their versions."""


def _live_version(there: _Current | None, now_s: int) -> Version | None:
    """Return the version that readers see."""
    if there is None:
        return None
    _, version, _, expiration, held, _ = there
    dead = held is None or (expiration is not None and expiration <= now_s)
    return None if dead else version


class Outcomes(Sequence[Outcome]):
    """Outcomes that are made when they are looked at: of a bulk's thousands few ever are."""

    __slots__ = ("lost", "versions")

    def __init__(self, *, versions: Sequence[Version], lost: dict[int, Outcome]) -> None:
        """Take every mutation's version, and the outcomes of those that lost by their place."""
        self.versions = versions
        self.lost = lost

    def __len__(self) -> int:
        return len(self.versions)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Outcome]: ...
    def __getitem__(self, index: int | slice) -> Outcome | Sequence[Outcome]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        version = self.versions[index]
        lost = self.lost.get(index % len(self.versions))
        return lost or Outcome(kind=OutcomeKind.APPLIED, version=version)


async def apply(
    transaction: Transaction,
    batch: Batch,
    versions: Versions,
    now_us: int,
    admit: Admit | None = None,
) -> Written | AtollError:
    """Apply a batch, or return the error that says why not; nothing was applied then."""
    assert len(versions) >= len(batch.mutations), (len(versions), len(batch.mutations))
    if batch.identity is not None:
        known = _recall(transaction, batch.identity, len(batch.mutations))
        if isinstance(known, AtollError):
            return known
        if known is not None:
            return known.failed or await _repeat(transaction, batch, known)
    keys = [mutation.key.encode() for mutation in batch.mutations]
    current = await _look_up(transaction, batch.namespace, keys)
    failed = _broken_condition(batch.mutations, keys, current, now_us // US_PER_S)
    if failed is None and admit is not None:
        refused = _refused(admit, batch.mutations, keys, current, now_us // US_PER_S)
        if refused is not None:
            return refused
    outcomes = Outcomes(versions=(), lost={})
    if failed is None:
        outcomes = await _write(transaction, batch, keys, versions, current)
    if batch.identity is not None:
        _remember(transaction, batch.identity, outcomes, failed, now_us)
    return failed or Written(outcomes=outcomes, position=transaction.head.position)


async def _look_up(
    transaction: Transaction, namespace: str, keys: Sequence[bytes]
) -> dict[bytes, _Current]:
    """Find what there is of some keys."""
    number = transaction.number(namespace)
    if number is None:
        return {}
    query = transaction.database.query
    found = list[Row]()
    if len(keys) <= FEW_KEYS:
        for key in keys:
            found += query(_CURRENT, (number, key))
        return {row[0]: row for row in cast("list[_Current]", found)}
    for at in range(0, len(keys), SLICE_ROWS):
        part = keys[at : at + SLICE_ROWS]
        found += transaction.database.query_each(_CURRENT_MANY, number, part)
        await transaction.pause()
    return {row[0]: row for row in cast("list[_Current]", found)}


def _broken_condition(
    mutations: Sequence[Mutation],
    keys: Sequence[bytes],
    current: dict[bytes, _Current],
    now_s: int,
) -> ConditionFailedError | None:
    """Return the error about the first condition that does not hold."""
    for mutation, key in zip(mutations, keys, strict=True):
        if mutation.condition is not None:
            version = _live_version(current.get(key), now_s)
            if not rules.holds(mutation.condition, version):
                return ConditionFailedError(key=mutation.key, version_current=version)
    return None


def _refused(
    admit: Admit,
    mutations: Sequence[Mutation],
    keys: Sequence[bytes],
    current: dict[bytes, _Current],
    now_s: int,
) -> AtollError | None:
    """Return what `admit` says against the last mutation of any key."""
    last = dict(zip(keys, mutations, strict=True))
    try:
        for key, mutation in last.items():
            admit(mutation, live=_live_version(current.get(key), now_s) is not None)
    except AtollError as error:
        return error
    return None


async def _write(
    transaction: Transaction,
    batch: Batch,
    keys: Sequence[bytes],
    versions: Versions,
    current: dict[bytes, _Current],
) -> Outcomes:
    """Write what wins; of two mutations of one key the last stands for both."""
    mutations = batch.mutations
    lost: dict[int, Outcome] = {}
    if len(keys) == 1 and not current:
        # Most batches: one key, and a fresh one.
        stamped = [mutations[0].stamp or versions[0]]
        await _write_winners(transaction, batch, [(keys[0], 0)], stamped, current)
        return Outcomes(versions=stamped, lost=lost)
    last = dict(zip(keys, range(len(keys)), strict=True))
    stamped = [m.stamp or version for m, version in zip(mutations, versions, strict=False)]
    eager_bytes = VALUE_INLINE_BYTES_MAX
    for key, there in current.items():
        i = last[key]
        if there[_VERSION] < stamped[i]:
            continue
        entry = transaction.records.find(
            transaction.database,
            transaction.number_or_new(batch.namespace),
            batch.namespace,
            mutations[i].key,
            chunk_bytes_max=max(eager_bytes, EAGER_BYTES_MAX),
        )
        eager_bytes -= there[_HELD] or 0
        lost[i] = Outcome(kind=OutcomeKind.LOST, version=there[_VERSION], current=entry)
        await transaction.pause()
    winners = [(key, i) for key, i in last.items() if i not in lost]
    if winners:
        await _write_winners(transaction, batch, winners, stamped, current)
    if len(last) < len(keys):
        places = [last[key] for key in keys]
        stamped = [stamped[place] for place in places]
        lost = {i: lost[place] for i, place in enumerate(places) if place in lost}
    for i, outcome in lost.items():
        stamped[i] = outcome.version
    return Outcomes(versions=stamped, lost=lost)


async def _write_winners(
    transaction: Transaction,
    batch: Batch,
    winners: list[tuple[bytes, int]],
    stamped: Sequence[Version],
    current: dict[bytes, _Current],
) -> None:
    """Write the mutations that win, slice by slice."""
    head, mutations = transaction.head, batch.mutations
    number = transaction.number_or_new(batch.namespace)
    sealer = transaction.sealing.sealer(batch.namespace)
    sequence = transaction.take_sequences(len(winners))
    for part in _parts(mutations, winners, stamped):
        if current:
            _take_away(transaction, number, part, current)
        large = _put(transaction, number, sealer, sequence, part)
        _append_log(transaction, number, sequence, part)
        sequence += len(part)
        for blob, key, value in large:
            await _write_chunks(transaction, sealer, blob, key, value)
        await transaction.pause()
    head.sequence = sequence
    head.log_rows += len(winners)
    newest = max([stamped[i] for _, i in winners])
    head.last_version = max(head.last_version, newest)


def _parts(
    mutations: Sequence[Mutation],
    winners: Sequence[tuple[bytes, int]],
    stamped: Sequence[Version],
) -> Iterator[_Part]:
    """Cut a batch into slices that are written without a pause: few rows, or few bytes."""
    part: _Part = []
    size_bytes = 0
    for key, i in winners:
        mutation = mutations[i]
        part.append((key, mutation, stamped[i]))
        if mutation.value is not None:
            size_bytes += len(mutation.value)
        if len(part) == SLICE_ROWS or size_bytes >= SLICE_BYTES:
            yield part
            part, size_bytes = [], 0
    if part:
        yield part


def _take_away(
    transaction: Transaction, number: int, part: _Part, current: dict[bytes, _Current]
) -> None:
    """Remove what is there as far as it is not written over, and from the namespace's usage."""
    unburied: list[tuple[int, bytes]] = []
    deleted: list[tuple[int, bytes]] = []
    doomed: list[tuple[int]] = []
    keys = size_bytes = 0
    for key, mutation, _ in part:
        there = current.get(key)
        if there is None:
            continue
        _, _, sequence, _, held, chunked = there
        if held is None:
            if mutation.value is not None:
                unburied.append((number, key))
            continue
        keys += 1
        size_bytes += held
        if chunked:
            doomed.append((sequence,))
        if mutation.value is None:
            deleted.append((number, key))
    transaction.account(number, keys=-keys, size_bytes=-size_bytes)
    transaction.database.run_many(_UNBURY, unburied)
    transaction.database.run_many(DELETE, deleted)
    transaction.doom(doomed)


def _put(
    transaction: Transaction, number: int, sealer: Sealer, sequence: int, part: _Part
) -> list[tuple[int, bytes, bytes]]:
    """Write entries and tombstones, and return the values that are of several chunks.

    This is where a bulk spends its time, so it is one plain loop.
    """
    seal, seal_id = sealer.seal, sealer.seal_id
    puts: list[Row] = []
    buried: list[Row] = []
    chunks: list[Row] = []
    large: list[tuple[int, bytes, bytes]] = []
    size_bytes = 0
    for key, mutation, version in part:
        sequence += 1
        value, metadata, sealed = mutation.value, mutation.metadata, None
        if value is None:
            buried.append((number, key, version, sequence))
            continue
        size = len(value)
        held = len(key) + size + len(metadata or b"")
        if size > CHUNK_BYTES:
            large.append((sequence, key, value))
        elif held > ROW_BYTES_MAX:
            chunk = seal(value, key, sequence, PART_FIRST_CHUNK, bound=bound_by(size))
            chunks.append((chunk_id(sequence, 0), seal_id, chunk))
        elif metadata is not None and size + len(metadata) <= JOINED_BYTES_MAX:
            sealed = sealer.seal_joined(metadata, value, key, sequence)
            metadata = JOINED
        else:
            sealed = seal(value, key, sequence, PART_VALUE)
        if metadata:
            metadata = seal(metadata, key, sequence, PART_METADATA)
        size_bytes += held
        expiration = mutation.expiration
        puts.append(
            (number, key, version, sequence, expiration, size, held, seal_id, metadata, sealed)
        )
    transaction.database.insert(_PUT, puts)
    transaction.account(number, keys=len(puts), size_bytes=size_bytes)
    transaction.database.run_many(BURY, buried)
    transaction.database.run_many(_CHUNK, chunks)
    return large


def _append_log(transaction: Transaction, number: int, sequence: int, part: _Part) -> None:
    """Write rows of the log behind `sequence`."""
    first = part[0][2]
    versions = [version for _, _, version in part]
    if len(part) > FEW_KEYS and versions == list(range(first, versions[-1] + 1, VERSION_STEP)):
        # A bulk that central stamped: one statement with arithmetic for what two values tell.
        keys = [key for key, _, _ in part]
        values = (sequence, number, first, VERSION_STEP)
        transaction.database.run_each(_LOG_RUN, values, keys)
    else:
        transaction.log(
            (sequence + n, number, key, version)
            for n, (key, _, version) in enumerate(part, start=1)
        )


async def _write_chunks(
    transaction: Transaction, sealer: Sealer, blob: int, key: bytes, value: bytes
) -> None:
    for n, piece in enumerate(split(value)):
        sealed = sealer.seal(
            piece,
            key,
            blob,
            PART_FIRST_CHUNK + n,
            bound=bound_by(len(value)),
        )
        transaction.database.run(_CHUNK, (chunk_id(blob, n), sealer.seal_id, sealed))
        await transaction.pause()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    """The outcome of a batch, as kept under its identity."""

    failed: ConditionFailedError | None
    kinds: bytes
    versions: Sequence[Version]


def _recall(
    transaction: Transaction, identity: Identity, count: int
) -> _Remembered | AtollError | None:
    """Look an identity up, and forget what its sender has resolved."""
    query, run = transaction.database.query, transaction.database.run
    origin, name, lowest = identity.origin, identity.name, identity.lowest_unresolved
    stored = query("SELECT lowest FROM origins WHERE origin = ?", (origin,))
    known_lowest = cast("bytes", stored[0][0]) if stored else None
    if lowest is not None and (known_lowest is None or known_lowest < lowest):
        run("REPLACE INTO origins (origin, lowest) VALUES (?, ?)", (origin, lowest))
        run("DELETE FROM outcomes WHERE origin = ? AND name < ?", (origin, lowest))
        known_lowest = lowest
    if known_lowest is not None and name < known_lowest:
        return OutcomeForgottenError()
    rows = query(
        "SELECT fingerprint, failed_key, failed_version, outcomes FROM outcomes"
        " WHERE origin = ? AND name = ?",
        (origin, name),
    )
    if not rows:
        return None
    row = cast("tuple[bytes, bytes | None, Version | None, bytes]", rows[0])
    fingerprint, failed_key, failed_version, packed = row
    if fingerprint != identity.fingerprint:
        return IdempotencyKeyReusedError()
    failed = None
    if failed_key is not None:
        failed = ConditionFailedError(key=failed_key.decode(), version_current=failed_version)
    elif len(packed) != count * _PACKED_BYTES:
        return IdempotencyKeyReusedError()
    size = len(packed) // _PACKED_BYTES
    versions = struct.unpack(f">{size}q", packed[size:])
    return _Remembered(failed=failed, kinds=packed[:size], versions=versions)


_PACKED_BYTES: Final = 9
"""A byte for the kind and eight for the version."""


def _remember(
    transaction: Transaction,
    identity: Identity,
    outcomes: Outcomes,
    failed: ConditionFailedError | None,
    now_us: int,
) -> None:
    """Keep the outcome of a batch, in the batch's own transaction."""
    kinds = bytes(1 if i in outcomes.lost else 0 for i in range(len(outcomes)))
    transaction.database.run(
        "INSERT INTO outcomes (origin, name, kept_since_us, fingerprint, failed_key,"
        " failed_version, outcomes) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            identity.origin,
            identity.name,
            now_us if identity.lowest_unresolved is None else None,
            identity.fingerprint,
            None if failed is None else failed.key.encode(),
            None if failed is None else failed.version_current,
            kinds + struct.pack(f">{len(kinds)}q", *outcomes.versions),
        ),
    )


async def _repeat(transaction: Transaction, batch: Batch, known: _Remembered) -> Written:
    """Answer a batch that was applied before, with the keys' records of now."""
    number = transaction.number_or_new(batch.namespace)
    eager_bytes = VALUE_INLINE_BYTES_MAX
    outcomes: list[Outcome] = []
    for mutation, kind, version in zip(batch.mutations, known.kinds, known.versions, strict=True):
        current = transaction.records.find(
            transaction.database,
            number,
            batch.namespace,
            mutation.key,
            chunk_bytes_max=max(eager_bytes, EAGER_BYTES_MAX),
        )
        if current is None:  # Deleted since, and swept.
            current = Entry(key=mutation.key, version=version, value=None)
        eager_bytes -= len(current.value) if isinstance(current.value, bytes) else 0
        outcomes.append(Outcome(kind=_KINDS[kind], version=version, current=current))
        await transaction.pause()
    return Written(outcomes=outcomes, position=transaction.head.position, repeated=True)
