"""A world of many locations over real distances: how fast a change is seen everywhere.

First every feed is alive, then every feed is cut while questions still get through, then it heals.
Somebody at each place reads all the time; writes come from everywhere, and after each one somebody
at each place looks until it is seen.
"""

import asyncio
from bisect import bisect_right
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Final

from atoll.checking.facts import Question, Violation
from atoll.core.airports import Site
from atoll.core.model import CacheStatus, Mutation, Read, Reading
from atoll.simulator.airports import draw_sites, one_way_s
from atoll.simulator.clients import Client
from atoll.simulator.loop import VirtualLoop, run
from atoll.simulator.plan import CENTRAL, NAMESPACES, LocationPlan, Plan
from atoll.simulator.world import World, alone

WARM_S: Final = 20.0
ALIVE_S: Final = 60.0
CUT_S: Final = 180.0
HEALED_S: Final = 30.0
TARGET_ALIVE_S: Final = 1.0
"""While the feed is alive a change is visible everywhere within this, at the 99th percentile."""
TARGET_CUT_S: Final = 60.0
"""With every feed cut, always within this, and the time that the asking takes."""
ASKING_S_MAX: Final = 1.0
LOOK_ALIVE_S: Final = 0.01
LOOK_CUT_S: Final = 0.5
WRITES_ALIVE: Final = 40
WRITES_CUT: Final = 6
KEYS: Final = 20
PERCENTILE: Final = 0.99
CENTRAL_SITE: Final = 1
"""Which of the drawn sites is central's; the second is IAD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One read, for the pictures."""

    at_s: float
    took_s: float
    hit: bool
    stale: bool
    age_s: float


@dataclass(slots=True, kw_only=True)
class Spread:
    """One write, and when each place showed it."""

    origin: str
    seen_s: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds after central had accepted it."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a world of many locations showed."""

    sites: dict[str, Site]
    reads: list[Asked] = field(default_factory=list[Asked])
    alive: list[Spread] = field(default_factory=list[Spread])
    cut: list[Spread] = field(default_factory=list[Spread])
    cut_from_s: float = 0.0
    cut_until_s: float = 0.0
    checked: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])

    def alive_s(self) -> list[float]:
        """Return how long changes took to be seen while the feed was alive, in order."""
        return sorted(seconds for spread in self.alive for seconds in spread.seen_s.values())

    def cut_s(self) -> list[float]:
        """Return the same for the time when every feed was cut."""
        return sorted(seconds for spread in self.cut for seconds in spread.seen_s.values())

    def numbers(self) -> dict[str, float]:
        """Return what the run showed, by name, in seconds where nothing else is said."""
        alive_s, cut_s = self.alive_s(), self.cut_s()
        return {
            "places": len(self.sites),
            "reads": self.checked,
            "writes": len(self.alive) + len(self.cut),
            "alive_median_s": round(at_part(alive_s, 0.5), 3),
            "alive_p99_s": round(at_part(alive_s, PERCENTILE), 3),
            "alive_most_s": round(alive_s[-1], 3),
            "cut_most_s": round(cut_s[-1], 1),
        }


def at_part(ordered: list[float], part: float) -> float:
    """Return the value below which a part of them lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def part_below(ordered: list[float], bound: float) -> float:
    """Return which part of them is at most `bound`."""
    return bisect_right(ordered, bound) / len(ordered) if ordered else 0.0


class Globe:
    """See the module."""

    def __init__(self, world: World, sites: dict[str, Site], *, quick: bool) -> None:
        self._world = world
        self._loop = world.loop
        self._random = Random(f"globe {world.plan.seed}")
        self._share = 0.25 if quick else 1.0
        self.seen = Seen(sites=sites)

    async def live(self) -> Seen:
        """Run through the phases."""
        world = self._world
        world.central.start()
        for place in world.places:
            place.start()
        reading = [asyncio.create_task(self._read(client)) for client in world.clients]
        await self._pause(WARM_S)
        await self._phase(ALIVE_S * self._share, WRITES_ALIVE, self.seen.alive, LOOK_ALIVE_S)
        for place in world.places:
            world.network.cut_feed(place.name, CENTRAL)
        self.seen.cut_from_s = self._loop.time()
        await self._phase(CUT_S * max(self._share, 0.5), WRITES_CUT, self.seen.cut, LOOK_CUT_S)
        self.seen.cut_until_s = self._loop.time()
        world.network.heal()
        await self._pause(HEALED_S)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        self.seen.checked = world.checker.counts["reads"]
        self.seen.violations = [*world.checker.violations, *self._broken()]
        return self.seen

    def _broken(self) -> list[Violation]:
        alive_s, cut_s = at_part(self.seen.alive_s(), PERCENTILE), self.seen.cut_s()[-1]
        found: list[Violation] = []
        if alive_s > TARGET_ALIVE_S:
            text = f"{alive_s:.3f} s at the 99th percentile with the feed alive"
            found.append(Violation(promise="propagation", at_s=self._loop.time(), what=text))
        if cut_s > TARGET_CUT_S + ASKING_S_MAX:
            text = f"{cut_s:.3f} s with every feed cut"
            found.append(Violation(promise="propagation", at_s=self._loop.time(), what=text))
        return found

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual seconds

    async def _phase(
        self, seconds: float, writes: int, spreads: list[Spread], look_s: float
    ) -> None:
        """Write from one place after another, and watch each write spread."""
        until_s = self._loop.time() + seconds
        writes = max(2, int(writes * self._share))
        watching: list[asyncio.Task[None]] = []
        for number in range(writes):
            writer = self._random.choice(self._world.clients)
            key = self._world.plan.keys[number % KEYS]
            watching.append(asyncio.create_task(self._watch(writer, key, spreads, look_s)))
            await self._pause(seconds / writes / 2)
        await asyncio.gather(*watching)
        await self._pause(max(0.0, until_s - self._loop.time()))

    async def _watch(self, writer: Client, key: str, spreads: list[Spread], look_s: float) -> None:
        mutation = Mutation(key=key, value=self._world.notes.new_value())
        spread = Spread(origin=writer.place)
        spreads.append(spread)
        looks = [self._look(client, mutation, spread, look_s) for client in self._world.clients]
        await asyncio.gather(writer.write(NAMESPACES[0], mutation), *looks)

    async def _look(
        self, client: Client, mutation: Mutation, spread: Spread, look_s: float
    ) -> None:
        """Ask from the sending of a change until it is seen, which must come to an end."""
        rows = self._world.history.key(NAMESPACES[0], mutation.key).rows
        until_s = self._loop.time() + 2 * TARGET_CUT_S
        while self._loop.time() < until_s:
            answer = await client.read(Read(namespace=NAMESPACES[0], keys=(mutation.key,)))
            entry = None if answer is None else answer[1].entry
            made = [row for row in rows if row.value == mutation.value]
            if made and entry is not None and entry.version >= made[0].version:
                spread.seen_s[client.place] = self._loop.time() - made[0].at_s
                return
            await self._pause(look_s)
        spread.seen_s[client.place] = self._loop.time() - (until_s - 2 * TARGET_CUT_S)

    async def _read(self, client: Client) -> None:
        """Read now and then, some keys more than others."""
        while True:
            await self._pause(self._random.expovariate(1 / self._world.plan.think_s))
            key = self._world.plan.keys[min(KEYS - 1, int(self._random.expovariate(0.3)))]
            began_s = self._loop.time()
            answer = await client.read(Read(namespace=NAMESPACES[0], keys=(key,)))
            if answer is not None:
                self._note(began_s, *answer)

    def _note(self, began_s: float, _question: Question, reading: Reading) -> None:
        self.seen.reads.append(
            Asked(
                at_s=began_s,
                took_s=self._loop.time() - began_s,
                hit=reading.cache in {CacheStatus.HIT, CacheStatus.NEGATIVE},
                stale=reading.stale,
                age_s=(reading.age_ms or 0) / 1000,
            )
        )


def _plan(seed: int, sites: list[Site]) -> Plan:
    """Plan a world in which nothing goes wrong by itself."""
    central, *others = sites
    return Plan(
        seed=seed,
        locations=tuple(
            LocationPlan(name=site.code, above=(CENTRAL,), rate=1.0, ahead_s=0.0) for site in others
        ),
        keys=tuple(f"k{number}" for number in range(KEYS)),
        namespaces=NAMESPACES[:1],
        clients=1,
        think_s=1.0,
        safety_s=0.0,
        settle_s=0.0,
        fault_every_s=1.0,
        delay_s=max(one_way_s(central, site) for site in others),
        sites=tuple(sites),
        grain_s=0.0,
        log_rows_max=100_000,
        writes=0.0,
        written_at="",
        lull_s=0.0,
        faults=(),
    )


def simulate_globe(seed: int, locations: int, *, quick: bool = False) -> Seen:
    """Run a world of so many locations, with central at one of them.

    Args:
        seed: Decides where they are, and all else.
        locations: How many.
        quick: Shorter phases and fewer writes, for a test.
    """
    drawn = draw_sites(Random(f"sites {seed}"), locations)
    central = drawn[min(CENTRAL_SITE, len(drawn) - 1)]
    plan = _plan(seed, [central, *drawn])

    async def main(loop: VirtualLoop) -> Seen:
        return await Globe(World(plan, loop), {CENTRAL: central, **by_code}, quick=quick).live()

    by_code = {site.code: site for site in drawn}
    with alone():
        return copy_context().run(run, main, Random(f"loop {seed}"))
