"""The nodes of a simulated world: they start, crash, freeze and start again."""

from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from atoll.central import Central, CentralSettings
from atoll.clock import SteadyTime
from atoll.core.limits import PRESETS
from atoll.simulator.clock import SimClock
from atoll.simulator.history import History, RecordedStore
from atoll.simulator.loop import Life, VirtualLoop
from atoll.simulator.plan import CENTRAL
from atoll.store.memory import MemoryStore
from atoll.upstream import Upstream


class Node(Protocol):
    """What faults are done to; see also `network.Server`."""

    name: str
    clock: SimClock

    @property
    def life(self) -> Life | None:
        """Its present life."""
        ...

    @property
    def upstream(self) -> Upstream | None:
        """What it serves."""
        ...

    def start(self) -> None:
        """Begin a life."""
        ...

    def crash(self) -> None:
        """End it, between any two instructions."""
        ...


@dataclass(slots=True)
class CentralNode:
    """The real central over a recorded store."""

    loop: VirtualLoop
    random: Random
    history: History
    clock: SimClock
    settings: CentralSettings
    store: MemoryStore
    name: str = CENTRAL
    life: Life | None = None
    upstream: Upstream | None = None
    recorded: RecordedStore | None = None
    serving: Central | None = None
    backup: MemoryStore | None = None
    _told: SteadyTime = field(init=False)

    def __post_init__(self) -> None:
        self._told = SteadyTime(self.clock)

    def start(self) -> None:
        """See `Node`."""
        assert self.life is None
        self.life = life = Life(self.name)
        self.recorded = RecordedStore(self.store, self.history, self.loop, self.random)
        self.serving = life.context.run(self._make, self.recorded)
        self.upstream = self.serving
        self.loop.create_task(self.serving.sweep_forever(), context=life.context.copy())

    def _make(self, store: RecordedStore) -> Central:
        return Central(store, clock=self.clock, limits=PRESETS["open"], settings=self.settings)

    def crash(self) -> None:
        """See `Node`."""
        if self.life is not None:
            life, self.life, self.upstream = self.life, None, None
            self.loop.end(life)

    def back_up(self) -> None:
        """Keep a copy of what is on the disk now."""
        self.backup = self.store.copy(incarnation=self.history.incarnation)

    def restore(self) -> None:
        """Put the backup in the place of what was on the disk; central is down meanwhile."""
        assert self.life is None
        if self.backup is not None:
            incarnation = self.history.restored(self.backup.position.sequence)
            self.store = self.backup.copy(incarnation=incarnation)

    def now_us(self) -> int:
        """Return central time as it was told by any of its lives, and went on from there."""
        return self._told.now_us()

    @property
    def own_us(self) -> int:
        """Central time as this life has it, which may have begun with a clock that was set back."""
        return self.now_us() if self.serving is None else self.serving.now_us()
