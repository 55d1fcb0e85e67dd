"""The plainest question, answered from a record's bytes: is this key held, fresh and unexpired?

Most reads are that question. `judge` answers every question and makes objects on its way that cost
more than the look itself; here the same rules are applied to the record as it is stored. Whatever
is not plain is not answered here, and a property test holds the two to the same answers.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from atoll.location.codec import (
    HAS_METADATA,
    HAS_VALUE,
    HEADER,
    IS_LARGE,
    SUPERSEDED,
    UNCOVERED,
)
from atoll.location.judging import LIVE_MS_MAX, US_PER_S, Ground

ODD: Final = SUPERSEDED | UNCOVERED | IS_LARGE
"""What has one of these is looked at more closely."""


class Glimpse(NamedTuple):
    """What is held of a key."""

    value: bytes | None
    """`None`: what is held is that the key is missing."""
    metadata: bytes | None
    version: int
    expiration: int | None
    sequence: int
    age_ms: int


def glance(
    raw: bytes,
    *,
    namespace: str,
    place: bytes,
    ground: Ground,
    generation: int,
    asked_ms: int,
    age_ms_max: int,
    refresh_at: float,
    central_us: Callable[[], int | None],
) -> Glimpse | None:
    """Answer from a record that is no further from fresh than a plain read allows.

    Args:
        raw: The record, as `codec` encodes it.
        namespace: The namespace asked about, in ASCII as all of them are.
        place: Namespace and key, as they stand in the record.
        ground: What answers are judged by, but for its central time.
        generation: The present generation of boots.
        asked_ms: The instant of the question.
        age_ms_max: Its bound.
        refresh_at: From which part of the bound on an answer is asked for anew; at most 1.
        central_us: Central time as known here, asked for only if the key expires.

    Returns:
        `None` if this takes a closer look.
    """
    (
        written_in,
        flags,
        sequence,
        instant_ms,
        version,
        expiration,
        namespace_bytes,
        key_bytes,
        metadata_bytes,
    ) = HEADER.unpack_from(raw)
    metadata_at = HEADER.size + namespace_bytes + key_bytes
    if (
        flags & ODD
        or written_in != generation
        or namespace_bytes != len(namespace)
        or raw[HEADER.size : metadata_at] != place
    ):
        return None
    feed = ground.feed
    since = feed.subscribed.get(namespace)
    if since is not None and sequence >= since:
        instant_ms = max(instant_ms, feed.instant_ms)
        sequence = max(sequence, feed.applied)
    if instant_ms < ground.trusted_ms or instant_ms < ground.lost_ms:
        return None
    age_ms = max(0, asked_ms - instant_ms)
    if age_ms > age_ms_max * refresh_at or (
        age_ms > LIVE_MS_MAX and ground.feed_age_ms(asked_ms) <= LIVE_MS_MAX
    ):
        return None
    if not flags & HAS_VALUE:
        return Glimpse(None, None, version, None, sequence, age_ms)
    if expiration and expiration * US_PER_S <= (central_us() or 0):
        return None
    value_at = metadata_at + metadata_bytes
    metadata = raw[metadata_at:value_at] if flags & HAS_METADATA else None
    return Glimpse(raw[value_at:], metadata, version, expiration or None, sequence, age_ms)
