"""Buckets that cover every value once, and quantiles of what was merged."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atoll.usage.histogram import BUCKETS, VALUE_MAX, bounds_of, bucket_of, quantile

values = st.one_of(st.integers(0, 100), st.integers(0, VALUE_MAX))
parts = st.sampled_from([0.25, 0.5, 0.9, 0.99, 0.999])


def histogram_of(sample: list[int]) -> Counter[int]:
    """Count values."""
    return Counter(bucket_of(value) for value in sample)


@given(values)
def test_a_value_lies_in_its_bucket(value: int) -> None:
    """Whose width is at most an eighth of the value."""
    low, end = bounds_of(bucket_of(value))

    assert low <= value < end
    assert end - low == 1 or (end - low) * 8 <= value


def test_buckets_follow_each_other() -> None:
    """Without a gap, and the last one takes everything beyond."""
    assert all(bounds_of(n)[1] == bounds_of(n + 1)[0] for n in range(BUCKETS - 1))
    assert bounds_of(BUCKETS - 1)[1] == VALUE_MAX + 1
    assert bucket_of(VALUE_MAX * 1000) == BUCKETS - 1


@given(st.lists(st.lists(values, min_size=1), min_size=1), parts)
def test_quantiles_are_those_of_all_values_together(samples: list[list[int]], part: float) -> None:
    """Off by an eighth at most, however unevenly the values were counted."""
    together = sorted(value for sample in samples for value in sample)
    merged = sum((histogram_of(sample) for sample in samples), Counter[int]())

    found = quantile(merged, part)

    rank = max(1, -(-int(part * 1000) * len(together) // 1000))
    low, end = bounds_of(bucket_of(together[rank - 1]))
    assert found is not None
    assert low <= found < end


def test_of_nothing_there_is_no_quantile() -> None:
    """Not even 0."""
    assert quantile({}, 0.5) is None
