"""What a cache promises, in memory and in LMDB: what was put is what is got, or nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from atoll.core.model import Entry, LargeValue
from atoll.core.version import Version
from atoll.location.age import NEVER, Record
from atoll.location.cache import Cache, CacheLostError, CacheState, HeldValue, MemoryCache
from atoll.location.lmdb_cache import LmdbCache

pytestmark = pytest.mark.anyio

BOUND_BYTES = 2**20
Make = Callable[[Path], Cache]
LARGE = bytes(range(256)) * 8192


def in_memory(_: Path) -> Cache:
    """Make a cache in memory."""
    return MemoryCache(size_bytes_max=BOUND_BYTES)


def in_lmdb(path: Path) -> Cache:
    """Make a cache on disk."""
    return LmdbCache(path / "cache", boot="b", size_bytes_max=BOUND_BYTES)


@pytest.fixture(params=[in_memory, in_lmdb])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    """Return an empty cache."""
    make: Make = request.param
    return make(tmp_path)


def record(
    value: bytes | LargeValue | None = b"v", *, key: str = "k", expires: int | None = None
) -> Record:
    """Make a record in one line."""
    entry = Entry(key=key, version=Version(7), value=value, metadata=b"{}", expiration=expires)
    return Record(entry=entry, sequence=3, instant_ms=-5)


async def content(value: bytes | LargeValue | None) -> bytes:
    """Read a large value."""
    assert value is not None
    assert not isinstance(value, bytes)
    return b"".join([chunk async for chunk in value.chunks()])


async def test_what_was_put_is_got(cache: Cache) -> None:
    """Every field, of values, tombstones and keys of which only the absence is known."""
    records = {
        "value": record(),
        "empty": record(b""),
        "expires": record(expires=1_900_000_000),
        "tombstone": record(None),
        "bare": replace(record(), entry=Entry(key="k", version=Version(1), value=b"")),
        "missing": Record(entry=None, sequence=9, instant_ms=NEVER),
        "marked": replace(record(), superseded=True),
        "uncovered": replace(record(), uncovered=True),
    }
    for key, one in records.items():
        entry = one.entry and replace(one.entry, key=key)
        records[key] = replace(one, entry=entry)
        cache.put("n", key, records[key])

    assert {key: cache.get("n", key) for key in records} == records
    assert cache.get("m", "value") is None
    assert cache.get("n", "valu") is None


async def test_what_was_removed_is_gone(cache: Cache) -> None:
    """And so is everything when it is cleared, the state included."""
    cache.put("n", "k", record())
    cache.put("n", "l", record(key="l"))
    cache.save(CacheState(applied=5))

    cache.remove("n", "k")
    cache.remove("n", "never there")
    first = (cache.get("n", "k"), cache.get("n", "l") is not None, cache.load() is not None)
    cache.clear()

    assert first == (None, True, True)
    assert cache.get("n", "l") is None
    assert cache.load() is None


async def test_the_state_is_kept_whole(cache: Cache) -> None:
    """Every field of it, and later changes to the mapping given are not seen."""
    subscribed = {"n": 3}
    state = CacheState(
        boot="b",
        incarnation=2**60,
        applied=9,
        feed_instant_ms=-4,
        subscribed=subscribed,
        lost_ms=8,
        central_us=10**15,
        central_at_ms=11,
        stamps=Version(2**62),
    )

    cache.save(state)
    subscribed["m"] = 4

    assert cache.load() == replace(state, subscribed={"n": 3})


async def test_large_values_are_held_beside_the_records(cache: Cache) -> None:
    """And stay readable for who has one, though its record was replaced meanwhile."""
    held = await cache.hold(HeldValue(LARGE))
    cache.put("n", "k", record(held))
    found = cache.get("n", "k")
    assert found is not None
    assert found.entry is not None
    value = found.entry.value

    cache.put("n", "k", record(b"small"))

    assert await content(value) == LARGE
    assert cache.size_bytes < len(LARGE)
    after = cache.get("n", "k")
    assert after is not None
    assert after == record(b"small")


async def test_size_follows_what_is_held_and_eviction_brings_it_down(cache: Cache) -> None:
    """What is yielded for eviction is there, and what was read lately comes last."""
    for number in range(300):
        cache.put("n", f"k{number}", record(b"x" * 10_000))
        if number >= 250:
            assert cache.get("n", f"k{number}") is not None
    full = cache.size_bytes

    evicted: list[str] = []
    for namespace, key in cache.unread():
        cache.remove(namespace, key)
        evicted.append(key)
        if cache.size_bytes <= BOUND_BYTES:
            break

    assert full > 300 * 10_000
    assert cache.size_bytes <= BOUND_BYTES
    assert len(set(evicted)) == len(evicted)
    lately = {f"k{number}" for number in range(250, 300)}
    assert not lately & set(evicted)


# What only files can show.


def opened(path: Path, boot: str = "b") -> LmdbCache:
    """Open the cache in `path`."""
    return LmdbCache(path, boot=boot, size_bytes_max=BOUND_BYTES)


async def test_reopened_it_holds_what_it_held(tmp_path: Path) -> None:
    """Under the same boot with every instant, whether it was closed or not."""
    first = await asyncio.to_thread(opened, tmp_path)
    held = await first.hold(HeldValue(LARGE))
    first.put("n", "large", record(held))
    first.put("n", "k", record())
    await asyncio.to_thread(first.close)

    second = await asyncio.to_thread(opened, tmp_path)

    assert second.get("n", "k") == record()
    large = second.get("n", "large")
    assert large is not None
    assert large.entry is not None
    assert await content(large.entry.value) == LARGE
    assert second.size_bytes >= len(LARGE)
    await asyncio.to_thread(second.close)


async def test_closed_before_a_boot_it_is_kept_without_its_instants(tmp_path: Path) -> None:
    """An instant of another boot says nothing; what is put from then on has its own."""
    first = await asyncio.to_thread(opened, tmp_path)
    first.put("n", "k", record())
    await asyncio.to_thread(first.close)

    second = await asyncio.to_thread(opened, tmp_path, boot="another")
    second.put("n", "l", record(key="l"))

    assert second.get("n", "k") == replace(record(), instant_ms=NEVER)
    assert second.get("n", "l") == record(key="l")
    await asyncio.to_thread(second.close)


async def test_files_that_are_no_cache_are_thrown_away(tmp_path: Path) -> None:
    """Better nothing than something wrong."""
    first = await asyncio.to_thread(opened, tmp_path)
    first.put("n", "k", record())
    await asyncio.to_thread(first.close)
    (tmp_path / "cache-1.mdb").write_bytes(b"no page of ours" * 1000)

    second = await asyncio.to_thread(opened, tmp_path)

    assert second.get("n", "k") is None
    second.put("n", "k", record())
    assert second.get("n", "k") == record()
    await asyncio.to_thread(second.close)


async def test_files_of_large_values_that_nobody_names_are_removed(tmp_path: Path) -> None:
    """A process that died while it wrote one leaves it behind."""
    first = await asyncio.to_thread(opened, tmp_path)
    kept = await first.hold(HeldValue(LARGE))
    first.put("n", "k", record(kept))
    await first.hold(HeldValue(LARGE))
    await asyncio.to_thread(first.close)

    second = await asyncio.to_thread(opened, tmp_path)

    assert len(list((tmp_path / "large").iterdir())) == 1
    await asyncio.to_thread(second.close)


async def test_a_cache_that_cannot_be_written_says_so_and_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be kept must not leave something older in its place."""
    cache = await asyncio.to_thread(opened, tmp_path)
    cache.put("n", "k", record())

    def fails(*_: object) -> None:
        """Be a disk without room."""
        raise lmdb.DiskError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(LmdbCache, "_replace", fails)
        with pytest.raises(CacheLostError):
            await asyncio.to_thread(cache.put, "n", "k", record(b"newer"))

    assert cache.get("n", "k") is None
    cache.put("n", "k", record(b"newest"))
    assert cache.get("n", "k") == record(b"newest")
    await asyncio.to_thread(cache.close)
