"""`python -m atoll.simulator`: run seeds and say what was found.

It exits with 1 if a promise was broken, and names the seeds that show it; with 2 if the runs were
too easy to count.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from atoll.simulator.campaign import Campaign, run_campaign
from atoll.simulator.plan import draw
from atoll.simulator.world import simulate

EXIT_VIOLATED: Final = 1
EXIT_TOO_EASY: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atoll.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="how many at the same time")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    parser.add_argument("--trace", action="store_true", help="one seed: print every answer")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = parser.parse_args(arguments)
    if chosen.trace:
        return _trace(chosen.first_seed)
    campaign = run_campaign(
        chosen.first_seed,
        chosen.seeds,
        processes=chosen.processes,
        violations_max=1 if chosen.stop else None,
    )
    shortfalls = campaign.shortfalls()
    _print(campaign, shortfalls, as_json=chosen.json)
    if campaign.failed:
        return EXIT_VIOLATED
    return EXIT_TOO_EASY if shortfalls else 0


def _trace(seed: int) -> int:
    """Run one seed again and print what everybody was told."""
    report = simulate(draw(seed), trace=True)
    lines = [*report.trace, *map(str, report.violations)]
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_VIOLATED if report.violations else 0


def _print(campaign: Campaign, shortfalls: list[str], *, as_json: bool) -> None:
    if as_json:
        document = {
            "seeds": campaign.seeds,
            "reads": campaign.counts["reads"],
            "violations": campaign.violations,
            "failed": {seed: list(map(str, what)) for seed, what in campaign.failed.items()},
            "too_seldom": shortfalls,
            "counts": dict(sorted(campaign.counts.items())),
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    lines = [f"{name:32} {count}" for name, count in sorted(campaign.counts.items())]
    for seed, violations in campaign.failed.items():
        lines += [f"seed {seed}: {violation}" for violation in violations]
    lines += [f"too seldom: {text}" for text in shortfalls]
    lines.append(
        f"{campaign.seeds} seeds, {campaign.counts['reads']} reads checked,"
        f" {campaign.violations} violations"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
