"""The verbs of a namespace: the same cases over every way to it, in both manners."""

import io
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from atoll.client import ValueUnreadableError
from atoll.core import errors
from atoll.core.errors import AtollError

Space = Any  # see conftest

LARGE = bytes(range(256)) * 4 * 2**11
"""Two mebibytes: a value that no node holds in memory."""


def joined(stream: Any) -> bytes:  # noqa: ANN401 - pieces, of either manner
    """Read a stream to its end."""
    return b"".join(stream)


# Values.


@pytest.mark.parametrize(
    ("stored", "kind", "read"),
    [
        ("grüezi", "text", "grüezi"),
        ("grüezi", "bytes", "grüezi".encode()),
        (b"\x00\xff", "bytes", b"\x00\xff"),
        (bytearray(b"ab"), "text", "ab"),
        (memoryview(b"ab"), "text", "ab"),
        ("", "text", ""),
        (b"", "bytes", b""),
        ('{"a": [1, null]}', "json", {"a": [1, None]}),
    ],
)
def test_a_value_is_read_as_it_is_asked_for(
    space: Space,
    key: str,
    stored: str | bytes,
    kind: str,
    read: object,
) -> None:
    """What was stored as it is comes back as text, as bytes, or as what its JSON says."""
    space.put(key, stored)

    assert space.get(key, kind) == read
    assert space.get(key, type=kind) == read


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "a", [], {"b": {"ü": [1]}}])
def test_any_json_value_is_stored_as_json(space: Space, key: str, value: object) -> None:
    """So also null, which is a value and no missing key."""
    space.put(key, value, type="json")

    assert space.get(key, "json") == value
    assert space.get(key, "bytes") is not None


def test_what_cannot_be_stored_is_refused_before_anything_is_sent(space: Space, key: str) -> None:
    """A dictionary by itself is none, and JSON has no NaN."""
    with pytest.raises(TypeError, match="json"):
        space.put(key, {"a": 1})
    with pytest.raises(TypeError):
        space.put(key, 5)
    with pytest.raises(ValueError, match="JSON"):
        space.put(key, math.nan, type="json")
    with pytest.raises(errors.MetadataInvalidError):
        space.put(key, "v", metadata=object())
    assert space.get(key, max_age=0) is None


def test_a_value_that_is_no_text_says_so(space: Space, key: str) -> None:
    """It can still be read as bytes."""
    space.put(key, b"\xff{")

    for kind in ("text", "json"):
        with pytest.raises(ValueUnreadableError) as refused:
            space.get(key, kind)
        assert refused.value.kind == kind
    assert space.get(key, "bytes") == b"\xff{"


def test_values_stream_both_ways(space: Space, key: str) -> None:
    """From pieces, from a file and from an async source, and in pieces back."""

    def pieces() -> Iterator[bytes]:
        """Yield it in two."""
        yield LARGE[:1000]
        yield LARGE[1000:]

    async def arriving() -> AsyncIterator[bytes]:
        """Yield it in two, as it comes."""
        yield LARGE[:1000]
        yield LARGE[1000:]

    for source in (pieces(), io.BytesIO(LARGE), arriving(), LARGE):
        space.delete(key)
        space.put(key, source)
        assert joined(space.get(key, "stream")) == LARGE
        assert space.get(key, "bytes") == LARGE
    space.put(key, b"small")
    assert joined(space.get(key, "stream")) == b"small"
    assert space.get(f"{key}none", "stream") is None


def test_a_stream_may_not_wait_for_the_client_that_reads_it(ways: Any, key: str) -> None:  # noqa: ANN401
    """It says so rather than waiting for ever."""
    space = ways.namespace("central", "sync")

    async def arriving() -> AsyncIterator[bytes]:
        """Ask in between."""
        yield b"a"
        space.get(key)

    with pytest.raises(RuntimeError, match="sync client"):
        space.put(key, arriving())


# What is known of a key.


def test_an_answer_says_what_is_known(space: Space, way: str, key: str) -> None:
    """Its version, position, expiration, metadata, age, and who answered."""
    written = space.put(key, "v", metadata={"é": "\x7f"}, expiration=2_000_000_000)

    answer = space.get_with_metadata(key)

    assert answer.value == "v"
    assert answer.metadata == {"é": "\x7f"}
    assert answer.version == written.version
    assert answer.expiration == 2_000_000_000
    assert answer.age is not None
    assert 0 <= answer.age < 60
    assert answer.node == ("central" if way == "central" else "LHR")
    marks = [answer.stale, answer.journaled, answer.order_unknown, written.journaled]
    assert marks == [False] * 4
    assert space.get(key, at_least=written.position) == "v"
    assert space.get(key, at_least=answer.position) == "v"


def test_a_missing_key_is_knowledge_too(space: Space, key: str) -> None:
    """It has a position and an age, and no version."""
    answer = space.get_with_metadata(key)

    assert (answer.value, answer.metadata, answer.version) == (None, None, None)
    assert answer.position
    assert answer.age is not None
    assert space.get(key) is None


def test_a_time_to_live_becomes_an_expiration(space: Space, key: str) -> None:
    """It is counted from central's time, wherever it is given."""
    space.put(key, "v", expiration_ttl=3600)

    first = space.get_with_metadata(key).expiration
    space.put(key, "v", expiration_ttl=7200, expiration=2_000_000_000)

    assert 3590 <= space.get_with_metadata(key).expiration - first <= 3700


def test_what_has_expired_is_missing(space: Space, key: str) -> None:
    """Read again and again, it goes when its time has come, and does not come back."""
    space.put(key, "v", expiration_ttl=1)

    seen = [space.get(key) for _ in range(50)]
    while seen[-1] is not None:
        assert len(seen) < 1_000_000
        seen.append(space.get(key))

    assert space.get(key) is None
    assert space.get_with_metadata(key).version is None


# Keys.


@pytest.mark.parametrize(
    "odd", ["a/b//c", "?x=1&y#z", "100%", "%2F", "..a", " ", "keys", "ключ", "+", "a\nb", "k" * 300]
)
def test_odd_keys_are_keys(space: Space, key: str, odd: str) -> None:
    """Whatever they would mean in a URL."""
    space.put(odd, key)

    assert space.get(odd) == key
    assert odd in [one.name for one in space.scan(odd)]
    space.delete(odd)
    assert space.get(odd, max_age=0) is None


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("", errors.KeyEmptyError),
        (".", errors.KeyIllegalError),
        ("..", errors.KeyIllegalError),
        ("k" * 513, errors.KeyTooLongError),
        ("\ud800", errors.KeyEncodingError),
    ],
)
def test_what_is_no_key_is_refused(space: Space, bad: str, kind: type[AtollError]) -> None:
    """By every verb, with the same error."""
    for verb in (space.get, space.delete, space.session().get):
        with pytest.raises(kind):
            verb(bad)
    with pytest.raises(kind):
        space.put(bad, "v")


# Many keys.


def test_many_keys_are_read_in_their_order(space: Space, key: str) -> None:
    """Each by itself, and those that are missing as well."""
    names = [f"{key}{number}" for number in range(40)]
    for number, name in enumerate(names[:20]):
        space.put(name, str(number), metadata=number)
    asked = [*reversed(names), names[0]]

    found = space.get_many(asked)
    known = space.get_many_with_metadata(names[:20], "json")

    assert list(found) == list(reversed(names))
    assert found == {n: str(i) if i < 20 else None for i, n in enumerate(names)}
    assert [(one.value, one.metadata) for one in known.values()] == [(i, i) for i in range(20)]
    assert space.get_many([]) == {}


def test_many_large_values_are_read_all_the_same(space: Space, key: str) -> None:
    """Also where they are more than one answer holds."""
    names = [f"{key}{number}" for number in range(14)]
    for name in names:
        space.put(name, LARGE)

    assert space.get_many(names, "bytes") == dict.fromkeys(names, LARGE)
    with pytest.raises(errors.KeyIllegalError):
        space.get_many([*names[:2], ".."])


def test_many_keys_of_a_session_are_its_own_writes(space: Space, key: str) -> None:
    """Each as it was written last."""
    own = space.session()
    for number in range(3):
        own.put(f"{key}{number}", str(number))

    found = own.get_many([f"{key}{number}" for number in range(4)])

    assert list(found.values()) == ["0", "1", "2", None]


def test_keys_are_listed_page_by_page(space: Space, key: str) -> None:
    """With their metadata, and their values where those are asked for."""
    for number in range(5):
        space.put(f"{key}{number}", bytes([number, 255]), metadata={"n": number})

    first = space.list(key, limit=3)
    second = space.list(key, limit=3, cursor=first.cursor, values=True)

    assert [one.name for one in first.keys] == [f"{key}{number}" for number in range(3)]
    assert [one.metadata for one in first.keys] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert (first.complete, second.complete) == (False, True)
    assert [one.value for one in second.keys] == [b"\x03\xff", b"\x04\xff"]
    assert [one.size_bytes for one in second.keys] == [2, 2]
    assert [one.name for one in space.scan(key)] == [f"{key}{number}" for number in range(5)]
    assert space.count(key) == 5
    with pytest.raises(errors.CursorInvalidError):
        space.list(f"{key}1", cursor=first.cursor)
    with pytest.raises(errors.ParameterInvalidError):
        space.list(limit=0)


def test_keys_are_deleted_by_prefix(space: Space, key: str) -> None:
    """Those that begin with it and no others."""
    for number in range(3):
        space.put(f"{key}a{number}", "v")
    space.put(f"{key}b", "v")

    assert space.delete_prefix(f"{key}a") == 3
    assert [one.name for one in space.scan(key)] == [f"{key}b"]


# Conditions.


def test_a_write_may_depend_on_a_version(space: Space, key: str) -> None:
    """One that does not hold writes nothing and says what is there."""
    first = space.put(key, "1", if_none_match="*")
    second = space.put(key, "2", if_match=first.version)

    with pytest.raises(errors.ConditionFailedError) as failed:
        space.put(key, "3", if_match=first.version)

    assert failed.value.version_current == second.version
    assert str(second.version) in str(failed.value)
    with pytest.raises(errors.ConditionFailedError):
        space.put(key, "3", if_none_match="*")
    with pytest.raises(errors.ConditionFailedError):
        space.delete(key, if_match=first.version)
    assert space.get(key, max_age=0) == "2"
    space.delete(key, if_match=second.version)
    with pytest.raises(errors.ConditionFailedError) as absent:
        space.put(key, "3", if_match="*")
    assert absent.value.version_current is None


def test_a_write_with_a_name_is_made_once(space: Space, key: str) -> None:
    """Repeating it gives the first outcome; the name stands for no other request."""
    first = space.put(key, "1", idempotency_key=key)
    space.put(key, "2")

    again = space.put(key, "1", idempotency_key=key)

    assert again.version == first.version
    assert space.get(key, max_age=0) == "2"
    with pytest.raises(errors.IdempotencyKeyReusedError):
        space.put(key, "3", idempotency_key=key)


# Bounds.


def test_a_bound_of_nothing_asks_central(space: Space, ways: Any, key: str) -> None:  # noqa: ANN401
    """What was just written elsewhere is seen."""
    central = ways.namespace("central", "sync")
    for number in range(5):
        central.put(key, str(number))
        assert space.get(key, max_age=0) == str(number)
        assert space.get_with_metadata(key, max_age=0).age == 0


def test_a_position_brings_what_was_written_elsewhere(
    space: Space,
    ways: Any,  # noqa: ANN401 - see conftest
    key: str,
) -> None:
    """A read that presents it is not older; so is a deletion."""
    central = ways.namespace("central", "sync")
    for number in range(5):
        written = central.put(key, str(number))
        assert space.get(key, at_least=written.position) == str(number)
    gone = central.delete(key)
    assert space.get(key, at_least=gone.position) is None
    incarnation, _, sequence = gone.position.rpartition("-")
    with pytest.raises(errors.NotArrivedError):
        space.get(key, at_least=f"{incarnation}-{int(sequence) + 10**9}")


def test_a_session_reads_its_own_writes_anywhere(
    space: Space,
    ways: Any,  # noqa: ANN401 - see conftest
    key: str,
) -> None:
    """Also those that it made through another client, and lists include them."""
    writing = ways.namespace("central", "sync").session()
    reading = ways.namespace("location", "sync").session(sharing=writing)
    for number in range(5):
        writing.put(key, str(number))
        assert reading.get(key) == str(number)
    own = space.session()
    own.put(f"{key}own", "v")
    assert own.get(f"{key}own") == "v"
    assert [one.name for one in own.list(key).keys] == [key, f"{key}own"]
    own.delete(f"{key}own")
    assert own.get(f"{key}own") is None
    assert own.count(key) == 1


@pytest.mark.parametrize(
    "bounds", [{"max_age": -1}, {"max_stale": math.nan}, {"at_least": "yesterday"}]
)
def test_a_bound_that_is_none_is_refused(space: Space, key: str, bounds: dict[str, Any]) -> None:
    """Before anything is asked."""
    with pytest.raises(errors.ParameterInvalidError):
        space.get(key, **bounds)
