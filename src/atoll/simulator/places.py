"""The locations of a simulated world: the real keeper over a disk that survives it."""

from dataclasses import dataclass, field
from random import Random

from atoll.core.limits import PRESETS
from atoll.location.keeper import Keeper
from atoll.simulator.checks import Checker
from atoll.simulator.clock import SimClock
from atoll.simulator.disks import LifeCache, LocationDisk
from atoll.simulator.loop import Life, VirtualLoop
from atoll.simulator.network import Link, Network
from atoll.upstream import Upstream


@dataclass(slots=True, kw_only=True)
class LocationNode:
    """See `faults.Place`."""

    name: str
    above: tuple[str, ...]
    loop: VirtualLoop
    random: Random
    network: Network
    checker: Checker
    clock: SimClock
    disk: LocationDisk = field(init=False)
    life: Life | None = None
    upstream: Upstream | None = None
    keeper: Keeper | None = None
    link: Link | None = None
    relayed_unheld: int = 0
    """Changes that it told those below of keys that it did not hold."""

    def __post_init__(self) -> None:
        self.disk = LocationDisk(self.random)

    def start(self) -> None:
        """See `nodes.Node`."""
        assert self.life is None
        self.life = life = Life(self.name)
        self.checker.restarted(self.name, now_s=self.loop.time())
        keeper = life.context.copy().run(self._make, life)
        self.keeper = self.upstream = keeper
        self.loop.create_task(keeper.run(), context=life.context.copy())

    def _make(self, life: Life) -> Keeper:
        self.link = self.network.link(self.name, self.above[0])
        return Keeper(
            self.name,
            self.link,
            cache=LifeCache(self.disk.cache, life),
            journal=self.disk.journal,
            clock=self.clock,
            boot=f"boot {self.clock.boot_id}",
            upstream_name=self.above[0],
            limits=PRESETS["open"],
        )

    def stop(self) -> None:
        """See `faults.Place`."""
        if self.keeper is not None and self.life is not None and not self.life.frozen:
            self.life.context.copy().run(self.keeper.close)
            self.checker.closed(self.name, now_s=self.loop.time())
        self.crash()

    def crash(self) -> None:
        """See `nodes.Node`."""
        if self.life is not None:
            self.checker.history.say(self.loop.time(), f"{self.name} crashes")
            self.checker.ended(self.name)
            life, self.life = self.life, None
            self.upstream = self.keeper = None
            self.loop.end(life)

    def restart(self, *, cache_lost: bool, rebooted: bool) -> None:
        """See `faults.Place`."""
        self.checker.history.say(self.loop.time(), f"{self.name}: {rebooted=} {cache_lost=}")
        self.disk.crash()
        if rebooted:
            self.clock.reboot(up_s=self.random.random() * 10)
            clean = not cache_lost
            self.disk.reboot(clean=clean)
        elif cache_lost:
            self.disk.cache.clear()
        if cache_lost:
            self.checker.not_held(self.name)
            self.checker.places[self.name].kept_us = None
        self.start()

    def switch(self, above: tuple[str, ...]) -> None:
        """See `faults.Place`."""
        self.above = above
        if self.keeper is not None and self.life is not None:
            self.link = self.network.link(self.name, above[0])
            self.life.context.copy().run(self.keeper.switch, self.link, above[0])

    def flying(self, namespace: str, key: str) -> bool:
        """See `faults.Place`."""
        return self.link is not None and self.link.flying(namespace, key)

    def relays(self, namespace: str, key: str) -> None:
        """Count a change that it sends down."""
        self.relayed_unheld += self.disk.cache.get(namespace, key) is None

    def evict(self, namespace: str, key: str) -> bool:
        """See `faults.Place`."""
        assert self.keeper is not None
        return self.keeper.evict(namespace, key)
