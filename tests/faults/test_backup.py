"""Backups: made of a store in use, put back as a new incarnation, and never with the key."""

import asyncio
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.core.errors import (
    CorruptDataError,
    SealingKeyMissingError,
    SealingKeyWrongError,
    StoreExistsError,
    StoreInUseError,
    StoreNotFoundError,
)
from atoll.core.model import Mutation
from atoll.store.sqlite import Access, back_up, restore
from atoll.store.sqlite.driver import Database
from tests.contract.tools import Writer, keys_of, listed, put, read, value_of
from tests.support.store import audit, open_store

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * 9000

BACK_UP = """
import sys
from pathlib import Path
from atoll.store.sqlite import back_up
steps = []
done = back_up(
    Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: steps.append((done, total))
)
assert steps == sorted(steps) and steps[-1][0] == steps[-1][1], steps
print(done.position.sequence, len(steps))
"""


def nobody(done: int, total: int) -> None:
    """Hear of progress."""
    assert 0 <= done <= total


async def test_a_backup_of_a_store_in_use_is_one_moment_of_it(tmp_path: Path) -> None:
    """Made by another process while batches of three keys come in: none is there in part."""
    data, backup = tmp_path / "data", tmp_path / "backup.db"
    async with open_store(data) as store:
        write = Writer(store)
        await write(put("large", LARGE), *(put(f"old{i}", b"x" * 9000) for i in range(1000)))
        before = store.position.sequence
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BACK_UP, str(data), str(backup), stdout=subprocess.PIPE
        )
        waiting = asyncio.create_task(process.communicate())
        written = 0
        while not waiting.done():
            await write(*(put(f"new{written:05}-{part}", b"y" * 5000) for part in range(3)))
            written += 1
        output, _ = await waiting
        after = store.position.sequence
    assert process.returncode == 0
    sequence, steps = map(int, output.split())
    assert before <= sequence <= after
    assert written > 3
    assert steps > 5

    await restored(backup, tmp_path / "restored", data / "sealing.key")
    async with open_store(tmp_path / "restored", seed=9) as store:
        keys = await keys_of(listed(store, prefix="new", limit=500))
        assert len(keys) == sequence - before
        assert len(keys) % 3 == 0
        assert await value_of(await read(store, "large")) == LARGE
        assert await value_of(await read(store, "old999")) == b"x" * 9000
    assert await asyncio.to_thread(audit, tmp_path / "restored") == []


async def restored(backup: Path, folder: Path, key: Path) -> None:
    """Restore a backup, with the key put where it belongs."""

    def work() -> None:
        folder.mkdir()
        shutil.copy(key, folder / "sealing.key")
        restore(backup, folder, progress=nobody)

    await asyncio.to_thread(work)


async def backed_up(folder: Path, *mutations: Mutation) -> Path:
    """Make a store in `folder`/data, and a backup of it beside."""
    async with open_store(folder / "data") as store:
        await Writer(store)(*mutations)
    backup = folder / "backup.db"
    await asyncio.to_thread(back_up, folder / "data", backup, progress=nobody)
    return backup


async def test_a_backup_is_one_file_without_the_key(tmp_path: Path) -> None:
    """Which only its owner may read."""
    backup = await backed_up(tmp_path, put("k", b"v" * 1000))

    key = await asyncio.to_thread((tmp_path / "data" / "sealing.key").read_text)
    content = await asyncio.to_thread(backup.read_bytes)
    assert key.strip().encode() not in content
    assert bytes.fromhex(key) not in content
    assert stat.S_IMODE((await asyncio.to_thread(backup.stat)).st_mode) == 0o600
    assert sorted(path.name for path in await asyncio.to_thread(lambda: [*tmp_path.iterdir()])) == [
        "backup.db",
        "data",
    ]


async def test_a_restored_store_is_a_new_incarnation(tmp_path: Path) -> None:
    """Its sequence and its versions go on, its positions are nobody's of before."""
    async with open_store(tmp_path / "data", seed=1) as store:
        write = Writer(store)
        await write(put("k", b"kept", stamp=2**50))
        backup = tmp_path / "backup.db"
        await asyncio.to_thread(back_up, tmp_path / "data", backup, progress=nobody)
        await write(put("k", b"after", stamp=2**50 + 1))
        position = store.position

    await restored(backup, tmp_path / "restored", tmp_path / "data" / "sealing.key")

    for seed in (2, 3):
        async with open_store(tmp_path / "restored", seed=seed) as store:
            assert store.position.incarnation != position.incarnation
            assert store.position.sequence == position.sequence - 1
            assert store.last_version == 2**50
            assert await value_of(await read(store, "k")) == b"kept"
            incarnation = store.position.incarnation
    async with open_store(tmp_path / "restored", seed=4) as store:
        assert store.position.incarnation == incarnation, "a new one at the first start only"
        await Writer(store)(put("k", b"again", stamp=2**51))
        assert await value_of(await read(store, "k")) == b"again"


async def test_a_restored_store_shares_no_nonce_with_its_twin(tmp_path: Path) -> None:
    """The same write at the same place in both logs is sealed by different keys."""
    backup = await backed_up(tmp_path, put("k"))
    await restored(backup, tmp_path / "restored", tmp_path / "data" / "sealing.key")

    sealed: list[tuple[object, ...]] = []
    for folder, seed in (("data", 7), ("restored", 8)):
        async with open_store(tmp_path / folder, seed=seed) as store:
            await Writer(store)(put("twin", b"same value", stamp=2**60))
        rows = await asyncio.to_thread(query, tmp_path / folder / "atoll.db")
        sealed.append(rows[0])
    (sequence, value), (twin_sequence, twin_value) = sealed
    assert sequence == twin_sequence
    assert value != twin_value


def query(path: Path) -> list[tuple[object, ...]]:
    """Read what was sealed for the twins."""
    database = Database(path, Access())
    try:
        return list(database.query("SELECT sequence, value FROM entries WHERE size = 10"))
    finally:
        database.close()


async def test_a_backup_is_not_made_over_anything(tmp_path: Path) -> None:
    """An existing file stays as it is; a store that is not there is an error."""
    backup = await backed_up(tmp_path, put("k"))
    before = await asyncio.to_thread(backup.read_bytes)
    with pytest.raises(StoreExistsError):
        await asyncio.to_thread(back_up, tmp_path / "data", backup, progress=nobody)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "atoll.db").touch()
    for folder in (tmp_path, tmp_path / "empty"):
        with pytest.raises(StoreNotFoundError):
            await asyncio.to_thread(back_up, folder, tmp_path / "b", progress=nobody)

    assert await asyncio.to_thread(backup.read_bytes) == before


async def test_a_backup_that_broke_off_leaves_nothing(tmp_path: Path) -> None:
    """No file that could be taken for a backup."""
    await backed_up(tmp_path, put("k", b"x" * 2_000_000))

    def give_up(done: int, total: int) -> None:
        assert done <= total
        raise KeyboardInterrupt

    def interrupted() -> list[str]:
        with pytest.raises(KeyboardInterrupt):
            back_up(tmp_path / "data", tmp_path / "second.db", progress=give_up)
        return sorted(path.name for path in tmp_path.iterdir())

    assert await asyncio.to_thread(interrupted) == ["backup.db", "data"]


async def test_restoring_changes_nothing_where_it_must_not(tmp_path: Path) -> None:
    """Where a store is, where one is in use, without the key, with another one."""
    backup = await backed_up(tmp_path, put("k"))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(SealingKeyMissingError):
        await asyncio.to_thread(restore, backup, other, progress=nobody)
    (other / "sealing.key").write_text("cd" * 32)
    with pytest.raises(SealingKeyWrongError):
        await asyncio.to_thread(restore, backup, other, progress=nobody)
    with pytest.raises(StoreExistsError):
        await asyncio.to_thread(restore, backup, tmp_path / "data", progress=nobody)
    async with open_store(tmp_path / "used"):
        with pytest.raises(StoreInUseError):
            await asyncio.to_thread(restore, backup, tmp_path / "used", progress=nobody)
    with pytest.raises(StoreNotFoundError):
        await asyncio.to_thread(restore, tmp_path / "no", other, progress=nobody)

    names = await asyncio.to_thread(lambda: sorted(path.name for path in other.iterdir()))
    assert names == ["lock", "sealing.key"]


async def test_only_a_whole_backup_is_restored(tmp_path: Path) -> None:
    """Neither a store's own file nor a backup that was damaged."""
    backup = await backed_up(tmp_path, *(put(f"k{i:03}", b"x" * 900) for i in range(200)))
    key = tmp_path / "data" / "sealing.key"
    with pytest.raises(CorruptDataError, match="not a complete backup"):
        await restored(tmp_path / "data" / "atoll.db", tmp_path / "a", key)
    content = bytearray(await asyncio.to_thread(backup.read_bytes))
    content[4096 * 9 : 4096 * 12] = b"\xaa" * (4096 * 3)
    await asyncio.to_thread(backup.write_bytes, bytes(content))
    with pytest.raises(CorruptDataError):
        await restored(backup, tmp_path / "b", key)

    assert not await asyncio.to_thread((tmp_path / "b" / "atoll.db").exists)


async def test_a_backup_put_in_place_by_hand_is_taken_for_one(tmp_path: Path) -> None:
    """Copying it where a store would be is as good as restoring it."""
    async with open_store(tmp_path / "data", seed=1) as store:
        await Writer(store)(put("k"))
        position = store.position
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "b.db", progress=nobody)
    # Over the old file, so that even the inode is the one of before.
    content = await asyncio.to_thread((tmp_path / "b.db").read_bytes)
    await asyncio.to_thread((tmp_path / "data" / "atoll.db").write_bytes, content)

    async with open_store(tmp_path / "data", seed=2) as store:
        assert store.position.incarnation != position.incarnation
        assert await value_of(await read(store, "k")) == b"v"


async def test_a_backup_from_the_middle_of_a_rotation_opens(tmp_path: Path) -> None:
    """With both keys beside it; and it says so when one is missing."""
    async with open_store(tmp_path / "data", seed=1) as store:
        await Writer(store)(*(put(f"k{i}") for i in range(100)))
        await store.rotate()
        await store.reseal(limit=50)
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "b.db", progress=nobody)
    key = tmp_path / "data" / "sealing.key"
    with pytest.raises(SealingKeyWrongError):
        await restored(tmp_path / "b.db", tmp_path / "without", key)
    (tmp_path / "with").mkdir()
    for name in ("sealing.key", "sealing.key.retired-001"):
        await asyncio.to_thread(shutil.copy, tmp_path / "data" / name, tmp_path / "with" / name)
    await asyncio.to_thread(restore, tmp_path / "b.db", tmp_path / "with", progress=nobody)

    async with open_store(tmp_path / "with", seed=2) as store:
        while not (await store.reseal(limit=30)).complete:
            pass
    await asyncio.to_thread((tmp_path / "with" / "sealing.key.retired-001").unlink)
    async with open_store(tmp_path / "with", seed=3) as store:
        assert len(await keys_of(listed(store))) == 100
        assert await value_of(await read(store, "k99")) == b"v"
