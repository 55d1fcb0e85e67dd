"""A location's files when a process is killed at any moment, or stopped in the middle of a read."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll.central import Central
from atoll.clock import SystemClock
from atoll.core.limits import Limits
from atoll.core.model import Position, Read
from atoll.location.file_journal import FileJournal
from atoll.location.keeper import Keeper
from atoll.location.lmdb_cache import LmdbCache
from atoll.store.memory import MemoryStore
from tests.support.location import NS
from tests.support.location_child import KEYS, open_cache, open_keeper, record

ROOT = Path(__file__).parents[2]
TRIES = 1500


@contextmanager
def child(role: str, path: Path) -> Generator["subprocess.Popen[str]"]:
    """Run one, and end it."""
    command = [sys.executable, "-m", "tests.support.location_child", role, str(path)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]", count: int) -> list[tuple[str, int]]:
    """Read what it says, kill it, and read the rest."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    process.kill()
    lines += process.stdout.readlines()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(word, int(number)) for word, number in whole]


@pytest.mark.parametrize("count", [1, 7, 60, 200])
def test_what_was_journaled_survives_a_kill(tmp_path: Path, count: int) -> None:
    """Every entry that was answered for is there, in order, and nothing that was resolved."""
    with child("append", tmp_path) as process:
        done = said(process, count)

    journal = FileJournal(tmp_path / "journal", size_bytes_max=2**30)
    held = [entry.sequence for entry in journal.entries]
    appended = {number for word, number in done if word == "appended"}
    resolved = {number for word, number in done if word == "resolved"}

    assert len(done) >= count
    assert held == list(range(held[0], held[-1] + 1))
    # The one that it was resolving when it was killed may be gone as well.
    assert len(appended - resolved - set(held)) <= 1
    assert not resolved & set(held)
    assert all(entry.mutations[0].value == b"v" * 1000 for entry in journal.entries)
    assert journal.last_sequence == held[-1]
    journal.close()


@pytest.mark.parametrize("count", [1, 50, 500])
def test_a_cache_survives_the_kill_of_its_keeper(tmp_path: Path, count: int) -> None:
    """It opens with everything that was put, and nothing of it is torn."""
    with child("put", tmp_path) as process:
        done = [number for _, number in said(process, count)]

    cache = open_cache(tmp_path)
    state = cache.load()

    assert state is not None
    assert state.applied >= done[-1]
    for number in done[-KEYS:]:
        found = cache.get(NS, f"k{number % KEYS}")
        assert found is not None
        assert found.sequence >= number
        assert found.entry is not None
        whole = record(found.sequence).entry
        assert whole is not None
        assert found.entry.value == whole.value
    cache.close()


def test_a_stopped_reader_spoils_nothing(tmp_path: Path) -> None:
    """It pins pages until the map is full; the keeper moves on, and it reads what it read."""
    cache = open_cache(tmp_path)
    for number in range(100):
        cache.put(NS, f"k{number}", record(number + 1, 10_000))

    with child("look", tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "looking\n"
        process.send_signal(signal.SIGSTOP)
        for number in range(4000):
            cache.put(NS, f"k{number % 100}", record(number + 1000, 10_000))
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        answer = process.stdout.readline()

    assert answer == "same\n"
    assert not (tmp_path / "cache" / "cache-1.mdb").exists()
    for number in range(3900, 4000):
        assert cache.get(NS, f"k{number % 100}") is not None
        found = cache.get(NS, f"k{number % 100}")
        assert found is not None
        assert found.sequence == number + 1000
    cache.close()


async def served(path: Path, central: Central, done: Callable[[Keeper], bool]) -> Keeper:
    """Run the location over central until something is so, and close its files."""
    keeper = await asyncio.to_thread(open_keeper, path, central)
    running = asyncio.create_task(keeper.run())
    for _ in range(TRIES):
        if done(keeper):
            break
        await SystemClock().sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert done(keeper)
    for file in (keeper.knowledge.cache, keeper.knowledge.journal):
        assert isinstance(file, LmdbCache | FileJournal)
        await asyncio.to_thread(file.close)
    return keeper


def is_registered(keeper: Keeper) -> bool:
    """Whether a location may journal: it has a node id and has heard what time it is."""
    return keeper.writes.registered and keeper.knowledge.time.central_us() is not None


def is_delivered(keeper: Keeper) -> bool:
    """Whether nothing waits in its journal."""
    return not keeper.knowledge.journal.entries


@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 40])
async def test_what_a_location_acknowledged_reaches_central(tmp_path: Path, count: int) -> None:
    """Cut off, killed in the middle of its writes, and started again: each is applied, once."""
    store = MemoryStore(incarnation=7)
    central = Central(store, clock=SystemClock(), limits=Limits())
    await served(tmp_path, central, is_registered)
    with child("write", tmp_path) as process:
        done = [number for _, number in await asyncio.to_thread(said, process, count)]

    await served(tmp_path, central, is_delivered)

    assert len(done) >= count
    for number in done:
        reading = await central.read(Read(namespace=NS, keys=(f"k{number}",)))
        assert reading.entry is not None
        assert reading.entry.value == b"%d" % number
    feed = await store.changes(Position(incarnation=7, sequence=0), limit=10_000)
    written = [change.entry.key for change in feed.changes if change.namespace == NS]
    assert len(written) == len(set(written))
    assert store.position.sequence >= len(done)
