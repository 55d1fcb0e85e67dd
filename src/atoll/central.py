"""Central: the node that stamps versions and owns the durable store.

It is an `Upstream` over a `Store`. Stamps are given in the order in which batches enter the
store's queue, and the store commits in that order, so with one central no acknowledged write
loses to an earlier one, whatever the clocks did.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from atoll.accounts import DROPPED_PREFIX
from atoll.clock import Clock, SteadyTime
from atoll.core import rules
from atoll.core.errors import (
    DeadlinePassedError,
    NotArrivedError,
    PositionTooOldError,
    StoreError,
)
from atoll.core.limits import Limits
from atoll.core.location_errors import LocationForgottenError, LocationUnknownError
from atoll.core.model import (
    SYSTEM_NAMESPACE,
    AtLeast,
    Batch,
    Entry,
    Include,
    JournalToken,
    ListQuery,
    Mutation,
    Page,
    Position,
    Read,
    Reading,
    Written,
)
from atoll.core.session import (
    Changed,
    Downward,
    Echo,
    Heartbeat,
    Held,
    Hello,
    JournalEmpty,
    Resumed,
    StartedOver,
    Status,
    Subscribe,
    Subscribed,
    Upward,
)
from atoll.core.version import (
    CENTRAL_NODE,
    NO_VERSION,
    HybridClock,
    Version,
    Versions,
    micros_of,
    node_of,
    version_at,
)
from atoll.registry import (
    LOCATION_PREFIX,
    Registered,
    decode_registered,
    delivered_key,
    location_key,
    location_of,
)
from atoll.store.protocol import Store, SweepOrder, Swept
from atoll.whereabouts import Whereabouts

SYSTEM_ENTRIES_MAX: Final = 10_000
"""How many entries of the system namespace are kept at hand; each request reads two of them."""

FEED_PAGE_ROWS: Final = 1000
FEED_VALUE_BYTES_MAX: Final = 16_384
"""Larger values are not carried by the feed; who needs them asks."""

SESSION_UPWARD_MAX: Final = 1000
"""Unanswered messages of one session; its sender waits beyond that."""

SWEEP_ROUNDS_MAX: Final = 100
"""Rounds of one sweep, so that a long backlog cannot keep others from the store."""

DROPPED_KEPT_US: Final = 60_000_000
"""A dropped namespace is swept for this long, for writes that were under way when it went."""

STAMP_AHEAD_US_MAX: Final = 1_000_000
"""How far ahead of central's clock a location's stamp may lie; a location's clock runs behind."""

US_PER_S: Final = 1_000_000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralSettings:
    """What an operator decides about central."""

    sweep_interval_s: float = 1.0
    """Pause between sweeps."""
    outcomes_kept_s: int = 86_400
    """How long a repeated `Idempotency-Key` finds its first outcome."""
    log_rows_max: int = 1_000_000
    """How many changes the feed's log reaches back."""


class Central:
    """See `Upstream`."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        limits: Limits,
        settings: CentralSettings | None = None,
    ) -> None:
        """Serve what `store` holds; the caller closes it."""
        self._store = store
        self._clock = clock
        self._settings = settings or CentralSettings()
        self._stamps = HybridClock(node=CENTRAL_NODE, floor=store.last_version)
        self._rewrites = rules.RewriteLimiter(limits.rewrite_interval_ms)
        self._system: OrderedDict[str, Entry | None] = OrderedDict()
        self._system_writes = 0
        self._system_unsettled: set[str] = set()
        self._advanced: asyncio.Event | None = None
        self._told: dict[str, Reading] = {}
        self._told_at = store.position
        self.whereabouts = Whereabouts(clock, wake=self._wake)
        self.registered: Sequence[Registered] = ()
        """The locations as the last sweep found them."""
        self._time = SteadyTime(clock, floor_us=micros_of(store.last_version))

    def now_us(self) -> int:
        """Return central time: the wall clock, but it never goes back.

        So what was once judged expired never lives again, and no location is ever ahead of it.
        """
        return self._time.now_us()

    @property
    def position(self) -> Position:
        """The end of the feed's log."""
        return self._store.position

    # Reading.

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        assert len(request.keys) == 1, request.keys
        # Who states a bound or a position keeps what it reads, and must hear of what position it
        # was true; the entries at hand do not say so to the letter while a write is under way.
        loose = request.age_ms_max is None and request.at_least is None
        if loose and request.namespace == SYSTEM_NAMESPACE:
            key = request.keys[0]
            position = self._store.position
            entry = await self._system_entry(key)
            return self._system_reading(entry, position)
        return (await self.read_many(request))[0]

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        await self._require_delivered(request.at_least)
        found = await self._store.get(request.namespace, request.keys)
        _require_arrived(request.at_least, found.position)
        readings = [self._reading(entry, found.position) for entry in found.entries]
        await self._outlive(found.entries, readings)
        return readings

    async def _outlive(self, entries: Sequence[Entry | None], readings: Sequence[Reading]) -> None:
        """Make durable that it is past an expiration before anybody is told that it is.

        Else a restart with a clock that was set back would show again what had expired. Where the
        disk is full that is not possible, and the answer is given all the same.
        """
        saved_us = micros_of(self._store.last_version)
        told = zip(entries, readings, strict=True)
        expired = (entry for entry, reading in told if entry is not None and reading.entry is None)
        if any((entry.expiration or 0) * US_PER_S > saved_us for entry in expired):
            with contextlib.suppress(StoreError):
                await self._store.sweep(
                    SweepOrder(
                        now_us=self.now_us(),
                        tombstones_below=NO_VERSION,
                        outcomes_before_us=0,
                        log_rows_max=self._settings.log_rows_max,
                    )
                )

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`."""
        await self._require_delivered(query.at_least)
        page = await self._store.scan(query, now_us=self.now_us())
        _require_arrived(query.at_least, page.position)
        return page

    def _system_reading(self, entry: Entry | None, position: Position) -> Reading:
        """Make a reading once for all who ask between two commits: every request asks twice."""
        if entry is None or entry.expiration is not None:
            return self._reading(entry, position)
        if position is not self._told_at:
            self._told.clear()
            self._told_at = position
        told = self._told.get(entry.key)
        if told is None or told.entry is not entry:
            told = self._told[entry.key] = self._reading(entry, position)
        return told

    def _reading(self, entry: Entry | None, position: Position) -> Reading:
        if rules.is_live(entry, self.now_us() / US_PER_S):
            return Reading(entry=entry, position=position)
        buried = None if entry is None else entry.version
        return Reading(entry=None, position=position, buried=buried)

    async def _require_delivered(self, at_least: AtLeast | None) -> None:
        """Refuse to answer before a location has delivered what a request requires."""
        if not isinstance(at_least, JournalToken):
            return
        entry = await self._system_entry(delivered_key(at_least.location))
        if _number(entry) < at_least.sequence:
            raise NotArrivedError(required=str(at_least), held=str(self._store.position))

    async def _system_entry(self, key: str) -> Entry | None:
        """Read an entry of the system namespace, from memory if nothing was written since."""
        if key in self._system:
            self._system.move_to_end(key)
            return self._system[key]
        writes = self._system_writes
        found = await self._store.get(SYSTEM_NAMESPACE, (key,))
        entry = found.entries[0]
        if writes == self._system_writes and key not in self._system_unsettled:
            self._system[key] = entry
            if len(self._system) > SYSTEM_ENTRIES_MAX:
                self._system.popitem(last=False)
        return entry

    # Writing.

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`.

        Raises:
            DeadlinePassedError: As there, like the others.
        """
        if not batch.mutations:
            return Written(outcomes=(), position=self._store.position)
        if any(mutation.stamp is not None for mutation in batch.mutations):
            batch = await self._checked_delivery(batch)
        now_us = self.now_us()
        if batch.deadline_us is not None and now_us > batch.deadline_us:
            raise DeadlinePassedError(late_us=now_us - batch.deadline_us)
        if micros_of(batch.clock) <= now_us + STAMP_AHEAD_US_MAX:
            self._stamps.observe(batch.clock)
        # No await between the stamps and the store's queue: their order is the commit order.
        versions = self._stamps.tick_many(now_us, len(batch.mutations))
        written = await self._apply(batch, versions, now_us)
        if batch.token is not None:
            await self._note_delivered(batch.token)
        self._forget_system(batch, settled=True)
        self._wake()
        return written

    def _wake(self) -> None:
        """Have every session look at what there is to tell."""
        if self._advanced is not None:
            self._advanced.set()
            self._advanced = None

    async def _apply(self, batch: Batch, versions: Versions, now_us: int) -> Written:
        admission = None
        if batch.rate_limited:
            admission = rules.Admission(self._rewrites, batch.namespace, self._clock.elapsed_ms())
        admit = None if admission is None else admission.admit
        try:
            return await self._store.apply(batch, versions, now_us=now_us, admit=admit)
        except BaseException as error:
            if admission is not None:
                admission.withdraw()
            if isinstance(error, asyncio.CancelledError):
                # Whoever gives up waiting may have revoked a token all the same: the commit goes
                # on without them, and nobody is left to say when it is done.
                self._forget_system(batch, settled=False)
            raise

    def _forget_system(self, batch: Batch, *, settled: bool) -> None:
        """Keep nothing at hand of what a batch may have changed.

        Until a later write of the key is answered, one that was not is never remembered again.
        """
        if batch.namespace != SYSTEM_NAMESPACE:
            return
        self._system_writes += 1
        for mutation in batch.mutations:
            self._system.pop(mutation.key, None)
            if settled:
                self._system_unsettled.discard(mutation.key)
            else:
                self._system_unsettled.add(mutation.key)

    async def _checked_delivery(self, batch: Batch) -> Batch:
        """Refuse a journal whose location may not deliver, and clamp stamps from the future."""
        assert batch.identity is not None
        name = location_of(batch.identity.origin)
        entry = await self._system_entry(location_key(name))
        if entry is None or not isinstance(entry.value, bytes):
            raise LocationUnknownError(location=name)
        if decode_registered(entry.value).forgotten:
            raise LocationForgottenError(location=name)
        now_us = self.now_us()
        mutations = [
            mutation._replace(stamp=_clamped(mutation.stamp, batch.heard_us, now_us=now_us))
            for mutation in batch.mutations
        ]
        for mutation in mutations:
            if mutation.stamp is not None:
                self._stamps.observe(mutation.stamp)
        return replace(batch, mutations=mutations)

    async def _note_delivered(self, token: JournalToken) -> None:
        """Record how far a journal was delivered, before its location forgets the entry."""
        key = delivered_key(token.location)
        if _number(await self._system_entry(key)) < token.sequence:
            mutation = Mutation(key=key, value=b"%d" % token.sequence)
            await self.write(Batch(namespace=SYSTEM_NAMESPACE, mutations=(mutation,)))

    # The feed.

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`. The session lives until the caller closes this iterator."""
        session = _Session(self._store, self.now_us, self.whereabouts)
        number, questions = self.whereabouts.open()
        inbox: asyncio.Queue[Upward] = asyncio.Queue(SESSION_UPWARD_MAX)
        # The reader of `upward` is a task of its own, so that a silent sender holds up nothing.
        receiving = asyncio.create_task(_receive(upward, inbox))
        arriving: asyncio.Task[Upward] | None = None
        try:
            async for message in session.open(hello):
                yield message
            while True:
                advanced = self._advanced = self._advanced or asyncio.Event()
                async for message in session.pump():
                    yield message
                while questions:
                    yield questions.popleft()
                arriving = arriving or asyncio.create_task(inbox.get())
                committed = asyncio.create_task(advanced.wait())
                await asyncio.wait(
                    {arriving, committed, receiving}, return_when=asyncio.FIRST_COMPLETED
                )
                committed.cancel()
                if arriving.done():
                    async for message in session.answer(arriving.result()):
                        yield message
                    arriving = None
                elif receiving.done():
                    return
        finally:
            self.whereabouts.close(number)
            for task in (receiving, arriving):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    # Sweeping.

    async def sweep(self) -> Swept:
        """Remove what is dead, in rounds, until nothing is left or the rounds are used up."""
        total = Swept()
        for _ in range(SWEEP_ROUNDS_MAX):
            dropped = await self._dropped()
            now_us = self.now_us()
            swept = await self._store.sweep(
                SweepOrder(
                    now_us=now_us,
                    tombstones_below=await self._tombstones_below(now_us),
                    outcomes_before_us=now_us - self._settings.outcomes_kept_s * US_PER_S,
                    log_rows_max=self._settings.log_rows_max,
                    dropped=tuple(dropped),
                )
            )
            total = Swept(
                expired=total.expired + swept.expired,
                removed=total.removed + swept.removed,
                dropped=total.dropped + swept.dropped,
                forgotten=total.forgotten + swept.forgotten,
                truncated=total.truncated + swept.truncated,
            )
            if not swept.dropped:
                await self._forget_dropped(dropped, before_us=now_us - DROPPED_KEPT_US)
            if not swept.total:
                break
        return total

    async def sweep_forever(self) -> None:
        """Sweep, pause, and again, until cancelled. A full disk is reported and waited out."""
        while True:
            try:
                swept = await self.sweep()
            except StoreError as error:
                log.warning("sweep_failed", code=error.code, reason=str(error))
            else:
                if swept.total:
                    log.debug(
                        "swept",
                        expired=swept.expired,
                        removed=swept.removed,
                        dropped=swept.dropped,
                        forgotten=swept.forgotten,
                        truncated=swept.truncated,
                    )
            await self._clock.sleep(self._settings.sweep_interval_s)

    async def locations(self) -> Sequence[Registered]:
        """Return the registered locations, the forgotten among them."""
        found: deque[Registered] = deque()
        after: str | None = None
        while True:
            page = await self._store.scan(
                ListQuery(
                    namespace=SYSTEM_NAMESPACE,
                    prefix=LOCATION_PREFIX,
                    after=after,
                    include=Include.VALUES,
                    values_bytes_max=FEED_VALUE_BYTES_MAX,
                ),
                now_us=self.now_us(),
            )
            found.extend(decode_registered(item.value or b"") for item in page.items)
            after = page.after
            if after is None:
                return found

    async def _tombstones_below(self, now_us: int) -> Version:
        """Return what is older than anything that a journal may still deliver."""
        self.registered = await self.locations()
        said_us = [
            self.whereabouts.journal_empty_us(location.name) or 0
            for location in self.registered
            if not location.forgotten
        ]
        return version_at(min([now_us, *said_us]), 0)

    async def _dropped(self) -> dict[str, int]:
        """Return the dropped namespaces and when they were dropped."""
        page = await self._store.scan(
            ListQuery(
                namespace=SYSTEM_NAMESPACE,
                prefix=DROPPED_PREFIX,
                include=Include.VALUES,
                values_bytes_max=FEED_VALUE_BYTES_MAX,
            ),
            now_us=self.now_us(),
        )
        return {
            item.key.removeprefix(DROPPED_PREFIX): int(item.value or b"0") for item in page.items
        }

    async def _forget_dropped(self, dropped: dict[str, int], *, before_us: int) -> None:
        """Let go of dropped namespaces in which nothing was found for long enough."""
        gone = [namespace for namespace, at_us in dropped.items() if at_us < before_us]
        if gone:
            mutations = [Mutation(key=DROPPED_PREFIX + namespace, value=None) for namespace in gone]
            await self.write(Batch(namespace=SYSTEM_NAMESPACE, mutations=mutations))


class _Session:
    """Central's end of one session: what is subscribed, and how far it was told."""

    def __init__(self, store: Store, now_us: Callable[[], int], whereabouts: Whereabouts) -> None:
        self._store = store
        self._whereabouts = whereabouts
        self._now_us = now_us
        self._told = store.position
        self._namespaces: set[str] = set()

    async def open(self, hello: Hello) -> AsyncIterator[Downward]:
        """Go on where an earlier session ended, if the log reaches back."""
        if hello.resume_after is not None:
            try:
                await self._store.changes(hello.resume_after, limit=1)
            except PositionTooOldError:
                pass
            else:
                self._told = hello.resume_after
                self._namespaces = set(hello.namespaces)
                yield Resumed()
                return
        yield self._start_over()

    def _start_over(self) -> StartedOver:
        self._told = self._store.position
        self._namespaces.clear()
        return StartedOver(position=self._told)

    async def pump(self) -> AsyncIterator[Downward]:
        """Tell what is in the log by now. Who is slower than the log is long starts over."""
        complete = False
        while not complete:
            try:
                stretch = await self._store.changes(self._told, limit=FEED_PAGE_ROWS)
            except PositionTooOldError:
                yield self._start_over()
                return
            for change in stretch.changes:
                if change.namespace in self._namespaces:
                    yield _changed(change.namespace, change.entry, stretch.position)
            self._told = stretch.position
            complete = stretch.complete

    async def answer(self, message: Upward) -> AsyncIterator[Downward]:
        """Answer behind everything that was in the log when `message` arrived."""
        async for told in self.pump():
            yield told
        match message:
            case Subscribe(namespace=namespace):
                self._namespaces.add(namespace)
                yield Subscribed(namespace=namespace, position=self._told)
            case Heartbeat(instant_ms=instant_ms):
                yield Echo(
                    instant_ms=instant_ms,
                    position=self._told,
                    central_us=self._now_us(),
                )
            case JournalEmpty(location=location, as_of_us=as_of_us):
                self._whereabouts.note_empty(location, as_of_us)
            case Status(position=position):
                end = self._store.position
                same = position.incarnation == end.incarnation
                behind = max(0, end.sequence - position.sequence) if same else None
                self._whereabouts.note(message, behind=behind)
            case Held():
                self._whereabouts.answered(message)


def _changed(namespace: str, entry: Entry, end: Position) -> Changed:
    """Make the message for one row of the log."""
    small = entry.value is None or (
        isinstance(entry.value, bytes) and len(entry.value) <= FEED_VALUE_BYTES_MAX
    )
    return Changed(
        namespace=namespace,
        entry=entry if small else replace(entry, value=b""),
        position=replace(end, sequence=entry.sequence),
        value_included=small,
    )


async def _receive(upward: AsyncIterator[Upward], inbox: asyncio.Queue[Upward]) -> None:
    """Move messages to the inbox, waiting while it is full."""
    async for message in upward:
        await inbox.put(message)


def _number(entry: Entry | None) -> int:
    """Read an entry that holds a number; what is not there counts as 0."""
    return int(entry.value) if entry is not None and isinstance(entry.value, bytes) else 0


def _clamped(stamp: Version | None, heard_us: int | None, *, now_us: int) -> Version | None:
    """Take a stamp back that lies too far ahead: to what its location had surely heard."""
    if stamp is None or micros_of(stamp) <= now_us + STAMP_AHEAD_US_MAX:
        return stamp
    return version_at(min(heard_us or now_us, now_us), node_of(stamp))


def _require_arrived(at_least: AtLeast | None, held: Position) -> None:
    """Refuse to answer from before the position that a request requires."""
    if isinstance(at_least, Position) and (
        at_least.incarnation != held.incarnation or at_least.sequence > held.sequence
    ):
        raise NotArrivedError(required=str(at_least), held=str(held))
