"""What an answer to a read says of itself in headers: where, when and by whom it is true."""

import math
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from atoll.core.model import CENTRAL_NAME, CacheStatus, Reading
from atoll.http.exchange import Header, at_position

MS_PER_S: Final = 1000
TRUE: Final = b"?1"
"""A boolean of RFC 8941."""

_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")

_HOW: Final = {
    CacheStatus.HIT: b"; hit",
    CacheStatus.MISS: b"; fwd=miss",
    # RFC 9211 keeps `fwd=stale` for what was asked anew; this was answered without asking.
    CacheStatus.STALE: b"; hit; detail=stale",
    CacheStatus.NEGATIVE: b"; hit; detail=negative",
}


_WEAKEST_FIRST: Final = (
    CacheStatus.STALE,
    CacheStatus.MISS,
    CacheStatus.NEGATIVE,
    CacheStatus.HIT,
)


def combined(readings: Collection[Reading]) -> Reading:
    """Return what holds for all of several readings: the greatest age, the earliest position.

    Args:
        readings: Answers of one node, one at least.
    """
    oldest = max(readings, key=lambda one: math.inf if one.age_ms is None else one.age_ms)
    weakest = min(readings, key=lambda one: _WEAKEST_FIRST.index(one.cache))
    # A place in a journal cannot be compared with one in central's log, beneath which it lies.
    positions = [one.position for one in readings if not one.journaled]
    return replace(
        oldest,
        entry=None,
        buried=None,
        position=min(positions or [one.position for one in readings], key=lambda at: at.sequence),
        stale=any(one.stale for one in readings),
        order_unknown=any(one.order_unknown for one in readings),
        cache=weakest.cache,
        node=weakest.node,
        token=next((one.token for one in readings if one.journaled), None),
    )


def headers_of_reading(reading: Reading, *, age_ms_max: int | None) -> list[Header]:
    """Return the position, the age, who answered, and the marks of a weaker answer.

    Args:
        reading: The answer.
        age_ms_max: The bound that the request set, if it did.
    """
    headers = [
        at_position(reading.token or reading.position),
        (b"cache-status", _cache_status(reading, age_ms_max)),
    ]
    if reading.age_ms is None:
        headers.append((b"atoll-age-unknown", TRUE))
    else:
        headers.append((b"age", b"%d" % -(-reading.age_ms // MS_PER_S)))
    if reading.stale:
        headers.append((b"atoll-stale", TRUE))
    if reading.order_unknown:
        headers.append((b"atoll-order-unknown", TRUE))
    if reading.journaled:
        headers.append((b"atoll-journaled", TRUE))
    return headers


def cache_status(name: str, how: CacheStatus) -> bytes:
    """Return a location's member of RFC 9211's list, without what depends on the request."""
    if not _TOKEN.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return name.encode("latin-1", "replace") + _HOW[how]


def _cache_status(reading: Reading, age_ms_max: int | None) -> bytes:
    """Return one member of RFC 9211's list: of the node that answered, whatever is above it."""
    if reading.node == CENTRAL_NAME:
        return b"central; hit; detail=store"
    status = cache_status(reading.node, reading.cache)
    if age_ms_max is not None and reading.age_ms is not None and not reading.journaled:
        status += b"; ttl=%d" % ((age_ms_max - reading.age_ms) // MS_PER_S)
    return status
