"""What the readers of a location leave for its keeper, and the keeper's collecting of it."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from atoll.clock import SystemClock
from atoll.http.metrics import RequestMetrics
from atoll.location.keeper import Keeper
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.mapping import Collector
from atoll.serve.server import Upkeep

READER: Final = "reader"
REQUESTS_SUFFIX: Final = ".requests"
COLLECT_S: Final = 1.0
"""How often the keeper collects what readers read and counted."""


def telling(folder: Path, name: str, metrics: Callable[[], RequestMetrics]) -> Upkeep:
    """Return the work of a reader that leaves what it counted of requests for the keeper.

    Args:
        folder: Where.
        name: The reader's.
        metrics: What it counted.
    """
    return Upkeep(name="tell", work=lambda: _tell_forever(folder, name, metrics()))


def collecting(folder: Path, keeper: Keeper, counted: dict[str, bytes]) -> Upkeep:
    """Return the work of collecting what readers read and counted.

    Args:
        folder: Where they leave it.
        keeper: Whose cache they read.
        counted: Where what they counted of requests goes.
    """
    return Upkeep(name="collect", work=lambda: _collect_forever(folder, keeper, counted))


async def _tell_forever(folder: Path, name: str, metrics: RequestMetrics) -> None:
    """Leave what was counted of requests where the keeper finds it."""
    path = folder / f"{name}{REQUESTS_SUFFIX}"
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    clock = SystemClock()
    while True:
        await clock.sleep(COLLECT_S)
        await asyncio.to_thread(_leave, metrics.counted(), fresh, path)


def _leave(counted: bytes, fresh: Path, path: Path) -> None:
    """Replace a file, so that whoever reads it finds all of it."""
    with contextlib.suppress(OSError):  # A full disk is noticed by who keeps something.
        fresh.write_bytes(counted)
        fresh.replace(path)


def _left(folder: Path) -> dict[str, bytes]:
    """Return what readers left, by their names."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob(f"{READER}-*{REQUESTS_SUFFIX}")):
        with contextlib.suppress(OSError):
            found[path.name.removesuffix(REQUESTS_SUFFIX)] = path.read_bytes()
    return found


def _forget_readers(folder: Path) -> None:
    """Remove what readers left: those that there are leave it again within a second."""
    for path in (*folder.glob(f"{READER}-*"), *folder.glob(f".{READER}-*")):
        path.unlink(missing_ok=True)


async def _collect_forever(folder: Path, keeper: Keeper, counted: dict[str, bytes]) -> None:
    await asyncio.to_thread(_forget_readers, folder)
    collector = Collector(folder)
    cache = keeper.knowledge.cache
    assert isinstance(cache, LmdbCache)
    cache.read_elsewhere = collector.was_read
    clock = SystemClock()
    while True:
        await clock.sleep(COLLECT_S)
        keeper.counts.add(collector.collect())
        counted.update(await asyncio.to_thread(_left, folder))
