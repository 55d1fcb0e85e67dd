"""Answers that are so plainly there that nothing is to be weighed: most reads of most programs.

A process looks at the cache's bytes and has `glance` say whether they are an answer. Whatever is
out of the ordinary in any way is left to `Lookup`, or to the keeper.
"""

from collections.abc import Callable
from typing import Final, Protocol

from atoll.core.model import CacheStatus
from atoll.location.age import NEVER
from atoll.location.codec import digest_of
from atoll.location.glance import Glimpse, glance
from atoll.location.judging import Ground
from atoll.location.knowledge import Knowledge
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.lmdb_sight import UNREADABLE, LmdbSight
from atoll.location.lookup import REFRESH_AT, Lookup
from atoll.location.mapping import ReaderMapping, slot_of

KEYS_MAX: Final = 10_000
"""How many keys' digests are remembered."""

_Place = tuple[bytes, bytes]
"""A key's digest, and its namespace and itself as they stand in a record."""


class Near(Protocol):
    """The cache of a location, as one of its processes sees it."""

    @property
    def incarnation(self) -> int:
        """What the sequences of the last look belong to."""
        ...

    def elapsed_ms(self) -> int:
        """Read the location's elapsed clock."""
        ...

    def central_us(self) -> int | None:
        """Return central time as known here, `None` if nobody here has heard it."""
        ...

    def look(
        self, namespace: str, key: str, *, asked_ms: int, age_ms_max: int | None
    ) -> Glimpse | None:
        """Return what is held of a key; `None`: it is to be judged whether there is an answer.

        Args:
            namespace: The id.
            key: The key.
            asked_ms: The instant of the question, just now.
            age_ms_max: The bound; `None` for the location's own.
        """
        ...

    def note(self, found: Glimpse) -> None:
        """Count what the last look found as an answer."""
        ...


class _Places:
    """Where keys are found."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Place] = {}

    def of(self, namespace: str, key: str) -> _Place:
        """Return a key's place."""
        return self._known.get((namespace, key)) or self._added(namespace, key)

    def _added(self, namespace: str, key: str) -> _Place:
        if len(self._known) >= KEYS_MAX:
            self._known.clear()
        # What has no UTF-8 form is no key, and found nowhere.
        name = f"{namespace}{key}".encode(errors="surrogatepass")
        digest = digest_of(namespace, key.encode(errors="replace").decode())
        place = self._known[namespace, key] = (digest, name)
        return place


class Quick:
    """See `Near`; for a process that sees the cache of another, the keeper."""

    def __init__(
        self, lookup: Lookup, sight: LmdbSight, mapping: ReaderMapping, *, age_ms_max: int
    ) -> None:
        """Look at `sight`, judge by the same state as `lookup`, and count in `mapping`."""
        self._lookup = lookup
        self._sight = sight
        self._mapping = mapping
        self._age_ms_max = age_ms_max
        self._places = _Places()
        self._slot = 0

    @property
    def incarnation(self) -> int:
        """See `Near`."""
        return self._sight.state.incarnation or 0

    def elapsed_ms(self) -> int:
        """See `Near`."""
        return self._lookup.elapsed_ms()

    def central_us(self) -> int | None:
        """See `Near`."""
        return self._lookup.central_us()

    def look(
        self, namespace: str, key: str, *, asked_ms: int, age_ms_max: int | None
    ) -> Glimpse | None:
        """See `Near`."""
        digest, name = self._places.of(namespace, key)
        lookup = self._lookup
        raw = self._sight.raw(digest)
        if raw is None or not lookup.adopted(self._sight.state):
            return None
        self._slot = slot_of(digest)
        return glance(
            raw,
            namespace=namespace,
            place=name,
            ground=lookup.ground,
            generation=self._sight.generation,
            asked_ms=asked_ms,
            age_ms_max=self._age_ms_max if age_ms_max is None else age_ms_max,
            refresh_at=REFRESH_AT,
            central_us=lookup.central_us,
        )

    def note(self, found: Glimpse) -> None:
        """See `Near`."""
        self._mapping.note_at(self._slot, _status(found))


class KeeperQuick:
    """See `Near`; for the process that is the keeper."""

    def __init__(
        self,
        knowledge: Knowledge,
        cache: LmdbCache,
        *,
        age_ms_max: int,
        count: Callable[[str, CacheStatus], None],
    ) -> None:
        """Look at `cache`, which `knowledge` writes.

        Args:
            knowledge: What the keeper knows.
            cache: Its cache.
            age_ms_max: The location's own bound.
            count: Told the namespace and the kind of each answer.
        """
        self._knowledge = knowledge
        self._cache = cache
        self._count = count
        self._age_ms_max = age_ms_max
        self._places = _Places()
        self._namespace = ""
        self._ground = Ground(
            name=knowledge.name,
            incarnation=None,
            feed=knowledge.feed,
            trusted_ms=NEVER,
            lost_ms=NEVER,
            central_us=0,
        )

    @property
    def incarnation(self) -> int:
        """See `Near`."""
        return self._knowledge.incarnation or 0

    def elapsed_ms(self) -> int:
        """See `Near`."""
        return self._knowledge.time.elapsed_ms()

    def central_us(self) -> int | None:
        """See `Near`."""
        return self._knowledge.time.central_us()

    def look(
        self, namespace: str, key: str, *, asked_ms: int, age_ms_max: int | None
    ) -> Glimpse | None:
        """See `Near`."""
        digest, name = self._places.of(namespace, key)
        knowledge, ground = self._knowledge, self._ground
        self._namespace = namespace
        try:
            raw = self._cache.raw(digest)
        except UNREADABLE:
            return None  # Whoever looks more closely finds out, and begins anew.
        if raw is None or knowledge.pins.shown((namespace, key)) is not None:
            return None
        ground.trusted_ms = knowledge.time.trusted_ms
        ground.lost_ms = knowledge.lost_ms
        return glance(
            raw,
            namespace=namespace,
            place=name,
            ground=ground,
            generation=self._cache.generation,
            asked_ms=asked_ms,
            age_ms_max=self._age_ms_max if age_ms_max is None else age_ms_max,
            refresh_at=REFRESH_AT,
            central_us=knowledge.time.central_us,
        )

    def note(self, found: Glimpse) -> None:
        """See `Near`."""
        self._count(self._namespace, _status(found))


def _status(found: Glimpse) -> CacheStatus:
    return CacheStatus.NEGATIVE if found.value is None else CacheStatus.HIT
