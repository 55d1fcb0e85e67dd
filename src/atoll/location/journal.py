"""The writes that central has not acknowledged yet: the protocol `Journal`, and one in memory.

A journal is a durable queue. What `append` returned from survives a crash of the process and of
the machine, in order, until its outcome is recorded. Beside the queue it keeps what must outlive
the cache: which numbers were given to writes, how late stamps have become, and the node id. The
journal in memory is the model that the simulator runs on; it loses what was not synced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from atoll.core.location_errors import JournalFullError
from atoll.core.model import Mutation
from atoll.core.version import NO_VERSION, Version
from atoll.registry import LABEL_MARK

ENTRY_OVERHEAD_BYTES: Final = 100
"""What an entry or a mutation takes beyond its key, value and metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """One batch that waits to be delivered."""

    sequence: int
    """Its place in the journal: 1 and up, never used again; 0 before it has one."""
    identity: int
    """The number under which central knows it."""
    namespace: str
    mutations: tuple[Mutation, ...]
    """Each with its stamp."""
    heard_us: int
    """The last central time that had been heard when it was stamped."""

    @property
    def first_stamp(self) -> Version:
        """The least of its stamps."""
        return self.mutations[0].stamp or NO_VERSION

    @property
    def size_bytes(self) -> int:
        """How much of the journal's bound it takes."""
        return ENTRY_OVERHEAD_BYTES + sum(
            ENTRY_OVERHEAD_BYTES
            + len(mutation.key.encode())
            + len(mutation.value or b"")
            + len(mutation.metadata or b"")
            for mutation in self.mutations
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An entry that central refused. It is kept until somebody discards it."""

    entry: Journaled
    code: str
    """The error's code."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """What is kept beside the entries."""

    identities_reserved: int = 0
    """Numbers up to here may have been given to writes."""
    stamp_floor: Version = NO_VERSION
    """Whatever is stamped from now on must be later than this."""
    node: int | None = None
    """The id that central gave this location."""
    registered_in: int | None = None
    """The incarnation of central that gave it."""
    label: str = ""
    """Tells this journal from an earlier one of the same location that was lost with its disk, so
    that central does not take new writes for repeats of old ones."""


def journal_name(location: str, state: JournalState) -> str:
    """Return what a location's present journal is called in identities and tokens."""
    return f"{location}{LABEL_MARK}{state.label}" if state.label else location


class Journal(Protocol):
    """A durable queue with a bound. One keeper owns it.

    Whatever changes it returns when the change is durable, and raises `StoreError` if it cannot
    be made so; nothing was changed then.
    """

    size_bytes_max: int
    """The bound that an operator set."""

    @property
    def size_bytes(self) -> int:
        """How much its entries take."""
        ...

    @property
    def state(self) -> JournalState:
        """What was saved last."""
        ...

    @property
    def last_sequence(self) -> int:
        """The largest sequence ever given to an entry; 0 before the first."""
        ...

    @property
    def entries(self) -> Sequence[Journaled]:
        """What waits, oldest first."""
        ...

    @property
    def refused(self) -> Sequence[Refused]:
        """What central refused, oldest first."""
        ...

    async def update(self, change: Callable[[JournalState], JournalState]) -> None:
        """Make a change to the state. Calls may overlap; each sees what the one before made."""
        ...

    async def append(self, entry: Journaled) -> Journaled:
        """Add an entry and return it with its sequence, which it is given here.

        Calls may overlap; entries are added in the order of the calls.

        Raises:
            JournalFullError: It would exceed the bound.
        """
        ...

    async def resolve(self, sequence: int, refused: Refused | None = None) -> None:
        """Take the oldest entry out, or set it aside as refused."""
        ...

    async def discard(self, sequence: int) -> None:
        """Let go of a refused entry."""
        ...


def raised(state: JournalState, entry: Journaled) -> JournalState:
    """Raise the floor of later stamps to those of an entry that is added."""
    stamps = [mutation.stamp or NO_VERSION for mutation in entry.mutations]
    return replace(state, stamp_floor=max(state.stamp_floor, *stamps))


@dataclass(frozen=True, slots=True)
class _Contents:
    """All that a journal holds."""

    state: JournalState = field(default_factory=JournalState)
    last_sequence: int = 0
    entries: tuple[Journaled, ...] = ()
    refused: tuple[Refused, ...] = ()


async def synced_at_once() -> None:
    """Take no time to reach the disk."""


class MemoryJournal:
    """See `Journal`."""

    def __init__(
        self,
        *,
        size_bytes_max: int = 2**24,
        sync: Callable[[], Awaitable[None]] = synced_at_once,
    ) -> None:
        """Start empty.

        Args:
            size_bytes_max: The bound of what waits.
            sync: Awaited for each change; what it raises is what the disk did.
        """
        self.size_bytes_max = size_bytes_max
        self._sync = sync
        self._changing = asyncio.Lock()
        self._written = _Contents()
        self._unsynced = self._written

    @property
    def size_bytes(self) -> int:
        """See `Journal`."""
        return sum(entry.size_bytes for entry in self._written.entries)

    @property
    def state(self) -> JournalState:
        """See `Journal`."""
        return self._written.state

    @property
    def last_sequence(self) -> int:
        """See `Journal`."""
        return self._written.last_sequence

    @property
    def entries(self) -> Sequence[Journaled]:
        """See `Journal`."""
        return self._written.entries

    @property
    def refused(self) -> Sequence[Refused]:
        """See `Journal`."""
        return self._written.refused

    async def update(self, change: Callable[[JournalState], JournalState]) -> None:
        """See `Journal`."""
        async with self._changing:
            await self._commit(replace(self._written, state=change(self.state)))

    async def append(self, entry: Journaled) -> Journaled:
        """See `Journal`.

        Raises:
            JournalFullError: As there.
        """
        async with self._changing:
            if self.size_bytes + entry.size_bytes > self.size_bytes_max:
                raise JournalFullError(size_bytes_max=self.size_bytes_max)
            entry = replace(entry, sequence=self.last_sequence + 1)
            await self._commit(
                replace(
                    self._written,
                    state=raised(self.state, entry),
                    last_sequence=entry.sequence,
                    entries=(*self._written.entries, entry),
                )
            )
            return entry

    async def resolve(self, sequence: int, refused: Refused | None = None) -> None:
        """See `Journal`."""
        async with self._changing:
            before = self._written
            assert before.entries[0].sequence == sequence, sequence
            aside = before.refused if refused is None else (*before.refused, refused)
            await self._commit(replace(before, entries=before.entries[1:], refused=aside))

    async def discard(self, sequence: int) -> None:
        """See `Journal`."""
        async with self._changing:
            kept = tuple(one for one in self._written.refused if one.entry.sequence != sequence)
            await self._commit(replace(self._written, refused=kept))

    async def _commit(self, contents: _Contents) -> None:
        """Become `contents` once they are durable."""
        self._unsynced = contents
        try:
            await self._sync()
        except Exception:
            self._unsynced = self._written
            raise
        self._written = contents

    def crash(self, *, unsynced_survives: bool) -> None:
        """Become what a restart finds. What was written and not synced may or may not be there."""
        if unsynced_survives:
            self._written = self._unsynced
        self._unsynced = self._written
        self._changing = asyncio.Lock()
