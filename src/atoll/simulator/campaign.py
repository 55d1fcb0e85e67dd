"""Many seeds, on several processors, and whether they were hard enough to count.

A run that met no fault proves nothing, so a campaign states how often each kind of fault met each
kind of read, and for each there is a floor.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from atoll.checking.coverage import CHECKERS
from atoll.checking.facts import Violation
from atoll.core.errors import ConfigError
from atoll.simulator.plan import FAULTS, draw
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
    "bulk reads": 5.0,
    "machines paused": 0.02,
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
    "faults: set back": 0.05,
    "faults: journal disk": 0.3,
    "seeds run twice": 0.04,
    "evictions beside a request in the air": 10.0,
    "repeats after an outcome was forgotten": 0.003,
    "changes relayed of keys not held": 3.0,
    **{f"{checker} under {fault}": 0.15 for checker in CHECKERS for fault in FAULTS},
}
"""What must have been met, for each seed, on average."""

REPEATED_EVERY: Final = 20
"""Of so many seeds one is run twice, and must be the same history."""

RECORDED_EVERY: Final = 20
"""After so many seeds what was found is kept in the file that was asked for."""

CHUNK_SEEDS: Final = 4


@dataclass(slots=True, kw_only=True)
class Campaign:
    """What a number of seeds found together."""

    first_seed: int = 0
    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    failed: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    @property
    def violations(self) -> int:
        """How many were kept."""
        return sum(map(len, self.failed.values()))

    def add(self, report: Report) -> None:
        """Take in one run."""
        self.seeds += 1
        self.counts.update(report.counts)
        if report.violations:
            self.failed[report.seed] = list(map(str, report.violations))

    def merge(self, other: "Campaign") -> None:
        """Take in what other seeds found."""
        self.seeds += other.seeds
        self.counts.update(other.counts)
        self.failed.update(other.failed)

    def shortfalls(self) -> list[str]:
        """Say what was met too seldom to count."""
        if self.seeds < FLOORS_FROM_SEEDS:
            return []
        return [
            f"{name}: {self.counts[name]} in {self.seeds} seeds, at least {floor * self.seeds:.0f}"
            for name, floor in FLOORS.items()
            if self.counts[name] < floor * self.seeds
        ]

    def document(self) -> dict[str, object]:
        """Return everything, for JSON."""
        return {
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "reads": self.counts["reads"],
            "reads_under_a_fault": self.counts["reads: afflicted"],
            "violations": self.violations,
            "failed": {str(seed): what for seed, what in sorted(self.failed.items())},
            "too_seldom": self.shortfalls(),
            "counts": dict(sorted(self.counts.items())),
        }


def save(campaign: Campaign, path: Path) -> None:
    """Write a campaign to a file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(campaign.document(), indent=2) + "\n")
    partial.replace(path)


def load(path: Path) -> Campaign:
    """Read a campaign that `save`, or `--json`, has written.

    Raises:
        ConfigError: The file holds something else.
    """
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            name="add", given=str(path), rule="no record of seeds", origin="command line"
        ) from error
    return Campaign(
        first_seed=kept.first_seed,
        seeds=kept.seeds,
        counts=Counter(kept.counts),
        failed=kept.failed,
    )


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a file."""

    first_seed: int
    seeds: int
    counts: dict[str, int]
    failed: dict[int, list[str]]


def run_seed(seed: int) -> Report:
    """Run what one seed decides, some of them twice."""
    report = simulate(draw(seed))
    if seed % REPEATED_EVERY == 0:
        again = simulate(draw(seed))
        if (again.digest, again.counts) != (report.digest, report.counts):
            text = "the seed was run twice and gave two histories"
            report.violations.append(Violation(promise="repeatability", at_s=0.0, what=text))
        report.counts["seeds run twice"] += 1
    return report


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
    first: int,
    count: int,
    *,
    processes: int = 1,
    violations_max: int | None = None,
    record: Path | None = None,
    progress: Callable[[Campaign], None] | None = None,
) -> Campaign:
    """Run seeds, and stop early once enough violations were found.

    Args:
        first: The first seed.
        count: How many at most.
        processes: How many at the same time.
        violations_max: Stop behind the seed that reaches this; `None` never stops.
        record: A file that holds what was found so far. If it is there, the seeds that it
            holds are not run again.
        progress: Told after each seed.

    Raises:
        ConfigError: The file is of other seeds, or no such file.
    """
    campaign = Campaign(first_seed=first)
    if record is not None and record.exists():
        campaign = load(record)
        if campaign.first_seed != first or campaign.seeds > count:
            raise ConfigError(
                name="record", given=str(record), rule="holds other seeds", origin="command line"
            )
    left = count - campaign.seeds
    for report in run_seeds(first + campaign.seeds, left, processes=processes):
        campaign.add(report)
        if progress is not None:
            progress(campaign)
        if record is not None and campaign.seeds % RECORDED_EVERY == 0:
            save(campaign, record)
        if violations_max is not None and campaign.violations >= violations_max:
            break
    if record is not None:
        save(campaign, record)
    return campaign
