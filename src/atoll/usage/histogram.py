"""Histograms that merge: fixed buckets, eight to each doubling, so a quantile is off by an eighth.

Histograms of different nodes and hours are added bucket by bucket, and quantiles are computed from
the sum. Averaging the quantiles themselves would mean nothing.
"""

from collections.abc import Mapping
from typing import Final

EXACT_BITS: Final = 3
EXACT: Final = 1 << EXACT_BITS
"""Below this each whole number has a bucket of its own; above, an eighth of a doubling has one."""

VALUE_BITS: Final = 27
VALUE_MAX: Final = (1 << VALUE_BITS) - 1
"""What is larger counts as this: 134 s of microseconds, 37 hours of milliseconds."""

BUCKETS: Final = (VALUE_BITS - EXACT_BITS) * EXACT + EXACT

QUANTILES: Final = {
    "P25": 0.25,
    "P50": 0.5,
    "P75": 0.75,
    "P90": 0.9,
    "P95": 0.95,
    "P99": 0.99,
    "P999": 0.999,
}


def bucket_of(value: int) -> int:
    """Return the bucket in which a value that is not negative counts."""
    if value < EXACT:
        return value
    value = min(value, VALUE_MAX)
    shift = value.bit_length() - EXACT_BITS - 1
    return (shift << EXACT_BITS) + (value >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """Return the least value of a bucket, and the least value beyond it."""
    if bucket < EXACT:
        return bucket, bucket + 1
    shift = (bucket >> EXACT_BITS) - 1
    low = ((bucket & (EXACT - 1)) | EXACT) << shift
    return low, low + (1 << shift)


def quantile(histogram: Mapping[int, int], part: float) -> float | None:
    """Return the value that `part` of all values do not exceed; `None` of an empty histogram.

    Args:
        histogram: How many values each bucket holds.
        part: From 0 to 1.
    """
    total = sum(histogram.values())
    if not total:
        return None
    wanted = max(1.0, part * total)
    before = 0
    for bucket in sorted(histogram):
        count = histogram[bucket]
        if before + count >= wanted:
            low, end = bounds_of(bucket)
            return low + (end - 1 - low) * (wanted - before) / count
        before += count
    raise AssertionError(wanted)  # The counts add up to the total.
