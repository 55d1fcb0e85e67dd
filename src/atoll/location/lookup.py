"""What a process of a location answers by itself, from the cache that the keeper writes.

It judges by the same function as the keeper, and never waits. What it does not answer is the
keeper's: what is not held or too old, what has expired and is not buried yet, what should be
refreshed, and keys with a journaled write.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from atoll.clock import Clock
from atoll.core.errors import NotArrivedError
from atoll.core.location_errors import CutOffError
from atoll.core.model import SYSTEM_NAMESPACE, JournalToken, Position, Read, Reading
from atoll.location.age import NEVER, Feed, Record
from atoll.location.cache import CacheState, MemoryCache
from atoll.location.codec import digest_of
from atoll.location.judging import Demand, Ground, has_expired, judge, refresh_age_ms
from atoll.location.mapping import ReaderMapping
from atoll.location.time import LocationTime

REFRESH_AT: Final = 0.75
"""What is older than this part of its bound is the keeper's to refresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look at the cache showed: the record, and the state of the same moment."""

    state: CacheState
    record: Record | None
    is_pinned: bool


class Sight(Protocol):
    """How a reader sees the keeper's cache."""

    def look(self, namespace: str, key: str) -> Seen | None:
        """Return what is there of a key, `None` if nobody can say."""
        ...


class MemorySight:
    """Sees a cache in memory."""

    def __init__(self, cache: MemoryCache) -> None:
        """Look at `cache`."""
        self._cache = cache

    def look(self, namespace: str, key: str) -> Seen | None:
        """See `Sight`."""
        state = self._cache.load()
        if state is None:
            return None
        return Seen(
            state=state,
            record=self._cache.get(namespace, key),
            is_pinned=self._cache.is_pinned(namespace, key),
        )


class Lookup:
    """One process's view of its location's cache."""

    def __init__(
        self,
        name: str,
        sight: Sight,
        *,
        clock: Clock,
        boot: str,
        age_ms_max: int = 60_000,
        refresh_at: float = REFRESH_AT,
        mapping: ReaderMapping | None = None,
    ) -> None:
        """Answer from what `sight` shows.

        Args:
            name: The location's.
            sight: Its cache.
            clock: This machine's clocks.
            boot: Names the boot of the machine.
            age_ms_max: The bound of a read that states none.
            refresh_at: As in the keeper's settings: what is older than this part of its bound is
                the keeper's to refresh.
            mapping: Where answers are counted that the keeper does not see.
        """
        self._name = name
        self._sight = sight
        self._clock = clock
        self._boot = boot
        self._age_ms_max = age_ms_max
        self._refresh_at = refresh_at
        self._mapping = mapping
        self._state: CacheState | None = None
        self.ground = Ground(
            name=name, incarnation=None, feed=Feed(), trusted_ms=NEVER, lost_ms=NEVER, central_us=0
        )
        """What is judged by, as it was adopted last."""
        self._time = LocationTime(clock)

    def central_us(self) -> int | None:
        """Return central time as the keeper knows it, `None` if nobody here has heard it."""
        return self._time.central_us()

    def elapsed_ms(self) -> int:
        """Read this machine's elapsed clock."""
        return self._time.elapsed_ms()

    def demand(self, request: Read, key: str, asked_ms: int) -> Demand:
        """Return what `request` asks about one of its keys, as it came at `asked_ms`."""
        bound_ms = request.age_ms_max
        return Demand(
            namespace=request.namespace,
            key=key,
            asked_ms=asked_ms,
            age_ms_max=self._age_ms_max if bound_ms is None else bound_ms,
            stale_ms_max=request.stale_ms_max,
            at_least=request.at_least,
        )

    def answer(self, demand: Demand) -> Reading | None:
        """Answer what needs no keeper: it buries, refreshes, and knows pins and the journal."""
        if isinstance(demand.at_least, JournalToken):
            return None
        seen = self._sight.look(demand.namespace, demand.key)
        if seen is None or seen.is_pinned or seen.record is None:
            return None
        ground = self._judged_by(seen.state)
        if ground is None:
            return None
        reading = judge(demand, seen.record, ground)
        if (
            reading is None
            or has_expired(seen.record, reading)
            or refresh_age_ms(demand, reading, ground, refresh_at=self._refresh_at) is not None
        ):
            return None
        return self._counted(demand, reading)

    def _counted(self, demand: Demand, reading: Reading) -> Reading:
        """Count an answer that the keeper does not see."""
        if self._mapping is None:
            return reading
        digest = digest_of(*demand.place)
        if demand.namespace == SYSTEM_NAMESPACE:
            self._mapping.mark(digest)
        else:
            self._mapping.note(digest, reading.cache)
        return reading

    def final(self, demand: Demand) -> Reading:
        """Answer by age while the keeper cannot be asked.

        Raises:
            CutOffError: Nothing held is good enough.
            NotArrivedError: Nothing at or after the required position is held.
        """
        seen = self._sight.look(demand.namespace, demand.key)
        if seen is None:
            raise CutOffError(detail="the keeper of this location cannot be reached")
        if seen.is_pinned:
            raise CutOffError(detail="only the keeper knows what was written to this key here")
        ground = self._judged_by(seen.state)
        reading = None if ground is None else judge(demand, seen.record, ground, final=True)
        if reading is not None:
            return self._counted(demand, reading)
        if demand.at_least is not None:
            held = Position(incarnation=seen.state.incarnation or 0, sequence=seen.state.applied)
            raise NotArrivedError(required=str(demand.at_least), held=str(held))
        if seen.record is None:
            raise CutOffError(detail="nothing is held of this key")
        raise CutOffError(detail="what is held of this key is older than the request allows")

    def _judged_by(self, state: CacheState) -> Ground | None:
        """Return what to judge by, in the state that the keeper saved; not under another boot."""
        if not self.adopted(state):
            return None
        self.ground.central_us = self._time.central_us() or 0
        return self.ground

    def adopted(self, state: CacheState) -> bool:
        """Judge by the state that the keeper saved from now on, but for central time.

        Returns:
            Whether that can be: not under another boot.
        """
        if state is not self._state:
            if state.boot != self._boot:
                return False
            self._adopt(state)
        self.ground.trusted_ms = self._time.trusted_ms
        return True

    def _adopt(self, state: CacheState) -> None:
        """Go on from what the keeper saved; what either noticed of a jump counts."""
        looked = self._time.looked
        if state.looked is not None and (
            self._state is None or state.looked.elapsed_ms > looked.elapsed_ms
        ):
            looked = state.looked
        self._time = LocationTime(
            self._clock,
            central_us=state.central_us,
            central_at_ms=state.central_at_ms,
            looked=looked,
            trusted_ms=max(state.trusted_ms, self._time.trusted_ms),
        )
        ground = self.ground
        ground.incarnation = state.incarnation
        ground.lost_ms = state.lost_ms
        ground.feed = Feed(
            applied=state.applied,
            told=state.applied,
            instant_ms=state.feed_instant_ms,
            subscribed=state.subscribed,
        )
        self._state = state
