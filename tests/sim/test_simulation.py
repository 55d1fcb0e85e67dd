"""Whatever goes wrong, the promises hold; and what the simulator says of a seed, it says again."""

import pytest

from atoll.simulator.campaign import run_campaign
from atoll.simulator.plan import draw
from atoll.simulator.world import simulate

SEEDS_EACH = 6


@pytest.mark.parametrize("first", range(0, 5 * SEEDS_EACH, SEEDS_EACH))
def test_the_promises_hold_for_these_seeds(first: int) -> None:
    """No checker finds anything; `python -m atoll.simulator --first-seed N` replays a seed."""
    campaign = run_campaign(first, SEEDS_EACH)

    assert campaign.failed == {}
    assert campaign.counts["reads"] > 100 * SEEDS_EACH


def test_one_seed_is_one_history() -> None:
    """Running a seed again gives the same answers at the same moments, in all places."""
    first, again, other = (simulate(draw(seed)) for seed in (11, 11, 12))

    assert first.digest == again.digest
    assert first.counts == again.counts
    assert first.digest != other.digest
