"""From a seed to a world: which nodes, how far apart, how often what goes wrong."""

from dataclasses import dataclass
from random import Random
from typing import Final

from atoll.checking.facts import DRIFT_MAX
from atoll.core.airports import Site
from atoll.simulator.airports import draw_sites, one_way_s

CENTRAL: Final = "central"
NAMESPACES: Final = ("a" * 32, "b" * 32)
KEYS: Final = ("k1", "k2", "k3", "k4", "k5")

FAULTS: Final = {
    "cut": 10,
    "weather": 6,
    "slow": 3,
    "freeze": 3,
    "crash": 5,
    "reboot": 3,
    "crash central": 3,
    "restore": 1,
    "step": 2,
    "step central": 1,
    "break": 5,
    "feed cut": 6,
    "evict": 10,
    "evict much": 6,
    "disk full": 1,
    "journal disk": 2,
    "switch": 2,
}
"""How often each kind of fault is drawn, in comparison."""

FETCHING: Final = {"evict": 8, "slow": 1}

FOCUSES: Final[tuple[dict[str, int], ...]] = (
    {"switch": 6, "feed cut": 8, "evict much": 6, "cut": 2},
    {"evict much": 8, "feed cut": 8, "slow": 4},
    FETCHING,
    {"set back": 5, "crash central": 3, "step central": 2},
    {"evict much": 8, "crash": 6, "cut": 6, "journal disk": 3},
    {"restore": 3, "crash central": 3, "cut": 4, "feed cut": 3},
    {"reboot": 5, "freeze": 5, "step": 5, "weather": 3},
)
"""What some seeds are about: kinds of faults that are seldom met together by chance."""

LULL_S: Final = 2.5

ALONE: Final = "set back"
"""What central is alone in: a location that heard of its time is ahead of it from then on."""

HOT_PART: Final = 0.5
"""How many of those seeds have one key only, which everybody writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationPlan:
    """One location."""

    name: str
    above: tuple[str, ...]
    """Its upstreams, nearest first, central last."""
    rate: float
    """How many seconds its clocks count for a true one."""
    ahead_s: float
    """How far its wall clock is ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a seed decides before a run begins."""

    seed: int
    locations: tuple[LocationPlan, ...]
    keys: tuple[str, ...]
    namespaces: tuple[str, ...]
    clients: int
    """At each place."""
    think_s: float
    """Mean pause of a client."""
    safety_s: float
    """How long things go wrong."""
    settle_s: float
    """How long after the healing everything must be right."""
    fault_every_s: float
    """Mean time between faults."""
    delay_s: float
    """The most that is the least time between two nodes."""
    sites: tuple[Site, ...]
    """Where central and then each location is, if distances count; else all are as far apart."""
    grain_s: float
    """Messages arrive at multiples of this; 0 for whenever."""
    log_rows_max: int
    writes: float
    """The part of what clients ask that writes."""
    written_at: str
    """The one place where clients write, so that others live by what they fetch and are told;
    empty for everywhere."""
    lull_s: float
    """For so long everybody writes, and for as long nobody does, so that what went wrong in between
    is not written over before it is read; 0 for no lulls."""
    faults: tuple[tuple[str, int], ...]


def draw(seed: int, *, locations: int | None = None) -> Plan:
    """Draw a plan.

    Args:
        seed: Decides everything.
        locations: How many locations; `None` to draw that too.
    """
    random = Random(f"plan {seed}")
    count = random.choice((1, 2, 2, 3, 3, 4)) if locations is None else locations
    sites = draw_sites(random, count + 1)
    random.shuffle(sites)
    drawn: list[LocationPlan] = []
    for name in (site.code for site in sites[1:]):
        above: tuple[str, ...] = (CENTRAL,)
        if drawn and random.random() < 0.5:  # noqa: PLR2004 - a fair coin
            parent = random.choice(drawn)
            above = (parent.name, *parent.above)
        drawn.append(
            LocationPlan(
                name=name,
                above=above,
                rate=1 + random.uniform(-DRIFT_MAX, DRIFT_MAX) * random.choice((0, 1)),
                ahead_s=random.choice((0.0, 0.0, 2.0, -2.0, 3600.0, -3600.0)),
            )
        )
    hot = fetching = False
    one_writer = random.random() < 0.15  # noqa: PLR2004
    weights = {kind: weight for kind, weight in FAULTS.items() if random.random() < 0.7}  # noqa: PLR2004
    if random.random() < 0.15:  # noqa: PLR2004 - some runs are quiet
        weights = {}
    elif random.random() < 0.4:  # noqa: PLR2004
        weights = random.choice(FOCUSES)
        hot = random.random() < HOT_PART
        fetching = weights == FETCHING
        one_writer = one_writer or fetching
        if ALONE in weights:
            drawn.clear()
    delay_s, counted = random.choice((0.002, 0.02, 0.1)), random.random() < 0.5  # noqa: PLR2004
    if counted:
        delay_s = max(one_way_s(a, b) for a in sites for b in sites)
    return Plan(
        seed=seed,
        locations=tuple(drawn),
        keys=KEYS[: 1 if hot else random.choice((1, 2, 3, 3, 5))],
        namespaces=NAMESPACES[: 1 if hot else random.choice((1, 1, 2))],
        clients=3 if hot else random.choice((1, 2, 3)),
        think_s=0.1 if hot or fetching else random.choice((0.1, 0.2, 0.5)),
        safety_s=random.choice((30.0, 60.0, 90.0)),
        settle_s=100.0,
        fault_every_s=1.0 if fetching else random.choice((1.0, 3.0, 8.0)),
        delay_s=delay_s,
        sites=tuple(sites) if counted else (),
        grain_s=random.choice((0.0, 0.0, 0.001, 0.02)),
        log_rows_max=random.choice((10, 50, 1000)),
        writes=0.4 if hot else random.choice((0.05, 0.2, 0.4)),
        written_at=CENTRAL if one_writer else "",
        lull_s=LULL_S if one_writer or (hot and random.random() < HOT_PART) else 0.0,
        faults=tuple(weights.items()),
    )
