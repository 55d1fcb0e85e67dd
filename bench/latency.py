"""How long a hot read takes at half of full load, from an open loop, beside nginx's.

A closed loop waits with its next request until a slow answer has come, and so asks less just when
it would have to wait. Here requests are due by the clock.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from bench import drive, peers, turn
from bench.drive import Loop
from bench.holders import ALL, ATOLL, HOT, Holder, start
from bench.plan import Plan
from bench.process import BenchError
from bench.reads import KEYS, KEYS_QUICK
from bench.report import Bar, Chart, Part, Table, Target, mebibytes, shown
from bench.turn import Turn

CLIENTS: Final = 64
SECONDS: Final = 10.0
SECONDS_QUICK: Final = 1.0
FULL_SECONDS: Final = 5.0
FULL_SECONDS_QUICK: Final = 0.5
LOAD: Final = 0.5
P99_RATIO_MAX: Final = 3.0
NGINX: Final = "nginx"
QUANTILES: Final = ("p50_us", "p99_us", "p999_us")

HOW: Final = (
    f"Full load is what Atoll answers in a second over {CLIENTS} connections that are never idle,"
    " the median of as many tries as there are rounds. Then both servers are asked half as often:"
    " requests are due at even intervals, whatever the server does, each goes out on a connection"
    " that is free, and its time runs from when it was due. The generator has one core and never"
    " sleeps; the server under test has the other. `late` counts requests begun more than a"
    " millisecond after they were due, `unsent` those that were not begun before the end. Rounds"
    " take turns, behind a warm-up that does not count."
)


def measure(plan: Plan, folder: Path) -> Part:
    """Find the load, then let both take turns at half of it.

    Raises:
        BenchError: A request was not answered as it has to be.
    """
    peers.need("cc", "nginx")
    drive.build()
    taken: dict[str, list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        servers = {name: ALL[name] for name in (ATOLL, NGINX)}
        holders = start(stack, plan, folder, servers, keys=KEYS_QUICK if plan.quick else KEYS)
        full = _full_load(plan, holders)
        rate = round(full * LOAD)
        plan.say(f"full load is {full:,.0f}/s")
        for number in range(plan.rounds):
            at = number % len(holders)
            for holder in holders[at:] + holders[:at]:
                plan.await_turn()
                seconds = SECONDS_QUICK if plan.quick else SECONDS
                loop = Loop(clients=CLIENTS, seconds=seconds, rate=rate)
                done = turn.warmed(holder, holder.asks[HOT], loop)
                taken.setdefault(holder.name, []).append(done)
                plan.say(f"round {number + 1}: {holder.name} p99 {done.driven.p99_us:.0f} µs")
        peaks = {holder.name: holder.memory().peak for holder in holders}
    return _part(taken, peaks, full=full, rate=rate)


def _full_load(plan: Plan, holders: list[Holder]) -> float:
    ours = next((holder for holder in holders if holder.name == ATOLL), None)
    if ours is None:
        raise BenchError("half of what load? The latencies need --server atoll")
    found: list[float] = []
    for _ in range(plan.rounds):
        plan.await_turn()
        seconds = FULL_SECONDS_QUICK if plan.quick else FULL_SECONDS
        done = turn.warmed(ours, ours.asks[HOT], Loop(clients=CLIENTS, seconds=seconds))
        found.append(done.driven.per_second)
    return median(found)


def _part(
    taken: Mapping[str, list[Turn]], peaks: Mapping[str, int], *, full: float, rate: int
) -> Part:
    times = {
        name: {which: [getattr(one.driven, which) for one in turns] for which in QUANTILES}
        for name, turns in taken.items()
    }
    targets: list[Target] = []
    if ATOLL in times and NGINX in times:
        pairs = zip(times[ATOLL]["p99_us"], times[NGINX]["p99_us"], strict=True)
        targets.append(
            Target(
                what="p99 of a hot read at half of full load, Atoll over nginx",
                measured=median(ours / theirs for ours, theirs in pairs),
                high=P99_RATIO_MAX,
            )
        )
    rows = [
        [
            name,
            *(shown(times[name][which]) for which in QUANTILES),
            shown([one.driven.max_us for one in turns]),
            f"{median([one.driven.late for one in turns]):.0f}",
            f"{median([one.driven.unsent for one in turns]):.0f}",
            shown([one.cpu_us for one in turns]),
            f"{median([one.others for one in turns]):.2f}",
            mebibytes(peaks[name]),
        ]
        for name, turns in taken.items()
    ]
    headings = [
        *("server", "p50 µs", "p99 µs", "p999 µs", "max µs", "late", "unsent", "server CPU µs"),
        *("cores busy otherwise", "peak memory"),
    ]
    return Part(
        name="latency",
        title=f"Hot reads at half of full load: {rate:,} a second of {full:,.0f}",
        how=HOW,
        targets=targets,
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=headings,
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title=f"p99 of a hot read, {rate:,} a second",
                unit="µs, less is better",
                bars=[Bar.of(name, times[name]["p99_us"]) for name in times],
            )
        ],
        rounds={name: [asdict(one) for one in turns] for name, turns in taken.items()},
    )
