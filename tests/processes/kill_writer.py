"""A process that writes to a store and says what was acknowledged, until it is killed.

Each batch puts three keys of its own, and replaces or deletes one that all batches of a writer
share. A line is printed once the batch is acknowledged.
"""

import asyncio
import os
import sys
from pathlib import Path

from atoll.clock import SystemClock
from atoll.core.model import Batch, Identity, Mutation
from atoll.core.version import HybridClock
from atoll.store.sqlite import Access, SqliteStore
from tests.contract.store import order

NS = "1" * 32
WRITERS = 8
PARTS = 3


def batch_name(run: str, writer: int, number: int) -> str:
    """Name a writer's batch."""
    return f"{run}-{writer}-{number:06}"


async def write(store: SqliteStore, stamps: HybridClock, run: str, writer: int) -> None:
    """Write batch after batch."""
    clock = SystemClock()
    number = 0
    while True:
        number += 1
        name = batch_name(run, writer, number)
        value = name.encode() * (1 if number % 20 else 5_000)
        mutations = [Mutation(key=f"{name}-{part}", value=value) for part in range(PARTS)]
        shared = None if number % 5 == 0 else name.encode()
        mutations.append(Mutation(key=f"shared-{writer}", value=shared))
        batch = Batch(
            namespace=NS,
            mutations=mutations,
            identity=Identity(origin=f"writer-{writer}", name=name.encode()),
        )
        now_us = clock.now_us()
        await store.apply(batch, stamps.tick_many(now_us, len(mutations)), now_us=now_us)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


async def main(folder: Path, run: str) -> None:
    """Write with several writers, and sweep beside them."""
    store = await SqliteStore.open(
        folder,
        clock=SystemClock(),
        random_bytes=os.urandom,
        access=Access(checkpoint_pages=100, wal_pages_max=300),
    )
    stamps = HybridClock(node=0, floor=store.last_version)
    async with asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write(store, stamps, run, writer))
        while True:
            await store.sweep(order(log_rows_max=500, limit=100))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
