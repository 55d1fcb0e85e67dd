"""The tests that every store must pass.

Subclass `StoreContract`, provide a `store` fixture, and the sentences of `atoll.store.protocol`
are checked against it, one test for each. Ours keep them; a store of your own can be held to them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest

from atoll.core.errors import (
    ConditionFailedError,
    IdempotencyKeyReusedError,
    OutcomeForgottenError,
    PositionTooOldError,
    RewriteTooSoonError,
)
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    Condition,
    Entry,
    Identity,
    Include,
    Listed,
    ListQuery,
    Mutation,
    OutcomeKind,
    Page,
    Position,
    Presence,
    Written,
)
from atoll.core.version import NO_VERSION, Version, Versions
from atoll.store.protocol import Admit, Change, Store, SweepOrder, Swept

pytestmark = pytest.mark.anyio

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


class StoreContract:
    """Promises of `Store`. Each test is one sentence of the contract."""

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store. Subclasses provide it."""
        raise NotImplementedError

    @pytest.fixture
    def write(self, store: Store) -> Writer:
        """Return what applies batches to the store."""
        return Writer(store)

    # Reading.

    async def test_an_empty_store_holds_nothing_at_position_zero(self, store: Store) -> None:
        """Absence is an answer, and its position is the beginning of the log."""
        found = await store.get(NS, ["k"])

        assert found.entries[0] is None
        assert found.position == store.position
        assert store.position.sequence == 0
        assert store.last_version == NO_VERSION

    async def test_entries_come_in_the_order_asked(self, store: Store, write: Writer) -> None:
        """Unknown, dead and repeated keys keep their places."""
        await write(put("a"), put("b", expiration=NOW_S - 5), delete("c"))

        entries = (await store.get(NS, ["c", "x", "b", "a", "b"])).entries

        assert [entry and entry.key for entry in entries] == ["c", None, "b", "a", "b"]
        assert entries[0] is not None
        assert entries[0].value is None
        assert entries[2] == entries[4]
        assert await value_of(entries[2]) == b"v"

    async def test_an_entry_is_what_was_written(self, store: Store, write: Writer) -> None:
        """Value, metadata, expiration, version and place in the log come back."""
        written = await write(put("k", b"\x00\xff", metadata=b'{"a":1}', expiration=NOW_S + 60))

        assert await read(store, "k") == Entry(
            key="k",
            version=written.outcomes[0].version,
            value=b"\x00\xff",
            metadata=b'{"a":1}',
            expiration=NOW_S + 60,
            sequence=written.position.sequence,
        )

    @pytest.mark.parametrize("key", ["\0", "a\0b", "é", "\U0010ffff", "x" * 512, "%2F/?#", " "])
    async def test_any_text_is_a_key(self, store: Store, write: Writer, key: str) -> None:
        """Keys are told apart byte by byte, a NUL included."""
        await write(put(key, b"mine"), put(key + "\0", b"other"))

        assert await value_of(await read(store, key)) == b"mine"
        assert await keys_of(listed(store, prefix=key)) == [key, key + "\0"]

    async def test_namespaces_are_apart(self, store: Store, write: Writer) -> None:
        """The same key in two namespaces is two keys."""
        await write(put("k", b"1"))
        await write(put("k", b"2"), namespace=OTHER)
        await write(delete("k"))

        assert await value_of(await read(store, "k")) is None
        assert await value_of(await read(store, "k", namespace=OTHER)) == b"2"

    @pytest.mark.parametrize("metadata", [None, b"1", b'"' + b"m" * 600 + b'"'])
    @pytest.mark.parametrize(
        "size_bytes", [0, 1, 500, 513, 16_384, 16_385, 2**20, 2**20 + 1, 3 * 2**20 + 5]
    )
    async def test_values_of_any_size_come_back(
        self, store: Store, write: Writer, size_bytes: int, metadata: bytes | None
    ) -> None:
        """Up to a mebibyte one key's value comes as bytes; no piece of any is larger."""
        value = bytes(range(256)) * (size_bytes // 256) + b"z" * (size_bytes % 256)
        await write(put("k", value, metadata=metadata))

        entry = await read(store, "k")

        assert entry is not None
        assert entry.metadata == metadata
        assert await value_of(entry) == value
        if size_bytes <= VALUE_INLINE_BYTES_MAX:
            assert isinstance(entry.value, bytes)
        elif entry.value is not None and not isinstance(entry.value, bytes):
            assert entry.value.size_bytes == size_bytes
            pieces = [len(piece) async for piece in entry.value.chunks()]
            assert max(pieces) <= VALUE_INLINE_BYTES_MAX

    async def test_a_large_value_is_readable_for_as_long_as_it_is_held(
        self, store: Store, write: Writer
    ) -> None:
        """Overwriting, deleting and sweeping take nothing from who is reading."""
        large = b"x" * (2 * VALUE_INLINE_BYTES_MAX + 1)
        await write(put("k", large))
        held = await read(store, "k")
        await write(put("k", b"small"))
        await write(delete("k"))
        for _ in range(3):
            await store.sweep(order(tombstones_below=LAST))

        assert await value_of(held) == large
        assert await read(store, "k") is None

    async def test_many_large_values_in_one_read_all_come_back(
        self, store: Store, write: Writer
    ) -> None:
        """However they are handed around, they are what was written."""
        values = [bytes([i]) * 400_000 for i in range(8)]
        await write(*(put(f"k{i}", value) for i, value in enumerate(values)))

        entries = (await store.get(NS, [f"k{i}" for i in range(8)])).entries

        assert [await value_of(entry) for entry in entries] == values

    # Applying: which write wins.

    async def test_a_write_is_answered_with_its_position(self, store: Store, write: Writer) -> None:
        """What is read at or after the position of the answer includes the write."""
        first = await write(put("k"))
        second = await write(put("k"), put("l"))

        assert first.position.sequence < second.position.sequence
        assert store.position == second.position
        assert (await store.get(NS, ["k"])).position == second.position
        assert second.outcomes[0].kind is OutcomeKind.APPLIED
        assert second.outcomes[0].current is None

    async def test_later_write_wins_in_any_order_of_arrival(
        self, store: Store, write: Writer
    ) -> None:
        """All six arrivals of put, put, delete leave the delete, which was stamped last."""
        for n, arrival in enumerate(itertools.permutations([1, 2, 3])):
            key = f"k{n}"  # A fresh key, or the first arrival decides for the rest.
            for stamp in arrival:
                await write(delete(key, stamp=3) if stamp == 3 else put(key, stamp=stamp))

            entry = await read(store, key)
            assert entry is not None
            assert (entry.version, entry.value) == (3, None)

    async def test_of_equal_versions_the_first_stays(self, store: Store, write: Writer) -> None:
        """A write that arrives twice wins nothing the second time."""
        await write(put("k", b"first", stamp=5))
        again = await write(put("k", b"second", stamp=5))

        assert again.outcomes[0].kind is OutcomeKind.LOST
        assert await value_of(await read(store, "k")) == b"first"

    async def test_a_lost_write_learns_to_what(self, store: Store, write: Writer) -> None:
        """Its outcome carries the version it lost to and the key's record."""
        await write(put("k", b"winner", stamp=9, metadata=b"1"))
        await write(delete("gone", stamp=9))
        before = store.position

        lost = await write(put("k", b"loser", stamp=4), put("gone", stamp=4), put("new", stamp=4))

        assert [outcome.kind for outcome in lost.outcomes] == ["lost", "lost", "applied"]
        assert [outcome.version for outcome in lost.outcomes] == [9, 9, 4]
        assert lost.outcomes[0].current == await read(store, "k")
        assert lost.outcomes[1].current == await read(store, "gone")
        assert lost.position.sequence == before.sequence + 1

    async def test_deleting_the_absent_leaves_a_tombstone(
        self, store: Store, write: Writer
    ) -> None:
        """Or an older write that arrives late would outlive the deletion."""
        await write(delete("k", stamp=7))
        late = await write(put("k", stamp=6))

        assert late.outcomes[0].kind is OutcomeKind.LOST
        entry = await read(store, "k")
        assert entry is not None
        assert entry.value is None

    async def test_what_was_deleted_can_be_written_again(self, store: Store, write: Writer) -> None:
        """A later put takes the tombstone's place."""
        await write(put("k", b"1"))
        await write(delete("k"))
        await write(put("k", b"2"))

        assert await value_of(await read(store, "k")) == b"2"
        assert await keys_of(listed(store)) == ["k"]
        assert (await store.sweep(order(tombstones_below=LAST))).removed == 0

    async def test_of_two_mutations_of_a_key_the_last_stands_for_both(
        self, store: Store, write: Writer
    ) -> None:
        """One entry, one row in the log, one outcome told twice."""
        written = await write(put("k", b"1"), put("other"), put("k", b"2"), delete("x"), put("x"))

        assert await value_of(await read(store, "k")) == b"2"
        assert await value_of(await read(store, "x")) == b"v"
        assert written.outcomes[0] == written.outcomes[2]
        assert written.outcomes[0].version > written.outcomes[1].version
        assert store.position.sequence == 3

    async def test_a_bulk_applies_as_one(self, store: Store, write: Writer) -> None:
        """Thousands of new, overwritten, buried and large values in one batch."""
        await write(*(put(f"k{i:04}") for i in range(0, 3000, 3)))
        await write(*(delete(f"k{i:04}") for i in range(0, 3000, 6)))

        written = await write(
            *(put(f"k{i:04}", b"%d" % i, metadata=b"%d" % i) for i in range(2500)),
            *(delete(f"k{i:04}") for i in range(2500, 3000)),
        )

        assert len(written.outcomes) == 3000
        assert {outcome.kind for outcome in written.outcomes} == {OutcomeKind.APPLIED}
        assert await keys_of(listed(store)) == [f"k{i:04}" for i in range(2500)]
        entries = (await store.get(NS, [f"k{i:04}" for i in range(0, 2500, 7)])).entries
        assert [await value_of(entry) for entry in entries] == [
            b"%d" % i for i in range(0, 2500, 7)
        ]
        assert (await store.usage(NS, now_us=NOW_US)).keys == 2500

    async def test_batches_apply_in_the_order_of_the_calls(
        self, store: Store, write: Writer
    ) -> None:
        """Of calls made at once, each finds what those before it wrote."""
        results = await asyncio.gather(
            *(write(put("k", b"%d" % i)) for i in range(50)),
            write(put("k", b"refused", condition=Presence.ABSENT)),
            write(delete("k")),
            write(put("k", b"last", condition=Presence.ABSENT)),
            return_exceptions=True,
        )

        assert [isinstance(result, ConditionFailedError) for result in results[-3:]] == [
            True,
            False,
            False,
        ]
        positions = [r.position.sequence for r in results if isinstance(r, Written)]
        assert positions == sorted(positions)
        assert await value_of(await read(store, "k")) == b"last"

    async def test_the_last_version_is_the_largest_ever(self, store: Store, write: Writer) -> None:
        """Also when it has been deleted and swept, and when a smaller one came later."""
        await write(put("a", stamp=2**50))
        await write(put("b", stamp=2**40))
        await write(delete("a", stamp=2**60))
        await store.sweep(order(tombstones_below=LAST))

        assert await read(store, "a") is None
        assert store.last_version == 2**60

    # Applying: conditions.

    async def test_conditions_ask_what_a_reader_sees(self, write: Writer) -> None:
        """Present, absent, or there with this version; deleted and expired are absent."""
        version = (await write(put("k"))).outcomes[0].version
        await write(delete("gone"), put("old", expiration=NOW_S))

        broken: list[tuple[str, Condition]] = [
            ("k", Presence.ABSENT),
            ("k", Version(version + 1)),
            ("gone", Presence.PRESENT),
            ("old", Presence.PRESENT),
            ("new", Presence.PRESENT),
            ("new", version),
        ]
        for key, condition in broken:
            with pytest.raises(ConditionFailedError):
                await write(put(key, condition=condition))
        await write(put("k", condition=Presence.PRESENT))
        for key in ("gone", "old", "new"):
            await write(put(key, condition=Presence.ABSENT))

    async def test_a_version_matches_only_itself(self, store: Store, write: Writer) -> None:
        """`If-Match` holds until the next write, and never for what has gone."""
        version = (await write(put("k", expiration=NOW_S + 10))).outcomes[0].version
        with pytest.raises(ConditionFailedError):
            await write(put("k", condition=version), now_us=NOW_US + 10_000_000)
        second = await write(put("k", b"2", condition=version))
        with pytest.raises(ConditionFailedError):
            await write(put("k", b"3", condition=version))

        assert await value_of(await read(store, "k")) == b"2"
        assert second.outcomes[0].version > version

    async def test_a_failed_condition_stops_the_batch(self, store: Store, write: Writer) -> None:
        """Nothing of it applies, and the error names the key and its version."""
        version = (await write(put("k"))).outcomes[0].version
        before = store.position

        with pytest.raises(ConditionFailedError) as caught:
            await write(put("a"), put("k", condition=Presence.ABSENT), delete("k"))

        assert (caught.value.key, caught.value.version_current) == ("k", version)
        assert await read(store, "a") is None
        assert store.position == before

    # Applying: identities.

    async def test_a_repeat_returns_the_first_outcomes(self, store: Store, write: Writer) -> None:
        """It changes nothing, even when the key has been written since."""
        await write(put("lost", stamp=2**60))
        batch = (put("a", b"1"), put("lost", stamp=5), delete("b"))
        first = await write(*batch, identity=keyed(b"x"))
        await write(put("a", b"2"))
        before = store.position

        again = await write(*batch, identity=keyed(b"x"))

        assert again.repeated
        assert not first.repeated
        assert [(o.kind, o.version) for o in again.outcomes] == [
            (o.kind, o.version) for o in first.outcomes
        ]
        assert store.position == again.position == before
        assert await value_of(await read(store, "a")) == b"2"

    async def test_a_repeat_carries_the_records_of_now(self, store: Store, write: Writer) -> None:
        """Also of a key whose tombstone was swept since: it is known to be deleted."""
        batch = (put("a", b"1"), put("b", b"1"))
        await write(*batch, identity=keyed(b"x"))
        await write(put("a", b"2"), delete("b"))
        await store.sweep(order(tombstones_below=LAST))

        again = await write(*batch, identity=keyed(b"x"))

        assert again.outcomes[0].current == await read(store, "a")
        swept = again.outcomes[1].current
        assert swept is not None
        assert (swept.key, swept.value) == ("b", None)

    async def test_identity_is_looked_up_before_conditions(
        self, store: Store, write: Writer
    ) -> None:
        """A repeat of a write whose condition its own first run broke succeeds again."""
        first = await write(put("k", condition=Presence.ABSENT), identity=keyed(b"x"))
        again = await write(put("k", condition=Presence.ABSENT), identity=keyed(b"x"))

        assert again.outcomes[0].version == first.outcomes[0].version
        assert store.position == first.position

    async def test_a_failure_is_an_outcome_too(self, store: Store, write: Writer) -> None:
        """What failed its condition fails when repeated, though it would hold by now."""
        version = (await write(put("k"))).outcomes[0].version
        guarded = put("k", b"2", condition=Presence.ABSENT)
        with pytest.raises(ConditionFailedError):
            await write(guarded, identity=keyed(b"x"))
        await write(delete("k"))

        with pytest.raises(ConditionFailedError) as caught:
            await write(guarded, identity=keyed(b"x"))

        assert (caught.value.key, caught.value.version_current) == ("k", version)
        assert await value_of(await read(store, "k")) is None

    async def test_an_identity_stands_for_one_request(self, store: Store, write: Writer) -> None:
        """With another fingerprint it is refused, and nothing is applied."""
        await write(put("k", b"1"), identity=keyed(b"x"))
        with pytest.raises(IdempotencyKeyReusedError):
            await write(put("k", b"2"), identity=keyed(b"x", fingerprint=b"g"))

        assert await value_of(await read(store, "k")) == b"1"

    async def test_origins_have_their_own_names(self, store: Store, write: Writer) -> None:
        """The same name from two origins is two requests."""
        await write(put("k", b"1"), identity=keyed(b"x"))
        other = await write(put("k", b"2"), identity=keyed(b"x", origin="token-2"))

        assert not other.repeated
        assert await value_of(await read(store, "k")) == b"2"

    async def test_what_is_resolved_is_refused(self, store: Store, write: Writer) -> None:
        """Names below the largest `lowest_unresolved` ever sent are not applied, known or not."""
        await write(put("k", b"1"), identity=numbered(1, lowest=1))
        await write(put("k", b"3"), identity=numbered(3, lowest=3))

        for number, lowest in [(1, 1), (2, 1), (2, None)]:
            with pytest.raises(OutcomeForgottenError):
                await write(put("k", b"late"), identity=numbered(number, lowest=lowest))

        assert await value_of(await read(store, "k")) == b"3"
        again = await write(put("k", b"3"), identity=numbered(3, lowest=1))
        assert again.repeated

    async def test_what_is_unresolved_is_remembered(self, store: Store, write: Writer) -> None:
        """A location's outcomes stay until it says that they are resolved, whatever their age."""
        for number in (1, 2, 3):
            await write(put(f"k{number}"), identity=numbered(number, lowest=1))
        await write(put("other"), identity=numbered(9, lowest=2, origin="FRA"))
        await store.sweep(order(outcomes_before_us=NOW_US * 2))

        for number in (3, 1, 2):
            written = await write(put(f"k{number}"), identity=numbered(number, lowest=1))
            assert written.repeated

    # Applying: admission.

    async def test_admission_is_asked_about_what_would_apply(self, write: Writer) -> None:
        """Once for each key, about the last of its mutations, and told what readers see."""
        await write(put("a"), put("old", expiration=NOW_S), delete("gone"))
        asked = Asked()

        await write(
            put("a", b"1"), put("old"), delete("gone"), put("a", b"2"), put("n"), admit=asked
        )

        assert sorted(asked.questions) == [
            ("a", b"2", True),
            ("gone", None, False),
            ("n", b"v", False),
            ("old", b"v", False),
        ]

    async def test_who_is_not_admitted_changes_nothing(self, store: Store, write: Writer) -> None:
        """The whole batch stops, and its identity is free to be tried again."""
        with pytest.raises(RewriteTooSoonError):
            await write(put("a"), put("b"), identity=keyed(b"x"), admit=Asked("b"))

        assert await read(store, "a") is None
        assert store.position.sequence == 0
        assert not (await write(put("a"), put("b"), identity=keyed(b"x"))).repeated

    async def test_admission_comes_behind_identity_and_conditions(self, write: Writer) -> None:
        """Repeats and failed conditions are not asked about."""
        await write(put("a"), identity=keyed(b"x"))
        asked = Asked("a")

        await write(put("a"), identity=keyed(b"x"), admit=asked)
        with pytest.raises(ConditionFailedError):
            await write(put("a", condition=Presence.ABSENT), admit=asked)

        assert asked.questions == []

    # Listing.

    async def test_keys_are_listed_in_the_order_of_their_bytes(
        self, store: Store, write: Writer
    ) -> None:
        """UTF-8 order, in which what UTF-16 writes with surrogates comes last."""
        keys = ["\U00010000", "\uffff", "b", "a\0", "a", "é", "B", "a\0a", "\x7f", "\x80"]
        await write(*(put(key) for key in keys))

        assert await keys_of(listed(store)) == sorted(keys, key=str.encode)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 1000])
    async def test_pages_hold_every_key_once(self, store: Store, write: Writer, limit: int) -> None:
        """Nothing is left out or told twice where one page ends and the next begins."""
        keys = ["a", "aa", "ab", "b", "ba", "c"]
        await write(*(put(key) for key in keys))

        pages = [page async for page in listed(store, limit=limit)]

        assert [item.key for page in pages for item in page.items] == keys
        assert all(page.count == len(page.items) for page in pages)
        assert all(page.count == limit for page in pages[:-1])
        assert len(pages) == -(-len(keys) // limit)
        assert {page.position for page in pages} == {store.position}

    async def test_a_prefix_bounds_a_listing(self, store: Store, write: Writer) -> None:
        """Keys that begin with it, the prefix itself included, and no others."""
        keys = ["a", "ab", "ab\0", "abc", "ab\U0010ffff", "ac", "b", "é", "éa", "ê"]
        await write(*(put(key) for key in keys))

        for prefix in ["a", "ab", "abc", "b", "é", "x", "ab\U0010ffff"]:
            wanted = [key for key in keys if key.startswith(prefix)]
            found = await keys_of(listed(store, prefix=prefix, limit=2))
            assert found == sorted(wanted, key=str.encode)

    async def test_a_listing_may_start_behind_any_key(self, store: Store, write: Writer) -> None:
        """One that is not there, or that stands before or behind the prefix."""
        await write(*(put(key) for key in ["a", "pa", "pb", "pc", "q"]))

        async def behind(after: str) -> list[str]:
            """Return the names listed behind a key."""
            query = ListQuery(namespace=NS, prefix="p", after=after)
            return [item.key for item in (await store.scan(query, now_us=NOW_US)).items]

        assert await behind("pb") == ["pc"]
        assert await behind("pab") == ["pb", "pc"]
        assert await behind("a") == ["pa", "pb", "pc"]
        assert await behind("p") == ["pa", "pb", "pc"]
        assert await behind("q") == []

    async def test_what_is_dead_is_not_listed(self, store: Store, write: Writer) -> None:
        """Deleted, expired, or expired at this very second, swept or not."""
        await write(
            put("a"),
            put("b", expiration=NOW_S - 1),
            put("c", expiration=NOW_S),
            put("d", expiration=NOW_S + 1),
            put("e"),
        )
        await write(delete("e"))

        assert await keys_of(listed(store)) == ["a", "d"]
        assert await keys_of(listed(store, now_s=NOW_S + 0.999)) == ["a", "d"]
        assert await keys_of(listed(store, now_s=NOW_S + 1)) == ["a"]
        await store.sweep(order())
        assert await keys_of(listed(store, limit=1)) == ["a", "d"]

    async def test_no_page_is_empty_with_more_behind_it(self, store: Store, write: Writer) -> None:
        """However many dead keys stand between two that live."""
        await write(*(put(f"k{i:04}", expiration=NOW_S) for i in range(3000)))
        await write(put("k0000"), put("k1500"), put("z"))

        pages = [page async for page in listed(store, limit=1)]

        assert [[item.key for item in page.items] for page in pages] == [
            ["k0000"],
            ["k1500"],
            ["z"],
        ]

    async def test_a_listing_describes_its_keys(self, store: Store, write: Writer) -> None:
        """Version, size, metadata and expiration, but no values."""
        written = await write(
            put("a", b"value", metadata=b'{"m":1}', expiration=NOW_S + 9),
            put("b", b"y" * 600, metadata=b"2"),
            put("c", b"z" * (VALUE_INLINE_BYTES_MAX + 1)),
        )
        page = await store.scan(ListQuery(namespace=NS), now_us=NOW_US)

        a, b, c = (outcome.version for outcome in written.outcomes)
        assert list(page.items) == [
            Listed(key="a", version=a, size_bytes=5, metadata=b'{"m":1}', expiration=NOW_S + 9),
            Listed(key="b", version=b, size_bytes=600, metadata=b"2"),
            Listed(key="c", version=c, size_bytes=VALUE_INLINE_BYTES_MAX + 1),
        ]

    async def test_values_are_listed_on_request(self, store: Store, write: Writer) -> None:
        """All but those that are handed around in pieces."""
        values = {
            "a": b"",
            "b": b"x" * 100,
            "c": b"y" * 20_000,
            "d": b"z" * VALUE_INLINE_BYTES_MAX,
            "e": b"-" * (VALUE_INLINE_BYTES_MAX + 1),
            "f": b"end",
        }
        await write(*(put(key, value, metadata=b"0") for key, value in values.items()))

        pages = [page async for page in listed(store, include=Include.VALUES)]

        found = {item.key: item.value for page in pages for item in page.items}
        assert found == values | {"e": None}
        assert all(item.metadata == b"0" for page in pages for item in page.items)

    async def test_a_page_ends_before_its_values_are_too_many(
        self, store: Store, write: Writer
    ) -> None:
        """One value at least is in a page, and a page may be filled to the byte."""
        await write(*(put(f"k{i}", b"x" * size) for i, size in enumerate([50, 50, 1, 200, 99, 2])))

        pages = listed(store, include=Include.VALUES, values_bytes_max=100)

        sizes = [[item.size_bytes for item in page.items] async for page in pages]
        assert sizes == [[50, 50], [1], [200], [99], [2]]

    async def test_long_listings_of_values_are_complete(self, store: Store, write: Writer) -> None:
        """Also beyond what is read in one go."""
        keys = [f"k{i:03}" for i in range(300)]
        await write(*(put(key, key.encode() * 3000) for key in keys))

        pages = [page async for page in listed(store, include=Include.VALUES, limit=130)]

        assert [page.count for page in pages] == [130, 130, 40]
        values = {item.key: item.value for page in pages for item in page.items}
        assert values == {key: key.encode() * 3000 for key in keys}

    async def test_counting_counts_what_listing_lists(self, store: Store, write: Writer) -> None:
        """Page by page, without the keys."""
        await write(*(put(f"k{i}") for i in range(7)), put("x"))
        await write(delete("k3"), put("k4", expiration=NOW_S))

        pages = [page async for page in listed(store, prefix="k", limit=2, include=Include.COUNT)]

        assert [(page.count, len(page.items)) for page in pages] == [(2, 0), (2, 0), (1, 0)]
        assert pages[0].position == store.position

    # The log.

    async def test_the_log_tells_every_write_in_order(self, store: Store, write: Writer) -> None:
        """From any position, in stretches of any length, with whole entries."""
        start = store.position
        await write(put("a", b"1", metadata=b"1"), put("b", b"2"))
        await write(put("a", b"3"), namespace=OTHER)
        await write(delete("c"))

        told = await tell(store, start, limit=1)

        assert [(change.namespace, change.entry.key) for change in told] == [
            (NS, "a"),
            (NS, "b"),
            (OTHER, "a"),
            (NS, "c"),
        ]
        assert [change.entry.sequence for change in told] == [1, 2, 3, 4]
        assert told[0].entry == await read(store, "a")
        assert told[3].entry == await read(store, "c")
        assert [change.entry.key for change in await tell(store, store.position)] == []

    async def test_the_log_leaves_out_what_was_superseded(
        self, store: Store, write: Writer
    ) -> None:
        """Of several writes to a key the last is told, where it stands."""
        start = store.position
        await write(put("a", b"1"), put("b"))
        await write(put("a", b"2"))
        await write(delete("b"))

        told = await tell(store, start)

        assert [(change.entry.key, change.entry.sequence) for change in told] == [
            ("a", 3),
            ("b", 4),
        ]

    async def test_a_stretch_says_where_it_ends(self, store: Store, write: Writer) -> None:
        """Behind rows that tell nothing too, and whether it was the last."""
        start = store.position
        await write(put("a"))
        await write(put("a"))
        await write(put("a"))

        first = await store.changes(start, limit=2)
        second = await store.changes(first.position, limit=2)

        assert (list(first.changes), first.complete) == ([], False)
        assert first.position.sequence == 2
        assert (len(second.changes), second.complete) == (1, True)
        assert second.position == store.position

    async def test_what_has_gone_is_told_as_deleted(self, store: Store, write: Writer) -> None:
        """After its burial, after its tombstone was swept, after its namespace was dropped."""
        start = store.position
        await write(put("expired", expiration=NOW_S), put("lives"))
        await write(delete("deleted"))
        await write(put("dropped"), namespace=OTHER)
        await store.sweep(order(tombstones_below=LAST, dropped=[OTHER]))
        await store.sweep(order(tombstones_below=LAST))

        told = {change.entry.key: change.entry for change in await tell(store, start)}

        assert {key for key, entry in told.items() if entry.value is None} == {
            "expired",
            "deleted",
            "dropped",
        }
        assert await value_of(told["lives"]) == b"v"
        assert all(entry.version > NO_VERSION for entry in told.values())

    async def test_large_values_are_told_too(self, store: Store, write: Writer) -> None:
        """Many of them, in as many stretches as it takes."""
        start = store.position
        values = {f"k{i}": bytes([i]) * (700_000 * (i % 3)) for i in range(24)}
        await write(*(put(key, value) for key, value in values.items()))

        told = await tell(store, start)

        assert {change.entry.key: await value_of(change.entry) for change in told} == values

    async def test_the_log_says_when_it_does_not_reach_back(
        self, store: Store, write: Writer
    ) -> None:
        """Nor forward, nor into another incarnation."""
        start = store.position
        await write(put("a"), put("b"), put("c"))
        end = store.position
        assert (await store.sweep(order(log_rows_max=1))).truncated == 2

        for position in (
            start,
            Position(incarnation=end.incarnation, sequence=1),
            Position(incarnation=end.incarnation, sequence=end.sequence + 1),
            Position(incarnation=end.incarnation ^ 1, sequence=end.sequence),
        ):
            with pytest.raises(PositionTooOldError):
                await store.changes(position, limit=10)
        kept = await store.changes(Position(incarnation=end.incarnation, sequence=2), limit=10)
        assert [change.entry.key for change in kept.changes] == ["c"]
        assert (await store.changes(end, limit=10)).complete

    # Usage.

    async def test_usage_is_exact(self, store: Store, write: Writer) -> None:
        """Keys, values and metadata of what lives, through every way of coming and going."""
        await write(put("a", b"12345", metadata=b"123"), put("é", b"1"), put("b", b"x" * 100_000))
        await write(put("a", b"1"), put("c", b"", metadata=b"m" * 600), namespace=OTHER)
        assert await held(store) == (3, 1 + 5 + 3 + 2 + 1 + 1 + 100_000)
        assert await held(store, OTHER) == (2, 2 + 1 + 600)

        await write(put("a", b"1"), delete("é"), delete("never"), put("b", b"y", stamp=1))
        assert await held(store) == (2, 2 + 1 + 100_000)

        await write(delete("b"))
        await write(put("é"))
        assert await held(store) == (2, 2 + 3)
        assert await held(store, "3" * 32) == (0, 0)

    async def test_usage_does_not_count_what_has_expired(self, store: Store, write: Writer) -> None:
        """Whether or not the sweeper has come by."""
        await write(put("a", b"1", metadata=b"22"), put("b", b"333", expiration=NOW_S))
        await write(put("c", expiration=NOW_S), namespace=OTHER)
        assert await held(store) == (1, 4)

        await store.sweep(order())

        assert await held(store) == (1, 4)
        await write(put("b", b"4"))
        assert await held(store) == (2, 6)

    # Sweeping.

    async def test_sweeping_buries_what_has_expired(self, store: Store, write: Writer) -> None:
        """A tombstone with the version is left, so nothing older lives again."""
        await write(put("k", b"v", metadata=b"1", expiration=NOW_S, stamp=50))

        swept = await store.sweep(order())

        assert swept == Swept(expired=1)
        entry = await read(store, "k")
        assert entry is not None
        assert (entry.value, entry.metadata, entry.expiration, entry.version) == (
            None,
            None,
            None,
            50,
        )
        late = await write(put("k", stamp=49))
        assert late.outcomes[0].kind is OutcomeKind.LOST

    async def test_sweeping_leaves_what_lives(self, store: Store, write: Writer) -> None:
        """Neither live entries nor those that expire later are touched."""
        await write(put("a"), put("b", expiration=NOW_S + 1), put("c", stamp=1))
        before = [await read(store, key) for key in "abc"]

        swept = await store.sweep(order(tombstones_below=LAST, outcomes_before_us=NOW_US * 2))

        assert swept.total == 0
        assert [await read(store, key) for key in "abc"] == before

    async def test_tombstones_are_removed_below_a_version(
        self, store: Store, write: Writer
    ) -> None:
        """That version's own stays."""
        await write(delete("a", stamp=10), delete("b", stamp=11), delete("c", stamp=12))

        swept = await store.sweep(order(tombstones_below=11))

        assert swept == Swept(removed=1)
        assert [(await read(store, key)) is None for key in "abc"] == [True, False, False]

    async def test_dropped_namespaces_vanish(self, store: Store, write: Writer) -> None:
        """Entries and tombstones, and nothing of other namespaces."""
        await write(put("a"), put("b", b"x" * 50_000), delete("c"), namespace=OTHER)
        await write(put("a"), delete("c"))

        swept = await store.sweep(order(dropped=[OTHER, "3" * 32]))

        assert swept == Swept(dropped=3)
        assert list((await store.get(OTHER, ["a", "b", "c"])).entries) == [None] * 3
        assert await held(store, OTHER) == (0, 0)
        assert await value_of(await read(store, "a")) == b"v"
        assert await read(store, "c") is not None

    async def test_outcomes_are_forgotten_by_age(self, write: Writer, store: Store) -> None:
        """Those of `Idempotency-Key`; afterwards the key is new again."""
        await write(put("k"), identity=keyed(b"old"), now_us=NOW_US - 2)
        await write(put("k"), identity=keyed(b"new"), now_us=NOW_US)

        swept = await store.sweep(order(outcomes_before_us=NOW_US - 1))

        assert swept == Swept(forgotten=1)
        assert (await write(put("k"), identity=keyed(b"new"))).repeated
        assert not (await write(put("k"), identity=keyed(b"old"))).repeated

    async def test_a_round_is_bounded(self, store: Store, write: Writer) -> None:
        """It handles as many rows of each kind as ordered, and reports until all is done."""
        for i in range(5):
            await write(put(f"e{i}", expiration=NOW_S), identity=keyed(b"%d" % i))
            await write(put(f"d{i}"), namespace=OTHER)
        await write(*(delete(f"t{i}", stamp=i + 1) for i in range(5)))
        sweep = order(
            tombstones_below=6,
            outcomes_before_us=NOW_US + 1,
            log_rows_max=10,
            dropped=[OTHER],
            limit=2,
        )

        rounds = [await store.sweep(sweep) for _ in range(4)]

        assert [swept.total for swept in rounds] == [10, 10, 5, 0]
        for kind in ("expired", "removed", "dropped", "forgotten"):
            assert [getattr(swept, kind) for swept in rounds] == [2, 2, 1, 0], kind
        assert [swept.truncated for swept in rounds] == [2, 2, 1, 0]

    async def test_the_log_keeps_as_many_rows_as_ordered(self, store: Store, write: Writer) -> None:
        """It is cut at its old end only."""
        for i in range(10):
            await write(put(f"k{i}"))
        await store.sweep(order(log_rows_max=4))

        end = store.position
        told = await tell(store, Position(incarnation=end.incarnation, sequence=6))

        assert [change.entry.key for change in told] == ["k6", "k7", "k8", "k9"]
        assert (await store.sweep(order(log_rows_max=4))).total == 0


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
