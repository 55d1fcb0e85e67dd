"""The sync face: a namespace whose verbs wait, on any thread. `background` does the waiting."""

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from atoll.client.access import Access, Connected, Precondition, conditions, gathered
from atoll.client.background import BACKGROUND
from atoll.client.memory import Memory
from atoll.client.values import (
    Answer,
    Asked,
    Bounds,
    Key,
    Kind,
    Page,
    Storable,
    Written,
    answered,
    asked,
    decoded,
)
from atoll.client.watching import Change
from atoll.client.wire import Body, Target
from atoll.core.model import LargeValue, Reading

Item = TypeVar("Item")


class Stream:
    """A value that is read in pieces, once. Close it, or read it to its end."""

    def __init__(self, value: bytes | LargeValue) -> None:
        """Read `value`."""
        self._value = value
        self._pieces = _pieces_of(value)

    @property
    def size_bytes(self) -> int:
        """The size of the whole value."""
        return len(self._value) if isinstance(self._value, bytes) else self._value.size_bytes

    def __iter__(self) -> Iterator[bytes]:
        """Yield what has not been read, in pieces of at most a mebibyte.

        Raises:
            UnreachableError: The rest did not come.
        """
        return self._pieces

    def read(self) -> bytes:
        """Return all that has not been read.

        Raises:
            UnreachableError: The rest did not come.
        """
        return b"".join(self._pieces)

    def close(self) -> None:
        """Let go of what has not been read."""
        if isinstance(self._value, Body):
            BACKGROUND.run(self._value.aclose())

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it."""
        self.close()


def _pieces_of(value: bytes | LargeValue) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
        return
    pieces = aiter(value.chunks())
    while (piece := BACKGROUND.run(_next(pieces))) is not None:
        yield piece


async def _next(coming: AsyncIterator[Item]) -> Item | None:
    return await anext(coming, None)


class Namespace:
    """One namespace.

    Every method raises errors of the one tree under `AtollError`, the same classes wherever they
    were met: among them `InvalidRequestError` for what cannot be asked, `UnauthenticatedError`,
    `ForbiddenError`, `NamespaceNotFoundError`, and `UnavailableError` for what may be tried again.
    """

    def __init__(self, access: Access) -> None:
        """See `Client.namespace`."""
        self._access = access

    @property
    def id(self) -> str:
        """Its id."""
        return self._access.namespace

    @overload
    def get(
        self, key: str, type: Literal["text"] = "text", **bounds: Unpack[Bounds]
    ) -> str | None: ...
    @overload
    def get(self, key: str, type: Literal["bytes"], **bounds: Unpack[Bounds]) -> bytes | None: ...
    @overload
    def get(self, key: str, type: Literal["json"], **bounds: Unpack[Bounds]) -> Any: ...
    @overload
    def get(self, key: str, type: Literal["stream"], **bounds: Unpack[Bounds]) -> Stream | None: ...
    def get(self, key: str, type: Kind = "text", **bounds: Unpack[Bounds]) -> Any:
        """Return a key's value, `None` if the key is missing.

        Args:
            key: The key: 1 to 512 bytes of UTF-8.
            type: What to make of the value: `text` a `str`, `bytes`, `json` what it says, and
                `stream` pieces that arrive while they are read.
            **bounds: What is accepted; see `Bounds`.

        Raises:
            ValueUnreadableError: The value is not UTF-8, or not JSON.
            CutOffError: Central cannot be asked, and what is held is no answer.
            NotArrivedError: Nothing at or after `at_least` is to be had.
        """
        if not bounds:
            found = self._access.quick(key)
            if found is not None and type != "stream":
                return None if found.value is None else decoded(found.value, type)
        return _made(self._reading(key, type, bounds), type)

    @overload
    def get_with_metadata(
        self, key: str, type: Literal["text"] = "text", **bounds: Unpack[Bounds]
    ) -> Answer[str]: ...
    @overload
    def get_with_metadata(
        self, key: str, type: Literal["bytes"], **bounds: Unpack[Bounds]
    ) -> Answer[bytes]: ...
    @overload
    def get_with_metadata(
        self, key: str, type: Literal["json"], **bounds: Unpack[Bounds]
    ) -> Answer[Any]: ...
    @overload
    def get_with_metadata(
        self, key: str, type: Literal["stream"], **bounds: Unpack[Bounds]
    ) -> Answer[Stream]: ...
    def get_with_metadata(
        self, key: str, type: Kind = "text", **bounds: Unpack[Bounds]
    ) -> Answer[Any]:
        """Return a key's value with all that is known of it, also when it is missing; see `get`."""
        reading = self._reading(key, type, bounds)
        return answered(reading, _made(reading, type))

    @overload
    def get_many(
        self, keys: Iterable[str], type: Literal["text"] = "text", **bounds: Unpack[Bounds]
    ) -> dict[str, str | None]: ...
    @overload
    def get_many(
        self, keys: Iterable[str], type: Literal["bytes"], **bounds: Unpack[Bounds]
    ) -> dict[str, bytes | None]: ...
    @overload
    def get_many(
        self, keys: Iterable[str], type: Literal["json"], **bounds: Unpack[Bounds]
    ) -> dict[str, Any]: ...
    def get_many(
        self,
        keys: Iterable[str],
        type: Literal["text", "bytes", "json"] = "text",
        **bounds: Unpack[Bounds],
    ) -> dict[str, Any]:
        """Return the values of several keys in their order; bounds hold for each. See `get`.

        It is no snapshot: each key is read by itself.
        """
        readings = self._many(keys, asked(bounds))
        return {key: _made(reading, type) for key, reading in readings.items()}

    @overload
    def get_many_with_metadata(
        self, keys: Iterable[str], type: Literal["text"] = "text", **bounds: Unpack[Bounds]
    ) -> dict[str, Answer[str]]: ...
    @overload
    def get_many_with_metadata(
        self, keys: Iterable[str], type: Literal["bytes"], **bounds: Unpack[Bounds]
    ) -> dict[str, Answer[bytes]]: ...
    @overload
    def get_many_with_metadata(
        self, keys: Iterable[str], type: Literal["json"], **bounds: Unpack[Bounds]
    ) -> dict[str, Answer[Any]]: ...
    def get_many_with_metadata(
        self,
        keys: Iterable[str],
        type: Literal["text", "bytes", "json"] = "text",
        **bounds: Unpack[Bounds],
    ) -> dict[str, Answer[Any]]:
        """Return several keys, each with all that is known of it; see `get_many`."""
        readings = self._many(keys, asked(bounds))
        return {key: answered(reading, _made(reading, type)) for key, reading in readings.items()}

    def _reading(self, key: str, kind: Kind, bounds: Bounds) -> Reading:
        wanted = asked(bounds)
        reading = self._access.peek(key, wanted)
        if reading is None:
            return BACKGROUND.run(self._access.read(key, wanted, stream=kind == "stream"))
        return reading

    def _many(self, keys: Iterable[str], wanted: Asked) -> dict[str, Reading]:
        held: dict[str, Reading] = {}
        for key in keys:
            reading = self._access.peek(key, wanted)
            if reading is None:
                return BACKGROUND.run(self._access.read_many(keys, wanted, held))
            held[key] = reading
        return held

    # Writing.

    @overload
    def put(
        self,
        key: str,
        value: Storable,
        *,
        expiration: float | None = None,
        expiration_ttl: float | None = None,
        metadata: object = None,
        if_match: Precondition | None = None,
        if_none_match: Literal["*"] | None = None,
        idempotency_key: str | None = None,
    ) -> Written: ...
    @overload
    def put(
        self,
        key: str,
        value: object,
        type: Literal["json"],
        *,
        expiration: float | None = None,
        expiration_ttl: float | None = None,
        metadata: object = None,
        if_match: Precondition | None = None,
        if_none_match: Literal["*"] | None = None,
        idempotency_key: str | None = None,
    ) -> Written: ...
    def put(
        self,
        key: str,
        value: object,
        type: Literal["json"] | None = None,
        *,
        expiration: float | None = None,
        expiration_ttl: float | None = None,
        metadata: object = None,
        if_match: Precondition | None = None,
        if_none_match: Literal["*"] | None = None,
        idempotency_key: str | None = None,
    ) -> Written:
        """Store a value. What it returns says whether only a location's journal has it.

        Args:
            key: The key: 1 to 512 bytes of UTF-8.
            value: `str`, bytes, or a stream of bytes: an iterable, an async one, or an open file.
            type: `json`: store any JSON value as JSON.
            expiration: When it expires, in seconds since the Unix epoch.
            expiration_ttl: In how many seconds it expires; it wins over `expiration`.
            metadata: A JSON value, kept beside the value; 1,024 bytes at most.
            if_match: Store it only over this version, or with `*` over any.
            if_none_match: With `*`: store it only if the key is missing.
            idempotency_key: Names the write, so that repeating it applies it once.

        Raises:
            ConditionFailedError: A condition did not hold; nothing was written.
            RewriteTooSoonError: The key was written within the last second; nothing was written.
            OutcomeUnknownError: No answer came: it may have been written or not.
            UnreachableError: The node cannot be reached; nothing was written.
            TypeError: The value is nothing that can be stored as it is.
        """
        given = conditions(
            if_match=if_match, if_none_match=if_none_match, idempotency_key=idempotency_key
        )
        return BACKGROUND.run(
            self._access.put(
                key,
                value,
                kind=type,
                expiration=expiration,
                expiration_ttl=expiration_ttl,
                metadata=metadata,
                conditions=given,
            )
        )

    def delete(
        self,
        key: str,
        *,
        if_match: Precondition | None = None,
        idempotency_key: str | None = None,
    ) -> Written:
        """Delete a key, whether it is there or not; see `put`."""
        given = conditions(if_match=if_match, idempotency_key=idempotency_key)
        return BACKGROUND.run(self._access.delete(key, conditions=given))

    def delete_prefix(self, prefix: str) -> int:
        """Delete the keys that begin with `prefix`, which may be empty; return how many.

        One that is rewritten meanwhile stays.
        """
        return BACKGROUND.run(self._access.delete_prefix(prefix))

    # Listing.

    def list(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        cursor: str | None = None,
        values: bool = False,
        at_least: str | None = None,
    ) -> Page:
        """Return one page of keys, in the order of their bytes. Only central can list.

        Args:
            prefix: What they begin with.
            limit: How many at most: 1 to 1,000, which is the default.
            cursor: Where the page before ended.
            values: Whether values come along; pages are then shorter.
            at_least: A position that the listing must include.

        Raises:
            CutOffError: Central cannot be asked: a list is never partial.
        """
        return BACKGROUND.run(
            self._access.page(
                prefix=prefix, limit=limit, cursor=cursor, values=values, at_least=at_least
            )
        )

    def scan(
        self, prefix: str = "", *, values: bool = False, at_least: str | None = None
    ) -> Iterator[Key]:
        """Yield every key that begins with `prefix`, page after page; see `list`."""
        cursor: str | None = None
        while True:
            page = self.list(prefix, cursor=cursor, values=values, at_least=at_least)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def count(self, prefix: str = "", *, at_least: str | None = None) -> int:
        """Return how many keys begin with `prefix`; see `list`."""
        return BACKGROUND.run(self._access.count(prefix, at_least=at_least))

    def watch(
        self,
        prefix: str = "",
        *,
        since: str | None = None,
        values: bool = False,
        marks: bool = False,
    ) -> Generator[Change]:
        """Yield changes as they happen, those of one key in their order, until the caller stops.

        After an interruption it goes on where it was. Of several changes of one key that were made
        close together only the last may be told.

        Args:
            prefix: What keys begin with.
            since: The position to begin behind, of an answer or of an earlier change; `None`: now.
            values: Whether values come along, where the node has them.
            marks: Whether to yield marks as well: `present` when the past was told, `position`
                every ten seconds after.

        Raises:
            PositionTooOldError: What changed since is not remembered; read anew, and watch from
                its `start_at`.
            UnavailableError: It cannot begin, or could not go on ten times in a row.
        """
        changes = self._access.watch(prefix=prefix, since=since, values=values, marks=marks)
        try:
            while (change := BACKGROUND.run(_next(changes))) is not None:
                yield change
        finally:
            BACKGROUND.run(changes.aclose())

    def session(self, sharing: "Namespace | None" = None) -> "Namespace":
        """Return the same namespace with a memory of its own writes.

        Its reads include what it wrote, wherever they are answered: a node waits a bounded time for
        it, and the read ends in `NotArrivedError` rather than return something older.

        Args:
            sharing: A session whose memory this one shares, of another client perhaps.
        """
        memory = None if sharing is None else sharing._access.memory  # noqa: SLF001 - our own
        return Namespace(Access(self._access.connected, self.id, memory or Memory()))


def _made(reading: Reading, kind: Kind) -> Any:
    """Make of a reading what the caller asked for."""
    value = None if reading.entry is None else reading.entry.value
    if value is None:
        return None
    if kind == "stream":
        return Stream(value)
    raw = value if isinstance(value, bytes) else BACKGROUND.run(gathered(value))
    return decoded(raw, kind)


class Client:
    """A node, and the namespaces that are read and written through it. See `atoll.connect`.

    One client serves any number of threads. After a fork both processes may go on with it.
    """

    def __init__(self, target: Target) -> None:
        """See `atoll.connect`."""
        self._connected = Connected(target)

    def namespace(self, id: str) -> Namespace:
        """Return the namespace with this id, 32 hexadecimal digits. Nothing is asked yet."""
        return Namespace(Access(self._connected, id))

    def close(self) -> None:
        """Close what is open."""
        BACKGROUND.run(self._connected.aclose())

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open."""
        self.close()
