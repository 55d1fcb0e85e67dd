"""Keys lost, wrong or replaced, and stored bytes that somebody changed."""

import asyncio
import hashlib
import stat
from pathlib import Path

import pytest

from atoll.core.errors import CorruptDataError, SealingKeyMissingError, SealingKeyWrongError
from atoll.core.model import Include, ListQuery, Position
from atoll.store.sqlite import Access, SqliteStore
from atoll.store.sqlite.driver import Database
from atoll.store.sqlite.schema import DATABASE_NAME
from tests.contract.tools import NOW_US, NS, OTHER, Writer, put, read, tell, value_of
from tests.support.store import audit, open_store

pytestmark = pytest.mark.anyio

KEY = "sealing.key"
LARGE = bytes(range(256)) * 8200


def tamper(folder: Path, sql: str) -> None:
    """Change a closed store behind its back."""
    database = Database(folder / DATABASE_NAME, Access())
    database.run(sql)
    database.close()


def digest(folder: Path) -> dict[str, str]:
    """Return what is in a folder, to see that nothing was changed."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "lock"
    }


async def fill(folder: Path) -> None:
    """Make a store with a value of each kind."""
    async with open_store(folder) as store:
        write = Writer(store)
        await write(
            put("joined", b"value", metadata=b'"metadata"'),
            put("apart", b"v" * 600, metadata=b'"metadata"'),
            put("large", LARGE, metadata=b'"metadata"'),
        )
        await write(put("joined", b"other", metadata=b'"metadata"'), namespace=OTHER)


async def test_the_key_is_made_at_the_first_start(tmp_path: Path) -> None:
    """A file of 64 digits that only its owner may read, and the database likewise."""
    await fill(tmp_path / "data")

    files = {
        path.name: path
        for path in await asyncio.to_thread(lambda: list((tmp_path / "data").iterdir()))
    }

    assert set(files) == {KEY, "atoll.db", "lock"}
    text = await asyncio.to_thread(files[KEY].read_text)
    assert len(bytes.fromhex(text)) == 32
    for name in (KEY, "atoll.db"):
        assert stat.S_IMODE((await asyncio.to_thread(files[name].stat)).st_mode) == 0o600


async def test_the_key_may_be_elsewhere(tmp_path: Path) -> None:
    """Given before the first start, or made where it was told to be."""
    given = tmp_path / "keys" / "given"
    async with open_store(tmp_path / "a", key_path=given) as store:
        await Writer(store)(put("k"))
    async with open_store(tmp_path / "b", key_path=given) as store:
        await Writer(store)(put("k"))

    assert not await asyncio.to_thread((tmp_path / "a" / KEY).exists)
    async with open_store(tmp_path / "a", key_path=given) as store:
        assert await value_of(await read(store, "k")) == b"v"


async def test_nothing_readable_is_stored(tmp_path: Path) -> None:
    """Neither values nor metadata of any size stand in the files."""
    secret = b"very-secret-" * 3
    async with open_store(tmp_path) as store:
        write = Writer(store)
        for i, size in enumerate([1, 400, 20_000, 1_200_000]):
            await write(put(f"k{i}", secret + b"." * size, metadata=b'"%s"' % secret))
        files = [
            p for p in await asyncio.to_thread(lambda: list(tmp_path.iterdir())) if p.is_file()
        ]
        contents = [await asyncio.to_thread(path.read_bytes) for path in files]

    assert sum(len(content) for content in contents) > 1_200_000
    assert all(secret[:12] not in content for content in contents)


async def test_without_the_key_nothing_is_changed(tmp_path: Path) -> None:
    """The error says where the key was looked for."""
    await fill(tmp_path)
    key = await asyncio.to_thread((tmp_path / KEY).read_bytes)
    await asyncio.to_thread((tmp_path / KEY).unlink)
    before = await asyncio.to_thread(digest, tmp_path)

    with pytest.raises(SealingKeyMissingError, match=KEY):
        async with open_store(tmp_path):
            pass

    assert await asyncio.to_thread(digest, tmp_path) == before
    await asyncio.to_thread((tmp_path / KEY).write_bytes, key)
    async with open_store(tmp_path) as store:
        assert await value_of(await read(store, "large")) == LARGE


@pytest.mark.parametrize("text", [b"00" * 32, b"", b"zz" * 32, b"00" * 31, b"\xff" * 32])
async def test_with_another_key_nothing_is_changed(tmp_path: Path, text: bytes) -> None:
    """Whether it is a key at all or not."""
    await fill(tmp_path)
    await asyncio.to_thread((tmp_path / KEY).write_bytes, text)
    before = await asyncio.to_thread(digest, tmp_path)

    with pytest.raises(SealingKeyWrongError, match=KEY):
        async with open_store(tmp_path):
            pass

    assert await asyncio.to_thread(digest, tmp_path) == before


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (
            "joined",
            "UPDATE entries SET value = zeroblob(length(value)) WHERE key = X'6A6F696E6564'",
        ),
        ("joined", "UPDATE entries SET sequence = sequence + 1000 WHERE size = 5"),
        ("joined", "UPDATE entries SET seal = 99 WHERE size = 5"),
        ("joined", "UPDATE entries SET value = X'00' WHERE size = 5"),
        (
            "joined",
            (
                "UPDATE entries SET (value, sequence, seal) = (SELECT value, sequence, seal FROM"
                " entries WHERE namespace = 2) WHERE namespace = 1 AND size = 5"
            ),
        ),
        (
            "apart",
            (
                "UPDATE entries SET (value, sequence) = (SELECT value, sequence FROM entries"
                " WHERE namespace = 1 AND size = 5) WHERE size = 600"
            ),
        ),
        ("apart", "UPDATE entries SET metadata = zeroblob(length(metadata)) WHERE size = 600"),
        ("apart", "UPDATE entries SET value = metadata WHERE size = 600"),
        ("large", "UPDATE chunks SET sealed = zeroblob(length(sealed)) WHERE id & 4095 = 1"),
        ("large", "UPDATE chunks SET sealed = (SELECT sealed FROM chunks WHERE id & 4095 = 1)"),
        ("large", "DELETE FROM chunks WHERE id & 4095 = 2"),
        ("large", "UPDATE entries SET size = 2097152 WHERE size > 2097152"),
    ],
)
async def test_what_was_changed_is_not_served(tmp_path: Path, key: str, change: str) -> None:
    """Not one byte of it: bytes altered, exchanged, moved or cut off are an error that names it."""
    await fill(tmp_path)
    await asyncio.to_thread(tamper, tmp_path, change)

    async with open_store(tmp_path) as store:
        with pytest.raises(CorruptDataError, match=rf"namespace {NS}, key '{key}'"):
            await value_of(await read(store, key))
        intact = {"joined", "apart", "large"} - {key}
        for other in intact:
            assert await value_of(await read(store, other))


async def test_damage_stops_only_what_needs_it(tmp_path: Path) -> None:
    """Other keys are read, written and listed; the damaged one can be overwritten and deleted."""
    await fill(tmp_path)
    await asyncio.to_thread(tamper, tmp_path, "UPDATE entries SET value = X'00' WHERE size = 600")

    async with open_store(tmp_path) as store:
        page = await store.scan(ListQuery(namespace=NS), now_us=NOW_US)
        assert [item.key for item in page.items] == ["apart", "joined", "large"]
        with pytest.raises(CorruptDataError, match="apart"):
            await store.scan(ListQuery(namespace=NS, include=Include.VALUES), now_us=NOW_US)
        await Writer(store)(put("apart", b"mended", stamp=2**60))
        assert await value_of(await read(store, "apart")) == b"mended"
    assert await asyncio.to_thread(audit, tmp_path) == []


async def test_the_key_is_replaced_while_the_store_is_in_use(tmp_path: Path) -> None:
    """Writers and readers go on, and at the end the old key is needed for nothing."""
    async with open_store(tmp_path) as store:
        write = Writer(store)
        await write(*(put(f"k{i:03}", b"%d" % i, metadata=b"1") for i in range(500)))
        await write(put("large", LARGE), put("medium", b"m" * 30_000, metadata=b"2"))
        held = await read(store, "large")
        old = await asyncio.to_thread((tmp_path / KEY).read_bytes)

        await store.rotate()
        rounds = 0
        while not (progress := await store.reseal(limit=64)).complete:
            rounds += 1
            assert progress.done <= progress.total
            await write(put(f"k{rounds:03}", b"new"), put("large", LARGE[::-1]))
            assert await value_of(await read(store, "k400")) == b"400"
        assert rounds >= 7
        assert (await store.reseal()).complete
        assert await value_of(held) == LARGE

    assert await asyncio.to_thread((tmp_path / KEY).read_bytes) != old
    retired = tmp_path / f"{KEY}.retired-001"
    assert await asyncio.to_thread(retired.read_bytes) == old
    await asyncio.to_thread(retired.unlink)
    await all_is_there(tmp_path, rounds)


async def all_is_there(folder: Path, rounds: int) -> None:
    """Read everything that the rotation test wrote."""
    async with open_store(folder, seed=5) as store:
        for i in range(500):
            expected = b"new" if 1 <= i <= rounds else b"%d" % i
            assert await value_of(await read(store, f"k{i:03}")) == expected
        assert await value_of(await read(store, "large")) == LARGE[::-1]
        assert await value_of(await read(store, "medium")) == b"m" * 30_000
        start = Position(incarnation=store.position.incarnation, sequence=0)
        assert len(await tell(store, start)) == 502
    assert await asyncio.to_thread(audit, folder) == []


async def test_a_rotation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Also when another one began before it was complete, and when a key file came too early."""
    async with open_store(tmp_path, seed=1) as store:
        await Writer(store)(*(put(f"k{i:03}", b"%d" % i) for i in range(300)))
        await store.rotate()
        first = await store.reseal(limit=100)
    async with open_store(tmp_path, seed=2) as store:
        second = await store.reseal(limit=100)
        await store.rotate()
        third = await store.reseal(limit=100)
    async with open_store(tmp_path, seed=3) as store:
        await drain(store)

    assert (first.done, second.done, third.done) == (100, 200, 100)
    for number in (1, 2):
        await asyncio.to_thread((tmp_path / f"{KEY}.retired-{number:03}").unlink)
    async with open_store(tmp_path, seed=4) as store:
        for i in range(300):
            assert await value_of(await read(store, f"k{i:03}")) == b"%d" % i


async def test_a_round_of_rotation_is_bounded_in_bytes(tmp_path: Path) -> None:
    """However many entries it may look at, it ends behind a few large ones."""
    async with open_store(tmp_path) as store:
        write = Writer(store)
        for i in range(4):
            await write(put(f"k{i}", bytes([i]) * 6_000_000))
        await store.rotate()
        rounds = [await store.reseal(limit=1000) for _ in range(3)]

        assert [progress.done for progress in rounds] == [2, 4, 4]
        assert [progress.complete for progress in rounds] == [False, False, True]
        assert await value_of(await read(store, "k3")) == b"\x03" * 6_000_000


async def test_a_key_replaced_without_the_store_knowing_is_taken_up(tmp_path: Path) -> None:
    """The power failed between the new file and the new seal: the next start goes on from there."""
    async with open_store(tmp_path, seed=1) as store:
        await Writer(store)(*(put(f"k{i:03}") for i in range(50)))
        await store.rotate()
        await store.reseal(limit=20)
    await asyncio.to_thread(rename_as_a_rotation_does, tmp_path)

    async with open_store(tmp_path, seed=2) as store:
        await drain(store)
    for number in (1, 2):
        await asyncio.to_thread((tmp_path / f"{KEY}.retired-{number:03}").unlink)

    async with open_store(tmp_path, seed=3) as store:
        for i in range(50):
            assert await value_of(await read(store, f"k{i:03}")) == b"v"


def rename_as_a_rotation_does(folder: Path) -> None:
    """Do the first half of a rotation."""
    (folder / f"{KEY}.retired-002").write_bytes((folder / KEY).read_bytes())
    (folder / KEY).write_text("ab" * 32)


async def drain(store: SqliteStore) -> None:
    """Finish a rotation."""
    for _ in range(20):
        if (await store.reseal(limit=30)).complete:
            return
    pytest.fail("the rotation does not end")
