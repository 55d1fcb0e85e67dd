"""What programs ask and are answered, and how their values become bytes.

Times are seconds here, as Python has them; nodes count milliseconds. Positions are opaque text.
"""

import json
import math
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Generic, Literal, TypedDict, TypeVar, cast

import msgspec

from atoll.core.errors import InvalidRequestError, MetadataInvalidError, ParameterInvalidError
from atoll.core.model import AtLeast, CacheStatus, Reading, parse_at_least

Kind = Literal["text", "bytes", "json", "stream"]
"""What `get` makes of a value."""

Storable = str | bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes] | IO[bytes]
"""What `put` takes as it is; with `type="json"` it takes any JSON value."""

T_co = TypeVar("T_co", covariant=True)

MS_PER_S: Final = 1000
BOUND_S_MAX: Final = 999_999_999
"""The longest that a request can name; more means the same as this."""


_COLLECTIONS: Final[tuple[type, ...]] = (dict, list, tuple, set, frozenset)
_STREAMS: Final = ("read", "__aiter__", "__iter__")


class Bounds(TypedDict, total=False):
    """What a read accepts. All of it is optional.

    A bound that a caller sets is a demand: what is older is no answer and `CutOffError` instead,
    unless `max_stale` says that it will do.
    """

    max_age: float
    """How old the knowledge may be, in seconds: 0 asks central. Over HTTP whole seconds count."""
    max_stale: float
    """How far beyond its bound an answer may be where central cannot be asked; `math.inf`: any."""
    at_least: str
    """A position that an earlier answer or write gave: only knowledge at or after it will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T_co]):
    """What is known of one key, and since when."""

    value: T_co | None
    """`None` when the key is missing."""
    metadata: Any
    """A JSON value; `None` when there is none."""
    version: int | None
    """What `put(..., if_match=)` takes; `None` when the key is missing."""
    expiration: int | None
    """Seconds since the Unix epoch; `None`: never."""
    position: str
    """The place in central's log at which this is true, or the place in a journal."""
    age: float | None
    """How old, at most, this knowledge was when it was asked for, in seconds; `None`: unknown."""
    cache: CacheStatus
    """How the node came by it."""
    node: str
    """Who answered: `central`, or a location's name."""
    stale: bool
    """It is past its bound, and central could not be asked."""
    journaled: bool
    """Only the journal of the location has it so far."""
    order_unknown: bool
    """The location lost its cache: it may have told of something newer before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a write."""

    version: int
    position: str
    """Pass it as `at_least` to read what was written, from anywhere."""
    journaled: bool
    """Only the location has it, on disk; it is delivered when central can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key in a listing."""

    name: str
    version: int
    size_bytes: int
    metadata: Any
    """A JSON value; `None` when there is none."""
    expiration: int | None
    """Seconds since the Unix epoch; `None`: never."""
    value: bytes | None
    """With `values=True`, unless it is larger than a mebibyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing. Only the last may be empty."""

    keys: Sequence[Key]
    cursor: str | None
    """What the next page is asked for with; `None` on the last."""
    position: str

    @property
    def complete(self) -> bool:
        """Whether this is the last."""
        return self.cursor is None


# What is asked.


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a read accepts, as nodes have it."""

    age_ms_max: int | None = None
    stale_ms_max: int | None = None
    max_stale: bool = False
    """Whether the caller said that what is stale will do."""
    at_least: AtLeast | None = None


UNBOUNDED: Final = Asked()


def asked(bounds: Bounds) -> Asked:
    """Read what a caller accepts, as the server reads it from `Cache-Control`.

    Raises:
        ParameterInvalidError: A bound is negative or no number, or a position is none.
    """
    if not bounds:
        return UNBOUNDED
    age_ms_max = _milliseconds("max_age", bounds.get("max_age"))
    stale_ms_max = _milliseconds("max_stale", bounds.get("max_stale"))
    max_stale = stale_ms_max is not None
    if stale_ms_max is None and age_ms_max is not None:
        stale_ms_max = 0
    elif stale_ms_max == BOUND_S_MAX * MS_PER_S:
        stale_ms_max = None
    at_least = bounds.get("at_least")
    return Asked(
        age_ms_max=age_ms_max,
        stale_ms_max=stale_ms_max,
        max_stale=max_stale,
        at_least=None if at_least is None else parse_at_least(at_least),
    )


def _milliseconds(name: str, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if math.isnan(seconds) or seconds < 0:
        rule = "Give seconds, 0 or more."
        raise ParameterInvalidError(name=name, given=str(seconds), rule=rule)
    return int(min(seconds, BOUND_S_MAX) * MS_PER_S)


def cache_control(wanted: Asked) -> str | None:
    """Say in a header what a caller accepts; parts of seconds are cut off, the stricter way."""
    said: list[str] = []
    if wanted.age_ms_max is not None:
        said.append(f"max-age={wanted.age_ms_max // MS_PER_S}")
    if wanted.max_stale:
        limit = wanted.stale_ms_max
        said.append("max-stale" if limit is None else f"max-stale={limit // MS_PER_S}")
    return ", ".join(said) or None


# Values and bytes.


class ValueUnreadableError(InvalidRequestError):
    """A program asked for a value as something that it is not; the value is as it was stored."""

    code = "value_unreadable"

    def __init__(self, *, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(f'the value cannot be read as {kind}: {detail}. Read it as type="bytes".')


def decoded(raw: bytes, kind: Kind) -> Any:
    """Make of a value what the caller asked for.

    Raises:
        ValueUnreadableError: It is not UTF-8, or not JSON.
    """
    if kind == "bytes":
        return raw
    try:
        return raw.decode() if kind == "text" else msgspec.json.decode(raw)
    except ValueError as error:
        raise ValueUnreadableError(kind=kind, detail=str(error)) from error


def encoded(value: object, kind: Literal["json"] | None) -> bytes | Iterable[bytes] | object:
    """Make bytes of a value that is put; what comes in pieces stays as it is.

    Raises:
        TypeError: It is nothing that can be stored as it is, or no JSON value.
        ValueError: It holds what JSON cannot, such as NaN.
    """
    named = type(value).__name__
    if kind == "json":
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(cast("bytes", value))
    if not isinstance(value, _COLLECTIONS) and any(hasattr(value, how) for how in _STREAMS):
        return value
    message = (
        f"a value is str, bytes or a stream of bytes, not {named};"
        ' pass type="json" to store it as JSON'
    )
    raise TypeError(message)


def metadata_text(metadata: object) -> str | None:
    """Return metadata as JSON that a header can carry, `None` for none.

    Raises:
        MetadataInvalidError: It is no JSON value.
    """
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise MetadataInvalidError(detail=str(error)) from error
    return text.replace("\x7f", "\\u007f")


def answered(reading: Reading, value: T_co | None) -> Answer[T_co]:
    """Return what is known, with the value as the caller asked for it."""
    entry = reading.entry
    return Answer(
        value=value,
        metadata=(
            None if entry is None or not entry.metadata else msgspec.json.decode(entry.metadata)
        ),
        version=None if entry is None else int(entry.version),
        expiration=None if entry is None else entry.expiration,
        position=str(reading.token or reading.position),
        age=None if reading.age_ms is None else reading.age_ms / MS_PER_S,
        cache=reading.cache,
        node=reading.node,
        stale=reading.stale,
        journaled=reading.journaled,
        order_unknown=reading.order_unknown,
    )
