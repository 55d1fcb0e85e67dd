"""A keeper's cache and readers of it, as processes that a test kills."""

import asyncio
import sys
import time
from pathlib import Path

from atoll.central import Central
from atoll.clock import SystemClock
from atoll.core.errors import UnavailableError
from atoll.core.limits import Limits
from atoll.core.model import Entry, Read
from atoll.core.version import Version
from atoll.location.age import Record
from atoll.location.cache import CacheState
from atoll.location.folder import KeeperLock
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.lmdb_sight import LmdbSight
from atoll.location.reader import Reader
from atoll.location.time import Look
from atoll.store.memory import MemoryStore
from tests.support.location import NS, Wire
from tests.support.location_child import say

KEYS = 5
BOUND_BYTES = 2**20
VALUE_BYTES = 2000


def now_ns() -> int:
    """Read the one clock that all of them share."""
    return time.monotonic_ns()


def keep(path: Path, first: int, lost_every: int) -> None:
    """Put records for ever, each after the last, and lose the cache after every so many."""
    _lock = KeeperLock(path)
    clock = SystemClock()
    cache = LmdbCache(path / "cache", boot="b", size_bytes_max=BOUND_BYTES)
    state = cache.load()
    number = 0 if state is None else state.applied
    number = max(number, first)
    while True:
        number += 1
        if lost_every and number % lost_every == 0:
            cache._start_empty()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        asked_ns = now_ns()
        at_ms = clock.elapsed_ms()
        key = f"k{number % KEYS}"
        entry = Entry(key=key, version=Version(number), value=b"v" * VALUE_BYTES)
        cache.put(NS, key, Record(entry=entry, sequence=number, instant_ms=at_ms))
        looked = Look(elapsed_ms=at_ms, wall_ms=clock.now_us() // 1000)
        cache.save(CacheState(boot="b", incarnation=1, applied=number, looked=looked))
        say(f"{key} {asked_ns} {now_ns()} {number}")


async def read(path: Path) -> None:
    """Read for ever, without a keeper to ask."""
    clock = SystemClock()
    wire = Wire(Central(MemoryStore(incarnation=1), clock=clock, limits=Limits()))
    wire.cut()
    reader = Reader("LHR", wire, LmdbSight(path / "cache"), clock=clock, boot="b")
    number = 0
    while True:
        number += 1
        key = f"k{number % KEYS}"
        asked_ns = now_ns()
        try:
            reading = await reader.read(Read(namespace=NS, keys=(key,)))
        except UnavailableError:
            continue
        assert reading.entry is not None
        assert reading.entry.value == b"v" * VALUE_BYTES
        say(f"{key} {asked_ns} {now_ns()} {int(reading.entry.version)}")


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        asyncio.run(read(Path(sys.argv[2])))
