"""Whatever goes wrong, the promises hold; and what the simulator says of a seed, it says again.

Every commit runs seeds of its own, so that together they see ever more histories.
"""

import subprocess
from pathlib import Path

import pytest

from atoll.simulator.campaign import run_campaign
from atoll.simulator.plan import draw
from atoll.simulator.world import simulate

SEEDS = 300
PROCESSES = 2
SECONDS_MAX = 600
FIRST_SEED_DIGITS = 7


def first_seed() -> int:
    """Return the seed that the present commit stands for; without a history, always the same."""
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return int(told.stdout[:FIRST_SEED_DIGITS] or "0", 16)


@pytest.mark.timeout(SECONDS_MAX)
def test_the_promises_hold_for_the_seeds_of_this_commit() -> None:
    """No checker finds anything, and a tenth of what they saw was under a fault."""
    campaign = run_campaign(first_seed(), SEEDS, processes=PROCESSES)

    assert campaign.failed == {}, "atoll simulate --trace --first-seed SEED replays one"
    assert campaign.counts["reads"] > 1000 * SEEDS
    assert campaign.counts["reads: afflicted"] > campaign.counts["reads"] / 10


def test_one_seed_is_one_history() -> None:
    """Running a seed again gives the same answers at the same moments, in all places."""
    first, again, other = (simulate(draw(seed)) for seed in (11, 11, 12))

    assert first.digest == again.digest
    assert first.counts == again.counts
    assert first.digest != other.digest
