"""What a location knows, and what it may answer with it.

Everything that arrives is judged here, by position alone: answers of the upstream, changes that
the feed tells, records that come with the answer to a write. And here is decided whether what is
held answers a question. Nothing waits: these are plain functions over the cache, the feed, the
pins and the recent changes, so that no other step can come between a look and what follows it.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace

from atoll.clock import Clock
from atoll.core.model import (
    AtLeast,
    Entry,
    JournalToken,
    Position,
    Reading,
    Written,
)
from atoll.core.version import CENTRAL_NODE, NO_VERSION, HybridClock, Version
from atoll.location.age import NEVER, Feed, Record, known
from atoll.location.cache import Cache, CacheLostError, CacheState
from atoll.location.journal import Journal, Journaled, journal_name
from atoll.location.judging import US_PER_S, Demand, Ground, has_expired, judge
from atoll.location.pins import Pins, Place
from atoll.location.recent import RecentChanges
from atoll.location.time import LocationTime


class Knowledge:
    """The cache of one location and what vouches for it. One keeper owns it."""

    def __init__(
        self,
        name: str,
        cache: Cache,
        journal: Journal,
        *,
        clock: Clock,
        boot: str,
        upstream: str,
        recent_changes_max: int,
    ) -> None:
        """Go on from what the cache and the journal hold.

        Args:
            name: The location's.
            cache: What it holds; thrown away earlier if it may be wrong.
            journal: What waits to be delivered.
            clock: This machine's clocks.
            boot: Names the boot of the machine, within which the elapsed clock never goes back.
            upstream: Names what it reads through.
            recent_changes_max: How many changed keys are remembered.
        """
        self.name = name
        self.cache = cache
        self.journal = journal
        self.pins = Pins()
        self.recent = RecentChanges(recent_changes_max)
        self.on_discard: list[Callable[[], None]] = []
        """Called when everything known was of another incarnation."""
        self.evicted = 0
        """How many records were let go of for room."""
        self._boot = boot
        self._upstream = upstream
        self._in_air: Counter[Place] = Counter()
        state = cache.load()
        lost = state is None
        state = state or CacheState()
        same_boot = state.boot == boot
        self.time = LocationTime(
            clock,
            central_us=state.central_us,
            central_at_ms=state.central_at_ms if same_boot else NEVER,
            looked=state.looked if same_boot else None,
            trusted_ms=state.trusted_ms if same_boot else NEVER,
        )
        self.incarnation = state.incarnation
        self.feed = Feed(
            applied=state.applied,
            told=state.applied,
            instant_ms=state.feed_instant_ms if same_boot else NEVER,
            subscribed=dict(state.subscribed),
        )
        switched = not lost and state.upstream != upstream
        if switched:
            self.feed.start_over(0)
        self.recent.start_over(self.feed.applied)
        self.lost_ms = state.lost_ms
        self._lost_sequence = state.lost_sequence
        if lost or switched:
            self._lose()
        elif not same_boot and state.lost_ms != NEVER:
            self.lost_ms = self.time.elapsed_ms()
        self.stamps = HybridClock(
            node=journal.state.node or CENTRAL_NODE,
            floor=max(journal.state.stamp_floor, state.stamps),
        )
        self._show_journal()
        self.save()

    def save(self) -> None:
        """Keep what a restart needs beside the records, and what readers judge them by."""
        state = CacheState(
            boot=self._boot,
            upstream=self._upstream,
            incarnation=self.incarnation,
            applied=self.feed.applied,
            feed_instant_ms=self.feed.instant_ms,
            subscribed=self.feed.subscribed,
            lost_ms=self.lost_ms,
            lost_sequence=self._lost_sequence,
            central_us=self.time.central_us(),
            central_at_ms=self.time.reckoned_at_ms,
            looked=self.time.looked,
            trusted_ms=self.time.trusted_ms,
            stamps=self.stamps.last,
        )
        self._stamps_saved = state.stamps
        self._time_saved_us = state.central_us or 0
        try:
            self.cache.save(state)
        except CacheLostError:
            self.cache.save(self._lost(state))

    def _lost(self, state: CacheState) -> CacheState:
        """Go on after the cache was lost: what comes next may be older than what was told."""
        self._lose()
        return replace(state, lost_ms=self.lost_ms, lost_sequence=self._lost_sequence)

    def _lose(self) -> None:
        """Take note that what was known before now is forgotten."""
        self.lost_ms = self.time.elapsed_ms()
        self._lost_sequence = self.journal.last_sequence

    def held(self, place: Place) -> Record | None:
        """Return what is held of a key; if that cannot be read, all that is held is lost."""
        try:
            return self.cache.get(*place)
        except CacheLostError:
            self.lose_order()
            return None

    def _keep(self, namespace: str, key: str, record: Record) -> None:
        """Put a record into the cache; if that fails, all of it is lost, and this record too."""
        try:
            self.cache.put(namespace, key, record)
        except CacheLostError:
            self.lose_order()

    @property
    def position(self) -> Position:
        """How far the feed has told."""
        return Position(incarnation=self.incarnation or 0, sequence=self.feed.applied)

    # Answering.

    def answer(
        self,
        demand: Demand,
        *,
        fetched: bool = False,
        final: bool = False,
        delivered_at: int | None = None,
    ) -> Reading | None:
        """Answer from what is held, or say that it is no answer.

        Args:
            demand: The question.
            fetched: The upstream was asked since: what came counts also if it was superseded on
                the way.
            final: The upstream cannot be asked: what is past its bound counts as well.
            delivered_at: The sequence at which the journal that the demand names was delivered.
        """
        record, pin = self.held(demand.place), self.pins.shown(demand.place)
        reading = judge(
            demand,
            record,
            self.ground,
            pin=pin,
            fetched=fetched,
            final=final,
            delivered_at=delivered_at,
        )
        if reading is not None and has_expired(record, reading):
            assert record is not None
            assert record.entry is not None
            buried = replace(record.entry, value=None, metadata=None, expiration=None)
            self._keep(demand.namespace, demand.key, replace(record, entry=buried))
        elif reading is not None and reading.token is not None and pin is not None:
            # A pin cannot be buried; that time is past its expiration must outlive us all the same.
            expires_us = (pin.mutation.expiration or 0) * US_PER_S
            if reading.entry is None and expires_us > self._time_saved_us:
                self.save()
        return reading

    @property
    def journal_name(self) -> str:
        """What the journal is called in identities and tokens."""
        return journal_name(self.name, self.journal.state)

    @property
    def ground(self) -> Ground:
        """What answers are judged by now."""
        return Ground(
            name=self.name,
            incarnation=self.incarnation,
            feed=self.feed,
            trusted_ms=self.time.trusted_ms,
            lost_ms=self.lost_ms,
            central_us=self.time.central_us() or 0,
            journal_name=self.journal_name,
            journal_sequence=self.journal.last_sequence,
        )

    def required(self, at_least: AtLeast | None) -> AtLeast | None:
        """Return what remains of a requirement at this location.

        What this journal holds is shown here, and the outcome of what it held was learnt before
        it left. Only if that was forgotten with the cache must somebody be asked.
        """
        if isinstance(at_least, JournalToken) and at_least.location == self.journal_name:
            waiting = self.journal.entries
            shown = bool(waiting) and at_least.sequence >= waiting[0].sequence
            issued = at_least.sequence <= self.journal.last_sequence
            if issued and (shown or self.lost_ms == NEVER):
                return None
        return at_least

    # Learning.

    def meet(self, incarnation: int) -> bool:
        """Say whether knowledge of this incarnation counts; a later one makes all else void.

        An earlier one is over, also where it comes from an upstream that has not heard of that.
        """
        before = self.incarnation
        if incarnation == before:
            return True
        if before is not None:
            if incarnation < before:
                return False
            self.cache.clear()
            self.pins.show_all()
            self.new_epoch(0)
            self._lose()
        self.incarnation = incarnation
        self.save()
        if before is not None:
            for told in self.on_discard:
                told()
        return True

    def new_epoch(self, applied: int) -> None:
        """Begin anew at `applied`: what the feed vouched for so far, it vouches for no longer."""
        self.feed.start_over(applied)
        self.recent.start_over(applied)
        self.save()

    def switched(self, upstream: str) -> None:
        """Read through another upstream from now on, which may know less than the one before."""
        self._upstream = upstream
        self.feed.start_over(0)
        self.recent.start_over(0)
        self.lose_order()

    def lose_order(self) -> None:
        """Note that what comes next may be older than what was told before now."""
        self._lose()
        self.save()

    def learn(self, place: Place, entry: Entry | None, *, position: Position, sent_ms: int) -> bool:
        """Learn what a key was at a position.

        Args:
            place: Which key.
            entry: What it was; `None` for missing without a version.
            position: Where it was true.
            sent_ms: An instant at which it was not older than that: the sending of the question
                less the age that the answer came with, or `NEVER`.

        Returns:
            Whether the position is of the incarnation that counts.
        """
        if not self.meet(position.incarnation):
            return False
        namespace, key = place
        sequence = position.sequence
        record = Record(entry=entry, sequence=sequence, instant_ms=sent_ms)
        if sequence < self.feed.told:
            record = replace(
                record,
                superseded=self.recent.changed_after(namespace, key, sequence),
                uncovered=sequence < self.recent.floor,
            )
        self._merge(place, record)
        return True

    def learn_written(
        self, namespace: str, written: Written, made: Iterable[Entry], *, sent_ms: int
    ) -> None:
        """Learn the records that came with the answer to a write, which are not always the write.

        Args:
            namespace: The batch's.
            written: The answer.
            made: The entries that the batch's mutations are when they are applied.
            sent_ms: The instant of its sending.
        """
        pairs = zip(written.outcomes, made, strict=True)
        for outcome, entry in {entry.key: (outcome, entry) for outcome, entry in pairs}.values():
            current = outcome.current
            if current is None and not written.repeated:
                current = replace(entry, version=outcome.version)
            place = (namespace, entry.key)
            self.learn(place, current, position=written.position, sent_ms=sent_ms)

    def _merge(self, place: Place, record: Record) -> None:
        """Keep what was true at a larger position."""
        held = self.held(place)
        if held is not None and record.sequence < held.sequence:
            # The older answer still shows that the newer knowledge was not yet old then.
            if record.instant_ms > held.instant_ms:
                self._keep(*place, replace(held, instant_ms=record.instant_ms))
            return
        if held is not None and record.sequence == held.sequence:
            died = record.entry is None or record.entry.value is None
            record = replace(
                held,
                entry=record.entry if died and record.entry is not None else held.entry,
                instant_ms=max(held.instant_ms, record.instant_ms),
                uncovered=held.uncovered and record.uncovered,
            )
        self._put(place, record)

    def _put(self, place: Place, record: Record) -> None:
        if record.entry is not None:
            self.stamps.observe(record.entry.version)
            self.pins.hide_below(place, record.entry.version)
        self._keep(*place, record)
        self.make_room()

    def change(self, place: Place, entry: Entry, *, sequence: int, value_included: bool) -> bool:
        """Apply a change that the feed tells.

        Returns:
            Whether the location holds the key now: who relays to others may then relay the value.
        """
        namespace, key = place
        self.stamps.observe(entry.version)
        self.recent.note(namespace, entry, sequence=sequence)
        held = self.held(place)
        if held is not None and held.sequence < sequence:
            instant_ms = known(held, namespace, self.feed).instant_ms
            if value_included:
                self._put(place, Record(entry=entry, sequence=sequence, instant_ms=instant_ms))
            else:
                marked = replace(held, instant_ms=instant_ms, superseded=True)
                self._keep(namespace, key, marked)
        self.feed.told = sequence
        return held is not None

    def pin(self, entry: Journaled) -> None:
        """Show what was journaled, unless something newer has become known meanwhile."""
        self._show(entry)
        try:
            self.cache.pin((entry.namespace, mutation.key) for mutation in entry.mutations)
        except CacheLostError:
            self.lose_order()

    def unpin(self, entry: Journaled) -> None:
        """Show it no longer: its outcome is known, and what came with it is held."""
        self.pins.remove(entry)
        places = {(entry.namespace, mutation.key) for mutation in entry.mutations}
        try:
            self.cache.unpin(place for place in places if not self.pins.holds(place))
        except CacheLostError:
            self.lose_order()

    def _show_journal(self) -> None:
        """Show what the journal holds after a restart, and have readers ask about it."""
        for entry in self.journal.entries:
            self._show(entry, order_unknown=entry.sequence <= self._lost_sequence)
        try:
            self.cache.pin_only(self.pins.places())
        except CacheLostError:
            self._lose()

    def _show(self, entry: Journaled, *, order_unknown: bool = False) -> None:
        self.pins.add(entry, order_unknown=order_unknown)
        for mutation in entry.mutations:
            place = (entry.namespace, mutation.key)
            self.pins.hide_below(place, version_known(self.held(place)))

    # Evicting.

    @contextmanager
    def in_air(self, places: Iterable[Place]) -> Generator[None]:
        """Keep records of these keys while something for them is under way."""
        places = list(places)
        self._in_air.update(places)
        try:
            yield
        finally:
            for place in places:
                self._in_air[place] -= 1
                if not self._in_air[place]:
                    del self._in_air[place]

    def evict(self, place: Place) -> bool:
        """Let go of a record, unless something for its key is under way."""
        if place in self._in_air or self.pins.holds(place):
            return False
        version = version_known(self.held(place))
        if version > self._stamps_saved:
            # Whatever is stamped from now on, also after a restart, must beat what was shown. What
            # was learnt shortly before the last restart is in the record alone.
            self.stamps.observe(version)
            self.save()
        self.cache.remove(*place)
        return True

    def make_room(self) -> None:
        """Evict what was not read lately until the cache is within its bound."""
        if self.cache.size_bytes <= self.cache.size_bytes_max:
            return
        for place in self.cache.unread():
            self.evicted += self.evict(place)
            if self.cache.size_bytes <= self.cache.size_bytes_max:
                return


def version_known(record: Record | None) -> Version:
    """Return the version that a record has, the least if it has none."""
    return NO_VERSION if record is None or record.entry is None else record.entry.version
