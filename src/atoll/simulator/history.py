"""What truly happened: every change that central's store committed, and when.

The checkers believe this and what clients were told, and nothing else.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from atoll.checking.facts import MISSING, NEVER_S, NO_SEQUENCE, Operation, Row, Span, say_row
from atoll.core.errors import DiskFullError, OutcomeForgottenError
from atoll.core.model import (
    Batch,
    JournalToken,
    ListQuery,
    OutcomeKind,
    Page,
    Position,
    Reading,
    Written,
)
from atoll.core.version import Version, Versions
from atoll.store.memory import MemoryStore
from atoll.store.protocol import Admit, Changes, Found, SweepOrder, Swept, Usage


class KeyHistory:
    """The rows of one key, in the order of their commits."""

    __slots__ = ("_sequences", "_spans_of_value", "rows")

    def __init__(self) -> None:
        self.rows: list[Row] = [MISSING]
        self._sequences: list[int] = [0]

    def append(self, row: Row) -> None:
        """Take in a commit."""
        self.rows.append(row)
        self._sequences.append(row.sequence)

    def span(self, index: int) -> Span:
        """Return one row with its end."""
        later = self.rows[index + 1] if index + 1 < len(self.rows) else None
        return Span(
            row=self.rows[index],
            until_s=NEVER_S if later is None else later.at_s,
            until_sequence=NO_SEQUENCE if later is None else later.sequence,
        )

    def at(self, sequence: int) -> Span:
        """Return what was true at a place in the log."""
        return self.span(bisect_right(self._sequences, sequence) - 1)

    def spans(self) -> Iterator[Span]:
        """Yield every row with its end."""
        return (self.span(index) for index in range(len(self.rows)))

    def copy_until(self, sequence: int) -> "KeyHistory":
        """Return the history that a backup taken at `sequence` holds."""
        copy = KeyHistory()
        for row in self.rows[1:]:
            if row.sequence <= sequence:
                copy.append(row)
        return copy


class History:
    """All keys, for each incarnation of central's store."""

    def __init__(self) -> None:
        self.incarnation = 1
        self.commits = 0
        self.sweeps_removed = 0
        self.repeats_forgotten = 0
        """How often a write came again whose outcome central had let go of."""
        self.end_sequence = 0
        self._keys: dict[int, dict[tuple[str, str], KeyHistory]] = {1: {}}
        self._identities: dict[tuple[str, bytes], int] = {}
        self.trace: list[str] | None = None
        """A line for everything that happens, if somebody wants to read it."""
        self.delivered: dict[JournalToken, dict[str, int]] = {}
        """What central decided of journaled writes: for each key the version that came of it."""
        self.delivered_in: dict[JournalToken, int] = {}
        """The incarnation that they were delivered to first, which a restore may end."""
        self.applied_twice: list[str] = []
        self.out_of_order: list[str] = []

    def say(self, now_s: float, what: str) -> None:
        """Note something for who reads along."""
        if self.trace is not None:
            self.trace.append(f"{now_s:10.4f} {what}")

    def key(self, namespace: str, key: str, incarnation: int | None = None) -> KeyHistory:
        """Return the history of one key, empty if nothing was written."""
        keys = self._keys[self.incarnation if incarnation is None else incarnation]
        history = keys.get((namespace, key))
        if history is None:
            history = keys[namespace, key] = KeyHistory()
        return history

    def knows(self, incarnation: int) -> bool:
        """Whether central ever had this incarnation."""
        return incarnation in self._keys

    def keys(self) -> Collection[tuple[str, str]]:
        """Every key that was asked about or written, in this incarnation."""
        return self._keys[self.incarnation].keys()

    # What checkers ask; see `Truth`.

    @property
    def is_told(self) -> bool:
        """See `Truth`."""
        return self.trace is not None

    def shown(self, namespace: str, key: str, reading: Reading) -> Sequence[Span]:
        """See `Truth`: exactly one row was there."""
        span = self._there(namespace, key, reading)
        row, entry = span.row, reading.entry
        if entry is None:
            return (span,) if row.value is None or row.expiration is not None else ()
        same = (entry.version, entry.value, entry.expiration) == (
            row.version,
            row.value,
            row.expiration,
        )
        return (span,) if same else ()

    def explained(self, namespace: str, key: str, reading: Reading) -> str:
        """See `Truth`."""
        return f"there it was {say_row(self._there(namespace, key, reading).row)}"

    def _there(self, namespace: str, key: str, reading: Reading) -> Span:
        position = reading.position
        return self.key(namespace, key, position.incarnation).at(position.sequence)

    def newest(self, namespace: str, key: str) -> int:
        """See `Truth`."""
        return self.latest(namespace, key).version

    def latest(self, namespace: str, key: str) -> Row:
        """See `Truth`."""
        return self.key(namespace, key).rows[-1]

    def row_of(self, operation: Operation) -> Row | None:
        """See `Truth`."""
        return next(
            (
                row
                for row in reversed(self.key(operation.namespace, operation.key).rows)
                if row.version == operation.version and row.value == operation.value
            ),
            None,
        )

    def became(self, token: JournalToken, key: str) -> int | None:
        """See `Truth`."""
        return self.delivered.get(token, {}).get(key)

    def taken_back(self, token: JournalToken, incarnation: int) -> bool:
        """See `Truth`."""
        return self.delivered_in.get(token, incarnation) < incarnation

    def owner(self, token: JournalToken) -> str:
        """See `Truth`."""
        return token.location

    # What central tells.

    def commit(self, namespace: str, key: str, row: Row) -> None:
        """Take in a change."""
        self.commits += 1
        self.end_sequence = max(self.end_sequence, row.sequence)
        history = self.key(namespace, key)
        last = history.rows[-1]
        if row.version <= last.version:
            self.out_of_order.append(
                f"{key}: version {row.version} was applied over {last.version}, which is later"
            )
        history.append(row)
        self.say(row.at_s, f"central commits {key} {row}")

    def applied(self, identity: tuple[str, bytes]) -> None:
        """Note that a batch was applied, which happens once for an identity."""
        if identity in self._identities:
            self.applied_twice.append(f"the batch {identity[0]} {identity[1].hex()}")
        # Its rows come behind what is there by now; a backup of that does not hold it.
        self._identities[identity] = self.end_sequence + 1

    def restored(self, sequence: int) -> int:
        """Go back to a backup that was taken at `sequence`; return the new incarnation."""
        old = self._keys[self.incarnation]
        self.incarnation += 1
        self._keys[self.incarnation] = {
            at: history.copy_until(sequence) for at, history in old.items()
        }
        self._identities = {name: at for name, at in self._identities.items() if at <= sequence}
        self.end_sequence = sequence
        return self.incarnation


@dataclass(slots=True, kw_only=True)
class Disk:
    """How central's disk behaves."""

    commit_s: float = 0.002
    full: float = 0.0
    """How likely a commit finds no room."""


class RecordedStore:
    """See `Store`: a store in memory that takes its time and tells the history what it did."""

    def __init__(
        self, inner: MemoryStore, history: History, loop: asyncio.AbstractEventLoop, random: Random
    ) -> None:
        self._inner = inner
        self._history = history
        self._loop = loop
        self._random = random
        self._turn = asyncio.Lock()
        self.disk = Disk()

    @property
    def position(self) -> Position:
        """See `Store`."""
        return self._inner.position

    @property
    def last_version(self) -> Version:
        """See `Store`."""
        return self._inner.last_version

    async def _wait(self) -> None:
        seconds = self.disk.commit_s * self._random.random()
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual seconds

    async def get(self, namespace: str, keys: Sequence[str]) -> Found:
        """See `Store`."""
        return await self._inner.get(namespace, keys)

    async def apply(
        self,
        batch: Batch,
        versions: Versions,
        *,
        now_us: int,
        admit: Admit | None = None,
    ) -> Written:
        """See `Store`. Batches commit in the order of the calls, as there.

        Raises:
            DiskFullError: As there, like the others.
        """
        async with self._turn:
            await self._wait()
            if self.disk.full and self._random.random() < self.disk.full:
                raise DiskFullError
            try:
                written = await self._inner.apply(batch, versions, now_us=now_us, admit=admit)
            except OutcomeForgottenError:
                self._history.repeats_forgotten += 1
                raise
            if not written.repeated:
                await self._record(batch, written)
            if batch.token is not None:
                self._history.delivered[batch.token] = {
                    mutation.key: outcome.version
                    for mutation, outcome in zip(batch.mutations, written.outcomes, strict=True)
                }
                self._history.delivered_in[batch.token] = self._history.incarnation
        await self._wait()
        return written

    async def _record(self, batch: Batch, written: Written) -> None:
        """Tell the history what is there now that was not there before."""
        identity = None
        if batch.identity is not None:
            identity = (batch.identity.origin, batch.identity.name)
            self._history.applied(identity)
        last_of_key = {mutation.key: i for i, mutation in enumerate(batch.mutations)}
        found = await self._inner.get(batch.namespace, list(last_of_key))
        for entry, i in zip(found.entries, last_of_key.values(), strict=True):
            mutation, outcome = batch.mutations[i], written.outcomes[i]
            if outcome.kind is not OutcomeKind.APPLIED or entry is None:
                continue
            row = Row(
                at_s=self._loop.time(),
                sequence=entry.sequence,
                version=entry.version,
                value=mutation.value,
                expiration=mutation.expiration,
                stamped=mutation.stamp is not None,
                identity=identity,
            )
            self._history.commit(batch.namespace, mutation.key, row)

    async def scan(self, query: ListQuery, *, now_us: int) -> Page:
        """See `Store`."""
        return await self._inner.scan(query, now_us=now_us)

    async def changes(self, after: Position, *, limit: int) -> Changes:
        """See `Store`."""
        return await self._inner.changes(after, limit=limit)

    async def usage(self, namespace: str, *, now_us: int) -> Usage:
        """See `Store`."""
        return await self._inner.usage(namespace, now_us=now_us)

    async def sweep(self, order: SweepOrder) -> Swept:
        """See `Store`."""
        swept = await self._inner.sweep(order)
        self._history.sweeps_removed += swept.removed
        return swept

    async def close(self) -> None:
        """See `Store`."""
        await self._inner.close()
