"""What was acknowledged is there after the power failed, however unkindly.

Writers run on a disk that remembers what was synchronised. At many moments the plug is pulled: a
copy of what such a disk would have kept is opened and must hold everything acknowledged by then.
The same run without synchronising every commit must lose something, or this would prove nothing.
"""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.core.model import Batch, Mutation
from atoll.core.version import HybridClock
from atoll.store.sqlite import Access, SqliteStore
from tests.contract.store import NOW_US, order, read, value_of
from tests.support.disk import LossyDisk, lossy_disk
from tests.support.store import audit, open_store

NS = "1" * 32
WRITERS = 6
MOMENTS = 12
BATCHES_BETWEEN = 40


class Writers:
    """Writers that know what was acknowledged to them."""

    def __init__(self, store: SqliteStore, rng: random.Random) -> None:
        """Write to `store`."""
        self.acknowledged: dict[str, bytes | None] = {}
        self.done: asyncio.Queue[None] = asyncio.Queue()
        self._store = store
        self._rng = rng
        self._stamps = HybridClock(node=0)

    async def write(self, writer: int) -> None:
        """Write for ever, each writer to keys of its own."""
        while True:
            writes = {
                f"w{writer}-{self._rng.randrange(20)}": self._value()
                for _ in range(self._rng.choice([1, 1, 1, 5]))
            }
            mutations = [Mutation(key=key, value=value) for key, value in writes.items()]
            versions = self._stamps.tick_many(NOW_US, len(mutations))
            batch = Batch(namespace=NS, mutations=mutations)
            # Until it is answered, it is open which of the two the store holds.
            for key in writes:
                self.acknowledged.pop(key, None)
            await self._store.apply(batch, versions, now_us=NOW_US)
            self.acknowledged |= writes
            self.done.put_nowait(None)

    def _value(self) -> bytes | None:
        size = self._rng.choice([None, 3, 300, 40_000])
        return None if size is None else self._rng.randbytes(size)


async def failures(folder: Path, disk: LossyDisk, access: Access) -> AsyncIterator[int]:
    """Run writers, pull the plug now and then, and yield how many writes were lost each time."""
    rng = random.Random(5)  # noqa: S311 - a failure repeats
    async with open_store(folder / "data", access=access) as store:
        writers = Writers(store, rng)
        tasks = [asyncio.create_task(writers.write(i)) for i in range(WRITERS)]
        try:
            for moment in range(MOMENTS):
                for _ in range(rng.randint(1, BATCHES_BETWEEN)):
                    await writers.done.get()
                if moment % 4 == 3:
                    await store.sweep(order())
                found = folder / f"found-{moment}"
                found.mkdir()
                acknowledged = dict(writers.acknowledged)
                disk.pull_the_plug(rng, found)
                shutil.copy(folder / "data" / "sealing.key", found)
                yield await lost(found, acknowledged)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def lost(folder: Path, acknowledged: dict[str, bytes | None]) -> int:
    """Open what is left and count what is missing; nothing else may be wrong with it."""
    missing = 0
    async with open_store(folder, seed=1) as store:
        for key, value in acknowledged.items():
            missing += await value_of(await read(store, key)) != value
    assert await asyncio.to_thread(audit, folder) == []
    shutil.rmtree(folder)
    return missing


@pytest.mark.anyio
async def test_what_was_acknowledged_survives_a_power_failure(tmp_path: Path) -> None:
    """Whatever the disk did with what had not been synchronised."""
    with lossy_disk("lossy-full") as disk:
        access = Access(vfs="lossy-full", checkpoint_pages=40, wal_pages_max=200)
        losses = [n async for n in failures(tmp_path, disk, access)]

        assert losses == [0] * MOMENTS
        assert disk.checkpoints > 5


@pytest.mark.anyio
async def test_without_synchronising_it_would_not(tmp_path: Path) -> None:
    """The same run with `synchronous=NORMAL` loses acknowledged writes: the check can see it."""
    with lossy_disk("lossy-normal") as disk:
        access = Access(vfs="lossy-normal", synchronous="NORMAL")
        losses = [n async for n in failures(tmp_path, disk, access)]

        assert sum(losses) > 0
