"""What a version promises: one order, and a clock that never repeats and never goes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import ConditionInvalidError
from atoll.core.version import (
    MICROS_MAX,
    NODE_MAX,
    VERSION_MAX,
    HybridClock,
    Version,
    micros_of,
    node_of,
    parse_version,
    version_at,
)

NOW_US = 1_800_000_000_000_000


@given(st.integers(0, MICROS_MAX), st.integers(0, NODE_MAX))
def test_a_version_is_its_reading_and_its_node(micros: int, node: int) -> None:
    """Nothing is lost in packing, and it fits 63 bits."""
    version = version_at(micros, node)

    assert (micros_of(version), node_of(version)) == (micros, node)
    assert 0 <= version <= VERSION_MAX


@given(st.lists(st.tuples(st.integers(0, 2**41), st.integers(1, 5)), min_size=1))
def test_ticks_grow_whatever_the_wall_clock_does(readings: list[tuple[int, int]]) -> None:
    """Versions strictly increase under any sequence of wall-clock readings."""
    clock = HybridClock(node=1)

    issued: list[int] = []
    for now_us, count in readings:
        versions = clock.tick_many(now_us, count)
        issued += [versions[i] for i in range(len(versions))]

    assert issued == sorted(set(issued))
    assert {node_of(Version(version)) for version in issued} == {1}


def test_a_tick_is_the_wall_clock_where_it_can_be() -> None:
    """A version tells when the write was made, to the microsecond."""
    assert micros_of(HybridClock(node=0).tick(NOW_US)) == NOW_US


def test_a_restarted_clock_goes_on_above_its_floor() -> None:
    """A wall clock that stepped back while the node was down repeats nothing."""
    before = HybridClock(node=3).tick(NOW_US)

    after = HybridClock(node=3, floor=before).tick(NOW_US - 60_000_000)

    assert after > before


@given(st.integers(1, 2**41), st.integers(0, NODE_MAX), st.integers(0, 2**41))
def test_observe_moves_past_what_was_seen(micros: int, node: int, now_us: int) -> None:
    """A write made after seeing another node's write beats it, even on a slower clock."""
    clock = HybridClock(node=0)
    seen = version_at(micros, node)

    clock.observe(seen)

    assert clock.last >= seen
    assert clock.tick(now_us) > seen


@given(st.integers(1, VERSION_MAX))
def test_a_version_reads_back_from_its_text(number: int) -> None:
    """An ETag can be sent back as it came."""
    assert parse_version(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "1.0", "1_0", "x", " 1", "٣", str(VERSION_MAX + 1), "9" * 5000]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    """A text that no ETag of ours has is an error that quotes it."""
    with pytest.raises(ConditionInvalidError) as caught:
        parse_version(text)

    assert caught.value.given == text
