"""Reads inside a Worker: workerd with a binding to a location of Atoll's, beside miniflare.

The same script runs on the same workerd in both: only what is behind `env.KV` differs.
"""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench import drive, peers, place, turn
from bench.drive import MISSING, Ask, Loop, Way, http
from bench.holders import ATOLL, HOT, MISS, VALUE, Holder, Spec, Start, miniflare, start
from bench.plan import Plan
from bench.process import Process, free_port, listening
from bench.reads import ratios
from bench.report import Bar, Chart, Part, Table, mebibytes, shown
from bench.turn import Turn

KEYS: Final = 10_000
KEYS_QUICK: Final = 1_000
READS: Final = 50
"""In one request to the Worker, one after the other."""
CLIENTS: Final = 32
SECONDS: Final = 5.0
SECONDS_QUICK: Final = 1.0
MINIFLARE: Final = "miniflare"
MANY: Final = f"{READS} reads in a request"
LOADS: Final = (HOT, MISS, MANY)
DATE: Final = "2026-04-01"

HOW: Final = (
    f"A Worker on workerd is asked over {CLIENTS} keep-alive connections, and awaits `env.KV.get`:"
    f" once in each request, or {READS} times in turn, which leaves HTTP in front of the Worker out"
    " of it. The script, the workerd and the keys are the same; behind `env.KV` is a location of"
    " Atoll's, or miniflare's own store, which lives in the same workerd. Everything but the"
    " generator shares one core: workerd, the location, `atoll worker run`; or workerd and the Node"
    " that started it."
)


@contextlib.contextmanager
def _atoll(spec: Spec) -> Generator[Holder]:
    with (
        place.central(spec.folder, program=spec.program) as central,
        place.location(spec.folder, central, core=spec.core, program=spec.program) as at,
    ):
        place.fill(central, spec.names, VALUE)
        at.warm(spec.names)
        at.warm(spec.missing)
        port = free_port()
        command = [
            *(str(spec.program), "worker", "run", str(peers.WORKER), "--port", str(port)),
            *("--kv", f"KV={central.namespace}", "--location", at.url),
            *("--compatibility-date", DATE, "--workerd", str(peers.workerd())),
        ]
        process = Process(
            command,
            log=spec.folder / "worker.log",
            core=spec.core,
            env={"ATOLL_DATA": str(central.data)},
        )
        try:
            process.wait_until(lambda: listening(port))
            yield Holder(
                name=spec.named(ATOLL),
                way=Way(port=port),
                processes=[at.process, process],
                asks=_asks(spec),
            )
        finally:
            process.stop()


@contextlib.contextmanager
def _miniflare(spec: Spec) -> Generator[Holder]:
    with miniflare(spec) as holder:
        yield Holder(name=holder.name, way=holder.way, processes=holder.processes, asks=_asks(spec))


def _asks(spec: Spec) -> Mapping[str, Path]:
    def get(key: str) -> bytes:
        return http("GET", f"/{key}")

    return {
        HOT: spec.write(HOT, [Ask(raw=get(key), size=len(VALUE)) for key in spec.names]),
        MISS: spec.write(MISS, [Ask(raw=get(key), status=MISSING) for key in spec.missing]),
        MANY: spec.write(
            "many",
            [
                Ask(raw=get(f"item?first={first}&count={READS}"))
                for first in range(0, spec.keys - READS + 1, READS)
            ],
        ),
    }


SERVERS: Final[Mapping[str, Start]] = {ATOLL: _atoll, MINIFLARE: _miniflare}


def measure(plan: Plan, folder: Path) -> Part:
    """Let both take turns.

    Raises:
        BenchError: A request was not answered as it has to be, or there is no workerd.
    """
    peers.need("cc")
    drive.build()
    taken: dict[tuple[str, str], list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        keys = KEYS_QUICK if plan.quick else KEYS
        holders = start(stack, plan, folder, SERVERS, keys=keys)
        for number in range(plan.rounds):
            at = number % len(holders)
            for load in LOADS:
                for holder in holders[at:] + holders[:at]:
                    plan.await_turn()
                    seconds = SECONDS_QUICK if plan.quick else SECONDS
                    loop = Loop(clients=CLIENTS, seconds=seconds)
                    done = turn.warmed(holder, holder.asks[load], loop)
                    taken.setdefault((load, holder.name), []).append(done)
                    plan.say(f"{load}: {holder.name} {_reads(load, done):,.0f} reads/s")
        peaks = {holder.name: holder.memory().peak for holder in holders}
    return _part(taken, peaks)


def _reads(load: str, one: Turn) -> float:
    return one.driven.per_second * (READS if load == MANY else 1)


def _part(taken: Mapping[tuple[str, str], list[Turn]], peaks: Mapping[str, int]) -> Part:
    rates = {at: [_reads(at[0], one) for one in turns] for at, turns in taken.items()}
    shares = {
        at: ratios(rates[at[0], ATOLL], theirs)
        for at, theirs in rates.items()
        if at[1] != ATOLL and (at[0], ATOLL) in rates
    }
    rows = [
        [
            load,
            name,
            shown(rates[load, name]),
            shown(shares[load, name]) if (load, name) in shares else "",
            *turn.cells(turns),
            mebibytes(peaks[name]),
        ]
        for (load, name), turns in taken.items()
    ]
    return Part(
        name="workers",
        title="Reads inside a Worker",
        how=HOW,
        targets=[],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=[
                    *("load", "behind env.KV", "reads/s", "Atoll's share of it"),
                    *(f"{heading} a request" for heading in turn.HEADINGS[:3]),
                    *(*turn.HEADINGS[3:], "peak memory"),
                ],
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title=f"In a Worker: {load}",
                unit="reads/s",
                bars=[Bar.of(name, rates[each, name]) for each, name in taken if each == load],
            )
            for load in LOADS
        ],
        rounds={
            f"{load}: {name}": [asdict(one) for one in turns]
            for (load, name), turns in taken.items()
        },
    )
