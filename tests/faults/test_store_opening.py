"""How a store begins: alone, in its own schema, with its own incarnation."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.clock import SystemClock
from atoll.core.errors import (
    CorruptDataError,
    PositionTooOldError,
    SchemaTooNewError,
    StoppingError,
    StoreInUseError,
)
from atoll.core.version import NO_VERSION
from atoll.store.sqlite import Access, SqliteStore, schema
from atoll.store.sqlite.driver import Database
from tests.contract.store import Writer, held, order, put, read, value_of
from tests.support.rng import seeded_bytes
from tests.support.store import audit, open_store

pytestmark = pytest.mark.anyio

HOLD = """
import asyncio, os, sys
from pathlib import Path
from atoll.clock import SystemClock
from atoll.store.sqlite import SqliteStore

async def main():
    folder = Path(sys.argv[1])
    await SqliteStore.open(folder, clock=SystemClock(), random_bytes=os.urandom)
    print("open", flush=True)
    sys.stdin.read()
    os._exit(0)

asyncio.run(main())
"""


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Entries, the log, what was remembered, and the largest version, though it was swept."""
    async with open_store(tmp_path) as store:
        write = Writer(store)
        await write(put("k", metadata=b"1"), put("large", b"l" * 2_000_000))
        await write(put("gone", stamp=2**61))
        await write(put("gone", stamp=2**61 + 1, expiration=1))
        await store.sweep(order(tombstones_below=2**62))
        position, version = store.position, store.last_version
    async with open_store(tmp_path, seed=1) as store:
        assert (store.position, store.last_version) == (position, version)
        assert version == 2**61 + 1
        assert await value_of(await read(store, "large")) == b"l" * 2_000_000
        assert (await store.changes(position, limit=1)).complete
        assert (await held(store))[0] == 2


async def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    """And is let in when that process is no more."""
    with subprocess.Popen(  # noqa: ASYNC220 - it answers at once
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"open\n"
        with pytest.raises(StoreInUseError, match=f"process {holder.pid}"):
            async with open_store(tmp_path):
                pass
        holder.kill()
        await asyncio.to_thread(holder.wait)
    async with open_store(tmp_path) as store:
        assert store.last_version == NO_VERSION


async def test_a_closed_store_takes_nothing_more(tmp_path: Path) -> None:
    """What had queued before is done; what comes later is told that the node is stopping."""
    async with open_store(tmp_path) as store:
        write = Writer(store)
        queued = [asyncio.create_task(write(put(f"k{i}"))) for i in range(50)]
        await asyncio.sleep(0)  # noqa: TID251 - so that they have called
        await store.close()
        await store.close()
        for task in queued:
            assert (await task).position.sequence > 0
        with pytest.raises(StoppingError):
            await write(put("late"))
        with pytest.raises(StoppingError):
            await held(store)
    async with open_store(tmp_path, seed=1) as store:
        assert (await held(store))[0] == 50


async def test_a_copy_is_another_incarnation(tmp_path: Path) -> None:
    """Of two stores with one past neither takes the other's positions for its own."""
    async with open_store(tmp_path / "a", seed=1) as store:
        await Writer(store)(put("k"))
        original = store.position
    await asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "b")

    async with open_store(tmp_path / "b", seed=2) as copy:
        assert copy.position.incarnation != original.incarnation
        assert copy.position.sequence == original.sequence
        assert await value_of(await read(copy, "k")) == b"v"
        with pytest.raises(PositionTooOldError):
            await copy.changes(original, limit=1)
    async with open_store(tmp_path / "a", seed=3) as store:
        assert store.position == original


async def test_a_moved_store_is_the_same(tmp_path: Path) -> None:
    """Its folder may be renamed."""
    async with open_store(tmp_path / "a", seed=1) as store:
        await Writer(store)(put("k"))
        position = store.position
    await asyncio.to_thread((tmp_path / "a").rename, tmp_path / "b")

    async with open_store(tmp_path / "b", seed=2) as store:
        assert store.position == position


async def test_a_start_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    """An empty database with a key beside it is a store that was being made."""
    (tmp_path / "atoll.db").touch()
    (tmp_path / "sealing.key").write_text("ab" * 32)

    async with open_store(tmp_path) as store:
        await Writer(store)(put("k"))
    async with open_store(tmp_path, seed=1) as store:
        assert await value_of(await read(store, "k")) == b"v"


def add_colour(database: Database) -> None:
    """A step that a later release might take."""
    database.run("ALTER TABLE namespaces ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")


def fail(database: Database) -> None:
    """A step that breaks off in the middle."""
    database.run("DROP TABLE log")
    message = "interrupted"
    raise RuntimeError(message)


async def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """From every schema there ever was, with everything that was stored."""
    async with open_store(tmp_path) as store:
        await Writer(store)(put("k"))
    later = await SqliteStore.open(
        tmp_path,
        clock=SystemClock(),
        random_bytes=seeded_bytes(1),
        upgrades=[*schema.UPGRADES, add_colour],
    )
    try:
        assert await value_of(await read(later, "k")) == b"v"
        await Writer(later)(put("k", b"2", stamp=2**60))
    finally:
        await later.close()

    def colours() -> list[tuple[object, ...]]:
        database = Database(tmp_path / "atoll.db", Access())
        try:
            return [*database.query("SELECT colour FROM namespaces"), (schema.schema_of(database),)]
        finally:
            database.close()

    assert await asyncio.to_thread(colours) == [("red",), (len(schema.UPGRADES) + 1,)]
    with pytest.raises(SchemaTooNewError, match=r"schema 2, this release knows .* up to 1"):
        async with open_store(tmp_path):
            pass


async def test_an_upgrade_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    """A step that breaks off leaves the store as the release before can open it."""
    async with open_store(tmp_path) as store:
        await Writer(store)(put("k"))
    with pytest.raises(RuntimeError):
        await SqliteStore.open(
            tmp_path,
            clock=SystemClock(),
            random_bytes=seeded_bytes(1),
            upgrades=[*schema.UPGRADES, fail],
        )

    assert await asyncio.to_thread(audit, tmp_path) == []
    async with open_store(tmp_path, seed=2) as store:
        assert await value_of(await read(store, "k")) == b"v"


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 50, b"SQLite"])
async def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """What is no database of ours is an error, and is not touched."""
    (tmp_path / "atoll.db").write_bytes(content)

    with pytest.raises(CorruptDataError):
        async with open_store(tmp_path):
            pass

    assert await asyncio.to_thread((tmp_path / "atoll.db").read_bytes) == content


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """Even one with a schema number."""
    path = tmp_path / "atoll.db"
    await asyncio.to_thread(make_another, path)
    before = await asyncio.to_thread(path.read_bytes)

    with pytest.raises(CorruptDataError, match="not made by Atoll"):
        async with open_store(tmp_path):
            pass

    assert await asyncio.to_thread(path.read_bytes) == before


def make_another(path: Path) -> None:
    """Make a database that is not ours."""
    path.touch()
    database = Database(path, Access())
    database.run("CREATE TABLE entries (a)")
    database.set("user_version", value=1)
    database.close()
