"""Applying a batch: what was said before, what is required, which write wins."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple, cast, overload

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
from atoll.core.version import Version, Versions
from atoll.store.sealing import (
    PART_FIRST_CHUNK,
    PART_METADATA,
    PART_VALUE,
    TAG_BYTES,
    Sealer,
)
from atoll.store.sqlite.driver import Database, Row
from atoll.store.protocol import Admit
from atoll.store.sqlite.records import INLINE_BYTES_MAX, split
from atoll.store.sqlite.transaction import SLICE_ROWS, Transaction

US_PER_S: Final = 1_000_000

FEW_KEYS: Final = 4
"""Up to so many keys are looked up one by one, which is quicker than as an array."""

_CURRENT: Final = """
SELECT ?2, version, sequence, expiration, size, length(metadata), typeof(value) = 'null'
  FROM entries WHERE namespace = ?1 AND key = ?2
UNION ALL
SELECT ?2, version, sequence, NULL, NULL, NULL, NULL
  FROM tombstones WHERE namespace = ?1 AND key = ?2
"""
_CURRENT_MANY: Final = """
SELECT k.value, e.version, e.sequence, e.expiration, e.size, length(e.metadata),
       typeof(e.value) = 'null'
  FROM carray(?2) k CROSS JOIN entries e ON e.namespace = ?1 AND e.key = k.value
UNION ALL
SELECT k.value, t.version, t.sequence, NULL, NULL, NULL, NULL
  FROM carray(?2) k CROSS JOIN tombstones t ON t.namespace = ?1 AND t.key = k.value
"""
_PUT: Final = """
REPLACE INTO entries (namespace, key, version, sequence, expiration, size, seal, metadata, value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UNBURY: Final = "DELETE FROM tombstones WHERE namespace = ? AND key = ?"
BURY: Final = "REPLACE INTO tombstones (namespace, key, version, sequence) VALUES (?, ?, ?, ?)"
DELETE: Final = "DELETE FROM entries WHERE namespace = ? AND key = ?"
_LOG: Final = "INSERT INTO log (sequence, namespace, key, version) VALUES (?, ?, ?, ?)"
_CHUNK: Final = "INSERT INTO chunks (blob, n, seal, sealed) VALUES (?, ?, ?, ?)"
DOOM: Final = "INSERT INTO doomed (blob) VALUES (?)"

_KINDS: Final = (OutcomeKind.APPLIED, OutcomeKind.LOST)


class _Current(NamedTuple):
    """What there is of a key; a tombstone has no size."""

    key: bytes
    version: Version
    sequence: int
    expiration: int | None
    size: int | None
    metadata_sealed_bytes: int | None
    chunked: int | None

    def live_version(self, now_s: int) -> Version | None:
        """Return the version that readers see."""
        dead = self.size is None or (self.expiration is not None and self.expiration <= now_s)
        return None if dead else self.version


def held_bytes(key: bytes, size: int, metadata_sealed_bytes: int | None) -> int:
    """Return what an entry counts for in its namespace's usage."""
    metadata = 0 if metadata_sealed_bytes is None else metadata_sealed_bytes - TAG_BYTES
    return len(key) + size + metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes(Sequence[Outcome]):
    """Outcomes that are made when they are looked at: of a bulk's thousands few ever are."""

    versions: Sequence[Version]
    lost: dict[int, Outcome]

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
    found: dict[bytes, _Current] = {}
    if len(keys) <= FEW_KEYS:
        for key in keys:
            for row in query(_CURRENT, (number, key)):
                found[key] = _Current._make(cast("_CurrentRow", row))
        return found
    for at in range(0, len(keys), SLICE_ROWS):
        part = keys[at : at + SLICE_ROWS]
        for row in transaction.database.query_each(_CURRENT_MANY, number, part):
            current = _Current._make(cast("_CurrentRow", row))
            found[current.key] = current
        await transaction.pause()
    return found


def _broken_condition(
    mutations: Sequence[Mutation],
    keys: Sequence[bytes],
    current: dict[bytes, _Current],
    now_s: int,
) -> ConditionFailedError | None:
    """Return the error about the first condition that does not hold."""
    for mutation, key in zip(mutations, keys, strict=True):
        if mutation.condition is not None:
            there = current.get(key)
            version = None if there is None else there.live_version(now_s)
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
            there = current.get(key)
            admit(mutation, live=there is not None and there.live_version(now_s) is not None)
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
    last = {key: i for i, key in enumerate(keys)}
    stamped = [mutation.stamp or versions[i] for i, mutation in enumerate(mutations)]
    winners: list[tuple[bytes, int]] = []
    lost: dict[int, Outcome] = {}
    records, database = transaction.records, transaction.database
    eager_bytes = VALUE_INLINE_BYTES_MAX
    for key, i in last.items():
        there = current.get(key)
        if there is None or there.version < stamped[i]:
            winners.append((key, i))
            continue
        number = transaction.number_or_new(batch.namespace)
        entry = records.find(
            database, number, batch.namespace, mutations[i].key, chunk=eager_bytes > 0
        )
        eager_bytes -= there.size or 0
        lost[i] = Outcome(kind=OutcomeKind.LOST, version=there.version, current=entry)
        await transaction.pause()
    if winners:
        await _write_winners(transaction, batch, winners, stamped, current)
    if len(last) < len(keys):
        places = [last[key] for key in keys]
        stamped = [stamped[place] for place in places]
        lost = {i: lost[place] for i, place in enumerate(places) if place in lost}
    for i, outcome in lost.items():
        stamped[i] = outcome.version
    return Outcomes(versions=stamped, lost=lost)


@dataclass(slots=True, kw_only=True)
class _Rows:
    """The rows that a slice of a batch writes."""

    puts: list[Row] = field(default_factory=list[Row])
    unburied: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    buried: list[tuple[int, bytes, int, int]] = field(
        default_factory=list[tuple[int, bytes, int, int]]
    )
    deleted: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    log: list[tuple[int, int, bytes, int]] = field(
        default_factory=list[tuple[int, int, bytes, int]]
    )
    doomed: list[tuple[int]] = field(default_factory=list[tuple[int]])
    large: list[tuple[int, bytes, bytes]] = field(default_factory=list[tuple[int, bytes, bytes]])
    keys: int = 0
    size_bytes: int = 0

    def replace(self, number: int, key: bytes, there: _Current | None, *, buried: bool) -> None:
        """Take away what is there, as far as writing over it does not."""
        if there is None:
            return
        if there.size is None:
            if not buried:
                self.unburied.append((number, key))
            return
        self.keys -= 1
        self.size_bytes -= held_bytes(key, there.size, there.metadata_sealed_bytes)
        if there.chunked:
            self.doomed.append((there.sequence,))
        if buried:
            self.deleted.append((number, key))

    def add(  # noqa: PLR0917 - once for each row of a bulk, where names cost
        self,
        number: int,
        key: bytes,
        mutation: Mutation,
        version: Version,
        sequence: int,
        sealer: Sealer,
    ) -> None:
        """Add an entry or a tombstone."""
        value, metadata, sealed = mutation.value, mutation.metadata, None
        if value is None:
            self.buried.append((number, key, version, sequence))
            return
        size = len(value)
        self.keys += 1
        self.size_bytes += len(key) + size
        if metadata is not None:
            self.size_bytes += len(metadata)
            metadata = sealer.seal(metadata, key=key, sequence=sequence, part=PART_METADATA)
        if size > INLINE_BYTES_MAX:
            self.large.append((sequence, key, value))
        else:
            sealed = sealer.seal(value, key=key, sequence=sequence, part=PART_VALUE)
        self.puts.append(
            (
                number,
                key,
                version,
                sequence,
                mutation.expiration,
                size,
                sealer.seal_id,
                metadata,
                sealed,
            )
        )

    def write(self, database: Database) -> None:
        """Write them, all but the large values."""
        for sql, rows in (
            (_PUT, self.puts),
            (_LOG, self.log),
            (_UNBURY, self.unburied),
            (BURY, self.buried),
            (DELETE, self.deleted),
            (DOOM, self.doomed),
        ):
            if rows:
                database.run_many(sql, rows)


async def _write_winners(
    transaction: Transaction,
    batch: Batch,
    winners: list[tuple[bytes, int]],
    stamped: Sequence[Version],
    current: dict[bytes, _Current],
) -> None:
    """Write the mutations that win, slice by slice."""
    number = transaction.number_or_new(batch.namespace)
    sealer = transaction.sealing.sealer(batch.namespace)
    mutations = batch.mutations
    sequence = transaction.take_sequences(len(winners))
    remaining = iter(winners)
    while part := list(islice(remaining, SLICE_ROWS)):
        rows = _Rows()
        for key, i in part:
            sequence += 1
            rows.log.append((sequence, number, key, stamped[i]))
            rows.replace(number, key, current.get(key), buried=mutations[i].value is None)
            rows.add(number, key, mutations[i], stamped[i], sequence, sealer)
        rows.write(transaction.database)
        transaction.doomed.update(blob for (blob,) in rows.doomed)
        transaction.account(number, keys=rows.keys, size_bytes=rows.size_bytes)
        for blob, key, value in rows.large:
            await _write_chunks(transaction, sealer, blob, key, value)
        await transaction.pause()
    head = transaction.head
    head.sequence = sequence
    head.log_rows += len(winners)
    head.last_version = max(head.last_version, *(stamped[i] for _, i in winners))


async def _write_chunks(
    transaction: Transaction, sealer: Sealer, blob: int, key: bytes, value: bytes
) -> None:
    for n, piece in enumerate(split(value)):
        sealed = sealer.seal(
            piece,
            key=key,
            sequence=blob,
            part=PART_FIRST_CHUNK + n,
            bound=len(value).to_bytes(8, "big"),
        )
        transaction.database.run(_CHUNK, (blob, n, sealer.seal_id, sealed))
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
            chunk=eager_bytes > 0,
        )
        if current is None:  # Deleted since, and swept.
            current = Entry(key=mutation.key, version=version, value=None)
        eager_bytes -= len(current.value) if isinstance(current.value, bytes) else 0
        outcomes.append(Outcome(kind=_KINDS[kind], version=version, current=current))
        await transaction.pause()
    return Written(outcomes=outcomes, position=transaction.head.position, repeated=True)


_CurrentRow = tuple[bytes, Version, int, int | None, int | None, int | None, int | None]
