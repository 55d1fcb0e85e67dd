"""`kill -9` in the middle of writing loses nothing that was acknowledged, and tears nothing.

It proves less than a power failure does, for the kernel keeps what was written: it is the store's
own order of doing things that is tried here, in a real process with real threads.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atoll.core.model import Batch, Identity, Mutation
from atoll.core.version import HybridClock
from atoll.store.sqlite import SqliteStore
from tests.contract.store import NOW_US, read, value_of
from tests.processes.kill_writer import NS, PARTS, WRITERS, batch_name
from tests.support.store import audit, open_store

ROUNDS = 6
LINES_BEFORE_KILL_MAX = 250


def write_until_killed(folder: Path, run: str, rng: random.Random) -> list[str]:
    """Let a process write, kill it at a random moment, and return what it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.processes.kill_writer", str(folder), run],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = rng.randint(1, LINES_BEFORE_KILL_MAX)
        acknowledged = [process.stdout.readline().strip() for _ in range(lines)]
        # Somewhere inside the next few commits.
        spin_until = time.perf_counter() + rng.random() * 0.005
        while time.perf_counter() < spin_until:
            pass
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()
        # A line that was cut off was not acknowledged for certain.
        acknowledged += rest[: rest.rfind("\n") + 1].split()
    assert process.returncode == -signal.SIGKILL
    return acknowledged


async def parts_there(store: SqliteStore, name: str) -> int:
    """Return how many of a batch's keys are there, each with its value."""
    found = (await store.get(NS, [f"{name}-{part}" for part in range(PARTS)])).entries
    values = [await value_of(entry) for entry in found if entry is not None]
    assert all(value is not None and value.startswith(name.encode()) for value in values)
    return len(values)


async def check(store: SqliteStore, run: str, acknowledged: list[str]) -> None:
    """See that what was acknowledged is there, and what was under way is there whole or not."""
    last: dict[int, int] = {}
    for name in acknowledged:
        assert await parts_there(store, name) == PARTS, f"{name} was acknowledged"
        writer, number = (int(part) for part in name.split("-")[1:])
        last[writer] = max(last.get(writer, 0), number)
    for writer, newest in last.items():
        following = batch_name(run, writer, newest + 1)
        there = await parts_there(store, following)
        assert there in {0, PARTS}, f"{following} is torn"
        number = newest + (there == PARTS)
        name = batch_name(run, writer, number)
        shared = await value_of(await read(store, f"shared-{writer}"))
        assert shared == (None if number % 5 == 0 else name.encode())
        await assert_remembered(store, name, writer)


async def assert_remembered(store: SqliteStore, name: str, writer: int) -> None:
    """See that sending the batch again changes nothing."""
    mutations = [Mutation(key=f"{name}-{part}", value=b"again") for part in range(PARTS + 1)]
    batch = Batch(
        namespace=NS,
        mutations=mutations,
        identity=Identity(origin=f"writer-{writer}", name=name.encode()),
    )
    stamps = HybridClock(node=0, floor=store.last_version)
    versions = stamps.tick_many(NOW_US, len(mutations))
    written = await store.apply(batch, versions, now_us=NOW_US)
    assert written.repeated, f"{name} is there, and its outcome is not"


@pytest.mark.anyio
@pytest.mark.timeout(300)
async def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Several times over on the same store, whose parts agree with each other after each."""
    rng = random.Random(11)  # noqa: S311 - a failure repeats, as far as timing does
    everything: list[str] = []
    for attempt in range(ROUNDS):
        run = f"r{attempt}"
        acknowledged = await asyncio.to_thread(write_until_killed, tmp_path, run, rng)
        assert len({name.split("-")[1] for name in acknowledged}) <= WRITERS
        everything += acknowledged
        async with open_store(tmp_path, seed=attempt) as store:
            await check(store, run, acknowledged)
        assert await asyncio.to_thread(audit, tmp_path) == []
    async with open_store(tmp_path, seed=ROUNDS) as store:
        for name in everything:
            assert await parts_there(store, name) == PARTS
    assert len(everything) > ROUNDS * 20
