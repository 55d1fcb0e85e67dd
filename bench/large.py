"""Reads of values of 25 MiB: bytes a second, memory, and small reads beside them."""

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from bench import atoll, drive, peers, place, turn
from bench.drive import Ask, Driven, Loop, http
from bench.holders import ATOLL, VALUE, Holder, Spec, Start, start
from bench.plan import Plan
from bench.process import BenchError, Memory, MemoryWatch, Process
from bench.report import MIB, Bar, Chart, Part, Table, Target, mebibytes, shown
from bench.stream import growth
from bench.turn import Turn

LARGE: Final = "large"
SMALL: Final = "small"
LARGE_BYTES: Final = 25 * MIB
LARGE_KEYS: Final = 4
SMALL_KEYS: Final = 1000
CLIENTS: Final = (1, 50)
SMALL_CLIENTS: Final = 16
SMALL_RATE: Final = 500
"""Small reads a second beside the large ones; few, so that they measure and do not load."""
SECONDS: Final = 8.0
SECONDS_QUICK: Final = 2.0
SAMPLE_SECONDS: Final = 0.1
NGINX_RATIO_MIN: Final = 0.5
GROWTH_MAX: Final = 1.15
NGINX: Final = "nginx"

HOW: Final = (
    f"{LARGE_KEYS} values of {LARGE_BYTES // MIB} MiB, read over keep-alive connections by one and"
    " by 50 clients in a closed loop; each byte is counted and none is copied. The generator has"
    " one core, the server the other. Beside the 50, small values are asked for in an open loop,"
    f" {SMALL_RATE} a second, by a second generator on the first one's core, and their times run"
    " from when they were due; `alone` is the same without the 50. Resident memory, mapped files"
    " included, is sampled ten times a second, and is flat if its peak in the second half of a turn"
    f" with 50 clients is at most {GROWTH_MAX:g} times that in the first."
)


@contextlib.contextmanager
def _atoll(spec: Spec) -> Generator[Holder]:
    with (
        place.central(spec.folder, program=spec.program) as central,
        place.location(spec.folder, central, core=spec.core, program=spec.program) as at,
    ):
        place.fill(central, _small(), VALUE)
        at.warm(_small())
        with contextlib.closing(atoll.Client(at.url, central.token)) as client:
            for key in _large():
                path = f"{at.path}/values/{key}"
                client.request("PUT", path, body=_content())
                if len(client.request("GET", path)) != LARGE_BYTES:
                    raise BenchError(f"{key} is not what was put")
        yield _holder(spec, spec.named(ATOLL), at.way, [at.process], at.get)


@contextlib.contextmanager
def _nginx(spec: Spec) -> Generator[Holder]:
    files = spec.folder / "files"
    files.mkdir()
    for key in _small():
        (files / key).write_text(VALUE)
    for key in _large():
        (files / key).write_bytes(_content())
    with peers.nginx(spec.folder, files, core=spec.core, files_max=2 * SMALL_KEYS) as server:
        yield _holder(spec, NGINX, server.way, server.processes, lambda key: http("GET", f"/{key}"))


def _holder(
    spec: Spec,
    name: str,
    way: drive.Way,
    processes: Sequence[Process],
    get: Callable[[str], bytes],
) -> Holder:
    return Holder(
        name=name,
        way=way,
        processes=processes,
        asks={
            LARGE: spec.write(LARGE, [Ask(raw=get(key), size=LARGE_BYTES) for key in _large()]),
            SMALL: spec.write(SMALL, [Ask(raw=get(key), size=len(VALUE)) for key in _small()]),
        },
    )


def _small() -> list[str]:
    return [f"small-{n:08}" for n in range(SMALL_KEYS)]


def _large() -> list[str]:
    return [f"large-{n}" for n in range(LARGE_KEYS)]


def _content() -> bytes:
    return VALUE.encode() * (LARGE_BYTES // len(VALUE)) + VALUE.encode()[: LARGE_BYTES % len(VALUE)]


SERVERS: Final[Mapping[str, Start]] = {
    ATOLL: _atoll,
    NGINX: _nginx,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Turns of one server with some number of clients."""

    large: Turn
    samples: Sequence[Memory]
    small: Driven | None
    """The small reads beside them, where there were any."""


def measure(plan: Plan, folder: Path) -> Part:
    """Let the servers take turns.

    Raises:
        BenchError: A request was not answered as it has to be.
    """
    peers.need("cc", "nginx")
    drive.build()
    seconds = SECONDS_QUICK if plan.quick else SECONDS
    taken: dict[tuple[str, int], list[Crowd]] = {}
    alone: dict[str, list[Driven]] = {}
    with contextlib.ExitStack() as stack:
        holders = start(stack, plan, folder, SERVERS, keys=SMALL_KEYS)
        for number in range(plan.rounds):
            at = number % len(holders)
            for holder in holders[at:] + holders[:at]:
                plan.await_turn()
                alone.setdefault(holder.name, []).append(_small_reads(holder, seconds / 2))
                for clients in CLIENTS:
                    plan.await_turn()
                    crowd = _crowd(holder, clients, seconds)
                    taken.setdefault((holder.name, clients), []).append(crowd)
                    rate = _rate(crowd) / MIB
                    plan.say(f"round {number + 1}: {holder.name}, {clients}: {rate:,.0f} MiB/s")
    return _part(taken, alone)


def _small_reads(holder: Holder, seconds: float) -> Driven:
    loop = Loop(clients=SMALL_CLIENTS, seconds=seconds, rate=SMALL_RATE)
    return drive.run(holder.way, holder.asks[SMALL], loop)


def _crowd(holder: Holder, clients: int, seconds: float) -> Crowd:
    """Read large values, sample memory, and read small ones beside a crowd."""
    small: list[Driven] = []
    failed: list[BenchError] = []

    def beside() -> None:
        try:
            small.append(_small_reads(holder, seconds * 0.8))
        except BenchError as error:
            failed.append(error)

    loop = Loop(clients=clients, seconds=seconds)
    drive.run(holder.way, holder.asks[LARGE], replace(loop, seconds=seconds * turn.WARM_PART))
    other = threading.Thread(target=beside)
    watch = MemoryWatch({"server": holder.processes[0]}, every_seconds=SAMPLE_SECONDS)
    with watch.watching():
        if clients > 1:
            other.start()
        try:
            done = turn.take(holder, holder.asks[LARGE], loop)
        finally:
            if clients > 1:
                other.join()
    if failed:
        raise failed[0]
    return Crowd(large=done, samples=watch.samples["server"], small=small[0] if small else None)


def _rate(crowd: Crowd) -> float:
    """Return bytes a second."""
    return crowd.large.driven.body_bytes / (crowd.large.driven.duration_us / 1e6)


def _part(
    taken: Mapping[tuple[str, int], Sequence[Crowd]], alone: Mapping[str, Sequence[Driven]]
) -> Part:
    rates = {at: [_rate(crowd) / MIB for crowd in crowds] for at, crowds in taken.items()}
    targets: list[Target] = []
    for clients in CLIENTS:
        if (ATOLL, clients) in rates and (NGINX, clients) in rates:
            both = zip(rates[ATOLL, clients], rates[NGINX, clients], strict=True)
            what = f"bytes/s of values of 25 MiB, {clients} at once, Atoll over nginx"
            share = median(ours / theirs for ours, theirs in both)
            targets.append(Target(what=what, measured=share, low=NGINX_RATIO_MIN))
    crowd = CLIENTS[-1]
    if (ATOLL, crowd) in taken:
        grown = median(growth(each.samples) for each in taken[ATOLL, crowd])
        what = f"values of 25 MiB, {crowd} at once: growth of Atoll's memory"
        targets.append(Target(what=what, measured=grown, high=GROWTH_MAX))
    return Part(
        name="large",
        title=f"Values of {LARGE_BYTES // MIB} MiB",
        how=HOW,
        targets=targets,
        tables=[
            Table(
                title="Large reads: medians over the rounds; smallest to largest in parentheses",
                headings=[
                    *("server", "clients", "MiB/s", "server CPU ms a value", "own memory, peak"),
                    *("resident, peak", "generator busy", "cores busy otherwise"),
                ],
                rows=[
                    [name, str(clients), shown(rates[name, clients]), *_cells(crowds)]
                    for (name, clients), crowds in taken.items()
                ],
            ),
            _small_table(taken, alone),
        ],
        charts=[
            Chart(
                title="Values of 25 MiB",
                unit="MiB/s",
                bars=[Bar.of(f"{name}, {n} at once", each) for (name, n), each in rates.items()],
            )
        ],
        rounds={
            f"{name}, {clients}": [
                {"large": asdict(each.large), "small": each.small and asdict(each.small)}
                for each in crowds
            ]
            for (name, clients), crowds in taken.items()
        },
    )


def _cells(crowds: Sequence[Crowd]) -> list[str]:
    samples = [sample for crowd in crowds for sample in crowd.samples]
    return [
        shown([crowd.large.cpu_us / 1000 for crowd in crowds]),
        mebibytes(max(sample.own for sample in samples)),
        mebibytes(max(sample.resident for sample in samples)),
        f"{median([crowd.large.driven.generator_busy for crowd in crowds]):.2f}",
        f"{median([crowd.large.others for crowd in crowds]):.2f}",
    ]


def _small_table(
    taken: Mapping[tuple[str, int], Sequence[Crowd]], alone: Mapping[str, Sequence[Driven]]
) -> Table:
    rows: list[list[str]] = []
    for name, runs in alone.items():
        beside = [each.small for each in taken[name, CLIENTS[-1]] if each.small]
        for label, of_label in (("alone", runs), (f"beside {CLIENTS[-1]} large", beside)):
            quantiles = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
            times = (shown([getattr(one, q) / 1000 for one in of_label]) for q in quantiles)
            rows.append([name, label, *times, str(sum(one.unsent for one in of_label))])
    headings = ["server", "", "p50 ms", "p90 ms", "p99 ms", "p999 ms", "max ms", "unsent"]
    return Table(title="Small reads beside them", headings=headings, rows=rows)
