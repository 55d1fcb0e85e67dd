"""The sentences about the log, usage and sweeping."""

import pytest

from atoll.core.errors import (
    PositionTooOldError,
)
from atoll.core.model import (
    OutcomeKind,
    Position,
)
from atoll.core.version import CENTRAL_NODE, NO_VERSION, version_at
from atoll.store.protocol import Store, Swept
from tests.contract.tools import (
    LAST,
    NOW_S,
    NOW_US,
    NS,
    OTHER,
    Writer,
    delete,
    held,
    keyed,
    order,
    put,
    read,
    tell,
    value_of,
)


class UpkeepContract:
    """What a store promises to who follows, counts and sweeps."""

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

    async def test_sweeping_buries_what_has_expired(self, store: Store, write: Writer) -> None:
        """A tombstone with the version is left, so nothing older lives again."""
        await write(put("k", b"v", metadata=b"1", expiration=NOW_S, stamp=50))

        swept = await store.sweep(order())

        assert swept == Swept(expired=1)
        assert store.last_version == version_at(NOW_US, CENTRAL_NODE)
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
