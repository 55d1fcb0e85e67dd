"""Random histories on a store and on a few dictionaries, which must agree at every step.

The model shares no code with the stores. Keys are few, so that writes meet; several batches are
sent at once; time passes, sweeps come by, the store is closed and opened, its key is rotated. A
follower of the log keeps its own copy, which must be what the model has.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from atoll.core.errors import (
    ConditionFailedError,
    IdempotencyKeyReusedError,
    OutcomeForgottenError,
)
from atoll.core.model import (
    Batch,
    Entry,
    Identity,
    Include,
    Listed,
    ListQuery,
    Mutation,
    Presence,
    Written,
)
from atoll.core.version import CENTRAL_NODE, Version, Versions, version_at
from atoll.store.memory import MemoryStore
from atoll.store.protocol import Store
from atoll.store.sqlite import Access, SqliteStore
from tests.contract.tools import order, tell, value_of
from tests.support.rng import seeded_bytes
from tests.support.store import HastyClock

T = TypeVar("T")

NAMESPACES = ["1" * 32, "2" * 32]
KEYS = ["a", "a\0", "ab", "é"]
SIZES = [0, 1, 600, 20_000, 2**20 + 1]
START_S = 1_800_000_000


def content(size_bytes: int | None) -> bytes | None:
    """Return the one value of a size: what is drawn, and shown, is the size alone."""
    if size_bytes is None:
        return None
    return (b"%d." % size_bytes * (size_bytes // 2 + 1))[:size_bytes]


@dataclass(frozen=True)
class Wish:
    """A mutation as it is drawn."""

    key: str
    size: int | None
    metadata_size: int | None
    expiration: int | None
    condition: Presence | None
    stamp: int | None

    def mutation(self) -> Mutation:
        """Make it one; a deletion has neither metadata nor expiration."""
        put = self.size is not None
        return Mutation(
            key=self.key,
            value=content(self.size),
            metadata=content(self.metadata_size) if put else None,
            expiration=self.expiration if put else None,
            condition=self.condition,
            stamp=None if self.stamp is None else Version(self.stamp),
        )


@dataclass(frozen=True)
class Wishes:
    """A batch as it is drawn."""

    namespace: str
    wishes: list[Wish]
    identity: Identity | None

    def batch(self) -> Batch:
        """Make it one."""
        mutations = [wish.mutation() for wish in self.wishes]
        return Batch(namespace=self.namespace, mutations=mutations, identity=self.identity)


numbers = st.integers(0, 3).map(lambda n: n.to_bytes(8, "big"))
wishes = st.builds(
    Wish,
    key=st.sampled_from(KEYS),
    size=st.none() | st.sampled_from(SIZES),
    metadata_size=st.sampled_from([None, None, 1, 600]),
    expiration=st.none() | st.integers(START_S - 1, START_S + 8),
    condition=st.sampled_from([None, None, None, Presence.ABSENT, Presence.PRESENT]),
    stamp=st.none() | st.integers(1, 6),
)
identities = st.builds(
    Identity,
    origin=st.sampled_from(["LHR", "FRA"]),
    name=numbers,
    lowest_unresolved=st.none() | numbers,
    fingerprint=st.sampled_from([b"", b"", b"f"]),
)
batches = st.builds(
    Wishes,
    namespace=st.sampled_from(NAMESPACES),
    wishes=st.lists(wishes, min_size=1, max_size=4),
    identity=st.none() | identities,
)


@dataclass
class Row:
    """What the model has of a key."""

    version: int
    value: bytes | None
    metadata: bytes | None
    expiration: int | None

    def dead(self, now_s: int) -> bool:
        """Whether readers see nothing."""
        return self.value is None or (self.expiration is not None and self.expiration <= now_s)


@dataclass
class Model:
    """The store as dictionaries."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])
    written: int = 0
    largest: int = 0
    lowest: dict[str, bytes] = field(default_factory=dict[str, bytes])
    told: dict[tuple[str, bytes], tuple[bytes, str, int | None]] = field(
        default_factory=dict[tuple[str, bytes], tuple[bytes, str, int | None]]
    )

    def apply(self, batch: Batch, first: int, now_s: int) -> str:
        """Apply a batch and say in short what its answer is."""
        identity = batch.identity
        if identity is None:
            return self.decide(batch, first, now_s)
        if identity.lowest_unresolved is not None:
            lowest = max(self.lowest.get(identity.origin, b""), identity.lowest_unresolved)
            self.lowest[identity.origin] = lowest
            for origin, name in list(self.told):
                if origin == identity.origin and name < lowest:
                    del self.told[origin, name]
        if identity.name < self.lowest.get(identity.origin, b""):
            return "forgotten"
        at = (identity.origin, identity.name)
        if at not in self.told:
            since_s = now_s if identity.lowest_unresolved is None else None
            self.told[at] = (identity.fingerprint, self.decide(batch, first, now_s), since_s)
            return self.told[at][1]
        fingerprint, answer, _ = self.told[at]
        same_length = answer.startswith("failed") or answer.count(",") == len(batch.mutations)
        return answer if fingerprint == identity.fingerprint and same_length else "reused"

    def decide(self, batch: Batch, first: int, now_s: int) -> str:
        """Apply a batch that was not seen before."""
        for mutation in batch.mutations:
            row = self.rows.get((batch.namespace, mutation.key))
            absent = row is None or row.dead(now_s)
            if mutation.condition is not None and absent != (mutation.condition == "absent"):
                version = None if row is None or absent else row.version
                return f"failed {mutation.key} {version}"
        answers: dict[str, str] = {}
        last = {mutation.key: i for i, mutation in enumerate(batch.mutations)}
        for key, i in last.items():
            mutation = batch.mutations[i]
            version = mutation.stamp or (first + i) * 1024
            row = self.rows.get((batch.namespace, key))
            if row is not None and row.version >= version:
                answers[key] = f"lost {row.version},"
                continue
            assert mutation.value is None or isinstance(mutation.value, bytes)
            self.rows[batch.namespace, key] = Row(
                version, mutation.value, mutation.metadata, mutation.expiration
            )
            if mutation.value is None:
                self.rows[batch.namespace, key] = Row(version, None, None, None)
            self.written += 1
            self.largest = max(self.largest, version)
            answers[key] = f"applied {version},"
        return "".join(answers[mutation.key] for mutation in batch.mutations)

    def sweep(self, now_s: int, below: int, before_s: int) -> None:
        """Bury what has expired, and remove old tombstones and outcomes."""
        self.told = {
            at: told for at, told in self.told.items() if told[2] is None or told[2] >= before_s
        }
        for at, row in list(self.rows.items()):
            if row.dead(now_s):
                if row.value is not None:
                    self.largest = max(self.largest, version_at(now_s * 1_000_000, CENTRAL_NODE))
                self.rows[at] = Row(row.version, None, None, None)
                if row.version < below:
                    del self.rows[at]

    def listing(self, namespace: str, prefix: str, now_s: int) -> list[tuple[str, Row]]:
        """Return what lives, in the order of the bytes of the keys."""
        found = [
            (key, row)
            for (at, key), row in self.rows.items()
            if at == namespace and key.startswith(prefix) and not row.dead(now_s)
        ]
        return sorted(found, key=lambda pair: pair[0].encode())


class StoreMachine(RuleBasedStateMachine):
    """Rules for any store; `open` says which."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.now_s = START_S
        self.next_us = 1
        self.follower: dict[tuple[str, str], tuple[Entry, bytes | None]] = {}

    async def open(self) -> Store:
        """Return the store, as it was left."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        """Open an empty store."""
        self.store = self.run(self.open())
        self.followed = self.store.position

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.store.close())
        self.runner.close()

    @rule(together=st.lists(batches, min_size=1, max_size=4))
    def write(self, together: list[Wishes]) -> None:
        """Send batches at once; they are applied in the order of the calls."""
        calls: list[Coroutine[None, None, str]] = []
        expected: list[str] = []
        for drawn in together:
            batch = drawn.batch()
            first, self.next_us = self.next_us, self.next_us + len(batch.mutations)
            calls.append(self.answer(batch, first))
            expected.append(self.model.apply(batch, first, self.now_s))

        async def send() -> list[str]:
            return await asyncio.gather(*calls)

        assert self.run(send()) == expected

    async def answer(self, batch: Batch, first: int) -> str:
        """Apply a batch and say in short what the answer is."""
        versions = Versions(first, len(batch.mutations), 0)
        try:
            written = await self.store.apply(batch, versions, now_us=self.now_s * 1_000_000)
        except ConditionFailedError as error:
            return f"failed {error.key} {error.version_current}"
        except OutcomeForgottenError:
            return "forgotten"
        except IdempotencyKeyReusedError:
            return "reused"
        await self.check_currents(written)
        return "".join(f"{outcome.kind} {outcome.version}," for outcome in written.outcomes)

    async def check_currents(self, written: Written) -> None:
        """See that every record that came with an outcome is whole."""
        for outcome in written.outcomes:
            assert (outcome.current is None) == (outcome.kind == "applied" and not written.repeated)
            if outcome.current is not None and outcome.current.value is not None:
                value = await value_of(outcome.current)
                assert value in [content(size_bytes) for size_bytes in SIZES]

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule(
        below=st.integers(0, 7) | st.just(2**60),
        age_s=st.integers(0, 3),
        limit=st.integers(1, 3),
    )
    def sweep(self, below: int, age_s: int, limit: int) -> None:
        """Sweep until nothing is left to do."""
        before_s = self.now_s - age_s
        self.model.sweep(self.now_s, below, before_s)
        sweep = order(
            now_s=self.now_s,
            tombstones_below=below,
            outcomes_before_us=before_s * 1_000_000,
            limit=limit,
        )
        while self.run(self.store.sweep(sweep)).total:
            pass

    @rule(
        namespace=st.sampled_from(NAMESPACES),
        prefix=st.sampled_from(["", "a", "ab", "é", "x"]),
        limit=st.integers(1, 4),
        include=st.sampled_from(Include),
    )
    def read_listing(self, namespace: str, prefix: str, limit: int, include: Include) -> None:
        """Read a listing page by page."""
        expected = self.model.listing(namespace, prefix, self.now_s)
        items: list[Listed] = []
        count = 0
        after: str | None = None
        for _ in range(len(KEYS) + 1):
            query = ListQuery(
                namespace=namespace,
                prefix=prefix,
                limit=limit,
                after=after,
                include=include,
                values_bytes_max=30_000,
            )
            page = self.run(self.store.scan(query, now_us=self.now_s * 1_000_000))
            items += page.items
            count += page.count
            after = page.after
            if after is None:
                break
            assert 0 < page.count <= limit
        assert after is None
        assert count == len(expected)
        if include is not Include.COUNT:
            assert [self.described(item) for item in items] == [
                (
                    key,
                    row.version,
                    len(row.value or b""),
                    row.metadata,
                    row.expiration,
                    row.value
                    if include is Include.VALUES and len(row.value or b"") <= 2**20
                    else None,
                )
                for key, row in expected
            ]

    @staticmethod
    def described(item: Listed) -> tuple[object, ...]:
        """Return everything about an item."""
        return (
            item.key,
            item.version,
            item.size_bytes,
            item.metadata,
            item.expiration,
            item.value,
        )

    @precondition(lambda self: self.model.written > 0)
    @rule()
    def follow(self) -> None:
        """Bring the follower up to date; then it has what the model has."""
        for change in self.run(tell(self.store, self.followed, limit=3)):
            # At once: a large value is readable for as long as its store is open.
            value = self.run(value_of(change.entry))
            self.follower[change.namespace, change.entry.key] = (change.entry, value)
        self.followed = self.store.position
        for at, row in self.model.rows.items():
            entry, value = self.follower[at]
            assert entry.version == row.version
            assert row.value is None or value == row.value
        for at, (entry, value) in self.follower.items():
            expired = entry.expiration is not None and entry.expiration <= self.now_s
            assert at in self.model.rows or value is None or expired

    @invariant()
    def keys_are_what_the_model_has(self) -> None:
        """Every key reads as in the model, tombstones included, at the end of the log."""
        for namespace in NAMESPACES:
            found = self.run(self.store.get(namespace, KEYS))
            assert found.position == self.store.position
            assert found.position.sequence == self.model.written
            rows = [self.model.rows.get((namespace, key)) for key in KEYS]
            assert self.run(self.contents(found.entries)) == [
                row and (row.version, row.value, row.metadata, row.expiration) for row in rows
            ]

    async def contents(self, entries: Iterable[Entry | None]) -> list[object]:
        """Return everything about entries but their place in the log."""
        return [
            entry and (entry.version, await value_of(entry), entry.metadata, entry.expiration)
            for entry in entries
        ]

    @invariant()
    def totals_are_what_the_model_has(self) -> None:
        """Usage is exact, and the largest version is never forgotten."""
        assert self.store.last_version == self.model.largest
        for namespace in NAMESPACES:
            usage = self.run(self.store.usage(namespace, now_us=self.now_s * 1_000_000))
            live = self.model.listing(namespace, "", self.now_s)
            size_bytes = sum(
                len(key.encode()) + len(row.value or b"") + len(row.metadata or b"")
                for key, row in live
            )
            assert (usage.keys, usage.bytes) == (len(live), size_bytes)


class MemoryMachine(StoreMachine):
    """The rules, against memory."""

    async def open(self) -> Store:
        """Return an empty store."""
        return MemoryStore(incarnation=7)


class SqliteMachine(StoreMachine):
    """The rules, against SQLite, which can also be closed, opened and rotated."""

    def __init__(self) -> None:
        """Make a folder for it."""
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-model-"))
        self.seed = 0
        self.sqlite: SqliteStore | None = None

    async def open(self) -> Store:
        """Open what is in the folder."""
        self.seed += 1
        self.sqlite = await SqliteStore.open(
            self.folder,
            clock=HastyClock(),
            random_bytes=seeded_bytes(self.seed),
            access=Access(synchronous="OFF"),  # Nobody pulls the plug here.
        )
        return self.sqlite

    @rule()
    def restart(self) -> None:
        """Close the store and open it again: all is as it was."""
        self.run(self.store.close())
        self.store = self.run(self.open())

    @rule(rounds=st.integers(0, 3))
    def rotate(self, rounds: int) -> None:
        """Replace the sealing key, and seal some of the entries anew."""
        assert self.sqlite is not None
        self.run(self.sqlite.rotate())
        for _ in range(rounds):
            self.run(self.sqlite.reseal(limit=2))

    def teardown(self) -> None:
        """Remove the folder too."""
        super().teardown()
        shutil.rmtree(self.folder)


def test_memory_agrees_with_the_model() -> None:
    """The oracle of the simulator is right itself."""
    run_state_machine_as_test(
        MemoryMachine, settings=settings(max_examples=60, stateful_step_count=30)
    )


def test_sqlite_agrees_with_the_model() -> None:
    """Through restarts and rotations, with every pause taken."""
    run_state_machine_as_test(
        SqliteMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
