"""Values that are so plainly an answer that nothing is to be weighed: most reads of most programs.

`judging` has the rules. What is answered here it would answer too, and the test of this module
compares the two; whatever is out of the ordinary in any way is left to it.
"""

from typing import Final

from atoll.location.codec import (
    HAS_ENTRY,
    HAS_METADATA,
    HAS_VALUE,
    HEADER,
    digest_of,
)
from atoll.location.judging import LIVE_MS_MAX, US_PER_S
from atoll.location.lmdb_sight import LmdbSight
from atoll.location.lookup import Lookup
from atoll.location.mapping import ReaderMapping, slot_of

KEYS_MAX: Final = 10_000
"""How many keys' digests are remembered."""

PLAIN: Final = frozenset({HAS_ENTRY | HAS_VALUE, HAS_ENTRY | HAS_VALUE | HAS_METADATA})
"""The flags of a record that holds its value and was not marked in any way."""

_HEADER_BYTES: Final = HEADER.size


class Quick:
    """One process's way to what it may answer at once."""

    def __init__(self, lookup: Lookup, sight: LmdbSight, mapping: ReaderMapping) -> None:
        """Look at `sight`, judge by the same state as `lookup`, and count in `mapping`."""
        self._lookup = lookup
        self._sight = sight
        self._mapping = mapping
        self._places: dict[tuple[str, str], tuple[bytes, bytes, int]] = {}

    def value(self, namespace: str, key: str, *, age_ms_max: int, until_ms: int) -> bytes | None:
        """Return a value; `None` says that it is to be judged whether there is an answer.

        Args:
            namespace: The id.
            key: The key.
            age_ms_max: The age below which nothing is to be refreshed.
            until_ms: The instant from which on `age_ms_max` may be another.
        """
        place = self._places.get((namespace, key))
        if place is None:
            place = self._placed(namespace, key)
        digest, name, slot = place
        lookup = self._lookup
        now_ms = lookup.time.elapsed_ms()
        raw = self._sight.raw(digest)
        if raw is None or now_ms >= until_ms or not lookup.adopted(self._sight.state):
            return None
        # Adopting may have brought another clock; what it noticed of a jump counts.
        time = lookup.time
        (
            written_in,
            flags,
            sequence,
            instant_ms,
            _,
            expiration,
            namespace_bytes,
            key_bytes,
            metadata_bytes,
        ) = HEADER.unpack_from(raw)
        key_end = _HEADER_BYTES + namespace_bytes + key_bytes
        feed = lookup.ground.feed
        since = feed.subscribed.get(namespace)
        if since is not None and sequence >= since and feed.instant_ms > instant_ms:
            instant_ms = feed.instant_ms
        if (
            flags not in PLAIN
            or written_in != self._sight.generation
            or instant_ms < time.trusted_ms
            or now_ms - instant_ms > age_ms_max
            or raw[_HEADER_BYTES:key_end] != name
            or (expiration and expiration * US_PER_S <= (time.central_us() or 0))
        ):
            return None
        self._mapping.note_hit(slot)
        return raw[key_end + metadata_bytes :]

    def _placed(self, namespace: str, key: str) -> tuple[bytes, bytes, int]:
        if len(self._places) >= KEYS_MAX:
            self._places.clear()
        digest = digest_of(namespace, key)
        place = (digest, f"{namespace}{key}".encode(), slot_of(digest))
        self._places[namespace, key] = place
        return place


def quick_age_ms(age_ms_max: int, *, refresh_at: float) -> int:
    """Return the age up to which an answer within a bound is not asked for anew."""
    return min(int(age_ms_max * refresh_at), LIVE_MS_MAX)
