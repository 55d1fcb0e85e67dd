"""A bulk put through REST against the floor: the same rows, already sealed, in one transaction.

What the floor leaves out is everything that makes it a service: HTTP, JSON, limits, versions,
sealing, looking up what was there, and the thread that answers. The ratio is what those cost.
"""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from atoll.store.sqlite.schema import DATABASE_NAME
from bench import atoll
from bench.floor import Floor
from bench.plan import Plan
from bench.process import BenchError
from bench.report import Part, Table, Target, mebibytes, shown

PAIRS: Final = 10_000
VALUE: Final = ("0123456789abcdef" * 18)[:288]
METADATA: Final = {"content-type": "text/plain", "revision": 17}
RATIO_MAX: Final = 2.5
WARM_ROUNDS: Final = 1
PLAIN: Final = "without metadata"
WITH_METADATA: Final = "with metadata"

HOW: Final = (
    f"{PAIRS:,} pairs of {len(VALUE)} bytes under fresh keys, in one request over a keep-alive"
    " connection, from the first byte sent to the last byte of the answer. The floor then writes"
    " the very rows that the server wrote, sealed as they are, into a database with the same"
    " schema, settings and history: one statement a table, one synchronised transaction. They take"
    f" turns; {WARM_ROUNDS} round before the first does not count."
)


def measure(plan: Plan, folder: Path) -> Part:
    """Let REST and the floor take turns.

    Raises:
        BenchError: A bulk put was not taken whole.
    """
    rounds = plan.rounds if plan.quick else max(plan.rounds, 9)
    took: dict[str, dict[str, list[float]]] = {}
    cpu: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(atoll.running(folder / "data"))
        database = server.data / DATABASE_NAME
        floor = stack.enter_context(contextlib.closing(Floor(database, folder / "floor.db")))
        client = stack.enter_context(contextlib.closing(server.connect()))
        for number in range(WARM_ROUNDS + rounds):
            for kind, metadata in ((PLAIN, None), (WITH_METADATA, METADATA)):
                pairs = pairs_of(f"{number:04}/{'m' if metadata else 'p'}", metadata)
                plan.await_turn()
                before = server.process.cpu_seconds()
                ours = _put(server, client, pairs)
                used = (server.process.cpu_seconds() - before) / PAIRS * 1e6
                theirs = floor.follow()
                if number >= WARM_ROUNDS:
                    into = took.setdefault(kind, {"rest": [], "floor": []})
                    into["rest"].append(ours)
                    into["floor"].append(theirs)
                    cpu.setdefault(kind, []).append(used)
                    plan.say(f"{kind}: {ours * 1000:.0f} ms, floor {theirs * 1000:.0f} ms")
        held, expected = server.count(), 2 * (WARM_ROUNDS + rounds) * PAIRS
        if held != expected:
            raise BenchError(f"{expected} pairs were put and {held} are there")
        peak = server.process.memory().peak
    return _part(took, cpu, peak)


def pairs_of(prefix: str, metadata: Mapping[str, object] | None) -> list[dict[str, object]]:
    """Return fresh pairs in the order of their keys, which is the cheapest for the floor."""
    extra = {} if metadata is None else {"metadata": metadata}
    return [{"key": f"{prefix}/{n:08}", "value": VALUE, **extra} for n in range(PAIRS)]


def _put(server: atoll.Atoll, client: atoll.Client, pairs: Sequence[Mapping[str, object]]) -> float:
    body = json.dumps(pairs).encode()
    begun = time.perf_counter()
    answer = client.request("PUT", f"{server.namespace_path()}/bulk", body=body)
    took = time.perf_counter() - begun
    result = json.loads(answer)["result"]
    if result["successful_key_count"] != PAIRS:
        raise BenchError(f"of {PAIRS} pairs: {result}")
    return took


def _part(
    took: Mapping[str, Mapping[str, Sequence[float]]],
    cpu: Mapping[str, Sequence[float]],
    peak: int,
) -> Part:
    ratios = {
        kind: [ours / theirs for ours, theirs in zip(both["rest"], both["floor"], strict=True)]
        for kind, both in took.items()
    }
    rows = [
        [
            kind,
            shown([seconds * 1000 for seconds in both["rest"]]),
            shown([seconds * 1000 for seconds in both["floor"]]),
            shown(ratios[kind]),
            f"{PAIRS / median(both['rest']):,.0f}",
            f"{median(cpu[kind]):.0f}",
            mebibytes(peak),
        ]
        for kind, both in took.items()
    ]
    headings = ["", "REST ms", "floor ms", "ratio", "pairs/s", "server CPU µs/pair", "server peak"]
    return Part(
        name="bulk",
        title=f"A bulk put of {PAIRS:,} pairs",
        how=HOW,
        targets=[
            Target(
                what=f"bulk put {kind}, REST over floor", measured=median(values), high=RATIO_MAX
            )
            for kind, values in ratios.items()
        ],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=headings,
                rows=rows,
            )
        ],
        rounds=took,
    )
