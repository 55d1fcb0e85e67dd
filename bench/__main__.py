"""Runs the parts one after the other and writes what they found."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from bench import (
    bulk,
    growth,
    large,
    latency,
    lists,
    machine,
    pages,
    peers,
    programs,
    propagation,
    puts,
    reads,
    stream,
    workers,
)
from bench.baseline import prepared
from bench.plan import Plan
from bench.process import BenchError
from bench.report import RESULTS, Part, as_json, markdown, save

PARTS: Final[Mapping[str, Callable[[Plan, Path], Part]]] = {
    "reads": reads.measure,
    "latency": latency.measure,
    "large": large.measure,
    "workers": workers.measure,
    "programs": programs.measure,
    "growth": growth.measure,
    "lists": lists.measure,
    "bulk": bulk.measure,
    "puts": puts.measure,
    "pages": pages.measure,
    "stream": stream.measure,
    "propagation": propagation.measure,
}
COMPARING: Final = ("reads", "latency", "large", "lists", "puts")
"""The parts in which two states of Atoll can take turns."""
ROUNDS: Final = 5
ROUNDS_QUICK: Final = 1
PATIENCE_SECONDS: Final = 10.0


def main() -> int:
    """Return 0 if every target was met, 1 if one was not, 2 if a part could not be measured."""
    given = _arguments()
    # Told to stop, it ends the servers that it started before it goes.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        plan = _plan(given)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    base: Path = given.folder or machine.ROOT / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=base) as name:
        return _measure(plan, given.only or _usual(plan), Path(name))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure Atoll.")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part (repeatable)")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, quick {ROUNDS_QUICK}")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter; not to quote")
    parser.add_argument("--server", action="append", help="of the servers, only this (repeatable)")
    parser.add_argument("--folder", type=Path, help="where to put data; default is temporary")
    parser.add_argument(
        "--against",
        metavar="COMMIT",
        help=f"compare with Atoll as it was then, in {', '.join(COMPARING)}",
    )
    parser.add_argument(
        "--patience",
        type=float,
        help="seconds that a turn may wait for a calm machine;"
        f" default {PATIENCE_SECONDS:g}, quick 0",
    )
    return parser.parse_args()


def _plan(given: argparse.Namespace) -> Plan:
    patience: float | None = given.patience
    if patience is None:
        patience = 0.0 if given.quick else PATIENCE_SECONDS
    return Plan(
        rounds=given.rounds or (ROUNDS_QUICK if given.quick else ROUNDS),
        quick=given.quick,
        servers=frozenset(given.server or ()),
        against=None if given.against is None else prepared(given.against),
        patience_seconds=patience,
    )


def _usual(plan: Plan) -> Iterable[str]:
    return PARTS if plan.against is None else COMPARING


def _measure(plan: Plan, names: Iterable[str], base: Path) -> int:
    about = machine.facts(base)
    results = RESULTS / _results_name(plan, about["commit"])
    parts: list[Part] = []
    written: list[Path] = []
    failed = False
    for name in names:
        print(name, flush=True)
        folder = base / name
        folder.mkdir()
        try:
            parts.append(PARTS[name](plan, folder))
        except BenchError as error:
            print(f"bench: {name} is left out: {error}", file=sys.stderr)
            failed = True
        else:
            # At once: what comes next may take long, or fail.
            about["peers"] = peers.versions()
            written = save(results, about, parts[-1])
        shutil.rmtree(folder)
    print(markdown({part.name: {**as_json(part), "machine": about} for part in parts}))
    print(*written, sep="\n")
    if failed:
        return 2
    return 0 if all(t.met or t.aim for part in parts for t in part.targets) else 1


def _results_name(plan: Plan, commit: str) -> str:
    if plan.quick:
        return "quick"
    name = f"{time.strftime('%Y-%m-%d', time.gmtime())}-{commit}"
    return name if plan.against is None else f"{name}-against-{plan.against.commit}"


if __name__ == "__main__":
    sys.exit(main())
