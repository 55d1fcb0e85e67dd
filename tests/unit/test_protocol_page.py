"""The page about the protocol between nodes says what the code does, field by field."""

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import pytest

from atoll import whereabouts
from atoll.central import FEED_VALUE_BYTES_MAX
from atoll.core import errors, location_errors, model, quota_errors, session
from atoll.core.errors import AtollError
from atoll.core.model import Entry, Position, Read, Reading
from atoll.core.version import version_at
from atoll.http.rest_form import REFUSALS
from atoll.location import children
from atoll.location.session import SessionSettings
from atoll.location.writes import WriteSettings
from atoll.peer import client, codec
from atoll.upstream import Upstream
from tests.tidy.sources import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()

WIRE = codec.WIRE

ENUMS: tuple[type[StrEnum], ...] = (
    model.Presence,
    model.OutcomeKind,
    model.CacheStatus,
    model.Include,
)

PLAIN: dict[object, str] = {
    int: "int",
    str: "str",
    bytes: "bin",
    bool: "bool",
    type(None): "nil",
    model.LargeValue: "Large",
}

LIMITS = {
    "payload of a session's message": codec.MESSAGE_BYTES_MAX,
    "frame of a request or an answer, its four bytes included": codec.FRAME_BYTES_MAX,
    "value inside a frame": model.VALUE_INLINE_BYTES_MAX,
    "value that the feed carries": FEED_VALUE_BYTES_MAX,
    "head of an answer": client.HEAD_BYTES_MAX,
    "piece in which a large value is received": client.PIECE_BYTES,
    "calls under way to one node": client.CALLS_MAX,
    "idle connections kept to one node": client.IDLE_MAX,
    "time to connect": client.CONNECT_S,
    "time for which an idle connection is kept": client.IDLE_S,
    "messages that wait for a child": children.QUEUE_MAX,
    "between heartbeats": SessionSettings().heartbeat_s,
    "between statuses": SessionSettings().status_s,
    "time for which answers to a question are waited for": whereabouts.ANSWER_S_MAX,
    "locations that a status is relayed through": whereabouts.VIA_MAX,
    "silence after which a session is given up": SessionSettings().silence_s,
    "between a session and the next": SessionSettings().reconnect_s,
    "deadline of a direct write, ahead of central time": WriteSettings().deadline_us // 10**6,
    "length in front of a frame": codec.LENGTH_BYTES,
}

NO_LIMITS = {"VERSION", "STATUS_OK", "LARGE_IN_ANSWER_MAX"}
"""Numbers that limit nothing: the last is checked nowhere."""

READ = Read(namespace="0f" * 16, keys=("greeting",), age_ms_max=1000)
READING = Reading(
    entry=Entry(
        key="greeting",
        version=version_at(1_790_000_000_000_000, 0),
        value=b"hello",
        sequence=41,
    ),
    position=Position(incarnation=0x1F2E3D4C5B6A7988, sequence=42),
)


def type_shown(kind: object) -> str:
    """Say a field's type as the page does."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(dict.fromkeys(type_shown(one) for one in arguments))
    if origin in {Sequence, frozenset}:
        return f"array of {type_shown(arguments[0])}"
    if isinstance(kind, typing.NewType):
        return type_shown(kind.__supertype__)
    assert isinstance(kind, type), kind
    return kind.__name__


def default_shown(default: object) -> str:
    """Say a field's default as the page does."""
    if default is dataclasses.MISSING:
        return "required"
    if default is None:
        return "nil"
    if default in (b"", frozenset()):
        return "empty"
    return f"`{msgspec.json.encode(default).decode()}`"


def fields_of(kind: type) -> list[tuple[str, str, str]]:
    """List a class's fields, each with its type and default."""
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        pairs = [(one.name, one.default) for one in dataclasses.fields(kind)]
    else:
        assert kind is model.Mutation
        defaults = model.Mutation._field_defaults
        pairs = [(name, defaults.get(name, dataclasses.MISSING)) for name in model.Mutation._fields]
    return [(name, type_shown(hints[name]), default_shown(default)) for name, default in pairs]


def section(title: str) -> str:
    """Return what stands under a heading, up to the next."""
    _, found, rest = PAGE.partition(f"\n{title}\n")
    assert found, title
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the rows of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells[2:] if not set(row[0]) <= {"-"}]


def hexadecimal(title: str) -> bytes:
    """Return the bytes that an example shows."""
    block = section(title).split("```")[1]
    return bytes.fromhex(block.removeprefix("text\n"))


def test_every_class_is_there() -> None:
    """Each class that crosses has a section of its own, and no other has."""
    titles = re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)

    assert sorted(titles) == sorted([*(kind.__name__ for kind in WIRE), "Large", "Refusal"])


@pytest.mark.parametrize("kind", WIRE, ids=lambda kind: kind.__name__)
def test_every_field_is_there(kind: type) -> None:
    """Each field stands in its class's table, in order, with its type and its default."""
    told = [
        (name.strip("`"), shown, default)
        for name, shown, default, _ in rows(section(f"### `{kind.__name__}`"))
    ]

    assert told == fields_of(kind)


@pytest.mark.parametrize("kind", [codec.Large, codec.Refusal])
def test_the_forms_of_the_codec_are_there(kind: type[msgspec.Struct]) -> None:
    """What crosses without being of the model has its fields in a table too."""
    told = [row[0].strip("`") for row in rows(section(f"### `{kind.__name__}`"))]

    assert told == list(kind.__struct_fields__)


@pytest.mark.parametrize("kind", ENUMS)
def test_every_word_is_there(kind: type[StrEnum]) -> None:
    """Each fixed word that a field may hold stands in the table of words."""
    told = {row[0].strip("`"): row[1] for row in rows(section("### Words"))}

    assert told[kind.__name__] == ", ".join(f"`{one.value}`" for one in kind)


def test_every_verb_is_there() -> None:
    """The verbs are those of an upstream, each under the prefix of this version."""
    told = [row[0].strip("`") for row in rows(section("## Verbs"))]
    prefix = codec.PREFIX.decode()

    assert told == [prefix + name for name in vars(Upstream) if not name.startswith("_")]
    assert prefix == f"/peer/v{codec.VERSION}/"
    assert f"This page specifies version {codec.VERSION}." in PAGE
    assert f"`{codec.CONTENT_TYPE.decode()}`" in PAGE


def test_every_message_has_its_direction() -> None:
    """What goes up and what comes down is listed, and nothing else."""
    told = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in rows(section("### Messages"))}

    up = [kind.__name__ for kind in typing.get_args(session.Upward)]
    down = [kind.__name__ for kind in typing.get_args(session.Downward)]
    assert told == {"first, up": ["Hello"], "up": up, "down": down}


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_there(name: str) -> None:
    """Each limit stands in the table by its number."""
    told = {row[0]: row[1] for row in rows(section("## Limits"))}

    assert float(told[name].split()[0].replace(",", "")) == LIMITS[name]


@pytest.mark.parametrize("module", [codec, client])
def test_no_limit_of_the_code_is_missing(module: types.ModuleType) -> None:
    """Whatever number the codec or the client holds to is in the table."""
    numbers = {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, (int, float)) and name not in NO_LIMITS
    }

    assert numbers
    assert {name for name, value in numbers.items() if value not in LIMITS.values()} == set()


def test_no_other_limit_is_there() -> None:
    """The table names no limit that the code does not have."""
    assert sorted(row[0] for row in rows(section("## Limits"))) == sorted(LIMITS)


def tree(root: type[AtollError]) -> dict[str, type[AtollError]]:
    """Return the errors that may cross, by code."""
    found = {root.code: root}
    for kind in root.__subclasses__():
        if kind.__module__ in {errors.__name__, location_errors.__name__, quota_errors.__name__}:
            found |= tree(kind)
    return found


def test_the_errors_are_the_code_s() -> None:
    """Each error in the table has the status that the code gives it, and facts that it has."""
    known = tree(AtollError)
    told = rows(section("### Codes"))

    assert told
    for code, status, facts, _ in told:
        kind = known[code.strip("`")]
        assert REFUSALS[kind.code].status == int(status)
        names = set(kind.__init__.__code__.co_varnames) if "__init__" in vars(kind) else set[str]()
        assert set(re.findall(r"`(\w+)`", facts)) <= names


def test_the_example_of_a_request_is_what_is_sent() -> None:
    """The bytes of the request are those that the code makes, and it reads them so."""
    shown = hexadecimal("### The request")

    assert shown == codec.pack(READ).frame
    assert codec.READ.unpack(shown[codec.LENGTH_BYTES :]) == READ


def test_the_example_of_an_answer_is_what_is_sent() -> None:
    """The bytes of the answer are those that the code makes, and it reads them so."""
    shown = hexadecimal("### The answer")

    assert shown == codec.pack(READING).frame
    assert codec.READING.unpack(shown[codec.LENGTH_BYTES :]) == READING


def test_the_example_of_a_session_can_be_sent() -> None:
    """Each line of the session is a message that the code reads in that direction."""
    block = section("## Example: a session").split("```")[1].strip()
    lines = block.replace("\n  ", " ").splitlines()[1:]
    up = codec.Form(session.Hello, *typing.get_args(session.Upward))

    assert len(lines) > 5
    for line in lines:
        way, _, text = line.partition(" ")
        value = msgspec.json.decode(text)
        if value.get("entry") is not None:
            value["entry"]["value"] = value["entry"]["value"].encode()
        form = {"up": up, "down": codec.DOWNWARD}[way]
        form.unpack(msgspec.msgpack.encode(value))
