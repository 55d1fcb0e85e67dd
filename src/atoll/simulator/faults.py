"""What goes wrong, at moments and in ways that the seed draws."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Final, Protocol, TypeAlias

from atoll.simulator.checks import Checker
from atoll.simulator.clock import US_PER_S
from atoll.simulator.disks import LocationDisk
from atoll.simulator.loop import VirtualLoop
from atoll.simulator.network import Network
from atoll.simulator.nodes import CentralNode, Node
from atoll.simulator.plan import CENTRAL, Plan
from atoll.simulator.weather import Weather

SHORT_S: Final = 2.0
LONG_S: Final = 20.0
HOUR_S: Final = 3600.0
PAUSE_S_MIN: Final = 2.0
"""A machine notices that it was paused for so long, not for less than a second."""
AFTERMATH_S: Final = 3.0
"""So long after it a fault still counts as met."""
EVERY_S: Final = 0.05
BACKUP_EVERY: Final = 4
"""A backup is taken at every so many faults."""

WITHOUT_PLACES: Final = frozenset(
    {"weather", "crash central", "restore", "set back", "step central", "disk full"}
)
"""What can go wrong where there is only central."""

Fault: TypeAlias = Callable[[], Awaitable[None]]


class Place(Node, Protocol):
    """A location, as faults see it."""

    above: tuple[str, ...]
    disk: LocationDisk

    def restart(self, *, cache_lost: bool, rebooted: bool) -> None:
        """Begin a new life after a crash."""
        ...

    def stop(self) -> None:
        """End its life in good order, unless it stands still."""
        ...

    def switch(self, above: tuple[str, ...]) -> None:
        """Read through another node from now on."""
        ...

    def flying(self, namespace: str, key: str) -> bool:
        """Whether a read of a key is on its way from it."""
        ...

    def evict(self, namespace: str, key: str) -> bool:
        """Ask it to evict a key; return whether it did."""
        ...


class Faults:
    """Does things to the nodes of a world."""

    def __init__(
        self,
        *,
        plan: Plan,
        loop: VirtualLoop,
        random: Random,
        network: Network,
        central: CentralNode,
        places: list[Place],
        checker: Checker,
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._random = random
        self._network = network
        self._central = central
        self._places = places
        self._checker = checker
        self._busy: dict[str, int] = {}
        self._felt: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self._told_us = 0
        self._told_at_s = 0.0
        """Central's time when it ended last, and when that was."""
        self._kinds: dict[str, Fault] = {
            "cut": self._cut,
            "weather": self._weather,
            "slow": self._slow,
            "freeze": self._freeze,
            "crash": partial(self._crash, rebooted=False),
            "reboot": partial(self._crash, rebooted=True),
            "crash central": self._crash_central,
            "restore": partial(self._crash_central, restored=True),
            "set back": partial(self._crash_central, set_back=True),
            "step": self._step,
            "step central": self._step_central,
            "break": self._break,
            "feed cut": self._feed_cut,
            "evict": self._evict,
            "evict much": self._evict_much,
            "disk full": self._disk_full,
            "journal disk": self._journal_disk,
            "switch": self._switch,
        }

    async def live(self) -> None:
        """Draw one fault after another, until cancelled."""
        kinds = {
            kind: weight
            for kind, weight in self._plan.faults
            if self._places or kind in WITHOUT_PLACES
        }
        if not kinds:
            return
        while True:
            pause_s = self._random.expovariate(1 / self._plan.fault_every_s)
            await self._pause(pause_s)
            kind = self._random.choices(list(kinds), list(kinds.values()))[0]
            # A backup from before a location registered lets central sweep what is newer than that
            # location's journal: so old a backup is the operator's to explain.
            registered = all(place.disk.journal.state.node is not None for place in self._places)
            if registered and self._random.random() < 1 / BACKUP_EVERY:
                self._central.back_up()
            self._checker.counts["faults: " + kind] += 1
            self._say(kind)
            task = asyncio.create_task(self._do(kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def heal(self) -> None:
        """Undo everything."""
        self._over = True
        for task in list(self._tasks):
            task.cancel()
        self._network.heal()
        for node in (self._central, *self._places):
            if node.life is not None:
                self._loop.thaw(node.life)
        if self._central.life is None:
            self._start_central()
        if self._central.recorded is not None:
            self._central.recorded.disk.full = 0.0
        for place in self._places:
            if place.life is None:
                place.restart(cache_lost=False, rebooted=False)
            place.disk.slow, place.disk.failing = False, 0.0
            self._mark(place)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual seconds

    def _say(self, what: str) -> None:
        self._checker.history.say(self._loop.time(), f"fault: {what}")

    def _duration_s(self) -> float:
        """Draw how long something stays wrong: mostly a moment, sometimes long."""
        return self._random.expovariate(1 / self._random.choice((SHORT_S, SHORT_S, LONG_S)))

    def _place(self) -> Place:
        return self._random.choice(self._places)

    def _mark(self, place: Place) -> None:
        """Tell the checker whether something is wrong with a place, for its counts."""
        state = self._checker.places[place.name]
        hops = list(zip((place.name, *place.above), place.above, strict=False))
        state.cut = any(self._network.is_cut(a, b) for a, b in hops) or self._central.life is None
        state.afflicted = state.cut or bool(self._busy)

    def _mark_all(self) -> None:
        for place in self._places:
            self._mark(place)

    async def _do(self, kind: str) -> None:
        self._busy[kind] = self._busy.get(kind, 0) + 1
        self._note(kind, 1)
        self._mark_all()
        try:
            await self._kinds[kind]()
        finally:
            self._busy[kind] -= 1
            if not self._busy[kind]:
                del self._busy[kind]
            self._loop.call_later(AFTERMATH_S, self._note, kind, -1)
            if not self._over:
                self._mark_all()

    def _note(self, kind: str, change: int) -> None:
        self._felt[kind] += change
        self._checker.coverage.set_active(tuple(sorted(+self._felt)))

    async def _cut(self) -> None:
        place = self._place()
        above = place.above[0]
        if self._network.is_cut(place.name, above):
            return
        self._network.cut(place.name, above, silent=self._random.random() < 0.5)  # noqa: PLR2004
        self._mark_all()
        self._say(f"cut {place.name} from {above}")
        await self._pause(self._duration_s())
        self._network.join(place.name, above)
        self._say(f"join {place.name} to {above}")

    async def _weather(self) -> None:
        draw = self._random.random
        self._network.weather = Weather(
            loss=draw() * 0.3, spikes=draw() * 0.3, breaks=draw() * 0.05, hangups=draw()
        )
        await self._pause(self._duration_s())
        self._network.weather = Weather()

    async def _slow(self) -> None:
        name = self._random.choice([place.name for place in self._places] + [CENTRAL])
        self._network.slow(name, self._random.choice((5.0, 50.0)))
        await self._pause(self._duration_s())
        self._network.slow(name, 1.0)

    async def _freeze(self) -> None:
        """Stop a process, let its machine sleep, or pause its virtual machine."""
        nodes: list[Node] = [*self._places, self._central]
        node = self._random.choice(nodes)
        life = node.life
        if life is None or life.frozen:
            return
        self._loop.freeze(life)
        self._say(f"freeze {node.name}")
        state = self._checker.places[node.name]
        state.frozen += 1
        began_s = self._loop.time()
        try:
            await self._pause(self._duration_s())
        finally:
            state.frozen -= 1
            state.frozen_until_s = self._loop.time()
        stood_s = self._loop.time() - began_s
        paused = life.alive and node is not self._central and self._random.random() < 0.3  # noqa: PLR2004
        if paused and stood_s > PAUSE_S_MIN:
            # A paused virtual machine: its elapsed clock did not count, its wall clock is right.
            node.clock.pause(stood_s)
            state.told_us = None
            self._checker.counts["machines paused"] += 1
            self._say(f"{node.name} did not count {stood_s:.3f} s")
        if life.alive:
            self._loop.thaw(life)
        self._say(f"thaw {node.name}")

    async def _crash(self, *, rebooted: bool) -> None:
        place = self._place()
        if not _is_up(place):
            return
        lost = self._random.random() < 0.3  # noqa: PLR2004
        if rebooted and not lost:
            place.stop()
        else:
            place.crash()
        self._network.break_sessions(place.name)
        await self._pause(self._duration_s())
        if not _is_up(place):
            place.restart(cache_lost=lost, rebooted=rebooted)

    async def _crash_central(self, *, restored: bool = False, set_back: bool = False) -> None:
        central = self._central
        if set_back:
            # Values expire at whole seconds: let some just have been seen to be gone.
            to_next_s = 1 - central.own_us % US_PER_S / US_PER_S
            await self._pause(to_next_s + self._random.random() * EVERY_S * 8)
        if not _is_up(central):
            return
        self._told_us, self._told_at_s = central.now_us(), self._loop.time()
        central.crash()
        self._network.break_sessions(CENTRAL)
        self._mark_all()
        await self._pause(0.0 if set_back else self._duration_s())
        if not _is_up(central):
            if restored:
                central.restore()
                for place in self._places:
                    self._checker.not_held(place.name)
            if set_back:
                central.clock.step(-HOUR_S)
                central.start()
            else:
                self._start_central()

    def _start_central(self) -> None:
        """Start central; whoever does that looks after its clock first."""
        clock = self._central.clock
        right_us = self._told_us + round((self._loop.time() - self._told_at_s) * US_PER_S)
        clock.step(max(0, right_us - clock.now_us()) / US_PER_S)
        self._central.start()

    async def _step_central(self) -> None:
        """Step central's wall clock while it runs."""
        if _is_up(self._central):
            self._central.clock.step(self._random.choice((-HOUR_S, -1.0, 1.0, 10.0)))
            # What central may tell from here on counts as told, also if it ends before we ask.
            self._central.now_us()

    async def _step(self) -> None:
        place = self._place()
        if place.life is None or not place.life.frozen:
            place.clock.step(self._random.choice((-HOUR_S, -1.0, 1.0, HOUR_S)))

    async def _break(self) -> None:
        self._network.break_sessions(self._place().name)

    async def _evict(self) -> None:
        """Evict several times in a row: only some will meet a key that is held."""
        for _ in range(self._random.choice((1, 3, 8))):
            place = self._place()
            at = (
                self._random.choice(self._plan.namespaces),
                self._random.choice(self._plan.keys),
            )
            self._evict_at(place, at)

    def _evict_at(self, place: Place, at: tuple[str, str]) -> None:
        if place.life is None:
            return
        if place.flying(*at):
            self._checker.counts["evictions beside a request in the air"] += 1
        if place.evict(*at):
            self._say(f"evict {at[1]} at {place.name}")
            self._checker.counts["evictions"] += 1
            self._checker.not_held(place.name, at)

    async def _evict_much(self) -> None:
        """Evict all the time, so that some evictions meet what is in the air."""
        until_s = self._loop.time() + self._duration_s()
        while self._loop.time() < until_s:
            await self._evict()
            await self._pause(self._random.expovariate(1 / EVERY_S))

    async def _feed_cut(self) -> None:
        """Let calls through, and no session."""
        place = self._place()
        above = place.above[0]
        self._network.cut_feed(place.name, above)
        self._say(f"cut the feed of {place.name} from {above}")
        await self._pause(self._duration_s())
        self._network.join_feed(place.name, above)
        self._say(f"join the feed of {place.name} to {above}")

    async def _disk_full(self) -> None:
        recorded = self._central.recorded
        if recorded is not None:
            recorded.disk.full = 0.3
            await self._pause(self._duration_s())
            recorded.disk.full = 0.0

    async def _journal_disk(self) -> None:
        """Let a location's disk be slow, or fail."""
        disk = self._place().disk
        disk.slow = True
        disk.failing = self._random.choice((0.0, 0.5))
        await self._pause(self._duration_s())
        disk.slow, disk.failing = False, 0.0

    async def _switch(self) -> None:
        """Let a location read through another node: central, or one that was there before it."""
        place = self._place()
        earlier = self._places[: self._places.index(place)]
        ways = [(CENTRAL,), *((other.name, *other.above) for other in earlier)]
        ways = [way for way in ways if way[0] != place.above[0]]
        if not ways:
            return
        way = self._random.choice(ways)
        above = () if len(way) == 1 or self._network.is_cut(*way[:2]) else way[:2]
        if above:
            # To a node that has been out of touch: what it holds is older than what was seen here.
            self._network.cut(*above, silent=False)
            self._mark_all()
            await self._pause(self._random.random() * SHORT_S * 2)
        if place.life is not None and place.life.frozen:
            # Nobody can tell a process that stands still, and its machine may, anything.
            if above:
                self._network.join(*above)
            return
        if _is_up(place) and self._random.random() < 0.5:  # noqa: PLR2004
            # As operators do it: by a setting, and a restart.
            place.crash()
            place.switch(way)
            place.restart(cache_lost=False, rebooted=False)
        else:
            place.switch(way)
        self._say(f"switch {place.name} to {place.above[0]}")
        self._network.break_sessions(place.name)
        everybody = (*(other.name for other in self._places), CENTRAL)
        for other in self._places:
            self._checker.places[other.name].above = everybody
        if above:
            for at in itertools.product(self._plan.namespaces, self._plan.keys):
                self._evict_at(place, at)
            await self._pause(self._duration_s())
            self._network.join(*above)


def _is_up(node: Node) -> bool:
    return node.life is not None
