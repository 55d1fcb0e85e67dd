"""What a location holds: the protocol `Cache`, and a cache in memory.

A cache keeps records and one small state; what they mean is `age`'s and `knowledge`'s business. It
may be lost and it is never wrong: what was put is what is got, or nothing. The cache in memory is
the model that the simulator and the unit tests run on.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from atoll.core.errors import StoreError
from atoll.core.model import Entry, LargeValue
from atoll.core.version import NO_VERSION, Version
from atoll.location.age import NEVER, Record
from atoll.location.time import Look

RECORD_OVERHEAD_BYTES: Final = 200
"""What a record takes beyond its key, value and metadata."""


class CacheLostError(StoreError):
    """The cache could not be read or written and has emptied itself; nothing is held."""

    code = "cache_lost"

    def __init__(self) -> None:
        super().__init__("the cache could not be read or written; it begins anew, empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """What is kept beside the records, so that a restart goes on where it stopped."""

    boot: str = ""
    """The boot of the machine under which the instants below were read."""
    upstream: str = ""
    """What the records came through. Another one may know less."""
    incarnation: int | None = None
    """Whose positions the records carry."""
    applied: int = 0
    feed_instant_ms: int = NEVER
    subscribed: dict[str, int] = field(default_factory=dict[str, int])
    lost_ms: int = NEVER
    """Knowledge from before this instant may be older than what was told before a loss."""
    lost_sequence: int = 0
    """What had been journaled by then: whether it has lost to something newer was forgotten."""
    central_us: int | None = None
    """Central time as it was reckoned at `central_at_ms`, however long ago it was heard: by it
    values were said to have expired, and another boot begins where it stood."""
    central_at_ms: int = NEVER
    looked: Look | None = None
    """What the machine's clocks showed when this was saved."""
    trusted_ms: int = NEVER
    """The machine stood still at this instant: earlier ones do not say how old anything is."""
    stamps: Version = NO_VERSION
    """The largest version given or seen: what is stamped after a restart must be later."""


class Cache(Protocol):
    """Records by namespace and key. One keeper writes it; only it calls what changes anything.

    `get`, `save`, `put`, `remove` and what pins may raise `CacheLostError`.
    """

    size_bytes_max: int
    """The bound that an operator set."""

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        ...

    @property
    def entries(self) -> int:
        """How many records that is."""
        ...

    def load(self) -> CacheState | None:
        """Return the state saved last, `None` if the cache is new or was lost."""
        ...

    def save(self, state: CacheState) -> None:
        """Keep `state`."""
        ...

    def get(self, namespace: str, key: str) -> Record | None:
        """Return the record, with an instant of `NEVER` if it is of another boot."""
        ...

    def put(self, namespace: str, key: str, record: Record) -> None:
        """Keep a record instead of the one that was there. It never evicts by itself."""
        ...

    def remove(self, namespace: str, key: str) -> None:
        """Let go of a record."""
        ...

    def clear(self) -> None:
        """Let go of everything, the state included."""
        ...

    def pin_only(self, places: Iterable[tuple[str, str]]) -> None:
        """Have readers ask the keeper about these keys and no others, whatever is held of them."""
        ...

    def pin(self, places: Iterable[tuple[str, str]]) -> None:
        """Have readers ask the keeper about these keys as well, also after the cache was lost."""
        ...

    def unpin(self, places: Iterable[tuple[str, str]]) -> None:
        """Let readers answer about these keys."""
        ...

    def unread(self) -> Iterator[tuple[str, str]]:
        """Yield what to evict, roughly what was not read for longest first."""
        ...

    async def hold(self, value: LargeValue | bytes) -> LargeValue:
        """Copy a large value to where it stays readable for as long as a record names it."""
        ...


@dataclass(frozen=True, slots=True)
class HeldValue:
    """A large value in memory."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        """See `LargeValue`."""
        return len(self.content)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        yield self.content


class MemoryCache:
    """See `Cache`."""

    def __init__(self, *, size_bytes_max: int = 2**24) -> None:
        """Start empty."""
        self.size_bytes_max = size_bytes_max
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._size_bytes = 0
        self._state: CacheState | None = None
        self._pinned: set[tuple[str, str]] = set()

    @property
    def size_bytes(self) -> int:
        """See `Cache`."""
        return self._size_bytes

    @property
    def entries(self) -> int:
        """See `Cache`."""
        return len(self._records)

    def load(self) -> CacheState | None:
        """See `Cache`."""
        return self._state

    def save(self, state: CacheState) -> None:
        """See `Cache`."""
        self._state = replace(state, subscribed=dict(state.subscribed))

    def get(self, namespace: str, key: str) -> Record | None:
        """See `Cache`."""
        record = self._records.get((namespace, key))
        if record is not None:
            self._records.move_to_end((namespace, key))
        return record

    def put(self, namespace: str, key: str, record: Record) -> None:
        """See `Cache`."""
        self.remove(namespace, key)
        self._records[namespace, key] = record
        self._size_bytes += record_bytes(key, record)

    def remove(self, namespace: str, key: str) -> None:
        """See `Cache`."""
        held = self._records.pop((namespace, key), None)
        if held is not None:
            self._size_bytes -= record_bytes(key, held)

    def clear(self) -> None:
        """See `Cache`."""
        self._records.clear()
        self._size_bytes = 0
        self._state = None

    def pin_only(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        self._pinned = set(places)

    def pin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        self._pinned.update(places)

    def unpin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        self._pinned.difference_update(places)

    def is_pinned(self, namespace: str, key: str) -> bool:
        """Whether readers ask the keeper about a key."""
        return (namespace, key) in self._pinned

    def unread(self) -> Iterator[tuple[str, str]]:
        """See `Cache`."""
        yield from list(self._records)

    async def hold(self, value: LargeValue | bytes) -> LargeValue:
        """See `Cache`."""
        if isinstance(value, bytes):
            return HeldValue(value)
        return HeldValue(b"".join([chunk async for chunk in value.chunks()]))

    def reboot(self) -> None:
        """Become what a restart of the machine after a clean close leaves: nobody knows ages."""
        for at, record in self._records.items():
            self._records[at] = replace(record, instant_ms=NEVER)


def record_bytes(key: str, record: Record) -> int:
    """How much a record counts for."""
    return RECORD_OVERHEAD_BYTES + len(key.encode()) + entry_bytes(record.entry)


def entry_bytes(entry: Entry | None) -> int:
    """How much an entry's value and metadata take."""
    if entry is None:
        return 0
    value = entry.value
    size = 0 if value is None else len(value) if isinstance(value, bytes) else value.size_bytes
    return size + len(entry.metadata or b"")
