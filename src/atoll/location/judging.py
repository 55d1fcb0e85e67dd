"""Whether what is held of a key answers a question, as one pure function.

The keeper and every reader of a location judge by it, so that no process of a location answers what
another would refuse.
"""

from dataclasses import dataclass, replace
from typing import Final

from atoll.core import rules
from atoll.core.model import AtLeast, CacheStatus, Entry, JournalToken, Position, Reading
from atoll.location.age import NEVER, Feed, Known, Record, known, within
from atoll.location.pins import Pin, Place

US_PER_S: Final = 1_000_000

LIVE_MS_MAX: Final = 5000
"""What is older than this is out of the ordinary while the feed itself is younger."""

UNKNOWN: Final = Known(instant_ms=NEVER, sequence=-1)

SEQUENCE_UNKNOWN: Final = -1
"""Stands for the journal's last sequence where the journal is not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A question about one key, as it arrived."""

    namespace: str
    key: str
    asked_ms: int
    """The instant of its arrival."""
    age_ms_max: int
    stale_ms_max: int | None = None
    at_least: AtLeast | None = None

    @property
    def place(self) -> Place:
        """Where it looks."""
        return self.namespace, self.key


@dataclass(slots=True, kw_only=True)
class Ground:
    """What a location judges by, beside the record itself."""

    name: str
    """The location's."""
    incarnation: int | None
    feed: Feed
    trusted_ms: int
    """What is known as of earlier instants is of unknown age."""
    lost_ms: int
    central_us: int
    """Central time as known here, 0 if it was never heard."""
    journal_name: str = ""
    """What its journal is called, where that is at hand."""
    journal_sequence: int = SEQUENCE_UNKNOWN
    """The last that the journal gave."""

    def feed_age_ms(self, asked_ms: int) -> int:
        """Return how old what the feed vouches for is; very large when nobody can say."""
        return asked_ms - self._trusted(self.feed.instant_ms)

    def known(self, record: Record | None, namespace: str) -> Known:
        """Return what is known of a record now, as far as its instant can be trusted."""
        if record is None:
            return UNKNOWN
        state = known(record, namespace, self.feed)
        return replace(state, instant_ms=self._trusted(state.instant_ms))

    def live(self, entry: Entry) -> Entry | None:
        """Return `entry` if readers see it by central time, as far as that is known."""
        return entry if rules.is_live(entry, self.central_us / US_PER_S) else None

    def _trusted(self, instant_ms: int) -> int:
        return instant_ms if instant_ms >= self.trusted_ms else NEVER


def judge(
    demand: Demand,
    record: Record | None,
    ground: Ground,
    *,
    pin: Pin | None = None,
    fetched: bool = False,
    final: bool = False,
    delivered_at: int | None = None,
) -> Reading | None:
    """Answer from what is held, or say that it is no answer.

    Args:
        demand: The question.
        record: What is held of the key.
        ground: What it is judged by.
        pin: The journaled write that readers see instead, if there is one.
        fetched: The upstream was asked since: what came counts also if it was superseded on
            the way.
        final: The upstream cannot be asked: what is past its bound counts as well.
        delivered_at: The sequence at which the journal that the demand names was delivered.
    """
    state = ground.known(record, demand.namespace)
    arrived = _arrived(demand, record, state, ground, delivered_at)
    if pin is not None and arrived:
        return _pinned(pin, ground)
    if record is None or not arrived:
        return None
    in_bound = within(state.instant_ms, asked_ms=demand.asked_ms, age_ms_max=demand.age_ms_max)
    meets = in_bound and (fetched or not record.superseded)
    if not meets and not (final and (in_bound or _stale_enough(demand, state))):
        return None
    held = record.entry
    entry = None if held is None or held.value is None else ground.live(held)
    return Reading(
        entry=entry,
        buried=held.version if entry is None and held is not None else None,
        position=Position(incarnation=ground.incarnation or 0, sequence=state.sequence),
        age_ms=state.age_ms(demand.asked_ms),
        stale=not meets,
        order_unknown=state.instant_ms < ground.lost_ms,
        cache=_status(entry, stale=not meets, fetched=fetched),
        node=ground.name,
    )


def has_expired(record: Record | None, reading: Reading) -> bool:
    """Whether an answer from `record` is that it is missing only because it has expired.

    The keeper buries it before anybody is told, so that it does not live again.
    """
    return (
        reading.token is None
        and reading.entry is None
        and record is not None
        and record.entry is not None
        and record.entry.value is not None
    )


def refresh_age_ms(
    demand: Demand, reading: Reading, ground: Ground, *, refresh_at: float
) -> int | None:
    """Return the age that an answer should be asked for anew with, `None` if it need not be."""
    age_ms = reading.age_ms or 0
    if age_ms > demand.age_ms_max * refresh_at:
        return demand.age_ms_max // 2
    if age_ms > LIVE_MS_MAX and ground.feed_age_ms(demand.asked_ms) <= LIVE_MS_MAX:
        # The feed would keep it fresh, had it been read since the feed began.
        return LIVE_MS_MAX
    return None


def _pinned(pin: Pin, ground: Ground) -> Reading:
    shown = ground.live(pin.entry())
    return Reading(
        entry=shown,
        buried=pin.version if shown is None else None,
        position=Position(incarnation=ground.incarnation or 0, sequence=ground.feed.applied),
        token=JournalToken(location=ground.journal_name, sequence=pin.sequence),
        order_unknown=pin.order_unknown,
        cache=CacheStatus.HIT,
        node=ground.name,
    )


def _arrived(
    demand: Demand,
    record: Record | None,
    state: Known,
    ground: Ground,
    delivered_at: int | None,
) -> bool:
    """Whether what is held is knowledge at or after the place that the demand names."""
    match demand.at_least:
        case None:
            return True
        case Position(incarnation=incarnation, sequence=sequence):
            return (
                record is not None
                and incarnation == ground.incarnation
                and state.sequence >= sequence
            )
        case JournalToken(location=location, sequence=sequence):
            if delivered_at is not None and state.sequence >= delivered_at:
                return True
            own = location == ground.journal_name and sequence <= ground.journal_sequence
            return own and record is not None and state.instant_ms >= ground.lost_ms


def _stale_enough(demand: Demand, state: Known) -> bool:
    """Whether a record past its bound is not further past it than the demand allows."""
    if demand.stale_ms_max is None:
        return True
    age_ms_max = demand.age_ms_max + demand.stale_ms_max
    return within(state.instant_ms, asked_ms=demand.asked_ms, age_ms_max=age_ms_max)


def _status(entry: Entry | None, *, stale: bool, fetched: bool) -> CacheStatus:
    """Say how the answer was come by."""
    if stale:
        return CacheStatus.STALE
    if fetched:
        return CacheStatus.MISS
    return CacheStatus.NEGATIVE if entry is None else CacheStatus.HIT
