"""Many locations over real distances: how fast a change is seen with the feed, and without it."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from atoll.core.airports import SITES
from atoll.simulator.globe import PERCENTILE, TARGET_ALIVE_S, Seen, at_part, simulate_globe
from atoll.simulator.pictures import draw_all

LOCATIONS = 30
"""Beside central, where somebody looks as well."""


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Return what a world of some locations showed."""
    return simulate_globe(1, LOCATIONS, quick=True)


def test_a_change_is_seen_everywhere_in_time(seen: Seen) -> None:
    """In a second at the 99th percentile with the feed, within the bound without; all checked."""
    assert seen.violations == []
    assert at_part(seen.alive_s(), PERCENTILE) <= TARGET_ALIVE_S
    assert len(seen.alive_s()) == len(seen.alive) * (LOCATIONS + 1)
    assert len(seen.cut_s()) == len(seen.cut) * (LOCATIONS + 1)
    assert seen.checked > 0


def test_it_is_drawn(seen: Seen, tmp_path: Path) -> None:
    """Each picture is whole, says which command drew it, and shows every place on the map."""
    paths = draw_all(seen, tmp_path / "pictures", command="the command", with_world=True)

    for path in paths:
        texts = [element.text for element in ET.parse(path).iter()]  # noqa: S314 - ours
        assert "the command" in texts
    assert {path.name for path in paths} >= {"propagation.svg", "world.svg"}
    assert paths[-1].read_text().count(" ms</title>") == LOCATIONS + 1


def test_distances_are_those_of_the_globe() -> None:
    """London and New York lie 5,540 km apart, and the table has three hundred places or more."""
    assert round(SITES["LHR"] - SITES["JFK"], -1) == 5540
    assert len(SITES) >= 300
