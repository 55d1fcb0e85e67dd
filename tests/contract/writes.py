"""The sentences about applying batches."""

import asyncio
import itertools

import pytest

from atoll.core.errors import (
    ConditionFailedError,
    IdempotencyKeyReusedError,
    OutcomeForgottenError,
    RewriteTooSoonError,
)
from atoll.core.model import (
    Condition,
    OutcomeKind,
    Presence,
    Written,
)
from atoll.core.version import Version
from atoll.store.protocol import Store
from tests.contract.tools import (
    LAST,
    NOW_S,
    NOW_US,
    NS,
    Asked,
    Writer,
    delete,
    keyed,
    keys_of,
    listed,
    numbered,
    order,
    put,
    read,
    value_of,
)


class WritesContract:
    """What a store promises to who writes."""

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
        assert [outcome.version for outcome in lost.outcomes[1:]] == [9, 4]
        assert lost.outcomes[-3].kind is OutcomeKind.LOST
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
        await write(put("b", stamp=2**41))
        await store.sweep(order(tombstones_below=LAST))

        assert await read(store, "a") is None
        assert store.last_version == 2**60

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
