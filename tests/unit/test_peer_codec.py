"""What crosses between nodes: nothing is lost, and nothing else gets in."""

import typing
from collections import UserList
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import errors, location_errors, quota_errors
from atoll.core.errors import AtollError
from atoll.core.location_errors import UnreachableError
from atoll.core.model import (
    Batch,
    CacheStatus,
    Entry,
    Identity,
    Include,
    JournalToken,
    Listed,
    ListQuery,
    Mutation,
    Outcome,
    OutcomeKind,
    Page,
    Position,
    Presence,
    Read,
    Reading,
    Written,
)
from atoll.core.session import (
    Changed,
    Echo,
    Heartbeat,
    Hello,
    JournalEmpty,
    Resumed,
    StartedOver,
    Subscribe,
    Subscribed,
)
from atoll.core.version import Version
from atoll.peer import codec
from atoll.peer.codec import LENGTH_BYTES, MalformedError

numbers = st.integers(0, 2**62)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe_bytes = st.none() | st.binary(max_size=30)
versions = numbers.map(Version)
positions = st.builds(Position, incarnation=st.integers(0, 2**64 - 1), sequence=numbers)
tokens = st.builds(JournalToken, location=texts, sequence=numbers)
entries = st.builds(
    Entry,
    key=texts,
    version=versions,
    value=maybe_bytes,
    metadata=maybe_bytes,
    expiration=st.none() | numbers,
    sequence=numbers,
)
mutations = st.builds(
    Mutation,
    key=texts,
    value=maybe_bytes,
    metadata=maybe_bytes,
    expiration=st.none() | numbers,
    condition=st.none() | versions | st.sampled_from(Presence),
    stamp=st.none() | versions,
)
identities = st.builds(
    Identity, origin=texts, name=st.binary(max_size=9), lowest_unresolved=maybe_bytes
)
readings = st.builds(
    Reading,
    entry=st.none() | entries,
    position=positions,
    age_ms=st.none() | numbers,
    stale=st.booleans(),
    order_unknown=st.booleans(),
    token=st.none() | tokens,
    buried=st.none() | versions,
    cache=st.sampled_from(CacheStatus),
    node=texts,
)
outcomes = st.builds(
    Outcome,
    kind=st.sampled_from(OutcomeKind),
    version=versions,
    current=st.none() | entries,
)
CASES: list[tuple[codec.Form, st.SearchStrategy[Any]]] = [
    (
        codec.READ,
        st.builds(
            Read,
            namespace=texts,
            keys=st.lists(texts, max_size=3).map(tuple),
            age_ms_max=st.none() | numbers,
            stale_ms_max=st.none() | numbers,
            at_least=st.none() | positions | tokens,
        ),
    ),
    (codec.READING, readings),
    (codec.READINGS, st.lists(readings, max_size=3).map(tuple)),
    (
        codec.BATCH,
        st.builds(
            Batch,
            namespace=texts,
            mutations=st.lists(mutations, max_size=3).map(tuple),
            identity=st.none() | identities,
            deadline_us=st.none() | numbers,
            rate_limited=st.booleans(),
            journal_allowed=st.booleans(),
            clock=versions,
            token=st.none() | tokens,
            heard_us=st.none() | numbers,
        ),
    ),
    (
        codec.WRITTEN,
        st.builds(
            Written,
            outcomes=st.lists(outcomes, max_size=3).map(tuple),
            position=positions,
            repeated=st.booleans(),
            token=st.none() | tokens,
        ),
    ),
    (
        codec.QUERY,
        st.builds(
            ListQuery,
            namespace=texts,
            prefix=texts,
            after=st.none() | texts,
            limit=numbers,
            include=st.sampled_from(Include),
            at_least=st.none() | positions,
        ),
    ),
    (
        codec.PAGE,
        st.builds(
            Page,
            items=st.lists(
                st.builds(Listed, key=texts, version=versions, size_bytes=numbers), max_size=3
            ).map(tuple),
            count=numbers,
            after=st.none() | texts,
            position=positions,
        ),
    ),
    (
        codec.HELLO,
        st.builds(
            Hello, resume_after=st.none() | positions, namespaces=st.frozensets(texts, max_size=3)
        ),
    ),
    (
        codec.UPWARD,
        st.builds(Subscribe, namespace=texts)
        | st.builds(Heartbeat, instant_ms=st.integers(-(2**62), 2**62))
        | st.builds(JournalEmpty, location=texts, as_of_us=numbers),
    ),
    (
        codec.DOWNWARD,
        st.builds(StartedOver, position=positions)
        | st.builds(Resumed)
        | st.builds(Subscribed, namespace=texts, position=positions)
        | st.builds(
            Changed,
            namespace=texts,
            entry=entries,
            position=positions,
            value_included=st.booleans(),
        )
        | st.builds(
            Echo,
            instant_ms=st.integers(-(2**62), 2**62),
            position=positions,
            central_us=st.none() | numbers,
            age_ms=st.none() | numbers,
        ),
    ),
]


@given(st.sampled_from(CASES).flatmap(lambda case: st.tuples(st.just(case[0]), case[1])))
def test_what_was_packed_is_what_is_unpacked(case: tuple[codec.Form, Any]) -> None:
    """Every value and every message, whole, with the length of its frame in front."""
    form, value = case

    frame = codec.pack(value).frame

    assert int.from_bytes(frame[:LENGTH_BYTES], "big") == len(frame) - LENGTH_BYTES
    assert form.unpack(frame[LENGTH_BYTES:]) == value


@given(st.sampled_from([case[0] for case in CASES]), st.binary(max_size=60))
def test_anything_else_is_malformed(form: codec.Form, payload: bytes) -> None:
    """Bytes that are no frame are refused, and nothing worse."""
    try:
        form.unpack(payload)
    except MalformedError:
        return
    assert codec.pack(form.unpack(payload)).frame[LENGTH_BYTES:]


def test_one_message_is_not_another() -> None:
    """A request of one kind is none of another, and a field of another type is none."""
    read = codec.pack(Read(namespace="n", keys=("k",))).frame[LENGTH_BYTES:]

    with pytest.raises(MalformedError):
        codec.BATCH.unpack(read)
    with pytest.raises(MalformedError):
        codec.READ.unpack(read.replace(b"\xa1n", b"\xc4\x01n"))


def test_any_sequence_crosses_as_one() -> None:
    """Stores answer with sequences of their own kind, made when they are looked at."""
    outcome = Outcome(kind=OutcomeKind.APPLIED, version=Version(3))
    position = Position(incarnation=1, sequence=2)
    written = Written(outcomes=UserList([outcome]), position=position)

    crossed: Written = codec.WRITTEN.unpack(codec.pack(written).frame[LENGTH_BYTES:])

    assert list(crossed.outcomes) == [outcome]


@dataclass(frozen=True)
class Held:
    """A large value in memory."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        """See `LargeValue`."""
        return len(self.content)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        yield self.content


@pytest.mark.anyio
async def test_large_values_follow_their_frame() -> None:
    """In order, and their sizes are known from the frame."""
    position = Position(incarnation=1, sequence=2)
    large = [Held(b"first"), Held(b"second one")]
    readings = tuple(
        Reading(entry=Entry(key="k", version=Version(1), value=value), position=position)
        for value in large
    )

    packed = codec.pack(readings)
    body = b"".join([chunk async for chunk in packed.chunks()])
    lowered = codec.READINGS.lowered(packed.frame[LENGTH_BYTES:])

    assert len(body) == packed.size_bytes
    assert body == packed.frame + b"firstsecond one"
    assert codec.READINGS.larges(lowered) == [5, 10]
    assert codec.READINGS.raised(lowered, large) == readings
    with pytest.raises(MalformedError, match="missing"):
        codec.READINGS.unpack(packed.frame[LENGTH_BYTES:])


def kinds(root: type[AtollError] = AtollError) -> list[type[AtollError]]:
    """Return every error of the tree."""
    found = (
        [root]
        if root.__module__ in {errors.__name__, location_errors.__name__, quota_errors.__name__}
        else []
    )
    return found + [one for kind in root.__subclasses__() for one in kinds(kind)]


FACTS: dict[object, object] = {int: 7, bool: True, str: "text", int | None: 7}


def example(kind: type[AtollError]) -> AtollError:
    """Make an error of a kind, with facts of the types that it declares."""
    if kind.__init__ is Exception.__init__:
        return kind("text")
    hints = typing.get_type_hints(kind.__init__)
    facts: dict[str, Any] = {name: FACTS.get(hint, ()) for name, hint in hints.items()}
    facts.pop("return", None)
    return kind(**facts)


CROSSING = [kind for kind in kinds() if kind is not AtollError]


@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.__name__)
def test_errors_are_the_same_on_the_other_side(kind: type[AtollError]) -> None:
    """The class, the sentence, and every fact that is a number, a text or nothing."""
    error = example(kind)

    crossed = codec.unpack_error(codec.pack_error(error)[LENGTH_BYTES:])

    assert type(crossed) is kind
    assert crossed.code == error.code
    plain = {
        name: fact
        for name, fact in vars(error).items()
        if isinstance(fact, str | int | bool | type(None))
    }
    assert {name: vars(crossed).get(name) for name in plain} == plain


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", codec.pack_error(AtollError("internal error"))[LENGTH_BYTES:]]
)
def test_an_error_that_says_nothing_is_no_answer(payload: bytes) -> None:
    """Whatever was asked for may have been done, as if no answer had come."""
    error = codec.unpack_error(payload)

    assert isinstance(error, UnreachableError)
    assert error.sent
