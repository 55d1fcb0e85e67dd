"""Writes: up to central while it can be reached, into the journal when it cannot, and from there.

A direct write has a deadline in central time. If no answer came, it goes to the journal only once
this location's own central time has passed the deadline: from then on central refuses the first
copy, should it still be on its way. Both carry one identity, so it is applied once whatever
happens, and every answer, to a first copy or a repeat, teaches the cache what the key is now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

import structlog

from atoll.clock import Clock
from atoll.core.errors import (
    AtollError,
    DeadlinePassedError,
    OutcomeForgottenError,
    StoreError,
    UnavailableError,
)
from atoll.core.limits import Limits
from atoll.core.location_errors import (
    CutOffError,
    JournalFullError,
    LocationForgottenError,
    LocationUnknownError,
    OutcomeUnknownError,
    UnreachableError,
)
from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Batch,
    Entry,
    Identity,
    JournalToken,
    Mutation,
    Outcome,
    OutcomeKind,
    Written,
)
from atoll.core.rules import RewriteLimiter
from atoll.core.session import JournalEmpty
from atoll.core.version import NO_VERSION, HybridClock, Version, version_at
from atoll.location.journal import Journal, Journaled, Refused
from atoll.location.knowledge import Knowledge, version_known
from atoll.location.link import Link
from atoll.location.pins import Place
from atoll.registry import Registered

IDENTITY_BYTES: Final = 8
IDENTITIES_RESERVED: Final = 1000
"""How many numbers are reserved on disk at a time."""

PAST_DEADLINE_S: Final = 0.001
"""How much longer than until a deadline one waits at least."""

US_PER_S: Final = 1_000_000
MS_PER_S: Final = 1000

DIRECT_ATTEMPTS: Final = 2
"""A write that came too late is sent once more, with what was learnt of central's time."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSettings:
    """How long writes wait."""

    deadline_us: int = 2_000_000
    """How far ahead of central time the deadline of a direct write lies."""
    answer_s: float = 1.0
    """How much longer than that its answer is waited for."""
    retry_s: float = 1.0
    """Between attempts to deliver, and to register."""
    delivery_s: float = 3.0
    """How long the answer to a delivery is waited for."""
    empty_us: int = 5_000_000
    """How often, in central time, it is said that the journal is empty: each time is one fsync."""
    queue_s: float = 2.0
    """How long a conditional write waits behind journaled writes of its keys."""


class _Unanswered(Enum):
    """A write that was not answered, and will not be applied directly from now on."""

    NEW = auto()
    """It was not applied either."""
    SENT = auto()
    """It may have been."""


class Writes:
    """Everything that goes up from here, and the journal."""

    def __init__(
        self,
        knowledge: Knowledge,
        link: Link,
        journal: Journal,
        *,
        clock: Clock,
        limits: Limits,
        settings: WriteSettings,
        registering: Callable[[], Awaitable[tuple[Registered, Version]]],
    ) -> None:
        """Write through `link`, and learn from the answers.

        Args:
            knowledge: What answers teach, and where journaled writes are shown.
            link: The upstream.
            journal: Where writes go that central cannot be asked about.
            clock: What waits are timed by.
            limits: The rule of one write a second per key.
            settings: How long writes wait.
            registering: Registers this location; see `registry.register`.
        """
        self._knowledge = knowledge
        self._link = link
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._registering = registering
        self._rewrites = RewriteLimiter(limits.rewrite_interval_ms)
        self._next_identity = journal.state.identities_reserved + 1
        self._reserving = asyncio.Lock()
        self._pending: set[int] = set()
        self._appending = 0
        self._journaled = asyncio.Event()
        self._delivered = asyncio.Event()
        self._empty_said_us = 0
        self._to_say: JournalEmpty | None = None
        self._background: set[asyncio.Task[Written]] = set()
        self._saying: set[asyncio.Task[None]] = set()

    @property
    def registered(self) -> bool:
        """Whether this location may journal: central has given it a node id."""
        return self._journal.state.node is not None

    # Writes that arrive.

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        places = [(batch.namespace, mutation.key) for mutation in batch.mutations]
        with self._knowledge.in_air(places):
            if batch.identity is not None and batch.identity.lowest_unresolved is not None:
                return await self._forward(batch)
            if not batch.mutations:
                return await self._send(batch, timeout_s=self._settings.answer_s)
            return await self._own(batch, places)

    async def _forward(self, batch: Batch) -> Written:
        """Pass on what a location below wrote. What fails is its to journal, not ours.

        Raises:
            CutOffError: Our own upstream did not answer.
        """
        self._knowledge.stamps.observe(batch.clock)
        timeout_s = self._settings.deadline_us / US_PER_S + self._settings.answer_s
        try:
            return await self._send(batch, timeout_s=timeout_s)
        except UnreachableError as error:
            raise CutOffError(detail="the write was not passed on", sent=error.sent) from error

    async def _send(self, batch: Batch, *, timeout_s: float, patient: bool = False) -> Written:
        """Send a batch up and learn what the answer says of its keys."""
        stamps = self._knowledge.stamps
        batch = replace(batch, clock=max(batch.clock, stamps.last))
        sent_ms = self._knowledge.time.elapsed_ms()
        written = await self._link.call(
            lambda upstream: upstream.write(batch), timeout_s=timeout_s, patient=patient
        )
        if not written.journaled and batch.mutations:
            made = [await self._held(entry) for entry in _entries(batch.mutations)]
            outcomes = [
                replace(one, current=one.current and await self._held(one.current))
                for one in written.outcomes
            ]
            learnt = replace(written, outcomes=outcomes)
            self._knowledge.learn_written(batch.namespace, learnt, made, sent_ms=sent_ms)
        return written

    async def _held(self, entry: Entry) -> Entry:
        """Have a large value kept as a cache keeps it."""
        value = entry.value
        if value is None or (isinstance(value, bytes) and len(value) <= VALUE_INLINE_BYTES_MAX):
            return entry
        return replace(entry, value=await self._knowledge.cache.hold(value))

    async def _own(self, batch: Batch, places: Sequence[Place]) -> Written:
        """Write for a client of this location."""
        plain = batch.identity is None and all(m.condition is None for m in batch.mutations)
        if not (plain and batch.journal_allowed and self._can_journal()):
            return await self._never_journaled(batch, places)
        number = await self._number()
        try:
            answer = await self._direct(batch, number) if self._link.usable else _Unanswered.NEW
        except BaseException:
            self._pending.discard(number)
            raise
        if isinstance(answer, Written):
            self._pending.discard(number)
            return answer
        # To the end, even if whoever asked goes away meanwhile: it may be on disk by then.
        task = asyncio.create_task(self._take(batch, number))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        try:
            return await asyncio.shield(task)
        except (JournalFullError, StoreError) as error:
            if answer is _Unanswered.SENT:
                raise OutcomeUnknownError from error
            raise

    def _can_journal(self) -> bool:
        """Whether a write could be stamped here."""
        return self.registered and self._knowledge.time.central_us() is not None

    async def _direct(self, batch: Batch, number: int) -> "Written | _Unanswered":
        """Send a plain write.

        Returns:
            The answer. Or that there is none, and that central will not apply this copy any more.
        """
        time = self._knowledge.time
        for _ in range(DIRECT_ATTEMPTS):
            deadline_us = (time.central_us() or 0) + self._settings.deadline_us
            try:
                return await self._send(
                    replace(batch, identity=self._identity(number), deadline_us=deadline_us),
                    timeout_s=self._settings.deadline_us / US_PER_S + self._settings.answer_s,
                )
            except DeadlinePassedError as error:
                # It was not applied, and says what the time is: ours may have stood still.
                time.heard(deadline_us + error.late_us)
                continue
            except OutcomeForgottenError:
                raise
            except (UnreachableError, CutOffError) as error:
                if not error.sent:
                    return _Unanswered.NEW
            except UnavailableError as error:
                # It may have been applied before whatever went wrong.
                log.debug("write_unanswered", location=self._knowledge.name, reason=str(error))
            await self._past(deadline_us)
            return _Unanswered.SENT
        return _Unanswered.NEW

    async def _never_journaled(self, batch: Batch, places: Sequence[Place]) -> Written:
        """Send what only central can decide, behind what is journaled for its keys.

        Raises:
            CutOffError: It was not sent.
            OutcomeUnknownError: It was sent, and no answer came.
        """
        await self._queue_behind(places)
        number: int | None = None
        if batch.identity is None:
            number = await self._number()
            batch = replace(batch, identity=self._identity(number))
        now_us = self._knowledge.time.central_us()
        if now_us is not None and batch.deadline_us is None:
            batch = replace(batch, deadline_us=now_us + self._settings.deadline_us)
        try:
            timeout_s = self._settings.deadline_us / US_PER_S + self._settings.answer_s
            return await self._send(batch, timeout_s=timeout_s)
        except (UnreachableError, CutOffError) as error:
            if error.sent:
                raise OutcomeUnknownError from error
            raise CutOffError(detail="only central can decide this write") from error
        except DeadlinePassedError as error:
            raise CutOffError(detail="the write came too late and was not applied") from error
        finally:
            if number is not None:
                self._pending.discard(number)

    async def _queue_behind(self, places: Sequence[Place]) -> None:
        """Wait until nothing is journaled for any of the keys.

        Raises:
            CutOffError: It took too long.
        """
        until_ms = self._clock.elapsed_ms() + int(self._settings.queue_s * MS_PER_S)
        while any(self._knowledge.pins.holds(place) for place in places):
            left_ms = until_ms - self._clock.elapsed_ms()
            if left_ms <= 0 or not self._link.usable:
                raise CutOffError(detail="earlier writes of the key wait to be delivered")
            self._delivered.clear()
            alarm = asyncio.ensure_future(self._clock.sleep(left_ms / MS_PER_S))
            delivered = asyncio.ensure_future(self._delivered.wait())
            try:
                await asyncio.wait({alarm, delivered}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
                delivered.cancel()

    async def _past(self, deadline_us: int) -> None:
        """Wait until central time, as known here, is past a deadline."""
        while True:
            now_us = self._knowledge.time.central_us() or 0
            if now_us > deadline_us:
                return
            await self._clock.sleep((deadline_us - now_us) / US_PER_S + PAST_DEADLINE_S)

    # Identities.

    async def _number(self) -> int:
        """Give a write its number, never given before, also not before a restart."""
        async with self._reserving:
            state = self._journal.state
            if self._next_identity > state.identities_reserved:
                reserved = state.identities_reserved + IDENTITIES_RESERVED
                await self._journal.update(lambda old: replace(old, identities_reserved=reserved))
            number = self._next_identity
            self._next_identity += 1
            self._pending.add(number)
            return number

    def _identity(self, number: int) -> Identity:
        """Name a batch for central, and say what all is resolved."""
        unresolved = [*self._pending, *(entry.identity for entry in self._journal.entries)]
        lowest = min([self._next_identity, *unresolved])
        return Identity(
            origin=self._knowledge.journal_name,
            name=number.to_bytes(IDENTITY_BYTES, "big"),
            lowest_unresolved=lowest.to_bytes(IDENTITY_BYTES, "big"),
        )

    # The journal.

    async def _take(self, batch: Batch, number: int) -> Written:
        """Stamp a write, make it durable here, and show it."""
        now_us, heard_us = self._knowledge.time.central_us(), self._knowledge.time.heard_us
        assert now_us is not None
        counted: list[str] = []
        self._appending += 1
        try:
            counted = self._count(batch)
            stamped = self._stamped(batch, now_us)
            with self._knowledge.in_air((batch.namespace, one.key) for one in stamped):
                entry = await self._journal.append(
                    Journaled(
                        sequence=0,
                        identity=number,
                        namespace=batch.namespace,
                        mutations=stamped,
                        heard_us=heard_us or now_us,
                    )
                )
                self._knowledge.pin(entry)
        except BaseException:
            for key in counted:
                self._rewrites.release(batch.namespace, key)
            raise
        finally:
            self._appending -= 1
            self._pending.discard(number)
        self._journaled.set()
        return Written(
            outcomes=[
                Outcome(kind=OutcomeKind.APPLIED, version=made.version)
                for made in _entries(stamped)
            ],
            position=self._knowledge.position,
            token=JournalToken(location=self._knowledge.journal_name, sequence=entry.sequence),
        )

    def _count(self, batch: Batch) -> list[str]:
        """Count the keys against the rule of one write a second; see `RewriteLimiter.accept`."""
        counted: list[str] = []
        if batch.rate_limited:
            now_ms = self._clock.elapsed_ms()
            try:
                for key in {mutation.key: None for mutation in batch.mutations}:
                    self._rewrites.accept(batch.namespace, key, now_ms)
                    counted.append(key)
            except AtollError:
                for key in counted:
                    self._rewrites.release(batch.namespace, key)
                raise
        return counted

    def _stamped(self, batch: Batch, now_us: int) -> tuple[Mutation, ...]:
        """Stamp the mutations, later than everything known of their keys."""
        knowledge = self._knowledge
        for mutation in batch.mutations:
            held = knowledge.held((batch.namespace, mutation.key))
            knowledge.stamps.observe(version_known(held))
        stamps = knowledge.stamps.tick_many(now_us, len(batch.mutations))
        return tuple(
            mutation._replace(stamp=stamps[i]) for i, mutation in enumerate(batch.mutations)
        )

    # Delivering.

    async def deliver(self) -> None:
        """Register, and deliver what is journaled, in order, until cancelled."""
        while True:
            self._journaled.clear()
            entries = self._journal.entries
            try:
                await self._register()
                if entries:
                    await self._deliver(entries[0])
            except LocationForgottenError as error:
                await self._set_aside(error)
                await self._clock.sleep(self._settings.retry_s)
                continue
            except AtollError as error:
                log.debug("delivery_put_off", location=self._knowledge.name, reason=str(error))
                await self._clock.sleep(self._settings.retry_s)
                continue
            if not entries:
                await self._journaled.wait()

    async def _register(self) -> None:
        """Get a node id, once for each incarnation of central."""
        state = self._journal.state
        incarnation = self._knowledge.incarnation
        if state.node is not None and state.registered_in == incarnation:
            return
        registered, version = await self._registering()
        stamps = HybridClock(node=registered.node, floor=self._knowledge.stamps.last)
        stamps.observe(version)
        self._knowledge.stamps = stamps
        incarnation = self._knowledge.incarnation
        await self._journal.update(
            lambda old: replace(old, node=registered.node, registered_in=incarnation)
        )

    async def _deliver(self, entry: Journaled) -> None:
        """Deliver one entry, learn what became of it, and take it out."""
        batch = Batch(
            namespace=entry.namespace,
            mutations=entry.mutations,
            identity=self._identity(entry.identity),
            token=JournalToken(location=self._knowledge.journal_name, sequence=entry.sequence),
            heard_us=entry.heard_us,
            journal_allowed=False,
        )
        refused: Refused | None = None
        with self._knowledge.in_air((entry.namespace, one.key) for one in entry.mutations):
            try:
                await self._send(batch, timeout_s=self._settings.delivery_s, patient=True)
            except LocationForgottenError:
                raise
            except LocationUnknownError:
                await self._journal.update(lambda old: replace(old, registered_in=None))
                raise
            except (UnavailableError, StoreError) as error:
                if not isinstance(error, OutcomeForgottenError):
                    raise
                refused = Refused(entry=entry, code=error.code, reason=str(error))
            except AtollError as error:
                refused = Refused(entry=entry, code=error.code, reason=str(error))
            await self._resolve(entry, refused)

    async def _resolve(self, entry: Journaled, refused: Refused | None) -> None:
        """Take an entry out of the journal: its outcome is known."""
        if refused is not None:
            log.warning("journaled_write_refused", location=self._knowledge.name, code=refused.code)
        await self._journal.resolve(entry.sequence, refused)
        self._knowledge.unpin(entry)
        self._delivered.set()

    async def _set_aside(self, error: LocationForgottenError) -> None:
        """Give up the journal of a location that was forgotten; nothing more is taken into it."""
        try:
            await self._journal.update(lambda old: replace(old, node=None, registered_in=None))
            while self._journal.entries:
                entry = self._journal.entries[0]
                await self._resolve(entry, Refused(entry=entry, code=error.code, reason=str(error)))
        except StoreError as failed:
            log.debug("journal_not_saved", location=self._knowledge.name, reason=str(failed))

    def say_empty(self) -> JournalEmpty | None:
        """Say, now and then, that whatever will be delivered is stamped later than now.

        What is said must outlive a restart, so the floor of later stamps is made durable first:
        it is said with the heartbeat after that.
        """
        said, self._to_say = self._to_say, None
        now_us = self._knowledge.time.central_us()
        if (
            said is None
            and now_us is not None
            and now_us >= self._empty_said_us + self._settings.empty_us
            and self.registered
            and not self._journal.entries
            and not self._appending
        ):
            self._empty_said_us = now_us
            # From here on whatever is journaled is stamped later.
            self._knowledge.stamps.observe(version_at(now_us, 0))
            task = asyncio.create_task(self._prepare_empty(now_us))
            self._saying.add(task)
            task.add_done_callback(self._saying.discard)
        return said

    async def _prepare_empty(self, as_of_us: int) -> None:
        """Make durable that nothing older than this will be stamped."""
        floor = version_at(as_of_us, 0)
        try:
            await self._journal.update(
                lambda old: replace(old, stamp_floor=max(old.stamp_floor, floor))
            )
        except StoreError as error:
            log.debug("journal_not_saved", location=self._knowledge.name, reason=str(error))
            return
        self._to_say = JournalEmpty(location=self._knowledge.name, as_of_us=as_of_us)


def _entries(mutations: Iterable[Mutation]) -> list[Entry]:
    """Make the entries that mutations become when applied."""
    return [
        Entry(
            key=mutation.key,
            version=mutation.stamp or NO_VERSION,
            value=mutation.value,
            metadata=mutation.metadata,
            expiration=mutation.expiration,
        )
        for mutation in mutations
    ]
