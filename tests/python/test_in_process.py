"""Reading a location's cache in process: as fresh as over HTTP, counted, and harming nobody."""

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

import atoll
from atoll.client import Namespace
from atoll.core.errors import UnavailableError
from atoll.core.location_errors import CutOffError, UnreachableError
from atoll.core.model import CacheStatus
from atoll.location.codec import digest_of
from atoll.location.current import Current
from atoll.location.mapping import COUNTS, TABLE_AT
from atoll.usage.counts import READ_KINDS, Kind
from atoll.usage.meter import rows_in
from tests.processes.test_locations import atoll as command
from tests.processes.test_locations import location, part
from tests.python.conftest import Ways
from tests.support.server import Server, serving

ROOT = Path(__file__).parents[2]
ASKED_MAX = 20_000
STOPS_MAX = 2_000
"""How often a program is stopped until that happens in the middle of a read."""
PHASES = 97
VALUE_BYTES = 200_000
WRITES = 80
"""So many such values are twice what the map of the smallest cache holds."""


@pytest.fixture(name="small")
def fixture_small(tmp_path: Path) -> Iterator[Server]:
    """Run a location whose cache is as small as may be."""
    data = tmp_path / "data"
    with serving(
        data,
        locations="LHR",
        limits_preset="open",
        log_format="json",
        cache_bytes_max=str(2**20),
    ) as server:
        yield server


def folder_of(server: Server) -> Path:
    """Return the location's folder."""
    return server.data / "locations" / "LHR"


@contextmanager
def over_http(server: Server) -> Generator[Namespace]:
    """Ask the location over HTTP: this process leaves its cache alone."""
    running = server.running
    with atoll.connect(running.locations["LHR"], token=running.token) as client:
        yield client.namespace(running.namespace_id)


@contextmanager
def program(server: Server, what: str, key: str) -> Generator["subprocess.Popen[str]"]:
    """Run one that reads in process, and kill it."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.program",
            what,
            str(folder_of(server)),
            server.running.namespace_id,
            key,
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def said(process: "subprocess.Popen[str]") -> str:
    """Return the next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop_in_a_read(server: Server, process: "subprocess.Popen[str]") -> None:
    """Stop a program while it is in the middle of a read."""
    current = Current.of(folder_of(server) / "cache", writable=False)
    path = folder_of(server) / "cache" / f"cache-{current.number}.mdb"
    current.close()
    env = lmdb.open(str(path), subdir=False, readonly=True, create=False, max_readers=256)
    try:
        for turn in range(STOPS_MAX):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            for line in env.readers().splitlines()[1:]:
                pid, _, transaction = line.split()
                if int(pid) == process.pid and transaction != "-":
                    return
            process.send_signal(signal.SIGCONT)
            let_it_read(server, process.pid)
            for _ in range(turn % PHASES * 10):
                pass  # A little longer each time, or it would always be met at the same point.
    finally:
        env.close()
    raise AssertionError("it was never met in a read")


def let_it_read(server: Server, pid: int) -> None:
    """Wait until a program has read on."""
    (path,) = (folder_of(server) / "readers").glob(f"{pid}-*")
    before = path.read_bytes()[: COUNTS.size]
    for _ in range(ASKED_MAX):
        if path.read_bytes()[: COUNTS.size] != before:
            return
    raise AssertionError("it does not go on")


def number_of(server: Server) -> int:
    """Return which of the cache's files counts."""
    current = Current.of(folder_of(server) / "cache", writable=False)
    try:
        return current.number
    finally:
        current.close()


def write_much(space: Namespace) -> None:
    """Fill the cache's map twice over, and see that each value is there."""
    for number in range(WRITES):
        value = bytes([number]) * VALUE_BYTES
        space.put(f"big{number % 4}", value)
        assert space.get(f"big{number % 4}", "bytes") == value


def test_a_program_that_is_stopped_in_a_read_holds_nobody_up(small: Server) -> None:
    """The keeper goes on in another file, and the program follows when it runs again."""
    with over_http(small) as space:
        space.put("k", "first")
        with program(small, "read", "k") as process:
            assert said(process) == "first"
            stop_in_a_read(small, process)
            before = number_of(small)

            write_much(space)
            space.put("k", "second")

            assert number_of(small) > before
            process.send_signal(signal.SIGCONT)
            assert said(process) == "second"


def test_a_program_that_is_killed_in_a_read_leaves_nothing(small: Server) -> None:
    """The keeper needs no other file: the place of the dead is free again."""
    with over_http(small) as space:
        space.put("k", "first")
        with program(small, "read", "k") as process:
            assert said(process) == "first"
            stop_in_a_read(small, process)
            before = number_of(small)
            process.kill()
            process.wait()

            write_much(space)

            assert number_of(small) == before
        with program(small, "read", "k") as process:
            assert said(process) == "first"


def test_after_a_fork_both_go_on(small: Server) -> None:
    """Each with a place of its own; a fork that nobody told of asks the keeper."""
    with over_http(small) as space:
        space.put("k", "first")
        with program(small, "fork", "k") as process:
            assert said(process) == "ended well"
            assert process.wait() == 0


def test_each_read_is_counted_and_marks_its_key(ways: Ways, key: str) -> None:
    """The keeper sees none of them, and collects what the program noted."""
    space = ways.namespace("in process", "sync")
    space.put(key, "v")
    space.get(key)

    hits, negatives = counts_of(ways)
    metered = metered_of(ways)
    for _ in range(1000):
        assert space.get(key) == "v"
    space.get(f"{key}missing")
    for _ in range(10):
        assert space.get(f"{key}missing") is None

    assert counts_of(ways) == (hits + 1000, negatives + 10)
    assert metered_of(ways) - metered == {Kind.HIT: 1000, Kind.NEGATIVE: 10}
    for _ in range(ASKED_MAX):
        space.get(key)
        if is_marked(ways, key):
            break
    else:
        raise AssertionError("it was never marked as read")


def own_mapping(ways: Ways) -> bytes:
    """Return what this process has noted."""
    (path,) = (ways.folder / "readers").glob(f"{os.getpid()}-*")
    return path.read_bytes()


def metered_of(ways: Ways) -> Counter[Kind]:
    """Return what the statement will have of reads in process."""
    found: Counter[Kind] = Counter()
    for path in (ways.folder / "usage" / "counts").glob("counts-*"):
        for _, key, counts in rows_in(path)[1]:
            if key.face == "python":
                found += Counter({kind: counts.get(kind, 0) for kind in READ_KINDS})
    return found


def counts_of(ways: Ways) -> tuple[int, int]:
    """Return how many reads found a value, and how many that there is none."""
    hits, _, _, negatives = COUNTS.unpack_from(own_mapping(ways))
    return int(hits), int(negatives)


def is_marked(ways: Ways, key: str) -> bool:
    """Whether a key is marked as read since the keeper last collected."""
    digest = digest_of(ways.server.running.namespace_id, key)
    return bool(own_mapping(ways)[TABLE_AT + (digest[0] << 8 | digest[1])])


def test_a_bound_is_kept_while_the_keeper_is_silent(small: Server) -> None:
    """What is within it is answered, what is not is no answer, unless what is stale will do."""
    space_id = small.running.namespace_id
    with over_http(small) as space:
        space.put("k", "v")
    keeper = int((folder_of(small) / "keeper.lock").read_text())
    with atoll.connect(folder_of(small), timeout_s=0.2) as client:
        space = client.namespace(space_id)
        assert space.get("k") == "v"
        small.process.send_signal(signal.SIGSTOP)  # Or it would start another keeper.
        os.kill(keeper, signal.SIGSTOP)
        try:
            wide = space.get_with_metadata("k", max_age=3600)
            with pytest.raises(CutOffError):
                space.get("k", max_age=0)
            stale = space.get_with_metadata("k", max_age=0, max_stale=math.inf)
            with pytest.raises(CutOffError):
                space.get("k", max_age=0, max_stale=0.01)
            with pytest.raises(CutOffError):
                space.get("unknown")
            later = space.get_with_metadata("k", max_age=3600)
        finally:
            os.kill(keeper, signal.SIGCONT)
            small.process.send_signal(signal.SIGCONT)

    assert (wide.value, wide.stale, wide.cache) == ("v", False, CacheStatus.HIT)
    assert (stale.value, stale.stale, stale.cache) == ("v", True, CacheStatus.STALE)
    assert wide.age is not None
    assert later.age is not None
    assert later.age > wide.age + 0.5


def test_without_a_location_nothing_is_answered(tmp_path: Path) -> None:
    """It says where it looked, and that nothing was sent."""
    for place in (tmp_path / "nowhere", tmp_path / "nowhere" / "keeper.sock"):
        with atoll.connect(place) as client:
            space = client.namespace("1" * 32)
            with pytest.raises(CutOffError):
                space.get("k")
            with pytest.raises(CutOffError):
                space.put("k", "v")
            with pytest.raises(UnreachableError, match="nowhere") as refused:
                space.list()
            assert not refused.value.sent


def test_a_location_of_several_processes_is_read_like_one(ways: Ways, tmp_path: Path) -> None:
    """Its keeper is killed and replaced, and programs follow the new one."""
    running = ways.server.running
    made = command(ways.server.data, "node", "create", "PAR", "--json")
    credential = str(json.loads(made)["credential"])
    data = tmp_path / "par"
    central = ways.namespace("central", "sync")
    with (
        location(
            data, upstream=running.central, credential=credential, processes=2, limits_preset="open"
        ) as (_, process),
        atoll.connect(data / "locations" / "PAR") as client,
    ):
        space = client.namespace(running.namespace_id)
        space.put("several", "1")
        assert space.get_with_metadata("several").node == "PAR"
        keeper = part(process, "keeper")
        os.kill(keeper, signal.SIGKILL)
        assert space.get("several") == "1"
        while part(process, "keeper") == keeper:
            assert space.get("several") == "1"
        written = central.put("several", "2")
        assert eventually(lambda: space.get("several", at_least=written.position)) == "2"
        eventually(lambda: space.put("several", "3"))
        assert space.get("several") == "3"


def eventually(ask: Callable[[], object]) -> object:
    """Ask until the new keeper answers."""
    for _ in range(ASKED_MAX):
        try:
            return ask()
        except UnavailableError:
            continue
    raise AssertionError("it never answered")
