"""What crosses the wire between nodes, as MessagePack.

Each value of `core.model` and each message of `core.session` crosses as a map of its fields under
`type`, the name of its class; what has its default is left out. The forms are made from the classes
themselves, so a field that is added there is added here. A frame is four bytes of length,
big-endian, and so much MessagePack. Large values follow the frame that names their sizes, in its
order. docs/protocol.md says the same for people who write a node of their own.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from atoll.core import errors, location_errors, model, quota_errors, session
from atoll.core.errors import AtollError, InvalidRequestError
from atoll.core.location_errors import UnreachableError
from atoll.core.model import LargeValue

VERSION: Final = 1
PREFIX: Final = b"/peer/v1/"
CONTENT_TYPE: Final = b"application/x-msgpack"

LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 160 * 10**6
"""A bulk write of 100 MB and what its mutations need besides."""
MESSAGE_BYTES_MAX: Final = 2**20
"""A message of a session: an entry of 16 KiB, or a greeting with all subscriptions."""
LARGE_IN_ANSWER_MAX: Final = 10_000

WIRE: Final[tuple[type, ...]] = (
    model.Position,
    model.JournalToken,
    model.Entry,
    model.Mutation,
    model.Identity,
    model.Batch,
    model.Outcome,
    model.Written,
    model.Read,
    model.Reading,
    model.ListQuery,
    model.Listed,
    model.Page,
    session.Hello,
    *typing.get_args(session.Upward),
    *typing.get_args(session.Downward),
)
"""What crosses, each before what holds it."""


class Large(msgspec.Struct, frozen=True, tag="Large"):
    """Stands for a large value, whose bytes follow the frame."""

    size_bytes: int


class Refusal(msgspec.Struct, frozen=True):
    """An error as it crosses: by its code and its facts."""

    code: str
    message: str
    facts: dict[str, Any]


class MalformedError(InvalidRequestError):
    """What came is no frame of this protocol."""

    code = "body_invalid"

    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(f"what came is no frame of the peer protocol: {detail}")


_forms: Final[dict[type, type[msgspec.Struct]]] = {}
_classes: Final[dict[type[msgspec.Struct], type]] = {}


def _form_of(kind: Any) -> Any:  # noqa: ANN401 - types of all kinds
    """Return the type that stands on the wire for a type of the model."""
    if kind is LargeValue:
        return Large
    if kind in _forms:
        return _forms[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return _union([_form_of(one) for one in arguments])
    if origin in {Sequence, tuple, typing.get_origin(Sequence[str])}:
        return types.GenericAlias(tuple, (_form_of(arguments[0]), ...))
    return kind


def _union(kinds: Sequence[Any]) -> Any:  # noqa: ANN401 - types of all kinds
    union = kinds[0]
    for kind in kinds[1:]:
        union |= kind
    return union


def _fields(kind: Any) -> list[tuple[str, object]]:  # noqa: ANN401 - a class, of either sort
    """Return the fields of a dataclass or a named tuple, with their defaults."""
    if dataclasses.is_dataclass(kind):
        return [(one.name, one.default) for one in dataclasses.fields(kind)]
    return [(name, kind._field_defaults.get(name, dataclasses.MISSING)) for name in kind._fields]


def _define(kind: type) -> None:
    hints = typing.get_type_hints(kind)
    fields = [
        (name, _form_of(hints[name]))
        if default is dataclasses.MISSING
        else (name, _form_of(hints[name]), default)
        for name, default in _fields(kind)
    ]
    form = msgspec.defstruct(
        kind.__name__, fields, tag=kind.__name__, frozen=True, kw_only=True, omit_defaults=True
    )
    _forms[kind] = form
    _classes[form] = kind


for _kind in WIRE:
    _define(_kind)

_names: Final = {kind: tuple(name for name, _ in _fields(kind)) for kind in WIRE}
_encoder: Final = msgspec.msgpack.Encoder()


def _lowered(value: object, large: list[LargeValue]) -> Any:  # noqa: ANN401 - values of all kinds
    """Put a value into its form on the wire, and its large values aside."""
    if value is None or isinstance(value, bytes | str | int | float):
        return value
    names = _names.get(type(value))
    if names is not None:
        made = {name: _lowered(getattr(value, name), large) for name in names}
        return _forms[type(value)](**made)
    if isinstance(value, Sequence):  # Also those that a store makes of its own.
        items = cast("Sequence[object]", value)
        return tuple(_lowered(one, large) for one in items)
    if isinstance(value, frozenset):
        return cast("frozenset[str]", value)
    one = cast("LargeValue", value)
    large.append(one)
    return Large(one.size_bytes)


def _raised(value: object, large: list[LargeValue]) -> Any:  # noqa: ANN401 - values of all kinds
    """Take a value out of its form on the wire."""
    if isinstance(value, Large):
        return large.pop(0)
    if isinstance(value, msgspec.Struct):
        made = _classes[type(value)]
        return made(**{name: _raised(getattr(value, name), large) for name in _names[made]})
    if isinstance(value, tuple):
        items = cast("Sequence[object]", value)
        return tuple(_raised(one, large) for one in items)
    return value


def _larges(value: object) -> list[int]:
    """Return the sizes of the large values that follow a frame."""
    if isinstance(value, Large):
        return [value.size_bytes]
    if isinstance(value, tuple):
        items = cast("Sequence[object]", value)
        return [size for one in items for size in _larges(one)]
    if isinstance(value, msgspec.Struct):
        names = _names[_classes[type(value)]]
        return [size for name in names for size in _larges(getattr(value, name))]
    return []


@dataclass(frozen=True, slots=True)
class Packed:
    """A frame, and the large values that follow it. As a body it is a `LargeValue` itself."""

    frame: bytes
    large: tuple[LargeValue, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The size of all of it."""
        return len(self.frame) + sum(one.size_bytes for one in self.large)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`."""
        yield self.frame
        for value in self.large:
            async for chunk in value.chunks():
                yield chunk


def pack(value: object) -> Packed:
    """Encode a value of the model, or a sequence of them."""
    large: list[LargeValue] = []
    return Packed(_framed(_encoder.encode(_lowered(value, large))), tuple(large))


def pack_error(error: AtollError) -> bytes:
    """Encode an error."""
    facts = {name: fact for name, fact in vars(error).items() if isinstance(fact, _FACTS)}
    return _framed(_encoder.encode(Refusal(error.code, str(error), facts)))


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class Form:
    """How one kind of frame is decoded."""

    def __init__(self, *kinds: type, many: bool = False) -> None:
        """Take frames of any of `kinds`, or with `many` of a sequence of them."""
        one = _union([_forms[kind] for kind in kinds])
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
            types.GenericAlias(tuple, (one, ...)) if many else one
        )

    def lowered(self, payload: bytes) -> Any:  # noqa: ANN401 - values of all kinds
        """Decode a frame's payload and check its types.

        Raises:
            MalformedError: It is not of this form.
        """
        try:
            return self._decoder.decode(payload)
        except (ValueError, RecursionError) as error:
            raise MalformedError(detail=str(error)) from error

    def unpack(self, payload: bytes, large: Sequence[LargeValue] = ()) -> Any:  # noqa: ANN401
        """Decode a frame's payload.

        Raises:
            MalformedError: It is not of this form.
        """
        lowered = self.lowered(payload)
        if len(_larges(lowered)) != len(large):
            raise MalformedError(detail="large values are missing")
        return self.raised(lowered, large)

    @staticmethod
    def raised(lowered: object, large: Sequence[LargeValue]) -> Any:  # noqa: ANN401
        """Make values of what `lowered` returned, and the large values that followed.

        Raises:
            MalformedError: The values are none of the model's.
        """
        try:
            return _raised(lowered, list(large))
        except (TypeError, ValueError, AssertionError) as error:
            raise MalformedError(detail=str(error)) from error

    @staticmethod
    def larges(lowered: object) -> list[int]:
        """Return the sizes of the large values that follow.

        Raises:
            MalformedError: They are too many, or no sizes.
        """
        sizes = _larges(lowered)
        if len(sizes) > LARGE_IN_ANSWER_MAX or min(sizes, default=0) < 0:
            raise MalformedError(detail="large values that cannot be")
        return sizes


READ: Final = Form(model.Read)
READING: Final = Form(model.Reading)
READINGS: Final = Form(model.Reading, many=True)
BATCH: Final = Form(model.Batch)
WRITTEN: Final = Form(model.Written)
QUERY: Final = Form(model.ListQuery)
PAGE: Final = Form(model.Page)
HELLO: Final = Form(session.Hello)
UPWARD: Final = Form(*typing.get_args(session.Upward))
DOWNWARD: Final = Form(*typing.get_args(session.Downward))


# Errors.

_FACTS: Final = (str, int, float, bool, type(None))
_refusal: Final = msgspec.msgpack.Decoder(Refusal)


def _tree(root: type[AtollError]) -> dict[str, type[AtollError]]:
    found = {root.code: root}
    for kind in root.__subclasses__():
        if kind.__module__ in {errors.__name__, location_errors.__name__, quota_errors.__name__}:
            found |= _tree(kind)
    return found


_ERRORS: Final[Mapping[str, type[AtollError]]] = _tree(AtollError)


def unpack_error(payload: bytes) -> AtollError:
    """Return the error that the other node met, as one of ours.

    What is not known here, or was no error of the tree there, may have happened after the request
    was carried out: it is `UnreachableError`, as if no answer had come.
    """
    try:
        refusal = _refusal.decode(payload)
    except (ValueError, RecursionError):
        return UnreachableError(sent=True)
    error = error_of(refusal.code, refusal.message, refusal.facts)
    return UnreachableError(sent=True) if error is None else error


def error_of(code: str, message: str, facts: Mapping[str, Any]) -> AtollError | None:
    """Make the error of the tree that another process told of by its code and its facts.

    Returns:
        `None` for a code that is not known here, or of no error of the tree.
    """
    kind = _ERRORS.get(code)
    if kind is None or kind is AtollError:
        return None
    takes = inspect.signature(kind.__init__).parameters
    taken = {name: fact for name, fact in facts.items() if name in takes}
    try:
        return kind(**taken)
    except TypeError:
        # A kind without facts of its own, or one whose facts do not cross.
        made = kind.__new__(kind)
        made.args = (message,)
        for name, fact in facts.items():
            if name.isidentifier() and not name.startswith("_") and name != "args":
                setattr(made, name, fact)
        return made
