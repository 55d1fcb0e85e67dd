"""Durable single puts with many keep-alive clients: Atoll, etcd's gateway, webdis over Redis.

The generator has one core and the servers the other, one server at a time, in turns. Each server
answers a put when it is on disk. Afterwards each is asked how many pairs it holds.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import atoll, load, machine, peers
from bench.peers import Server
from bench.plan import Plan
from bench.process import BenchError, ended_cpu_seconds
from bench.report import Bar, Chart, Part, Table, Target, mebibytes, shown

CLIENTS: Final = 32
VALUE_BYTES: Final = 288
GENERATOR_CORE: Final = 0
SERVER_CORE: Final = 1
WARM_SECONDS: Final = 2

ETCD_RATIO_MIN: Final = 1.0
WEBDIS_RATIO_MIN: Final = 0.35
WEBDIS_RATIO_AIM: Final = 0.6

HOW: Final = (
    f"wrk on one core keeps {CLIENTS} connections busy with puts of {VALUE_BYTES} bytes under"
    " fresh keys; the server has the other core. All three synchronise before they answer: Atoll"
    " with `synchronous=FULL`, etcd as it always does, Redis with `appendfsync always`. None keeps"
    " an access log. The servers take turns, in another order each round; a short warm-up before"
    " each turn does not count. Afterwards each server counted its pairs: none was missing."
)

Start = Callable[..., AbstractContextManager[Server]]
SERVERS: Final[Mapping[str, Start]] = {
    "atoll": atoll.serving_puts,
    "etcd": peers.etcd,
    "webdis": peers.webdis,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One server's turn in one round."""

    load: load.Load
    cpu_us: float
    """Processor time of the server per request, in microseconds."""
    others: float
    """How many cores were busy with something else meanwhile: with much of it, do not quote."""


def measure(plan: Plan, folder: Path) -> Part:
    """Let the servers take turns.

    Raises:
        BenchError: A request failed, or an acknowledged put is not there.
    """
    peers.need("wrk", "etcd", "redis-server", "webdis")
    seconds = 3 if plan.quick else 10
    value = ("0123456789abcdef" * (VALUE_BYTES // 16))[:VALUE_BYTES]
    turns: dict[str, list[Turn]] = {}
    acknowledged: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []
        for name, start in SERVERS.items():
            if plan.wants_server(name):
                own = folder / name
                own.mkdir()
                servers.append(stack.enter_context(start(own, value=value, core=SERVER_CORE)))
        if plan.against is not None:
            other = folder / plan.against.commit
            other.mkdir()
            begun = atoll.serving_puts(other, value=value, core=SERVER_CORE, baseline=plan.against)
            servers.append(stack.enter_context(begun))
        for number in range(plan.rounds):
            # Rotated, so that none always comes after the same other.
            at = number % len(servers)
            for server in servers[at:] + servers[:at]:
                plan.await_turn()
                done = [
                    _turn(server, prefix=f"{number:02}w", seconds=WARM_SECONDS),
                    _turn(server, prefix=f"{number:02}m", seconds=seconds),
                ]
                turns.setdefault(server.name, []).append(done[1])
                sent = sum(turn.load.requests for turn in done)
                acknowledged[server.name] = acknowledged.get(server.name, 0) + sent
                plan.say(f"round {number + 1}: {server.name} {done[1].load.per_second:,.0f}/s")
        for server in servers:
            _check(server, acknowledged=acknowledged[server.name], runs=2 * plan.rounds)
        peaks = {server.name: server.memory().peak for server in servers}
    return _part(turns, peaks)


def _turn(server: Server, *, prefix: str, seconds: int) -> Turn:
    before, ended, busy = server.cpu_seconds(), ended_cpu_seconds(), machine.busy_seconds()
    # Keys of 16 letters and digits: whole groups of base64, which is what etcd takes them for.
    done = load.run(
        server.put,
        url=server.url,
        key_prefix=f"key{prefix}",
        clients=CLIENTS,
        seconds=seconds,
        core=GENERATOR_CORE,
    )
    used = server.cpu_seconds() - before
    others = machine.busy_seconds() - busy - used - (ended_cpu_seconds() - ended)
    return Turn(
        load=done,
        cpu_us=used / done.requests * 1e6,
        others=max(0.0, others / (done.duration_us / 1e6)),
    )


def _check(server: Server, *, acknowledged: int, runs: int) -> None:
    held = server.count()
    # wrk hangs up on what it still waits for: those may or may not be there.
    if not acknowledged <= held <= acknowledged + runs * CLIENTS:
        raise BenchError(f"{server.name} acknowledged {acknowledged} puts and holds {held}")


def _part(turns: Mapping[str, Sequence[Turn]], peaks: Mapping[str, int]) -> Part:
    rates = {name: [turn.load.per_second for turn in taken] for name, taken in turns.items()}
    ratios = {
        name: [ours / theirs for ours, theirs in zip(rates["atoll"], rates[name], strict=True)]
        for name in rates
        if name != "atoll" and "atoll" in rates
    }
    bounds = (
        ("etcd", "etcd's gateway", ETCD_RATIO_MIN, False),
        ("webdis", "webdis over Redis", WEBDIS_RATIO_MIN, False),
        ("webdis", "webdis over Redis", WEBDIS_RATIO_AIM, True),
    )
    rows = [
        [
            name,
            shown(rates[name]),
            shown(ratios[name]) if name in ratios else "",
            f"{median([turn.load.p50_us for turn in taken]) / 1000:.2f}",
            f"{median([turn.load.p99_us for turn in taken]) / 1000:.2f}",
            f"{median([turn.cpu_us for turn in taken]):.0f}",
            mebibytes(peaks[name]),
            f"{median([turn.others for turn in taken]):.2f}",
        ]
        for name, taken in turns.items()
    ]
    headings = ["server", "puts/s", "Atoll's share of it", "p50 ms", "p99 ms", "server CPU µs/put"]
    return Part(
        name="puts",
        title=f"Durable single puts, {CLIENTS} clients",
        how=HOW,
        targets=[
            Target(
                what=f"puts/s, Atoll over {label}", measured=median(ratios[name]), low=low, aim=aim
            )
            for name, label, low, aim in bounds
            if name in ratios
        ],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=[*headings, "peak memory", "cores busy otherwise"],
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title=f"Durable single puts, {CLIENTS} clients",
                unit="puts/s",
                bars=[Bar.of(name, of_server) for name, of_server in rates.items()],
            )
        ],
        rounds={name: [asdict(turn) for turn in taken] for name, taken in turns.items()},
    )
