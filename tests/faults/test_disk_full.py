"""A disk that is full: the write fails, nothing else does, and with room again all is well."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.core.errors import DiskFullError
from atoll.core.model import Written
from atoll.store.sqlite import Access
from tests.contract.tools import Writer, held, keys_of, listed, order, put, read, value_of
from tests.support.disk import SmallDisk, small_disk
from tests.support.store import audit, open_store

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Return a disk with plenty of room."""
    with small_disk("small") as disk:
        yield disk


ACCESS = Access(vfs="small", write_cache_bytes=256 * 1024, checkpoint_pages=50)


async def test_a_write_without_room_fails_and_nothing_else(tmp_path: Path, disk: SmallDisk) -> None:
    """Reads go on, what was acknowledged stays, the failed batch left nothing."""
    async with open_store(tmp_path, access=ACCESS) as store:
        write = Writer(store)
        await write(put("before", b"b" * 1000))
        position = store.position
        disk.room_bytes = 20_000
        with pytest.raises(DiskFullError):
            await write(put("a"), put("large", b"l" * 3_000_000), put("before", b"new"))

        assert await value_of(await read(store, "before")) == b"b" * 1000
        assert await read(store, "a") is None
        assert store.position == position
        assert await held(store) == (1, 1006)
    assert await asyncio.to_thread(audit, tmp_path) == []


async def test_only_what_does_not_fit_is_refused(tmp_path: Path, disk: SmallDisk) -> None:
    """Small writes that share a commit with one that is too large are acknowledged and kept."""
    async with open_store(tmp_path, access=ACCESS) as store:
        write = Writer(store)
        await write(put("before"))
        disk.room_bytes = 400_000
        results = await asyncio.gather(
            *(write(put(f"small-{i}")) for i in range(5)),
            write(put("large", b"l" * 5_000_000)),
            *(write(put(f"small-{i}")) for i in range(5, 10)),
            return_exceptions=True,
        )

        assert [isinstance(result, Written) for result in results] == [True] * 5 + [False] + [
            True
        ] * 5
        assert isinstance(results[5], DiskFullError)
        assert disk.refused > 0
    async with open_store(tmp_path, seed=1) as store:
        assert await keys_of(listed(store)) == ["before", *(f"small-{i}" for i in range(10))]


async def test_with_room_again_all_is_well(tmp_path: Path, disk: SmallDisk) -> None:
    """Every acknowledged write is there, before, while and after the disk was full."""
    acknowledged: dict[str, bytes] = {}

    async def try_to(write: Writer, key: str) -> bool:
        value = key.encode() * 300
        try:
            await write(put(key, value))
        except DiskFullError:
            return False
        acknowledged[key] = value
        return True

    async with open_store(tmp_path, access=ACCESS) as store:
        write = Writer(store)
        refused = 0
        for phase, room in enumerate([None, 150_000, 0, None, 30_000, None]):
            disk.room_bytes = room
            answers = await asyncio.gather(
                *(try_to(write, f"p{phase}-{i:02}") for i in range(60)), try_to(write, f"p{phase}")
            )
            refused += answers.count(False)
            if room is None:
                assert all(answers)
        assert refused > 0
    async with open_store(tmp_path, seed=1) as store:
        found = {key: await value_of(await read(store, key)) for key in acknowledged}
        assert found == acknowledged
        assert await keys_of(listed(store)) == sorted(acknowledged)
    assert await asyncio.to_thread(audit, tmp_path) == []


async def test_sweeping_without_room_does_no_harm(tmp_path: Path, disk: SmallDisk) -> None:
    """A round of sweeping fails as a write does, and can be repeated."""
    async with open_store(tmp_path, access=ACCESS) as store:
        write = Writer(store)
        await write(*(put(f"k{i}", b"x" * 500, expiration=1) for i in range(900)), put("k"))
        disk.room_bytes = 0
        # What the log has room for already may still be written; more may not.
        answers = await asyncio.gather(
            *(write(put(f"new{i}", b"y" * 15_000)) for i in range(200)), return_exceptions=True
        )
        assert isinstance(answers[-1], DiskFullError)
        with pytest.raises(DiskFullError):
            await store.sweep(order())
        assert (await held(store))[0] == len([a for a in answers if isinstance(a, Written)]) + 1
        disk.room_bytes = None

        assert (await store.sweep(order())).expired == 900
        assert await keys_of(listed(store, prefix="k")) == ["k"]
    assert await asyncio.to_thread(audit, tmp_path) == []
