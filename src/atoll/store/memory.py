"""A store in memory: the oracle that others are compared with, and the simulator's disk.

Written for obviousness. A scan sorts, a sweep walks everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from atoll.core import rules
from atoll.core.errors import (
    ConditionFailedError,
    IdempotencyKeyReusedError,
    OutcomeForgottenError,
    PositionTooOldError,
)
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    Entry,
    Identity,
    Include,
    Listed,
    ListQuery,
    Outcome,
    OutcomeKind,
    Page,
    Position,
    Written,
)
from atoll.core.version import CENTRAL_NODE, NO_VERSION, Version, Versions, version_at
from atoll.store.protocol import Admit, Change, Changes, Found, SweepOrder, Swept, Usage

US_PER_S = 1_000_000


@dataclass(slots=True)
class _Remembered:
    """The outcome of a batch, kept under its identity."""

    since_us: int | None
    """For how long it is kept; `None` if its sender says when it is resolved."""
    fingerprint: bytes
    outcomes: tuple[Outcome, ...]
    failed: tuple[str, Version | None] | None


@dataclass(slots=True)
class _Origin:
    """What is remembered of one origin of identities."""

    lowest_unresolved: bytes | None = None
    by_name: dict[bytes, _Remembered] = field(default_factory=dict[bytes, _Remembered])


class MemoryStore:
    """See `Store`."""

    def __init__(self, *, incarnation: int) -> None:
        """Start empty."""
        self._incarnation = incarnation
        self._entries: dict[tuple[str, str], Entry] = {}
        self._log: list[tuple[int, str, str, Version]] = []
        self._sequence = 0
        self._log_start = 0
        self._last_version = NO_VERSION
        self._origins: dict[str, _Origin] = {}

    def copy(self, *, incarnation: int) -> "MemoryStore":
        """Return what a backup taken now would be restored to."""
        copy = MemoryStore(incarnation=incarnation)
        copy._entries = dict(self._entries)
        copy._log = list(self._log)
        copy._sequence = self._sequence
        copy._log_start = self._log_start
        copy._last_version = self._last_version
        copy._origins = {
            name: _Origin(origin.lowest_unresolved, dict(origin.by_name))
            for name, origin in self._origins.items()
        }
        return copy

    @property
    def position(self) -> Position:
        """See `Store`."""
        return self._at(self._sequence)

    @property
    def last_version(self) -> Version:
        """See `Store`."""
        return self._last_version

    def _at(self, sequence: int) -> Position:
        return Position(incarnation=self._incarnation, sequence=sequence)

    async def get(self, namespace: str, keys: Sequence[str]) -> Found:
        """See `Store`."""
        found = tuple(self._entries.get((namespace, key)) for key in keys)
        return Found(entries=found, position=self.position)

    async def apply(
        self,
        batch: Batch,
        versions: Versions,
        *,
        now_us: int,
        admit: Admit | None = None,
    ) -> Written:
        """See `Store`.

        Raises:
            ConditionFailedError: As there, like the others.
        """
        known = self._remembered(batch.identity)
        if known is None:
            known = self._decide(batch, versions, now_us, admit)
            if batch.identity is not None:
                self._origins[batch.identity.origin].by_name[batch.identity.name] = known
            repeated = False
        else:
            repeated = True
        if known.failed is not None:
            key, version = known.failed
            raise ConditionFailedError(key=key, version_current=version)
        outcomes = known.outcomes
        if repeated:
            if len(outcomes) != len(batch.mutations):
                raise IdempotencyKeyReusedError
            outcomes = tuple(
                replace(outcome, current=self._record(batch.namespace, mutation.key, outcome))
                for outcome, mutation in zip(outcomes, batch.mutations, strict=True)
            )
        return Written(outcomes=outcomes, position=self.position, repeated=repeated)

    def _record(self, namespace: str, key: str, outcome: Outcome) -> Entry:
        """Return a key's record, a tombstone if it was deleted since and swept."""
        entry = self._entries.get((namespace, key))
        return entry or Entry(key=key, version=outcome.version, value=None)

    def _remembered(self, identity: Identity | None) -> _Remembered | None:
        """Look an identity up, and forget what its sender has resolved."""
        if identity is None:
            return None
        origin = self._origins.setdefault(identity.origin, _Origin())
        lowest = max(origin.lowest_unresolved or b"", identity.lowest_unresolved or b"")
        if identity.lowest_unresolved is not None:
            origin.lowest_unresolved = lowest
            origin.by_name = {n: known for n, known in origin.by_name.items() if n >= lowest}
        if origin.lowest_unresolved is not None and identity.name < origin.lowest_unresolved:
            raise OutcomeForgottenError
        known = origin.by_name.get(identity.name)
        if known is not None and known.fingerprint != identity.fingerprint:
            raise IdempotencyKeyReusedError
        return known

    def _decide(
        self, batch: Batch, versions: Versions, now_us: int, admit: Admit | None
    ) -> _Remembered:
        """Check the conditions and apply what wins."""
        assert len(versions) >= len(batch.mutations)
        ordered = batch.identity is not None and batch.identity.lowest_unresolved is not None
        since_us = None if ordered else now_us
        fingerprint = b"" if batch.identity is None else batch.identity.fingerprint
        for mutation in batch.mutations:
            entry = self._entries.get((batch.namespace, mutation.key))
            live = entry if rules.is_live(entry, now_us / US_PER_S) else None
            live_version = None if live is None else live.version
            if not rules.holds(mutation.condition, live_version):
                failed = (mutation.key, live_version)
                return _Remembered(since_us, fingerprint, (), failed)
        last_of_key = {mutation.key: i for i, mutation in enumerate(batch.mutations)}
        if admit is not None:
            for key, i in last_of_key.items():
                entry = self._entries.get((batch.namespace, key))
                admit(batch.mutations[i], live=rules.is_live(entry, now_us / US_PER_S))
        outcomes: dict[str, Outcome] = {}
        for key, i in last_of_key.items():
            mutation = batch.mutations[i]
            version = mutation.stamp or versions[i]
            at = (batch.namespace, key)
            current = self._entries.get(at)
            if current is not None and current.version >= version:
                outcomes[key] = Outcome(
                    kind=OutcomeKind.LOST, version=current.version, current=current
                )
                continue
            self._sequence += 1
            self._entries[at] = Entry(
                key=key,
                version=version,
                value=mutation.value,
                metadata=mutation.metadata,
                expiration=mutation.expiration,
                sequence=self._sequence,
            )
            self._log.append((self._sequence, batch.namespace, key, version))
            self._last_version = max(self._last_version, version)
            outcomes[key] = Outcome(kind=OutcomeKind.APPLIED, version=version)
        in_order = tuple(outcomes[mutation.key] for mutation in batch.mutations)
        return _Remembered(since_us, fingerprint, in_order, None)

    async def scan(self, query: ListQuery, *, now_us: int) -> Page:
        """See `Store`."""
        live = sorted(
            (key, entry)
            for (namespace, key), entry in self._entries.items()
            if namespace == query.namespace
            and key.startswith(query.prefix)
            and (query.after is None or key > query.after)
            and rules.is_live(entry, now_us / US_PER_S)
        )
        if query.include is Include.COUNT:
            page = live[: query.limit]
            after = page[-1][0] if len(live) > len(page) else None
            return Page(items=(), count=len(page), after=after, position=self.position)
        items: list[Listed] = []
        values_bytes = 0
        for key, entry in live[: query.limit]:
            assert isinstance(entry.value, bytes)
            value = entry.value if query.include is Include.VALUES else None
            if value is not None and len(value) > VALUE_INLINE_BYTES_MAX:
                value = None
            values_bytes += len(value or b"")
            if items and value is not None and values_bytes > query.values_bytes_max:
                break
            items.append(
                Listed(
                    key=key,
                    version=entry.version,
                    size_bytes=len(entry.value),
                    metadata=entry.metadata,
                    expiration=entry.expiration,
                    value=value,
                )
            )
        after = items[-1].key if len(live) > len(items) else None
        return Page(items=items, count=len(items), after=after, position=self.position)

    async def changes(self, after: Position, *, limit: int) -> Changes:
        """See `Store`.

        Raises:
            PositionTooOldError: As there.
        """
        if (
            after.incarnation != self._incarnation
            or not self._log_start <= after.sequence <= self._sequence
        ):
            raise PositionTooOldError(position=str(after), start_at=str(self._at(self._log_start)))
        rows = [row for row in self._log if row[0] > after.sequence][:limit]
        changes: list[Change] = []
        for sequence, namespace, key, version in rows:
            entry = self._entries.get((namespace, key))
            if entry is None:  # Buried and swept: that it was deleted is still news to a follower.
                entry = Entry(key=key, version=version, value=None, sequence=sequence)
            if entry.sequence == sequence:
                changes.append(Change(namespace=namespace, entry=entry))
        end = rows[-1][0] if rows else after.sequence
        return Changes(changes=changes, position=self._at(end), complete=end == self._sequence)

    async def usage(self, namespace: str, *, now_us: int) -> Usage:
        """See `Store`."""
        keys = size_bytes = 0
        for (at, key), entry in self._entries.items():
            if at == namespace and rules.is_live(entry, now_us / US_PER_S):
                assert isinstance(entry.value, bytes)
                keys += 1
                size_bytes += len(key.encode()) + len(entry.value) + len(entry.metadata or b"")
        return Usage(keys=keys, bytes=size_bytes)

    async def sweep(self, order: SweepOrder) -> Swept:
        """See `Store`."""
        dropped = [at for at in self._entries if at[0] in order.dropped][: order.limit]
        for at in dropped:
            del self._entries[at]
        expired, removed = self._bury(order)
        truncated = min(order.limit, max(0, len(self._log) - order.log_rows_max))
        if truncated:
            self._log_start = self._log[truncated - 1][0]
            del self._log[:truncated]
        return Swept(
            expired=expired,
            removed=removed,
            dropped=len(dropped),
            forgotten=self._forget(order),
            truncated=truncated,
        )

    def _bury(self, order: SweepOrder) -> tuple[int, int]:
        """Turn what has expired into tombstones, and remove old tombstones."""
        expired = [
            at
            for at, entry in self._entries.items()
            if entry.value is not None and not rules.is_live(entry, order.now_us / US_PER_S)
        ][: order.limit]
        removed = [
            at
            for at, entry in self._entries.items()
            if entry.value is None and entry.version < order.tombstones_below
        ][: order.limit]
        for at in expired:
            self._entries[at] = replace(
                self._entries[at], value=None, metadata=None, expiration=None
            )
        for at in removed:
            del self._entries[at]
        if expired:
            self._last_version = max(self._last_version, version_at(order.now_us, CENTRAL_NODE))
        return len(expired), len(removed)

    def _forget(self, order: SweepOrder) -> int:
        """Forget outcomes that are kept for a time."""
        old = [
            (origin, name)
            for origin in self._origins.values()
            for name, known in origin.by_name.items()
            if known.since_us is not None and known.since_us < order.outcomes_before_us
        ][: order.limit]
        for origin, name in old:
            del origin.by_name[name]
        return len(old)

    async def close(self) -> None:
        """See `Store`."""
