"""`Store`: what central needs of its durable data.

A store orders, keeps and finds entries. It decides what must be decided inside a transaction
(conditions, which write wins, whether a batch was applied before) and nothing else: limits,
credentials and stamps are central's. `tests/contract/store.py` holds every implementation to
these sentences.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from atoll.core.model import Batch, Entry, ListQuery, Mutation, Page, Position, Written
from atoll.core.version import Version, Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Entries read in one snapshot, and the position at which it was true."""

    entries: Sequence[Entry | None]
    """In the order asked; tombstones and what has expired included; `None` for the unknown."""
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the feed's log that is still its key's latest."""

    namespace: str
    entry: Entry
    """`entry.sequence` is the row's place in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A stretch of the feed's log."""

    changes: Sequence[Change]
    position: Position
    """The stretch ends here: what comes next is asked for with this."""
    complete: bool
    """Whether `position` was the end of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a namespace holds. What has expired is not counted."""

    keys: int
    bytes: int
    """Sizes of keys, values and metadata, before sealing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one round of sweeping did."""

    expired: int = 0
    """Entries that had expired and were buried: value and metadata gone, tombstone left."""
    removed: int = 0
    """Tombstones removed."""
    dropped: int = 0
    """Entries and tombstones of dropped namespaces removed."""
    forgotten: int = 0
    """Outcomes of writes forgotten."""
    truncated: int = 0
    """Rows of the feed's log removed."""
    reclaimed: int = 0
    """Large values removed that had been overwritten or deleted."""

    @property
    def total(self) -> int:
        """Everything together: 0 when there was nothing to do."""
        return (
            self.expired
            + self.removed
            + self.dropped
            + self.forgotten
            + self.truncated
            + self.reclaimed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOrder:
    """What a round of sweeping may remove."""

    now_us: int
    """Central time, in microseconds since the Unix epoch."""
    tombstones_below: Version
    """Tombstones with smaller versions are removed: no journal holds anything older."""
    outcomes_before_us: int
    """Outcomes of batches without a `lowest_unresolved`, written before this, are forgotten."""
    log_rows_max: int
    """How many rows of the log to keep."""
    dropped: Collection[str] = ()
    """Namespaces that no longer exist; their entries are removed without a trace."""
    limit: int = 1000
    """How many rows of each kind one round handles at most."""


class Admit(Protocol):
    """Asked inside the transaction whether a mutation may be applied."""

    def __call__(self, mutation: Mutation, *, live: bool) -> None:
        """Return to let it pass, raise to stop the whole batch.

        Args:
            mutation: What is about to be applied.
            live: Whether readers see a value at its key now.
        """
        ...


class Store(Protocol):
    """Durable entries, their order and their log."""

    @property
    def position(self) -> Position:
        """The end of the log: everything committed so far."""
        ...

    @property
    def last_version(self) -> Version:
        """What later stamps must be later than, whatever the clock says.

        The largest version ever committed here, also if it has been swept since; and when
        something was swept as expired, the time by which it was.
        """
        ...

    async def get(self, namespace: str, keys: Sequence[str]) -> Found:
        """Read entries in one snapshot."""
        ...

    async def apply(
        self,
        batch: Batch,
        versions: Versions,
        *,
        now_us: int,
        admit: Admit | None = None,
    ) -> Written:
        """Apply a batch in one transaction and return when it is durable.

        In this order:

        1. A batch with an identity that was applied before returns its first outcomes, with
           `repeated`, and changes nothing.
        2. Conditions are checked against what is live.
        3. `admit` is asked; whatever it raises stops the batch and is not remembered.
        4. Each mutation is applied if its version (its stamp, else its own from `versions`) is
           larger than that of the entry or tombstone that is there. Every applied mutation,
           deletions of absent keys included, leaves an entry or a tombstone and a row in the
           log; of two mutations of one key in a batch only the last does.

        Batches are applied in the order of the calls.

        Args:
            batch: What to apply.
            versions: One for each mutation, growing.
            now_us: Central time, in microseconds since the Unix epoch.
            admit: Asked once for each key, about the last of its mutations.

        Raises:
            ConditionFailedError: A condition does not hold. Nothing was applied.
            OutcomeForgottenError: The identity's name lies below the origin's largest
                `lowest_unresolved`. Nothing was applied.
            IdempotencyKeyReusedError: The identity is known with another fingerprint. Nothing
                was applied.
            DiskFullError: There is no room. Nothing was applied.
        """
        ...

    async def scan(self, query: ListQuery, *, now_us: int) -> Page:
        """Return a page of live keys in the order of their UTF-8 bytes.

        A page is empty only if nothing is left. Its cost depends on its own size, not on the
        namespace's, nor on how much of it was deleted.
        """
        ...

    async def changes(self, after: Position, *, limit: int) -> Changes:
        """Return what the log holds behind `after`, at most `limit` rows of it.

        Rows that a later row of the same key supersedes are left out. A row whose tombstone has
        been swept is still told, as a tombstone.

        Raises:
            PositionTooOldError: The log does not reach back to `after`, or `after` is of another
                incarnation, or lies ahead of the log.
        """
        ...

    async def usage(self, namespace: str, *, now_us: int) -> Usage:
        """Return what the namespace holds, exact at the moment of the call."""
        ...

    async def sweep(self, order: SweepOrder) -> Swept:
        """Do one bounded round of removing what is dead. Call again while it reports work."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""
        ...
