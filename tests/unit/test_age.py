"""Freshness: what the feed vouches for, and what only a record's own fetch does."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from atoll.location.age import NEVER, Feed, Known, Record, known, within

NS = "n"
RECORD = Record(entry=None, sequence=10, instant_ms=1000)


def feed(*, subscribed_at: int | None = 5, instant_ms: int = 3000, applied: int = 20) -> Feed:
    """Make a feed in one line."""
    subscribed = {} if subscribed_at is None else {NS: subscribed_at}
    return Feed(applied=applied, instant_ms=instant_ms, subscribed=subscribed)


def test_the_feed_vouches_for_what_was_read_since_the_subscription() -> None:
    """Such a record is as current as the feed, and known at what the feed has told."""
    assert known(RECORD, NS, feed()) == Known(instant_ms=3000, sequence=20)
    assert known(RECORD, NS, feed(subscribed_at=10)) == Known(instant_ms=3000, sequence=20)


def test_nothing_else_is_vouched_for() -> None:
    """Read before the subscription, of another namespace, superseded, or marked: its own fetch."""
    own = Known(instant_ms=1000, sequence=10)

    assert known(RECORD, NS, feed(subscribed_at=11)) == own
    assert known(RECORD, NS, feed(subscribed_at=None)) == own
    assert known(replace(RECORD, superseded=True), NS, feed()) == own
    assert known(replace(RECORD, uncovered=True), NS, feed()) == own


def test_an_epoch_ends_what_was_vouched_for() -> None:
    """After a gap no record is covered, and the feed's instant begins anew."""
    after = feed()

    after.start_over(30)

    assert known(RECORD, NS, after) == Known(instant_ms=1000, sequence=10)
    assert (after.applied, after.instant_ms) == (30, NEVER)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
def test_echoes_never_take_anything_back(echoes: list[tuple[int, int]]) -> None:
    """Whatever order they come in, instant and sequence only grow."""
    one = feed()
    for instant_ms, sequence in echoes:
        before = (one.instant_ms, one.applied)
        one.echo(instant_ms=instant_ms, sequence=sequence)

        assert one.instant_ms >= before[0]
        assert one.applied >= before[1]


def test_an_age_is_from_the_question_and_never_negative() -> None:
    """What was learnt after the question came is of age 0; what is of no known time has none."""
    assert Known(instant_ms=1000, sequence=1).age_ms(1500) == 500
    assert Known(instant_ms=2000, sequence=1).age_ms(1500) == 0
    assert Known(instant_ms=NEVER, sequence=1).age_ms(1500) is None


def test_a_bound_is_met_to_the_millisecond() -> None:
    """A bound of 0 is met by what was asked when the question came, or later."""
    assert within(1500, asked_ms=1500, age_ms_max=0)
    assert not within(1499, asked_ms=1500, age_ms_max=0)
    assert within(1499, asked_ms=1500, age_ms_max=1)
    assert not within(NEVER, asked_ms=1500, age_ms_max=10**9)
