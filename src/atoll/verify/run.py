"""Holds a running deployment to the promises: writes keys of its own, and reads them everywhere.

It asks as any client does, judges what elapses by its own clock, and knows of each request only
when it was sent and when it was answered. What no history explains is a violation, so a network
that delays or loses, a node that is killed or stands still, never make one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx

from atoll.checking.checks import Checker
from atoll.checking.facts import US_PER_S, Operation, PlaceState, Question
from atoll.clock import Clock
from atoll.core.errors import AtollError, RemoteError, UnavailableError
from atoll.core.model import CENTRAL_NAME, AtLeast, Reading, Written, parse_at_least
from atoll.core.version import Version
from atoll.verify.client import Asked, Place
from atoll.verify.evidence import SOMEWHERE, Evidence
from atoll.verify.measures import PlaceMeasures
from atoll.verify.report import Report
from atoll.verify.time import NOT_KNOWN_US, CentralTime

REWRITE_S: Final = 1.1
"""Between two writes of a key: more often is refused."""
REWRITE_S_MAX: Final = 3.0
DELETED: Final = 0.2
"""How many of the writes are deletions."""
READS_PER_WRITE: Final = 20
RACED: Final = 0.1
"""How many of the writes are two at once, at two places."""
AT_LEAST: Final = 0.15
"""How many of the reads name a position."""
MAX_STALE: Final = 0.5
"""How many of the other reads that set a bound take what is stale."""
WRITES_PER_KEY_MAX: Final = 400
"""After so many a key is given up for a new one, so that nothing grows for ever."""
IN_FLIGHT_MAX: Final = 32
"""How many questions wait at one place at a time."""
TOKENS_KEPT: Final = 16
LOOK_S: Final = 0.005
"""Between two looks whether a change has arrived."""
LOOK_S_MAX: Final = 60.0
DELIVERY_EVERY_S: Final = 0.5
DELIVERIES_ASKED_MAX: Final = 16
HELD_S: Final = 20.0
"""What was read so recently has not been evicted."""
STOPPING: Final = frozenset({"stopping", "unauthenticated", "not_arrived"})
"""Refusals that say nothing about what is held."""
BOUNDS_MS: Final = (None, None, None, 0, 0, 1000, 5000, 30_000)
CLEANUP_ATTEMPTS: Final = 20
CLEANUP_PAUSE_S: Final = 0.5
MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to ask, and for how long."""

    prefix: str
    """What the names of all keys begin with."""
    seconds: float | None
    """`None`: until it is told to stop."""
    rate: float = 100.0
    """Reads in a second, at all places together."""
    keys: int = 8
    ttl_s: int = 61
    """How long those keys live that expire."""
    bound_ms: int = 60_000
    """The bound of reads that set none."""
    refuses_stale: bool = False
    """Whether the namespace wants nothing that is past its bound."""
    settle_s: float = 65.0
    """How long places may take at the end until all show the same."""


@dataclass(slots=True, kw_only=True)
class _Slot:
    """One key that is written now and then."""

    name: str
    key: str
    expires: bool
    due_s: float = 0.0
    writes: int = 0
    busy: bool = False
    known: dict[str, float] = field(default_factory=dict[str, float])
    """When each place last answered."""


class Verifier:
    """One run."""

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        namespace: str,
        incarnation: int,
        options: Options,
        clock: Clock,
        random: Random,
    ) -> None:
        """Ask nothing yet.

        Args:
            places: Central among them, under that name.
            namespace: Where the keys are.
            incarnation: Central's.
            options: How much to ask.
            clock: What elapses is judged by it.
            random: Decides what is asked.
        """
        self.places = places
        self.options = options
        self.evidence = Evidence(incarnation)
        self.checker = Checker(self.evidence, incarnation=incarnation)
        self.measures = {name: PlaceMeasures() for name in places}
        self._namespace = namespace
        self._clock = clock
        self._random = random
        self._time = CentralTime()
        self._tokens: deque[tuple[str, str]] = deque(maxlen=TOKENS_KEPT)
        self._undelivered: dict[AtLeast, Operation] = {}
        self._written = 0
        self._generation = 0
        self._stop = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        """At each place, one that waits for a change to arrive."""
        self.began_anew = 0
        """How often central's store turned out to be another."""
        self.unsettled: list[str] = []
        """What could not be checked at the end, in words."""
        self.began_s = self._now_s()
        for name in places:
            others = tuple(other for other in places if other != name)
            self.checker.places[name] = PlaceState(
                above=() if name == CENTRAL_NAME else (*others, SOMEWHERE)
            )
        count = max(1, options.keys // 4)
        self._slots = [self._slot(f"k{number}", expires=False) for number in range(options.keys)]
        self._slots += [self._slot(f"t{number}", expires=True) for number in range(count)]

    def _now_s(self) -> float:
        return self._clock.elapsed_ms() / MS_PER_S

    def _slot(self, name: str, *, expires: bool) -> _Slot:
        return _Slot(name=name, key=self._new_key(name), expires=expires)

    def _new_key(self, name: str) -> str:
        self._generation += 1
        return f"{self.options.prefix}{name}.{self._generation}"

    # Running.

    def stop(self) -> None:
        """End the run; what is left to check at the end is checked."""
        self._stop.set()

    async def run(self) -> Report:
        """Ask until the time is over or `stop` is called; check what must hold then; clean up."""
        self.began_s = self._now_s()
        working = asyncio.create_task(self._work())
        stopping: asyncio.Task[None] = asyncio.create_task(self._stopped())
        try:
            await asyncio.wait(
                {stopping, working},
                timeout=self.options.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._stop.set()
            await working
            await self._settle()
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self.clean_up()
        return self.report()

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._write_forever())
            group.create_task(self._follow_journals())
            for name in self.places:
                group.create_task(self._read_forever(name))

    def report(self) -> Report:
        """Return what was found so far."""
        return Report(
            prefix=self.options.prefix,
            namespace=self._namespace,
            seconds=self._now_s() - self.began_s,
            places=self.measures,
            counts=self.checker.counts,
            violations=tuple(self.checker.violations),
            undelivered=len(self._undelivered),
            unsettled=tuple(self.unsettled),
            began_anew=self.began_anew,
        )

    async def clean_up(self) -> None:
        """Delete every key that was written."""
        for _ in range(CLEANUP_ATTEMPTS):
            try:
                await self.places[CENTRAL_NAME].delete_all(self.options.prefix)
            except AtollError:
                await self._clock.sleep(CLEANUP_PAUSE_S)
            else:
                return
        self.unsettled.append(
            f"central could not be asked to delete the keys that begin with {self.options.prefix}"
        )

    async def _at_a_pace(
        self, per_s: float, work: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Begin something so many times a second, but no more than so many at a time."""
        async with asyncio.TaskGroup() as group:
            doing: set[asyncio.Task[None]] = set()
            while not self._stop.is_set():
                await self._clock.sleep(self._random.expovariate(per_s))
                doing = {task for task in doing if not task.done()}
                if len(doing) < IN_FLIGHT_MAX:
                    doing.add(group.create_task(work()))

    # Reading.

    async def _read_forever(self, name: str) -> None:
        await self._at_a_pace(
            self.options.rate / len(self.places), lambda: self._read_something(name)
        )

    async def _read_something(self, name: str) -> None:
        random = self._random
        slot = random.choice(self._slots)
        key, at_least = slot.key, None
        if self._tokens and random.random() < AT_LEAST:
            key, at_least = random.choice(self._tokens)
            token = parse_at_least(at_least)
            # Where it has not arrived, the answer is kept back for a while.
            waits = token in self._undelivered and self._undelivered[token].place != name
            if waits and random.random() > AT_LEAST:
                at_least = None
        # A position that has not arrived is a refusal, unless what is stale would do.
        may_be_stale = at_least is None and random.random() < MAX_STALE
        asked = Asked(bound_ms=random.choice(BOUNDS_MS), max_stale=may_be_stale, at_least=at_least)
        await self.read(name, key, asked)

    async def read(self, name: str, key: str, asked: Asked) -> tuple[Question, Reading] | None:
        """Read one key at one place, and have the answer checked."""
        measures = self.measures[name]
        slot = next((one for one in self._slots if one.key == key), None)
        asked_s = self._now_s()
        if slot is None or asked_s - slot.known.get(name, 0.0) > HELD_S:
            self.checker.not_held(name, (self._namespace, key))
        question = self._question(name, key, asked, asked_s)
        try:
            reading = await self.places[name].read(key, asked)
        except UnavailableError:
            measures.counts["unavailable"] += 1
            # It may have been replaced by another process, or another machine.
            self.checker.not_held(name)
            self.checker.places[name].told_us = None
            return None
        except RemoteError as error:
            self._refused(question, error, slot)
            return None
        now_s = self._now_s()
        measures.answer.add(now_s - asked_s)
        if reading.node != CENTRAL_NAME:
            self.evidence.names[reading.node] = name
        if not reading.journaled and not self.evidence.knows(reading.position.incarnation):
            self._begin_anew(reading.position.incarnation)
            return None
        if slot is None or slot not in self._slots or slot.key != key:
            return None  # It was given up meanwhile.
        self.checker.answered(question, reading, now_s=now_s, central_us=self._time.most_us(now_s))
        self.evidence.read(self._namespace, key, reading, now_s=now_s)
        slot.known[name] = now_s
        self._measure(question, reading, asked_s)
        return question, reading

    def _question(self, name: str, key: str, asked: Asked, asked_s: float) -> Question:
        central_us = self._time.least_us(asked_s)
        return self.checker.asking(
            name,
            self._namespace,
            key,
            now_s=asked_s,
            central_us=central_us,
            bound_ms=self.options.bound_ms if asked.bound_ms is None else asked.bound_ms,
            at_least=None if asked.at_least is None else parse_at_least(asked.at_least),
            must_refuse_stale=self.options.refuses_stale
            or (asked.bound_ms is not None and not asked.max_stale),
        )

    def _refused(self, question: Question, error: RemoteError, slot: _Slot | None) -> None:
        counts = self.measures[question.place].counts
        counts["refused"] += 1
        counts["refused, " + error.remote_code] += 1
        # Over a pin, and after an expiration, there is something to ask of the keeper first.
        plain = slot is not None and not slot.expires and not question.pins
        if plain and error.remote_code not in STOPPING:
            self.checker.refused(question, error, now_s=self._now_s())

    def _measure(self, question: Question, reading: Reading, asked_s: float) -> None:
        measures = self.measures[question.place]
        measures.counts["answered"] += 1
        for name, met in (
            ("stale", reading.stale),
            ("journaled", reading.journaled),
            ("missing", reading.entry is None),
            ("order unknown", reading.order_unknown),
            ("age unknown", reading.age_ms is None),
        ):
            if met:
                measures.counts[name] += 1
        measures.counts[reading.cache.value] += 1
        if reading.journaled:
            return
        state = self.checker.places[question.place]
        if reading.order_unknown:
            self.checker.not_held(question.place)
        if reading.age_ms is not None:
            measures.age.add(reading.age_ms / MS_PER_S)
            if not reading.stale:
                state.told(self._time.least_us(asked_s), asked_s)
        spans = self.evidence.shown(self._namespace, question.key, reading)
        if spans and spans[-1].until_s < asked_s:
            measures.behind.add(asked_s - spans[-1].until_s)

    def _begin_anew(self, incarnation: int) -> None:
        """Give up all keys: central's store was restored or replaced by another."""
        self.began_anew += 1
        self.evidence.incarnation = incarnation
        self._undelivered.clear()
        for slot in self._slots:
            self._give_up(slot)

    def _give_up(self, slot: _Slot) -> None:
        self.evidence.forget(self._namespace, slot.key)
        self.checker.forget(self._namespace, slot.key)
        slot.key = self._new_key(slot.name)
        slot.writes = 0
        slot.known.clear()
        self._tokens.clear()

    # Writing.

    async def _write_forever(self) -> None:
        per_s = min(float(len(self._slots)), self.options.rate / READS_PER_WRITE)
        await self._at_a_pace(per_s, self._write_something)

    async def _write_something(self) -> None:
        now_s = self._now_s()
        due = [slot for slot in self._slots if not slot.busy and slot.due_s <= now_s]
        if not due:
            return
        random = self._random
        slot = random.choice(due)
        if slot.writes >= WRITES_PER_KEY_MAX and not self._awaits_delivery(slot.key):
            with contextlib.suppress(AtollError):
                await self.places[CENTRAL_NAME].write(slot.key, None, expiration=None)
            self._give_up(slot)
        slot.busy = True
        count = min(2 if random.random() < RACED else 1, len(self.places))
        try:
            written = await asyncio.gather(
                *(self._write(name, slot) for name in random.sample(list(self.places), count))
            )
        finally:
            slot.busy = False
        pause_s = random.uniform(REWRITE_S, REWRITE_S_MAX)
        if slot.expires:
            pause_s += random.choice((0, self.options.ttl_s + 2))
        slot.due_s = self._now_s() + pause_s
        for operation in written:
            if operation is not None and operation.value is not None:
                self._look_everywhere(slot.key, operation)

    def _awaits_delivery(self, key: str) -> bool:
        return any(operation.key == key for operation in self._undelivered.values())

    async def _write(self, name: str, slot: _Slot) -> Operation | None:
        """Write one key, and have the answer checked; return what central acknowledged."""
        operation = self._operation(name, slot)
        if operation is None:
            return None
        self.checker.writing(operation)
        self.evidence.wanted(operation)
        counts = self.measures[name].counts
        try:
            written = await self.places[name].write(
                slot.key, operation.value, expiration=operation.expiration
            )
        except UnavailableError:
            counts["writes unanswered"] += 1
            return None
        except RemoteError as error:
            counts["writes refused"] += 1
            if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                self.evidence.refused(operation)
            return None
        if operation.incarnation != self.evidence.incarnation or operation.key != slot.key:
            return None
        return self._written_at(operation, written)

    def _operation(self, name: str, slot: _Slot) -> Operation | None:
        """Think of a write; of none, where it should expire and nobody has said what time it is."""
        asked_s = self._now_s()
        self._written += 1
        slot.writes += 1
        deletes = self._random.random() < DELETED
        value = None if deletes else f"{slot.key} {self._written}".encode()
        expiration = None
        if slot.expires and value is not None:
            most_us = self._time.most_us(asked_s)
            if most_us == NOT_KNOWN_US:
                return None
            expiration = most_us // US_PER_S + self.options.ttl_s
        return Operation(
            place=name,
            namespace=self._namespace,
            key=slot.key,
            value=value,
            expiration=expiration,
            condition=None,
            asked_s=asked_s,
        )

    def _written_at(self, operation: Operation, written: Written) -> Operation | None:
        """Have the answer to a write checked; return it if central has acknowledged it."""
        now_s = self._now_s()
        if written.token is None and not self.evidence.knows(written.position.incarnation):
            self._begin_anew(written.position.incarnation)
            return None
        self.evidence.accepted(operation, written, now_s=now_s)
        self.checker.acknowledged(operation, written, now_s=now_s)
        self._tokens.append((operation.key, str(written.token or written.position)))
        counts = self.measures[operation.place].counts
        counts["writes journaled" if written.journaled else "writes"] += 1
        if written.token is not None:
            self._undelivered[written.token] = operation
            return None
        version = Version(int(written.outcomes[0].version))
        self._time.stamped(version, asked_s=operation.asked_s, answered_s=now_s)
        return operation

    def _look_everywhere(self, key: str, operation: Operation) -> None:
        """Look at each place until it shows a write; at one write at a time."""
        assert self._group is not None
        for name in self.places:
            look = self._looks.get(name)
            if name != CENTRAL_NAME and (look is None or look.done()):
                self._looks[name] = self._group.create_task(self._look(name, key, operation))

    async def _look(self, name: str, key: str, operation: Operation) -> None:
        assert operation.answered_s is not None
        assert operation.version is not None
        pause_s = LOOK_S
        while not self._stop.is_set():
            took_s = self._now_s() - operation.answered_s
            answer = await self.read(name, key, Asked())
            shown = None if answer is None else answer[1]
            if shown is not None and self._has(shown, key, operation.version):
                self.measures[name].lag.add(self._now_s() - operation.answered_s)
                return
            if took_s > LOOK_S_MAX:
                return
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)

    def _has(self, reading: Reading, key: str, version: int) -> bool:
        """Whether an answer shows a write of central's, or a later one."""
        if reading.journaled:
            return False
        if reading.entry is not None:
            return reading.entry.version >= version
        spans = self.evidence.shown(self._namespace, key, reading)
        return bool(spans) and spans[0].row.version >= version

    # Journals, and the end.

    async def _follow_journals(self) -> None:
        """Ask central for what was journaled, until it has that."""
        while not self._stop.is_set():
            await self._clock.sleep(DELIVERY_EVERY_S)
            await self._ask_for_deliveries()

    async def _ask_for_deliveries(self) -> None:
        for token, operation in list(self._undelivered.items())[:DELIVERIES_ASKED_MAX]:
            asked = Asked(at_least=str(token))
            if await self.read(CENTRAL_NAME, operation.key, asked) is not None:
                self._undelivered.pop(token, None)

    async def _settle(self) -> None:
        """Wait until journals are delivered and every place shows what central has."""
        deadline_s = self._now_s() + self.options.settle_s / 2
        while self._undelivered and self._now_s() < deadline_s:
            await self._ask_for_deliveries()
            await self._clock.sleep(DELIVERY_EVERY_S)
        async with asyncio.TaskGroup() as group:
            for slot in self._slots:
                for name in self.places:
                    group.create_task(self._settle_at(name, slot.key))

    async def _settle_at(self, name: str, key: str) -> None:
        """Read one key at one place until it is what central has."""
        there: tuple[Question, Reading] | None = None
        last: tuple[Question, Reading] | None = None
        deadline_s = self._now_s() + self.options.settle_s / 2
        while self._now_s() < deadline_s:
            there = await self.read(CENTRAL_NAME, key, Asked(bound_ms=0))
            last = await self.read(name, key, Asked())
            if there is not None and last is not None:
                self.evidence.ended(self._namespace, key, there[1])
                if _same(there[1], last[1]):
                    break
            await self._clock.sleep(DELIVERY_EVERY_S)
        if there is None or last is None or last[1].stale or last[1].journaled:
            self.unsettled.append(f"{name} could not be asked at the end for what central has")
            return
        self.checker.converged(*last, now_s=self._now_s())


def _same(one: Reading, other: Reading) -> bool:
    """Whether two places show the same, and neither of them something weaker."""
    if any(reading.stale or reading.journaled for reading in (one, other)):
        return False
    shown = [None if reading.entry is None else reading.entry.version for reading in (one, other)]
    return shown[0] == shown[1]


async def incarnation_of(central: Place, prefix: str) -> int:
    """Ask central which life of its store this is.

    Raises:
        AtollError: It does not answer, or refuses.
    """
    return (await central.read(f"{prefix}nothing", Asked())).position.incarnation
