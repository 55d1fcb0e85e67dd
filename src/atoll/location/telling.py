"""What a location says of itself, to central and to who operates it. Nothing is decided by it."""

from collections.abc import Callable

from atoll.core.model import CacheStatus, Position
from atoll.core.release import VERSION
from atoll.core.session import Asked, Held, Status
from atoll.core.version import micros_of
from atoll.location.age import Known, Record, within
from atoll.location.counts import Counts
from atoll.location.knowledge import Knowledge, version_known


class Telling:
    """Describes one location."""

    def __init__(
        self,
        knowledge: Knowledge,
        counts: Counts,
        *,
        age_ms_max: int,
        round_trip_ms: Callable[[], int | None],
    ) -> None:
        """Describe what `knowledge` knows.

        Args:
            knowledge: The location's.
            counts: How its reads were answered.
            age_ms_max: The bound of a read that states none.
            round_trip_ms: How long the last heartbeat took.
        """
        self._knowledge = knowledge
        self._counts = counts
        self._age_ms_max = age_ms_max
        self._round_trip_ms = round_trip_ms
        self._started_ms = knowledge.time.elapsed_ms()

    def status(self) -> Status:
        """Return how this location is."""
        knowledge = self._knowledge
        cache, journal, time = knowledge.cache, knowledge.journal, knowledge.time
        now_ms = time.elapsed_ms()
        feed = Known(instant_ms=time.trusted(knowledge.feed.instant_ms), sequence=0)
        waiting = journal.entries
        return Status(
            location=knowledge.name,
            software=VERSION,
            uptime_ms=now_ms - self._started_ms,
            position=knowledge.position,
            feed_age_ms=feed.age_ms(now_ms),
            round_trip_ms=self._round_trip_ms(),
            clock_error_ms=time.error_ms(),
            cache_bytes=cache.size_bytes,
            cache_bytes_max=cache.size_bytes_max,
            cache_entries=cache.entries,
            cache_evicted=knowledge.evicted,
            journal_entries=len(waiting),
            journal_bytes=journal.size_bytes,
            journal_bytes_max=journal.size_bytes_max,
            journal_oldest_us=None if not waiting else micros_of(waiting[0].first_stamp),
            journal_refused=len(journal.refused),
            hits=self._counts.total(CacheStatus.HIT),
            misses=self._counts.total(CacheStatus.MISS),
            stale=self._counts.total(CacheStatus.STALE),
            negative=self._counts.total(CacheStatus.NEGATIVE),
        )

    def held(self, asked: Asked) -> Held:
        """Return what is held of a key, as a reader who states no bound would be answered."""
        knowledge = self._knowledge
        place = (asked.namespace, asked.key)
        record = knowledge.held(place)
        pin = knowledge.pins.shown(place)
        answer = Held(
            number=asked.number,
            location=knowledge.name,
            pinned=None if pin is None else pin.version,
        )
        return answer if record is None else self._described(answer, asked, record)

    def _described(self, answer: Held, asked: Asked, record: Record) -> Held:
        ground = self._knowledge.ground
        now_ms = self._knowledge.time.elapsed_ms()
        state = ground.known(record, asked.namespace)
        entry = record.entry
        in_bound = within(state.instant_ms, asked_ms=now_ms, age_ms_max=self._age_ms_max)
        return Held(
            number=answer.number,
            location=answer.location,
            pinned=answer.pinned,
            position=Position(incarnation=ground.incarnation or 0, sequence=state.sequence),
            version=version_known(record) or None,
            missing=entry is None or entry.value is None or ground.live(entry) is None,
            age_ms=state.age_ms(now_ms),
            stale=record.superseded or not in_bound,
        )
