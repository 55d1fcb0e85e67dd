"""What users of `SqliteStore` cannot see, and what its speed and safety rest on."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, cast

import pytest

from atoll.core.errors import CorruptDataError, StoreError
from atoll.core.model import Include, ListQuery, Written
from atoll.store.sealing import Sealer
from atoll.store.sqlite import Access, SqliteStore, applying, reader, records, resealing, sweeping
from atoll.store.sqlite.driver import Database
from atoll.store.sqlite.schema import DATABASE_NAME
from tests.contract.tools import (
    NOW_S,
    NOW_US,
    NS,
    Writer,
    delete,
    keys_of,
    listed,
    order,
    put,
    read,
    value_of,
)
from tests.support.disk import unsound_disk
from tests.support.store import HastyClock, audit, open_store

pytestmark = pytest.mark.anyio

STATEMENT: Final = re.compile(r"\s*(SELECT|INSERT|REPLACE|UPDATE|DELETE)\b")
ATTEMPTS_MIN: Final = 30
ATTEMPTS_MAX: Final = 70
PARAMETER: Final = re.compile(r"\?\d?")

BOUNDED_SCANS: Final = {
    "SCAN m",  # `meta` has one row
    "SCAN meta",
    "SCAN d",  # the one row of a sum
    "SCAN k VIRTUAL TABLE INDEX 1:",  # the array that was passed in
    "SCAN (subquery-1)",  # a window, as wide as its limit
    "SCAN w",
    "SCAN log",  # the oldest rows, as many as a sweep may remove
}

BROKEN: Final = put("broken", cast("bytes", "text"))
"""A mutation on which a store breaks off, as it would on a bug of ours."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Return an empty store."""
    async with open_store(tmp_path) as store:
        yield store


def statements() -> list[tuple[str, str]]:
    """Every statement that a module has as a constant, with its name."""
    found: list[tuple[str, str]] = []
    for module in (applying, reader, records, resealing, sweeping):
        constants = [(n, v) for n, v in vars(module).items() if isinstance(v, str)]
        found += [(f"{module.__name__}.{n}", v) for n, v in constants if STATEMENT.match(v)]
    return found


def plan(database: Database, sql: str) -> list[str]:
    """Return the steps of a statement's plan."""
    if "VALUES" not in sql and sql.lstrip().startswith("REPLACE"):
        sql += " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    numbered = {text for text in PARAMETER.findall(sql) if text != "?"}
    values = [0] * (len(numbered) or sql.count("?"))
    return [str(row[3]) for row in database.query(f"EXPLAIN QUERY PLAN {sql}", values)]


async def test_statements_go_straight_to_their_rows(store: SqliteStore, tmp_path: Path) -> None:
    """None walks over a table or sorts what it found: each finds its rows by a key or an index."""
    await Writer(store)(put("k"))

    def faults() -> list[tuple[str, str]]:
        database = Database(tmp_path / DATABASE_NAME, Access())
        try:
            return [
                (name, step)
                for name, sql in statements()
                for step in plan(database, sql)
                if "TEMP B-TREE" in step or (step.startswith("SCAN") and step not in BOUNDED_SCANS)
            ]
        finally:
            database.close()

    assert len(statements()) > 20
    assert await asyncio.to_thread(faults) == []


async def test_usage_and_sweeps_find_the_expired_by_their_index(
    store: SqliteStore, tmp_path: Path
) -> None:
    """However large the namespace, what has not expired is not looked at."""
    await Writer(store)(put("k"))

    def plans() -> list[str]:
        database = Database(tmp_path / DATABASE_NAME, Access())
        try:
            return [
                step
                for name, sql in statements()
                if name.endswith(("_USAGE", "_EXPIRED"))
                for step in plan(database, sql)
                if "entries" in step
            ]
        finally:
            database.close()

    steps = await asyncio.to_thread(plans)
    assert len(steps) == 2
    assert all("INDEX entries_by_expiration (expiration<" in step for step in steps)


async def test_no_nonce_seals_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through failures, restarts, copies and rotations: unless the plain text is the same."""
    sealed: dict[tuple[object, int, int], tuple[bytes, bytes]] = {}
    seal: Callable[..., bytes] = Sealer.seal

    def watched(
        self: Sealer, plain: bytes, key: bytes, sequence: int, part: int, *, bound: bytes = b""
    ) -> bytes:
        result = seal(self, plain, key, sequence, part, bound=bound)
        # What another key makes of nothing is another tag: it stands for the key.
        identity = seal(self, b"", b"", 2**60, 0)
        what = (bytes(plain), key + bound)
        assert sealed.setdefault((identity, sequence, part), what) == what
        return result

    monkeypatch.setattr(Sealer, "seal", watched)
    for run in range(3):
        async with open_store(tmp_path, seed=run) as store:
            write = Writer(store)
            for i in range(30):
                stamp = 2**40 * (run + 1) + i
                await write(*(put(f"k{n}", b"%d %d" % (run, i), stamp=stamp) for n in range(3)))
                await write(put("large", b"%d" % i * 2_000_000, metadata=b"1", stamp=stamp))
            with pytest.raises(TypeError):
                await write(put("a", b"never", stamp=2**60), BROKEN)
            await write(put("a", b"instead", stamp=2**59))
            await store.rotate()
            await store.reseal(limit=2)
            await write(put("a", b"after", stamp=2**60 + run))
            await store.reseal(limit=100)
    assert len(sealed) > 200


async def test_a_batch_that_fails_takes_no_other_along(store: SqliteStore) -> None:
    """Those that share its commit are applied, in their order."""
    write = Writer(store)

    results = await asyncio.gather(
        *(write(put("k", b"%d" % i), put(f"k{i}")) for i in range(20)),
        write(put("k", b"broken"), *(put(f"x{i}") for i in range(500)), BROKEN),
        *(write(put("k", b"%d" % i), put(f"k{i}")) for i in range(20, 40)),
        return_exceptions=True,
    )

    assert isinstance(results[20], TypeError)
    assert sum(isinstance(result, Written) for result in results) == 40
    assert await value_of(await read(store, "k")) == b"39"
    assert len(await keys_of(listed(store))) == 41


async def test_a_failed_place_in_the_log_is_not_taken_again(store: SqliteStore) -> None:
    """Positions go on behind it, and a follower is not confused."""
    write = Writer(store)
    await write(put("a"))
    start = store.position
    with pytest.raises(TypeError):
        await write(put("b"), put("c"), BROKEN)
    await write(put("d"))

    changes = await store.changes(start, limit=10)
    assert [change.entry.key for change in changes.changes] == ["d"]
    assert changes.position == store.position
    assert store.position.sequence == start.sequence + 4
    assert changes.complete
    assert (await store.get(NS, ["d"])).position == store.position


async def test_a_listing_steps_over_any_number_of_expired_keys(store: SqliteStore) -> None:
    """More than one window holds, in front, in between and at the end."""
    write = Writer(store)
    width = reader.WINDOW_DEAD_ROWS_MAX
    for at in range(3):
        keys = [f"{at}-{i:05}" for i in range(width + 10)]
        await write(*(put(key, expiration=NOW_S) for key in keys))
        await write(put(f"{at}-live"))
    await write(*(put(f"9-{i:05}", expiration=NOW_S) for i in range(2 * width)))

    for limit in (1, 2, 3, 10):
        for include in (Include.KEYS, Include.VALUES):
            pages = [page async for page in listed(store, limit=limit, include=include)]
            assert [item.key for page in pages for item in page.items] == [
                "0-live",
                "1-live",
                "2-live",
            ]
            assert all(page.items for page in pages)


async def test_a_listing_misses_nothing_where_a_window_ends(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many dead keys stand before a live one, and whatever it is called."""
    monkeypatch.setattr(reader, "WINDOW_DEAD_ROWS_MAX", 6)
    monkeypatch.setattr(reader, "WINDOW_VALUES_MAX", 3)
    write = Writer(store)
    expected: list[str] = []
    for dead in range(20):
        at = f"{dead:02}"
        await write(*(put(f"{at}-{i:02}", expiration=NOW_S) for i in range(dead)))
        await write(put(f"{at}-{dead:02}"), put(f"{at}-{dead:02}\0"))
        expected += [f"{at}-{dead:02}", f"{at}-{dead:02}\0"]

    for include in (Include.KEYS, Include.VALUES):
        for limit in (1, 2, 3, 5, 1000):
            assert await keys_of(listed(store, include=include, limit=limit)) == expected
        for dead in range(20):
            pages = listed(store, include=include, limit=1, prefix=f"{dead:02}")
            assert await keys_of(pages) == expected[2 * dead : 2 * dead + 2]


async def test_the_deleted_cost_a_listing_nothing(store: SqliteStore, tmp_path: Path) -> None:
    """What was deleted, or has expired and was swept, is in none of the pages that it reads."""
    write = Writer(store)
    await write(*(put(f"k{i:05}", b"x" * 100) for i in range(5000)))
    await write(*(delete(f"k{i:05}") for i in range(5000) if i % 10))

    def rows() -> list[tuple[object, ...]]:
        database = Database(tmp_path / DATABASE_NAME, Access())
        try:
            return list(
                database.query(
                    "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM tombstones)"
                )
            )
        finally:
            database.close()

    assert await asyncio.to_thread(rows) == [(500, 4500)]


async def test_the_write_ahead_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Beside a writer that never stops it is emptied and begun anew."""
    access = Access(checkpoint_pages=50, wal_pages_max=200)
    async with open_store(tmp_path, access=access) as store:
        write = Writer(store)
        sizes: list[int] = []
        for i in range(150):
            await asyncio.gather(*(write(put(f"{i}-{n}", b"x" * 9000)) for n in range(8)))
            sizes.append((await asyncio.to_thread((tmp_path / "atoll.db-wal").stat)).st_size)

    page_and_frame = 4096 + 24
    assert max(sizes) < (200 + 100) * page_and_frame
    assert max(sizes) * 5 < 150 * 8 * 9000, "too little was written to prove anything"
    assert await asyncio.to_thread(audit, tmp_path) == []


async def test_overwritten_large_values_leave_the_file(tmp_path: Path) -> None:
    """Their room is used again once nobody reads them, in the next run at the latest."""
    large = b"x" * 5_000_000
    async with open_store(tmp_path) as store:
        write = Writer(store)
        await write(put("k", large))
        held = await read(store, "k")
        await write(put("k", large))
        assert (await store.sweep(order())).reclaimed == 0
        assert held is not None
    async with open_store(tmp_path, seed=1) as store:
        assert (await store.sweep(order())).reclaimed == 1
        assert (await store.sweep(order())).reclaimed == 0
        assert await value_of(await read(store, "k")) == large
    assert await asyncio.to_thread(audit, tmp_path) == []


async def test_a_value_overwritten_in_the_same_commit_is_left_to_its_readers(
    tmp_path: Path,
) -> None:
    """Between a sweep's decision and its commit somebody may still find the old value."""
    large = b"x" * 1_100_000
    found: list[bytes | None] = []
    async with open_store(tmp_path, clock=HastyClock()) as store:
        write = Writer(store)
        for attempt in range(ATTEMPTS_MAX):
            await write(put("k", large))
            together = asyncio.gather(write(put("k", b"new")), store.sweep(order()))
            for _ in range(attempt**2):  # On a busy machine a commit takes many steps.
                await asyncio.sleep(0)  # noqa: TID251 - one step of the others
            entry = await read(store, "k")
            await together
            await store.sweep(order())
            found.append(await value_of(entry))
            del entry
            if len(set(found)) > 1 and attempt > ATTEMPTS_MIN:
                break

    assert set(found) == {large, b"new"}, "they did not meet: the test proves nothing"


async def test_others_run_while_a_bulk_is_written(tmp_path: Path) -> None:
    """A bulk takes turns with whoever else is on the loop."""
    async with open_store(tmp_path) as store:
        write = Writer(store)
        bulk = asyncio.ensure_future(write(*(put(f"k{i:05}", b"x" * 300) for i in range(20_000))))
        turns = 0
        while not bulk.done():
            await asyncio.sleep(0)  # noqa: TID251 - one step of the others
            found = (await store.get(NS, ["k00000", "k19999"])).entries
            assert (found[0] is None) == (found[1] is None), "half of a bulk was seen"
            turns += 1
        assert turns > 10
        assert (await bulk).position.sequence == 20_000


async def test_another_program_may_look_and_even_write(store: SqliteStore, tmp_path: Path) -> None:
    """While it holds the database's own lock, writes wait off the event loop and reads go on."""
    write = Writer(store)
    await write(put("k", b"1"))
    other = await asyncio.to_thread(Database, tmp_path / DATABASE_NAME, Access())
    await asyncio.to_thread(other.begin)
    writing = asyncio.create_task(write(put("k", b"2")))
    for _ in range(50):
        assert await value_of(await read(store, "k")) == b"1"
        await asyncio.to_thread(other.query, "SELECT 1")
    assert not writing.done()
    await asyncio.to_thread(other.roll_back)
    await writing
    other.close()

    assert await value_of(await read(store, "k")) == b"2"


async def test_who_stops_waiting_stops_nothing(store: SqliteStore) -> None:
    """A caller that was cancelled leaves the others, the store and its threads as they are."""
    write = Writer(store)
    await write(put("large", b"x" * 5_000_000))
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(write(put(f"k{i}"))) for i in range(40)
    ]
    tasks += [asyncio.create_task(store.usage(NS, now_us=NOW_US)) for _ in range(20)]
    await asyncio.sleep(0)  # noqa: TID251 - so that they have begun
    for task in tasks[::2]:
        task.cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 30
    assert len(await keys_of(listed(store, prefix="k"))) >= 20
    assert await value_of(await read(store, "large")) == b"x" * 5_000_000


async def test_a_disk_that_cannot_sync_ends_writing(tmp_path: Path) -> None:
    """Nobody knows then what is on it: reads go on, and writes do after a restart."""
    with unsound_disk("unsound") as disk:
        async with open_store(tmp_path, access=Access(vfs="unsound")) as store:
            write = Writer(store)
            await write(put("k", b"before"))
            disk.broken = True
            with pytest.raises(StoreError):
                await write(put("k", b"lost"))
            disk.broken = False
            with pytest.raises(StoreError, match="until a restart"):
                await write(put("k", b"refused"))
            assert await value_of(await read(store, "k")) == b"before"
        async with open_store(tmp_path, seed=1) as store:
            assert await value_of(await read(store, "k")) == b"before"
            await Writer(store)(put("k", b"after", stamp=2**60))


async def test_a_corrupt_page_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Not another value, and not a missing one."""
    async with open_store(tmp_path) as store:
        await Writer(store)(*(put(f"k{i:04}", b"x" * 800) for i in range(2000)))

    def spoil() -> None:
        path = tmp_path / DATABASE_NAME
        content = bytearray(path.read_bytes())
        for page in range(30, len(content) // 4096 - 1):
            content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
        path.write_bytes(bytes(content))

    await asyncio.to_thread(spoil)
    async with open_store(tmp_path, seed=1) as store:
        with pytest.raises(CorruptDataError):
            await asyncio.gather(*(read(store, f"k{i:04}") for i in range(2000)))
        with pytest.raises(CorruptDataError):
            await store.scan(ListQuery(namespace=NS), now_us=NOW_US)
