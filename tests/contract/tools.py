"""What the tests of stores have in common: batches in one line, and reading to the end."""

from collections.abc import AsyncIterator, Sequence

from atoll.core.errors import RewriteTooSoonError
from atoll.core.model import (
    Batch,
    Condition,
    Entry,
    Identity,
    Include,
    ListQuery,
    Mutation,
    Page,
    Position,
    Written,
)
from atoll.core.version import Version, Versions
from atoll.store.protocol import Admit, Change, Store, SweepOrder

NS = "1" * 32
OTHER = "2" * 32
NOW_S = 1_800_000_000
NOW_US = NOW_S * 1_000_000
LAST = Version(2**62)
"""Larger than any version that these tests stamp."""


def put(
    key: str,
    value: bytes = b"v",
    *,
    stamp: int | None = None,
    condition: Condition | None = None,
    metadata: bytes | None = None,
    expiration: int | None = None,
) -> Mutation:
    """Make a mutation in one line, so that a test shows only what matters to it."""
    return Mutation(
        key=key,
        value=value,
        stamp=None if stamp is None else Version(stamp),
        condition=condition,
        metadata=metadata,
        expiration=expiration,
    )


def delete(key: str, *, stamp: int | None = None, condition: Condition | None = None) -> Mutation:
    """Make a deletion in one line."""
    version = None if stamp is None else Version(stamp)
    return Mutation(key=key, value=None, stamp=version, condition=condition)


class Stamps:
    """Versions for batches, each larger than all before."""

    def __init__(self) -> None:
        """Start where no test's own stamps are."""
        self._next_us = 1_000_000

    def take(self, count: int) -> Versions:
        """Return the next `count`."""
        first, self._next_us = self._next_us, self._next_us + count
        return Versions(first, count, 0)


class Writer:
    """Applies batches to a store as central does, with versions that grow."""

    def __init__(self, store: Store) -> None:
        """Write to `store`."""
        self.store = store
        self._stamps = Stamps()

    async def __call__(
        self,
        *mutations: Mutation,
        namespace: str = NS,
        identity: Identity | None = None,
        now_us: int = NOW_US,
        admit: Admit | None = None,
    ) -> Written:
        """Apply one batch."""
        batch = Batch(namespace=namespace, mutations=mutations, identity=identity)
        versions = self._stamps.take(max(1, len(mutations)))
        return await self.store.apply(batch, versions, now_us=now_us, admit=admit)


async def value_of(entry: Entry | None) -> bytes | None:
    """Return an entry's value whole, however it is handed around."""
    value = None if entry is None else entry.value
    if value is None or isinstance(value, bytes):
        return value
    return b"".join([piece async for piece in value.chunks()])


async def read(store: Store, key: str, *, namespace: str = NS) -> Entry | None:
    """Read one entry."""
    return (await store.get(namespace, [key])).entries[0]


async def listed(
    store: Store,
    *,
    namespace: str = NS,
    prefix: str = "",
    limit: int = 1000,
    include: Include = Include.KEYS,
    values_bytes_max: int = 2**30,
    now_s: float = NOW_S,
) -> AsyncIterator[Page]:
    """Read a listing to its end, page by page."""
    after: str | None = None
    while True:
        query = ListQuery(
            namespace=namespace,
            prefix=prefix,
            after=after,
            limit=limit,
            include=include,
            values_bytes_max=values_bytes_max,
        )
        page = await store.scan(query, now_us=int(now_s * 1_000_000))
        yield page
        if page.after is None:
            return
        assert page.count > 0, "a page with nothing in it, and more to come"
        after = page.after


async def keys_of(pages: AsyncIterator[Page]) -> list[str]:
    """Return the keys of a listing."""
    return [item.key async for page in pages for item in page.items]


def order(
    *,
    now_s: int = NOW_S,
    tombstones_below: int = 0,
    outcomes_before_us: int = 0,
    log_rows_max: int = 2**40,
    dropped: Sequence[str] = (),
    limit: int = 1000,
) -> SweepOrder:
    """Order a round of sweeping that removes nothing but what is said."""
    return SweepOrder(
        now_us=now_s * 1_000_000,
        tombstones_below=Version(tombstones_below),
        outcomes_before_us=outcomes_before_us,
        log_rows_max=log_rows_max,
        dropped=dropped,
        limit=limit,
    )


def numbered(number: int, *, lowest: int | None, origin: str = "LHR") -> Identity:
    """Name a batch as a location does."""
    return Identity(
        origin=origin,
        name=number.to_bytes(8, "big"),
        lowest_unresolved=None if lowest is None else lowest.to_bytes(8, "big"),
    )


def keyed(name: bytes, *, fingerprint: bytes = b"f", origin: str = "token-1") -> Identity:
    """Name a batch as an `Idempotency-Key` does."""
    return Identity(origin=origin, name=name, fingerprint=fingerprint)


class Asked:
    """An `Admit` that writes down what it is asked, and refuses some keys."""

    def __init__(self, *refused: str) -> None:
        """Refuse these."""
        self.questions: list[tuple[str, bytes | None, bool]] = []
        self._refused = refused

    def __call__(self, mutation: Mutation, *, live: bool) -> None:
        """See `Admit`."""
        assert mutation.value is None or isinstance(mutation.value, bytes)
        self.questions.append((mutation.key, mutation.value, live))
        if mutation.key in self._refused:
            raise RewriteTooSoonError(key=mutation.key, retry_after_ms=1, interval_ms=1)


async def tell(store: Store, after: Position, *, limit: int = 1000) -> list[Change]:
    """Follow the log to its end."""
    told: list[Change] = []
    while True:
        stretch = await store.changes(after, limit=limit)
        told += stretch.changes
        if stretch.complete:
            return told
        assert stretch.position.sequence > after.sequence, "a stretch that goes nowhere"
        after = stretch.position


async def held(store: Store, namespace: str = NS) -> tuple[int, int]:
    """Return keys and bytes of a namespace."""
    usage = await store.usage(namespace, now_us=NOW_US)
    return usage.keys, usage.bytes
