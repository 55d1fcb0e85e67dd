"""Reads of small values, side by side: hot, missing, and mixed with a few puts."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from bench import drive, peers, turn
from bench.drive import Loop
from bench.holders import ALL, ATOLL, HOT, MISS, MIXED, MIXED_EVERY, VALUE_BYTES, Holder, start
from bench.plan import Plan
from bench.report import Bar, Chart, Part, Table, Target, mebibytes, shown
from bench.turn import Turn

KEYS: Final = 100_000
KEYS_QUICK: Final = 2_000
CLIENTS: Final = (1, 32, 256)
CLIENTS_MIXED: Final = (32,)
SECONDS: Final = 3.0
SECONDS_QUICK: Final = 0.3

ATOLL_TWO: Final = "atoll, two processes"
RATIOS: Final = (
    ("nginx", 0.75, False),
    ("nginx", 0.9, True),
    ("webdis", 1.3, False),
    ("miniflare", 20.0, False),
)
TWO_CPU_RATIO_MAX: Final = 1.15
TWO_CLIENTS: Final = (32, 256)
"""One connection is answered by one of two processes, which says nothing about the other."""

SHARES: Final = ("Atoll's share of it", "by CPU")

HOW: Final = (
    f"Every server holds the same keys with values of {VALUE_BYTES} bytes and is asked for them in"
    " an order of chance, over keep-alive connections, each of which sends its next request when"
    " the last was answered. nginx is asked for no more keys than it may hold files open here"
    " (FILES), and miniflare for a tenth of them: more would be slower. The generator has one"
    " core and the servers the other, one at a time, in another order each round, after a short"
    " warm-up; status and size of every answer are looked at. Atoll is a location, asked through"
    " /v1: each request is authorised by its token, and answered with age, position and version."
    " Two processes share both cores with the generator: only their processor time compares."
    " memcached and NATS have no HTTP: they are asked in their own protocols, which cost a server"
    " less. etcd answers that a key is missing with 200. In the mixed load one request of"
    f" {MIXED_EVERY} is a put, as durable as the server makes it (Atoll's is passed on to central,"
    " which has the generator's core)."
)

Taken = dict[tuple[str, int], dict[str, list[Turn]]]
"""By load and connections, then by server."""


def measure(plan: Plan, folder: Path) -> Part:
    """Let the servers take turns.

    Raises:
        BenchError: A request was not answered as it has to be.
    """
    peers.need("cc", "nginx", "etcd", "redis-server", "webdis", "memcached", "nats-server")
    drive.build()
    taken: Taken = {}
    with contextlib.ExitStack() as stack:
        keys = KEYS_QUICK if plan.quick else KEYS
        holders = start(stack, plan, folder, ALL, keys=keys)
        for number in range(plan.rounds):
            at = number % len(holders)
            for kind, clients in loads():
                for holder in holders[at:] + holders[:at]:
                    if kind in holder.asks:
                        _turn(plan, taken, holder, kind, clients)
            plan.say(f"round {number + 1} is done")
        peaks = {holder.name: holder.memory().peak for holder in holders}
    return _part(taken, peaks, keys=keys)


def loads() -> list[tuple[str, int]]:
    """Return the kinds of load, each with a number of connections."""
    return [
        *((kind, clients) for kind in (HOT, MISS) for clients in CLIENTS),
        *((MIXED, clients) for clients in CLIENTS_MIXED),
    ]


def _turn(plan: Plan, taken: Taken, holder: Holder, kind: str, clients: int) -> None:
    plan.await_turn()
    loop = Loop(clients=clients, seconds=SECONDS_QUICK if plan.quick else SECONDS)
    done = turn.warmed(holder, holder.asks[kind], loop)
    taken.setdefault((kind, clients), {}).setdefault(holder.name, []).append(done)
    plan.say(f"{kind}, {clients}: {holder.name} {done.driven.per_second:,.0f}/s")


def rates(turns: Sequence[Turn]) -> list[float]:
    """Return answers in a second, round by round."""
    return [one.driven.per_second for one in turns]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours over theirs, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _shares(name: str, ours: list[Turn] | None, turns: list[Turn]) -> list[str]:
    if name == ATOLL or not ours:
        return ["", ""]
    # Two processes have less of a core than one, so that their rate says nothing.
    share = "" if name == ATOLL_TWO else shown(ratios(rates(ours), rates(turns)))
    return [share, turn.by_cpu(ours, turns)]


def _targets(taken: Taken) -> list[Target]:
    found: list[Target] = []
    for kind in (HOT, MISS):
        of_kind = {clients: by for (each, clients), by in taken.items() if each == kind}
        for peer, low, aim in RATIOS:
            shares = {
                clients: median(ratios(rates(by[ATOLL]), rates(by[peer])))
                for clients, by in of_kind.items()
                if ATOLL in by and peer in by
            }
            if shares:
                at = min(shares, key=lambda clients: shares[clients])
                what = f"{kind} reads/s, Atoll over {peer}, the least: at {_connections(at)}"
                found.append(Target(what=what, measured=shares[at], low=low, aim=aim))
        costs = {
            clients: median(
                ratios([t.cpu_us for t in by[ATOLL_TWO]], [t.cpu_us for t in by[ATOLL]])
            )
            for clients, by in of_kind.items()
            if clients in TWO_CLIENTS and ATOLL in by and ATOLL_TWO in by
        }
        if costs:
            at = max(costs, key=lambda clients: costs[clients])
            what = f"{kind} reads, server CPU of two processes over one, the most: at"
            found.append(
                Target(
                    what=f"{what} {_connections(at)}", measured=costs[at], high=TWO_CPU_RATIO_MAX
                )
            )
    return found


def _connections(clients: int) -> str:
    return f"{clients} connection{'s' if clients > 1 else ''}"


def _part(taken: Taken, peaks: Mapping[str, int], *, keys: int) -> Part:
    tables: list[Table] = []
    charts: list[Chart] = []
    for (kind, clients), by in taken.items():
        label = f"{kind}, {_connections(clients)}"
        ours = by.get(ATOLL)
        rows = [
            [
                name,
                shown(rates(turns)),
                *_shares(name, ours, turns),
                *turn.cells(turns),
                mebibytes(peaks[name]),
            ]
            for name, turns in by.items()
        ]
        headings = ["server", "requests/s", *SHARES, *turn.HEADINGS, "peak memory"]
        tables.append(Table(title=label, headings=headings, rows=rows))
        bars = [Bar.of(name, rates(turns)) for name, turns in by.items()]
        charts.append(Chart(title=label, unit="requests/s", bars=bars))
    return Part(
        name="reads",
        title=f"Reads of {VALUE_BYTES} bytes, {keys:,} keys",
        how=HOW.replace("FILES", f"{peers.open_files_max():,}"),
        targets=_targets(taken),
        tables=tables,
        charts=charts,
        rounds={
            f"{kind}, {clients}": {
                name: [asdict(one) for one in turns] for name, turns in by.items()
            }
            for (kind, clients), by in taken.items()
        },
    )
