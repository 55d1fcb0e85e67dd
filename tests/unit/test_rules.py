"""Which requests are allowed, what wins, and what a reader sees."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import rules
from atoll.core.errors import (
    ConditionInvalidError,
    ExpirationInvalidError,
    ExpirationTtlInvalidError,
    KeyEmptyError,
    KeyEncodingError,
    KeyIllegalError,
    KeyTooLongError,
    MetadataInvalidError,
    MetadataTooLargeError,
    RewriteTooSoonError,
    ValueTooLargeError,
)
from atoll.core.limits import PRESETS, Limits
from atoll.core.model import Entry, Presence
from atoll.core.version import Version

TODAY = PRESETS["today"]
NOW_S = 1_800_000_000


@pytest.mark.parametrize("key", ["a", "...", "a/../b", "\0", "/", "é" * 256, "x" * 512, "𝄞" * 128])
def test_keys_of_1_to_512_bytes_are_keys(key: str) -> None:
    """Length counts in UTF-8 bytes; a NUL, dots and slashes are ordinary."""
    rules.check_key(TODAY, key)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("", KeyEmptyError, "must not be empty"),
        (".", KeyIllegalError, 'Illegal key name "."'),
        ("..", KeyIllegalError, 'Illegal key name ".."'),
        ("x" * 513, KeyTooLongError, "length of 513 exceeds key length limit of 512"),
        ("é" * 257, KeyTooLongError, "length of 514 exceeds key length limit of 512"),
        ("\ud800", KeyEncodingError, "URL-decode"),
    ],
)
def test_what_cannot_be_a_key_is_refused(key: str, error: type[Exception], words: str) -> None:
    """Each rule of keys has its own error, in the words that clients know."""
    with pytest.raises(error, match=words):
        rules.check_key(TODAY, key)


def test_a_value_may_have_25_mebibytes_and_no_more() -> None:
    """The limit itself passes; one byte more is refused with both numbers."""
    rules.check_value_size(TODAY, 26_214_400)

    with pytest.raises(ValueTooLargeError, match="26214401 exceeds limit of 26214400"):
        rules.check_value_size(TODAY, 26_214_401)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(json_values)
def test_metadata_is_stored_compactly_and_means_the_same(metadata: object) -> None:
    """Whatever white space it came with, what is stored is compact and equal."""
    stored = rules.parse_metadata(
        Limits(metadata_bytes_max=100_000), json.dumps(metadata, indent=4)
    )

    if metadata is None:
        assert stored is None
    else:
        assert stored is not None
        assert json.loads(stored) == metadata
        assert (
            stored
            == json.dumps(json.loads(stored), separators=(",", ":"), ensure_ascii=False).encode()
        )


def test_metadata_is_measured_as_it_is_stored() -> None:
    """1,024 bytes pass even if they came with spaces; 1,025 do not."""
    rules.parse_metadata(TODAY, "[ " + ",  ".join(["1"] * 511) + " ]")
    rules.compact_metadata(TODAY, "x" * 1022)

    with pytest.raises(MetadataTooLargeError, match="1025 exceeds limit of 1024"):
        rules.compact_metadata(TODAY, "x" * 1023)


@pytest.mark.parametrize("text", ["undefined", "{", "NaN", "[Infinity]", '"\\ud800"', "[" * 99_999])
def test_metadata_that_is_not_json_is_refused(text: str) -> None:
    """Only what every JSON reader can read back is stored."""
    with pytest.raises(MetadataInvalidError):
        rules.parse_metadata(TODAY, text)


def test_empty_metadata_is_none() -> None:
    """SDKs send an empty part when there is no metadata."""
    assert rules.parse_metadata(TODAY, b"") is None


@pytest.mark.parametrize("ttl", [60, 60.9, "60", "60.9"])
def test_a_time_to_live_counts_in_whole_seconds(ttl: rules.Seconds) -> None:
    """Fractions are cut off, of the time to live and of now."""
    assert rules.expires_at(TODAY, now_s=NOW_S + 0.7, expiration_ttl=ttl) == NOW_S + 60


@pytest.mark.parametrize(
    "ttl",
    [
        0,
        -1,
        59,
        59.99,
        "59",
        "",
        "x",
        "1_000",
        " 70",
        "\u0667\u0660",
        "1e9",
        math.nan,
        math.inf,
        "9" * 99,
    ],
)
def test_a_bad_time_to_live_is_refused(ttl: rules.Seconds) -> None:
    """Too small, no number, or beyond the year 9999: an error that quotes it."""
    with pytest.raises(ExpirationTtlInvalidError) as caught:
        rules.expires_at(TODAY, now_s=NOW_S, expiration_ttl=ttl)

    assert caught.value.given == str(ttl)


@pytest.mark.parametrize("at", [NOW_S, NOW_S - 1, NOW_S + 59, 0, -5, "abc", 1e300, NOW_S * 1000])
def test_a_bad_expiration_is_refused(at: rules.Seconds) -> None:
    """Past, too near, no number, or milliseconds taken for seconds."""
    with pytest.raises(ExpirationInvalidError):
        rules.expires_at(TODAY, now_s=NOW_S, expiration=at)


def test_a_time_to_live_wins_over_an_expiration() -> None:
    """With both given the time to live decides, and the other is not even looked at."""
    assert rules.expires_at(TODAY, now_s=NOW_S, expiration=5, expiration_ttl=90) == NOW_S + 90
    assert rules.expires_at(TODAY, now_s=NOW_S, expiration=NOW_S + 61.5) == NOW_S + 61
    assert rules.expires_at(TODAY, now_s=NOW_S) is None


def test_presets_differ_where_the_service_changed() -> None:
    """2019 had smaller values and fewer namespaces; `open` drops what Atoll does not need."""
    assert (TODAY.value_bytes_max, PRESETS["2019"].value_bytes_max) == (26_214_400, 2_000_000)
    assert [p.namespaces_per_account_max for p in PRESETS.values()] == [1000, 20, None]
    assert rules.expires_at(PRESETS["open"], now_s=NOW_S, expiration_ttl=1) == NOW_S + 1


def test_an_expired_entry_is_not_seen() -> None:
    """An entry lives up to its second and no longer, and a tombstone never."""
    entry = Entry(key="k", version=Version(1), value=b"", expiration=100)

    assert rules.is_live(entry, 99.999)
    assert not rules.is_live(entry, 100)
    assert not rules.is_live(Entry(key="k", version=Version(1), value=None), 0)
    assert not rules.is_live(None, 0)


def test_conditions_hold_as_http_says() -> None:
    """A version matches itself alone, and never absence."""
    held = Version(7)

    assert rules.holds(None, None)
    assert rules.holds(held, held)
    assert not rules.holds(Version(8), held)
    assert not rules.holds(held, None)
    assert rules.holds(Presence.ABSENT, None)
    assert not rules.holds(Presence.ABSENT, held)
    assert rules.holds(Presence.PRESENT, held)
    assert not rules.holds(Presence.PRESENT, None)


def test_condition_headers_are_read() -> None:
    """An ETag, a star, or nothing."""
    assert rules.parse_condition(if_match=None, if_none_match=None) is None
    assert rules.parse_condition(if_match='"42"', if_none_match=None) == Version(42)
    assert rules.parse_condition(if_match="*", if_none_match=None) is Presence.PRESENT
    assert rules.parse_condition(if_match=None, if_none_match=" * ") is Presence.ABSENT


@pytest.mark.parametrize(
    ("if_match", "if_none_match"),
    [("42", None), ('W/"42"', None), ('"1", "2"', None), ('"', None), (None, '"42"'), ("*", "*")],
)
def test_other_conditions_are_refused(if_match: str | None, if_none_match: str | None) -> None:
    """What we would have to guess about is an error instead."""
    with pytest.raises(ConditionInvalidError):
        rules.parse_condition(if_match=if_match, if_none_match=if_none_match)


def test_one_write_a_second_to_one_key() -> None:
    """The second is refused with the time to wait; other keys and later times pass."""
    limiter = rules.RewriteLimiter(1000)
    limiter.accept("ns", "k", 5_000)
    limiter.accept("ns", "other", 5_000)
    limiter.accept("other", "k", 5_000)

    with pytest.raises(RewriteTooSoonError) as caught:
        limiter.accept("ns", "k", 5_400)

    assert caught.value.retry_after_ms == 600
    limiter.accept("ns", "k", 6_000)


def test_a_write_that_was_not_applied_can_be_uncounted() -> None:
    """Releasing a key lets it be written at once."""
    limiter = rules.RewriteLimiter(1000)
    limiter.accept("ns", "k", 0)

    limiter.release("ns", "k")

    limiter.accept("ns", "k", 1)


def test_the_limiter_forgets_what_is_old() -> None:
    """Its memory is bounded by the writes of one interval."""
    limiter = rules.RewriteLimiter(1000)
    for i in range(5_000):
        limiter.accept("ns", str(i), i)

    assert limiter.wait_ms("ns", "3999", 4_999) == 0
    assert limiter.wait_ms("ns", "4000", 4_999) == 1
    assert limiter.keys_held <= 1_001
