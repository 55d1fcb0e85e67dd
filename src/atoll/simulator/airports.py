"""How long light in fibre takes between airports of the world, and drawing some of them."""

from random import Random
from typing import Final

from atoll.core.airports import SITES, Site

FIBRE_KM_PER_S: Final = 200_000.0
DETOUR: Final = 1.5
"""How much longer cables are than the shortest way over the globe, routers included."""
NEAREST_S: Final = 0.0005
"""Two nodes in one city are this far apart."""


def one_way_s(a: Site, b: Site) -> float:
    """Return the least time that a message takes from one site to another."""
    return max(NEAREST_S, (a - b) * DETOUR / FIBRE_KM_PER_S)


def draw_sites(random: Random, count: int) -> list[Site]:
    """Draw different sites. The first are where people expect a world to begin."""
    first = [SITES[code] for code in ("LHR", "IAD", "SIN")]
    others = [site for site in SITES.values() if site not in first]
    return [*first[:count], *random.sample(others, max(0, count - len(first)))]
