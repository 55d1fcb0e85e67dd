"""The world map: where locations are, and how they look on it."""

from dataclasses import dataclass
from typing import Final

from atoll.core.airports import SITES, Site
from atoll.oversight import Located

WIDTH: Final = 720.0
NORTH: Final = 74.0
"""The map's upper edge, in degrees; beyond it and the lower one there are no airports."""

BEHIND_MAX: Final = 1000
"""Changes that a location may be behind before that is worth a warning."""
FEED_AGE_MS_MAX: Final = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A place on the map, in the map's own measures."""

    x: float
    y: float
    name: str = ""
    state: str = ""
    left: bool = False
    """Whether its name stands to its left, for want of room."""


def _place(site: Site) -> tuple[float, float]:
    """Degrees are squares, two units wide."""
    return round((site.longitude + 180) * 2, 1), round((NORTH - site.latitude) * 2, 1)


LAND: Final = tuple(Dot(x=x, y=y) for x, y in map(_place, SITES.values()))


def is_on_map(located: Located) -> bool:
    """Whether a location is named after an airport that we know."""
    return located.registered.name[:3] in SITES


def dot_of(located: Located, state: str) -> Dot:
    """Return the dot of a location that is on the map."""
    name = located.registered.name
    x, y = _place(SITES[name[:3]])
    return Dot(x=x, y=y, name=name, state=state, left=x > WIDTH - 60)


def state_of(located: Located) -> tuple[str, str]:
    """Say how a location is: a word for programs and styles, and a sentence for people."""
    if located.said is None:
        return "unknown", "not heard since central started"
    if not located.is_connected:
        return "down", "cut off: nothing heard from it"
    status = located.said.status
    faults = {
        "writes were refused on delivery": status.journal_refused > 0,
        "delivering its journal": status.journal_entries > 0,
        "its feed is late": (status.feed_age_ms or 0) > FEED_AGE_MS_MAX
        or status.feed_age_ms is None,
        "behind central's changes": (located.said.behind or 0) > BEHIND_MAX,
    }
    fault = next((words for words, is_so in faults.items() if is_so), None)
    return ("good", "connected") if fault is None else ("warn", fault)
