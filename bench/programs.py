"""Reads in a Python program: in process, beside what else a program would ask.

Each way runs in a process of its own, on the servers' core, and reads key after key; the server
that it asks, if there is one, is on the other core. What is compared is what the program sees.
"""

import contextlib
import json
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import machine, peers, place
from bench.holders import SERVER_CORE, VALUE, Spec, fill_redis
from bench.plan import Plan
from bench.process import Process
from bench.report import Bar, Chart, Part, Table, mebibytes, shown

KEYS: Final = 100_000
KEYS_QUICK: Final = 5_000
SECONDS: Final = 3.0
SECONDS_QUICK: Final = 0.5
GRACE_SECONDS: Final = 120.0
GENERATOR_CORE: Final = 0
ATOLL: Final = "atoll, in process"

HOW: Final = (
    "A Python program on one core reads keys with values of 288 bytes in an order of chance, one"
    " after the other; all are counted and one of eight is timed. Atoll in process looks up in the"
    " location's cache; over HTTP it asks the location, on the other core. Beside it: Redis, asked"
    " over a plain socket by the shortest client that can be written (libraries take longer);"
    " SQLite, in process, one table, one prepared statement; and LMDB alone with the keys as they"
    " are, which is the floor."
)

WAYS: Final = (
    ATOLL,
    "atoll, in process, missing keys",
    "atoll, in process, asyncio",
    "atoll, over HTTP",
    "redis",
    "sqlite",
    "lmdb",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one way did in one round."""

    reads: int
    seconds: float
    p50_us: float
    p99_us: float
    cpu_us: float
    peak: int

    @property
    def per_second(self) -> float:
        """Reads in a second."""
        return self.reads / self.seconds


def measure(plan: Plan, folder: Path) -> Part:
    """Let the ways take turns.

    Raises:
        BenchError: A value is not what it has to be, or this Atoll has no way into a program.
    """
    peers.need("redis-server", "webdis")
    spec = Spec(folder=folder, keys=KEYS_QUICK if plan.quick else KEYS)
    taken: dict[str, list[Run]] = {}
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(_prepared(spec))
        for number in range(plan.rounds):
            at = number % len(WAYS)
            for way in WAYS[at:] + WAYS[:at]:
                plan.await_turn()
                seconds = SECONDS_QUICK if plan.quick else SECONDS
                run = _run(folder, way, {**told, "way": way, "seconds": seconds})
                taken.setdefault(way, []).append(run)
                plan.say(f"round {number + 1}: {way} {run.per_second:,.0f}/s")
    return _part(taken, keys=spec.keys)


@contextlib.contextmanager
def _prepared(spec: Spec) -> Generator[Mapping[str, object]]:
    own = spec.folder / "redis"
    own.mkdir()
    with (
        place.central(spec.folder) as central,
        place.location(spec.folder, central, core=GENERATOR_CORE) as at,
        peers.webdis(own, value=VALUE, core=GENERATOR_CORE) as redis,
    ):
        place.fill(central, spec.names, VALUE)
        at.warm(spec.names)
        at.warm(spec.missing)
        fill_redis(redis.backend_port, spec.names)
        yield {
            "folder": str(at.cache.parent),
            "url": at.url,
            "token": central.token,
            "namespace": central.namespace,
            "redis_port": redis.backend_port,
            "keys": spec.keys,
            "value": VALUE,
            "scratch": str(spec.folder),
        }


def _run(folder: Path, way: str, told: Mapping[str, object]) -> Run:
    number = len(list(folder.glob("told-*")))
    settings, result = folder / f"told-{number}.json", folder / f"result-{number}.json"
    settings.write_text(json.dumps(told))
    process = Process(
        [sys.executable, "-m", "bench.program", str(settings), str(result)],
        log=folder / f"{way.replace(' ', '')}.log",
        core=SERVER_CORE,
        env={"PYTHONPATH": str(machine.ROOT)},
    )
    try:
        process.wait(seconds_max=GRACE_SECONDS)
    finally:
        process.stop()
    return Run(**json.loads(result.read_text()))


def _part(taken: Mapping[str, Sequence[Run]], *, keys: int) -> Part:
    rates = {way: [run.per_second for run in runs] for way, runs in taken.items()}
    rows = [
        [
            way,
            shown(rates[way]),
            shown([run.p50_us for run in runs]),
            f"{median([run.p99_us for run in runs]):.1f}",
            f"{median([run.cpu_us for run in runs]):.1f}",
            mebibytes(max(run.peak for run in runs)),
        ]
        for way, runs in taken.items()
    ]
    return Part(
        name="programs",
        title=f"Reads in a Python program, {keys:,} keys",
        how=HOW,
        targets=[],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=["way", "reads/s", "p50 µs", "p99 µs", "program CPU µs", "program's peak"],
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title="In a Python program, one after the other",
                unit="reads/s",
                bars=[Bar.of(way, of_way) for way, of_way in rates.items()],
            )
        ],
        rounds={way: [asdict(run) for run in runs] for way, runs in taken.items()},
    )
