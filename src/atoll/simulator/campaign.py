"""Many seeds, on several processors, and whether they were hard enough to count.

A run that met no fault proves nothing, so a campaign states how often each kind of fault met each
kind of read, and for each there is a floor.
"""

import itertools
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from atoll.simulator.facts import Violation
from atoll.simulator.plan import draw
from atoll.simulator.world import Report, simulate

FLOORS_FROM_SEEDS: Final = 100
"""Fewer seeds than this are no sample to demand anything of."""

FLOORS: Final = {
    "reads": 500.0,
    "reads: asked of central": 100.0,
    "reads: missing": 150.0,
    "reads: expired": 10.0,
    "reads: at least a position": 50.0,
    "reads: at least a journal's place": 1.0,
    "reads: after a restart": 30.0,
    "reads: after eviction": 30.0,
    "reads: cut": 50.0,
    "reads: afflicted": 100.0,
    "reads: journaled": 50.0,
    "reads: order unknown": 0.3,
    "reads: stale": 8.0,
    "reads: age unknown": 0.2,
    "reads: through a tier": 60.0,
    "reads: after healing": 15.0,
    "lists": 8.0,
    "writes: at central": 60.0,
    "writes: journaled": 12.0,
    "writes: condition held": 6.0,
    "writes: condition failed": 6.0,
    "tombstones swept": 0.8,
    "evictions": 100.0,
    "calls: late": 1.0,
    "calls: lost": 3.0,
    "follower: echoes": 50.0,
    "follower: resumed": 0.2,
    "follower: started over": 0.4,
    "faults: restore": 0.05,
    "faults: switch": 0.1,
    "faults: journal disk": 0.3,
}
"""What must have been met, for each seed, on average."""

CHUNK_SEEDS: Final = 4


@dataclass(slots=True, kw_only=True)
class Campaign:
    """What a number of seeds found together."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    failed: dict[int, list[Violation]] = field(default_factory=dict[int, list[Violation]])

    @property
    def violations(self) -> int:
        """How many were kept."""
        return sum(map(len, self.failed.values()))

    def add(self, report: Report) -> None:
        """Take in one run."""
        self.seeds += 1
        self.counts.update(report.counts)
        if report.violations:
            self.failed[report.seed] = report.violations

    def shortfalls(self) -> list[str]:
        """Say what was met too seldom to count."""
        if self.seeds < FLOORS_FROM_SEEDS:
            return []
        return [
            f"{name}: {self.counts[name]} in {self.seeds} seeds, at least {floor * self.seeds:.0f}"
            for name, floor in FLOORS.items()
            if self.counts[name] < floor * self.seeds
        ]


def run_seed(seed: int) -> Report:
    """Run what one seed decides."""
    return simulate(draw(seed))


def run_seeds(first: int, count: int, *, processes: int) -> Iterator[Report]:
    """Run seeds in their order; whoever has seen enough may stop listening.

    Args:
        first: The first seed.
        count: How many.
        processes: How many at the same time; 1 runs them here.
    """
    seeds = range(first, first + count)
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=CHUNK_SEEDS)


def run_campaign(
    first: int, count: int, *, processes: int = 1, violations_max: int | None = None
) -> Campaign:
    """Run seeds, and stop early once enough violations were found.

    Args:
        first: The first seed.
        count: How many at most.
        processes: How many at the same time.
        violations_max: Stop behind the seed that reaches this; `None` never stops.
    """
    campaign = Campaign()
    for report in itertools.islice(run_seeds(first, count, processes=processes), count):
        campaign.add(report)
        if violations_max is not None and campaign.violations >= violations_max:
            break
    return campaign
