"""One run: a world is built from a plan, things go wrong in it, it heals, and must be right."""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Final

import structlog
from structlog.typing import EventDict

from atoll.central import CentralSettings
from atoll.checking.facts import PlaceState, Violation
from atoll.core.model import Mutation, Read
from atoll.core.session import Changed
from atoll.simulator.airports import NEAREST_S, one_way_s
from atoll.simulator.checks import Checker
from atoll.simulator.clients import Client, Notes
from atoll.simulator.clock import SimClock
from atoll.simulator.ending import check_history
from atoll.simulator.faults import Faults
from atoll.simulator.follower import Follower
from atoll.simulator.history import History
from atoll.simulator.loop import VirtualLoop, run
from atoll.simulator.network import Network
from atoll.simulator.nodes import CentralNode
from atoll.simulator.places import LocationNode
from atoll.simulator.plan import CENTRAL, Plan
from atoll.store.memory import MemoryStore

CLIENT_DELAY_S: Final = 0.0003
FOLLOWER: Final = "follower"
CHECK_BOUNDS_MS: Final = (None, 1000, 0)
VISIBLE_S_MAX: Final = 1.5
LOOK_EVERY_S: Final = 0.05
LOOK_S_MAX: Final = 10.0
ROUNDS_PER_DELIVERY: Final = 5
LOGGED_ERRORS_MAX: Final = 5


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run found."""

    seed: int
    digest: int = 0
    """Equal for equal histories."""
    violations: list[Violation] = field(default_factory=list[Violation])
    counts: Counter[str] = field(default_factory=Counter[str])
    trace: list[str] = field(default_factory=list[str])


class World:
    """Nodes, clients and faults of one run."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.history = History()
        self.checker = Checker(self.history)
        self.notes = Notes()
        self.network = Network(
            loop, self._random("network"), delay_s=self._delay_s, grain_s=plan.grain_s
        )
        self.central = CentralNode(
            loop=loop,
            random=self._random("disk"),
            history=self.history,
            clock=SimClock(loop),
            settings=CentralSettings(log_rows_max=plan.log_rows_max),
            store=MemoryStore(incarnation=1),
        )
        names = (CENTRAL, *(location.name for location in plan.locations))
        sites = dict(zip(names, plan.sites, strict=False))
        self._legs_s = {(a, b): one_way_s(sites[a], sites[b]) for a in sites for b in sites}
        self.places: list[LocationNode] = []
        self.network.add(self.central)
        self.checker.places[CENTRAL] = PlaceState()
        for location in plan.locations:
            place = LocationNode(
                name=location.name,
                above=location.above,
                loop=loop,
                random=self._random(location.name),
                network=self.network,
                checker=self.checker,
                clock=SimClock(loop, rate=location.rate, ahead_s=location.ahead_s),
            )
            self.places.append(place)
            self.network.add(place)
            self.checker.places[place.name] = PlaceState(above=place.above)
        self.network.on_echo = self._echoed
        self.network.on_change = self._relayed
        self.clients: list[Client] = []
        for name in (CENTRAL, *(place.name for place in self.places)):
            for number in range(plan.clients):
                self.clients.append(self._client(name, number))

    def _random(self, purpose: str) -> Random:
        """Return a generator of its own, so that one part's draws do not move another's."""
        return Random(f"{purpose} {self.plan.seed}")

    def _delay_s(self, origin: str, target: str) -> float:
        calm = self.network.calm
        if origin in calm or target in calm:
            return CLIENT_DELAY_S
        if not self._legs_s:
            return self.plan.delay_s
        return self._legs_s.get((origin, target), NEAREST_S)

    def _client(self, place: str, number: int) -> Client:
        host = f"client {number} at {place}"
        self.network.calm.add(host)
        return Client(
            place=place,
            link=self.network.link(host, place),
            loop=self.loop,
            random=self._random(host),
            plan=self.plan,
            checker=self.checker,
            central=self.central,
            notes=self.notes,
        )

    def _echoed(self, origin: str, central_us: int | None) -> None:
        state = self.checker.places.get(origin)
        if state is not None and central_us is not None:
            state.told(central_us, self.loop.time())

    def _relayed(self, origin: str, change: Changed) -> None:
        for place in self.places:
            if place.name == origin:
                place.relays(change.namespace, change.entry.key)

    # The run.

    async def live(self) -> Report:
        """Run through both phases."""
        self.central.start()
        for place in self.places:
            place.start()
        faults = Faults(
            plan=self.plan,
            loop=self.loop,
            random=self._random("faults"),
            network=self.network,
            central=self.central,
            places=list(self.places),
            checker=self.checker,
        )
        follower = Follower(
            link=self.network.link(FOLLOWER, CENTRAL),
            loop=self.loop,
            clock=SimClock(self.loop),
            checker=self.checker,
            namespaces=self.plan.namespaces,
        )
        living = [asyncio.create_task(client.live()) for client in self.clients]
        following = asyncio.create_task(follower.live())
        failing = asyncio.create_task(faults.live())
        await self._wait(self.plan.safety_s, [*living, following, failing])
        await self._cancel([*living, failing])
        await faults.heal()
        await self._wait(self.plan.settle_s + self._delivery_s(), [following])
        await self._check_healed()
        await self._cancel([following])
        check_history(self.checker, now_s=self.loop.time())
        return self._report()

    def _delivery_s(self) -> float:
        """Return how long journals may take to be delivered, entry by entry."""
        entries = [len(place.disk.journal.entries) * len(place.above) for place in self.places]
        return sum(entries) * ROUNDS_PER_DELIVERY * self.plan.delay_s

    async def _wait(self, seconds: float, tasks: list[asyncio.Task[None]]) -> None:
        """Let time pass; a task that ends by an error ends the run."""
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            await task

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # After the healing.

    async def _check_healed(self) -> None:
        """Everybody can be asked, agrees with central, and hears of a change at once."""
        for client in self.clients[:: self.plan.clients]:
            for namespace in self.plan.namespaces:
                for key in self.plan.keys:
                    await self._check_key(client, namespace, key)
        for namespace in self.plan.namespaces:
            await self._check_visible(namespace, self.plan.keys[0])

    async def _check_key(self, client: Client, namespace: str, key: str) -> None:
        for bound_ms in CHECK_BOUNDS_MS:
            request = Read(namespace=namespace, keys=(key,), age_ms_max=bound_ms, stale_ms_max=0)
            answer = await client.read(request)
            if answer is None:
                self.checker.violated(
                    "convergence",
                    self.loop.time(),
                    f"{client.place} cannot answer {key} with bound {bound_ms} after the healing",
                )
            else:
                self.checker.converged(*answer, now_s=self.loop.time())

    async def _check_visible(self, namespace: str, key: str) -> None:
        """A change reaches every place that holds the key in about a second."""
        writer, *readers = self.clients[:: self.plan.clients]
        mutation = Mutation(key=key, value=self.notes.new_value())
        operation = await writer.write(namespace, mutation)
        if operation.version is None:
            self.checker.violated(
                "convergence", self.loop.time(), "central takes no write after the healing"
            )
            return
        await asyncio.gather(
            *(self._check_seen(reader, namespace, key, operation.version) for reader in readers)
        )

    async def _check_seen(self, client: Client, namespace: str, key: str, version: int) -> None:
        began_s = self.loop.time()
        while True:
            answer = await client.read(Read(namespace=namespace, keys=(key,)))
            took_s = self.loop.time() - began_s
            entry = None if answer is None else answer[1].entry
            if entry is not None and entry.version >= version:
                break
            if took_s > LOOK_S_MAX:
                break
            await asyncio.sleep(LOOK_EVERY_S)  # noqa: TID251 - virtual seconds
        self.checker.counts["changes seen"] += 1
        if took_s > VISIBLE_S_MAX:
            self.checker.violated(
                "propagation",
                self.loop.time(),
                f"{client.place} showed a change of {key} after {took_s:.1f} s",
            )

    def _report(self) -> Report:
        traffic = self.network.traffic
        for fault in traffic.faults:
            self.checker.violated("errors", self.loop.time(), fault)
        if traffic.flights_most > 1:
            self.checker.violated(
                "one fetch", self.loop.time(), f"{traffic.flights_most} fetches of a key at a time"
            )
        counts = self.checker.counts
        counts.update(self.checker.coverage.counts())
        counts["repeats after an outcome was forgotten"] += self.history.repeats_forgotten
        counts["changes relayed of keys not held"] += sum(
            place.relayed_unheld for place in self.places
        )
        counts["calls"] += traffic.calls
        counts["calls: lost"] += traffic.lost
        counts["calls: refused"] += traffic.refused
        counts["calls: late"] += traffic.late
        counts["sessions"] += traffic.sessions
        counts["sessions: broken"] += traffic.broken
        counts["commits"] += self.history.commits
        counts["tombstones swept"] += self.history.sweeps_removed
        counts["callbacks"] += self.loop.callbacks
        return Report(
            seed=self.plan.seed,
            digest=self.notes.digest,
            violations=self.checker.violations,
            counts=counts,
            trace=self.history.trace or [],
        )


@contextmanager
def alone() -> Generator[list[str]]:
    """Let nothing but the seed decide what happens, and yield a list of the errors logged."""
    errors: list[str] = []

    def kept(_logger: object, _method: str, event: EventDict) -> EventDict:
        errors.append(" ".join(f"{name}={value}" for name, value in sorted(event.items())))
        raise structlog.DropEvent

    configured = structlog.get_config()
    structlog.configure(
        processors=[kept],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    # A collection would finish forgotten generators at a moment that the seed does not decide.
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield errors
    finally:
        structlog.configure(**configured)
        if collecting:
            gc.enable()
        gc.collect()


def simulate(plan: Plan, *, trace: bool = False) -> Report:
    """Run one plan and report.

    Args:
        plan: What to run.
        trace: Whether to keep a line for each answer.
    """

    async def main(loop: VirtualLoop) -> Report:
        world = World(plan, loop)
        if trace:
            world.history.trace = []
        return await world.live()

    with alone() as errors:
        report = copy_context().run(run, main, Random(f"loop {plan.seed}"))
    report.violations += [
        Violation(promise="errors", at_s=plan.safety_s, what=text)
        for text in errors[:LOGGED_ERRORS_MAX]
    ]
    return report
