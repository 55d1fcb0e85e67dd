"""Many locations over real distances: how fast a change is seen with the feed, and without it."""

from atoll.simulator.airports import SITES
from atoll.simulator.globe import PERCENTILE, TARGET_ALIVE_S, at_part, simulate_globe

LOCATIONS = 30
"""Beside central, where somebody looks as well."""


def test_a_change_is_seen_everywhere_in_time() -> None:
    """In a second at the 99th percentile with the feed, within the bound without; all checked."""
    seen = simulate_globe(1, LOCATIONS, quick=True)

    assert seen.violations == []
    assert at_part(seen.alive_s(), PERCENTILE) <= TARGET_ALIVE_S
    assert len(seen.alive_s()) == len(seen.alive) * (LOCATIONS + 1)
    assert len(seen.cut_s()) == len(seen.cut) * (LOCATIONS + 1)
    assert seen.checked > 0


def test_distances_are_those_of_the_globe() -> None:
    """London and New York lie 5,540 km apart, and the table has three hundred places or more."""
    assert round(SITES["LHR"] - SITES["JFK"], -1) == 5540
    assert len(SITES) >= 300
