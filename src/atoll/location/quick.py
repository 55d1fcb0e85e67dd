"""Answers that are so plainly there that nothing is to be weighed: most reads of most programs.

It looks at the cache's bytes and has `glance` say whether they are an answer. Whatever is out of
the ordinary in any way is left to `Lookup`.
"""

from typing import Final

from atoll.core.model import CacheStatus
from atoll.location.codec import digest_of
from atoll.location.glance import Glimpse, glance
from atoll.location.lmdb_sight import LmdbSight
from atoll.location.lookup import REFRESH_AT, Lookup
from atoll.location.mapping import ReaderMapping, slot_of

KEYS_MAX: Final = 10_000
"""How many keys' digests are remembered."""


class Quick:
    """One process's way to what it may answer at once."""

    def __init__(self, lookup: Lookup, sight: LmdbSight, mapping: ReaderMapping) -> None:
        """Look at `sight`, judge by the same state as `lookup`, and count in `mapping`."""
        self._lookup = lookup
        self._sight = sight
        self._mapping = mapping
        self._places: dict[tuple[str, str], tuple[bytes, bytes, int]] = {}

    def glimpse(
        self, namespace: str, key: str, *, age_ms_max: int, until_ms: int
    ) -> Glimpse | None:
        """Return what is held; `None` says that it is to be judged whether there is an answer.

        Args:
            namespace: The id.
            key: The key.
            age_ms_max: The bound.
            until_ms: The instant from which on the bound may be another.
        """
        digest, name, slot = self._places.get((namespace, key)) or self._placed(namespace, key)
        lookup = self._lookup
        asked_ms = lookup.elapsed_ms()
        if asked_ms >= until_ms:
            return None
        raw = self._sight.raw(digest)
        ground = None if raw is None else lookup.judged_by(self._sight.state, asked_ms)
        if raw is None or ground is None:
            return None
        found = glance(
            raw,
            namespace=namespace,
            place=name,
            ground=ground,
            generation=self._sight.generation,
            asked_ms=asked_ms,
            age_ms_max=age_ms_max,
            refresh_at=REFRESH_AT,
        )
        if found is not None:
            missing = found.value is None
            self._mapping.note_at(slot, CacheStatus.NEGATIVE if missing else CacheStatus.HIT)
        return found

    def _placed(self, namespace: str, key: str) -> tuple[bytes, bytes, int]:
        if len(self._places) >= KEYS_MAX:
            self._places.clear()
        # What has no UTF-8 form is no key, and found nowhere.
        name = f"{namespace}{key}".encode(errors="surrogatepass")
        digest = digest_of(namespace, key.encode(errors="replace").decode())
        place = self._places[namespace, key] = (digest, name, slot_of(digest))
        return place
