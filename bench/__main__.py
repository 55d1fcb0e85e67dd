"""Runs the parts one after the other and writes what they found."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench import bulk, machine, pages, propagation, puts, stream
from bench.plan import Plan
from bench.process import BenchError
from bench.report import RESULTS, Part, as_json, markdown, save

PARTS: Final[Mapping[str, Callable[[Plan, Path], Part]]] = {
    "bulk": bulk.measure,
    "puts": puts.measure,
    "pages": pages.measure,
    "stream": stream.measure,
    "propagation": propagation.measure,
}
ROUNDS: Final = 5
PATIENCE_SECONDS: Final = 10.0


def main() -> int:
    """Return 0 if every target was met, 1 if one was not, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure Atoll.")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part (repeatable)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter; not to quote")
    parser.add_argument("--server", action="append", help="of the puts, only this (repeatable)")
    parser.add_argument("--folder", type=Path, help="where to put data; default is temporary")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        help=f"seconds that a turn may wait for a calm machine; default {PATIENCE_SECONDS:g}",
    )
    given = parser.parse_args()
    # Told to stop, it ends the servers that it started before it goes.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan = Plan(
        rounds=given.rounds,
        quick=given.quick,
        servers=frozenset(given.server or ()),
        patience_seconds=given.patience,
    )
    base: Path = given.folder or machine.ROOT / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = []
    written: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=base) as name:
        about = machine.facts(Path(name))
        day = time.strftime("%Y-%m-%d", time.gmtime())
        results = RESULTS / ("quick" if plan.quick else f"{day}-{about['commit']}")
        for part in given.only or PARTS:
            print(part, flush=True)
            folder = Path(name) / part
            folder.mkdir()
            try:
                parts.append(PARTS[part](plan, folder))
            except BenchError as error:
                print(f"bench: {error}", file=sys.stderr)
                return 2
            # At once: what comes next may take long, or fail.
            written = save(results, about, parts[-1])
            shutil.rmtree(folder)
    print(markdown({part.name: {**as_json(part), "machine": about} for part in parts}))
    print(*written, sep="\n")
    return 0 if all(t.met or t.aim for part in parts for t in part.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
