"""The verbs of one namespace, once: both faces call these, and differ only in how they wait."""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import IO, Final, Literal, cast

from atoll.client.local import Local, local_of, release
from atoll.client.memory import Memory
from atoll.client.values import Asked, Page, Written, encoded, metadata_text
from atoll.client.watching import Change, watched
from atoll.client.wire import PIECE_BYTES_MAX, Target, Wire
from atoll.clock import SystemClock
from atoll.core.errors import (
    ConditionInvalidError,
    InvalidRequestError,
    NotArrivedError,
    UnavailableError,
)
from atoll.core.location_errors import CutOffError, OutcomeUnknownError, UnreachableError
from atoll.core.model import LargeValue, Reading
from atoll.location.glance import Glimpse

KEYS_AT_ONCE: Final = 100
"""How many of many keys are asked for in one request, by the usual limits."""

Precondition = int | Literal["*"]


class Connected:
    """What the namespaces of one client share."""

    def __init__(self, target: Target) -> None:
        """Ask `target`, and look where it is on this machine."""
        self.wire = Wire(target)
        self.local: Local | None = None if target.folder is None else local_of(target.folder)
        self._released = False

    async def aclose(self) -> None:
        """Let go of connections and of the cache."""
        if self.local is not None and not self._released:
            self._released = True
            release(self.local)
        await self.wire.aclose()


class Access:
    """One namespace."""

    def __init__(self, connected: Connected, namespace: str, memory: Memory | None = None) -> None:
        """Read and write the namespace with this id; a session has a memory."""
        self.connected = connected
        self.namespace = namespace
        self.memory = memory
        self._wire = connected.wire
        self._local = connected.local

    # Reading.

    def quick(self, key: str) -> Glimpse | None:
        """Return what is plainly the answer to a read without bounds; `None`: `peek` says."""
        if self._local is None or self.memory is not None:
            return None
        return self._local.quick(self.namespace, key)

    def peek(self, key: str, wanted: Asked) -> Reading | None:
        """Answer in process, without waiting; `None` says that `read` is to be awaited."""
        if self._local is None:
            return None
        return self._local.answer(self.namespace, key, self._presenting(key, wanted))

    async def read(self, key: str, wanted: Asked, *, stream: bool = False) -> Reading:
        """Ask the node; where it is on this machine and cannot be reached, answer by age.

        Raises:
            AtollError: What the node met; `UnreachableError` where there is no answer.
        """
        wanted = self._presenting(key, wanted)
        if self._local is not None:
            await asyncio.to_thread(self._local.prepare)
            reading = self._local.answer(self.namespace, key, wanted)
            if reading is not None:
                return reading
        try:
            return await self._wire.read(self.namespace, key, wanted, stream=stream)
        except UnreachableError:
            if self._local is None:
                raise
        return self._last_resort(self._local, key, wanted)

    def _last_resort(self, local: Local, key: str, wanted: Asked) -> Reading:
        try:
            return local.final(self.namespace, key, wanted)
        except NotArrivedError:
            if not wanted.max_stale:
                raise
        reading = local.final(self.namespace, key, replace(wanted, at_least=None))
        return replace(reading, stale=True)

    async def read_many(
        self, keys: Iterable[str], wanted: Asked, held: Mapping[str, Reading] | None = None
    ) -> dict[str, Reading]:
        """Read several keys, each by itself: no snapshot. See `read` for the errors.

        Args:
            keys: The keys.
            wanted: What the caller accepts of each.
            held: What was answered already.
        """
        held = held or {}
        readings = {key: held.get(key) or self.peek(key, wanted) for key in keys}
        missing = [key for key, reading in readings.items() if reading is None]
        alike = [key for key in missing if self._presenting(key, wanted) == wanted]
        readings |= await self._together(alike, wanted)
        for key in missing:
            if readings[key] is None:
                readings[key] = await self.read(key, wanted)
        return {key: reading for key, reading in readings.items() if reading is not None}

    async def _together(self, keys: Sequence[str], wanted: Asked) -> dict[str, Reading]:
        """Read several keys in few requests; those that cannot be read so are left out."""
        readings: dict[str, Reading] = {}
        for at in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[at : at + KEYS_AT_ONCE]
            # One by one each key meets its own error, and values may be as large as they are.
            with contextlib.suppress(InvalidRequestError, UnavailableError):
                readings |= await self._wire.read_many(self.namespace, some, wanted)
        return readings

    def _presenting(self, key: str, wanted: Asked) -> Asked:
        if self.memory is None or wanted.at_least is not None:
            return wanted
        at_least = self.memory.of_key(self.namespace, key)
        return wanted if at_least is None else replace(wanted, at_least=at_least)

    # Writing.

    async def put(
        self,
        key: str,
        value: object,
        *,
        kind: Literal["json"] | None,
        expiration: float | None,
        expiration_ttl: float | None,
        metadata: object,
        conditions: Mapping[str, str],
    ) -> Written:
        """Store a value; see the faces."""
        made = encoded(value, kind)
        params = {"expiration": expiration, "expiration_ttl": expiration_ttl}
        headers = dict(conditions)
        text = metadata_text(metadata)
        if text is not None:
            headers["atoll-metadata"] = text
        written = await self._sent(
            self._wire.put(
                self.namespace,
                key,
                made if isinstance(made, bytes) else _pieces(made),
                params={name: str(given) for name, given in params.items() if given is not None},
                headers=headers,
            )
        )
        return self._remembered(key, written)

    async def delete(self, key: str, *, conditions: Mapping[str, str]) -> Written:
        """Delete a key; see the faces."""
        written = await self._sent(self._wire.delete(self.namespace, key, headers=conditions))
        return self._remembered(key, written)

    async def _sent(self, writing: Awaitable[Written]) -> Written:
        try:
            return await writing
        except UnreachableError as error:
            if self._local is None:
                raise
            if error.sent:
                raise OutcomeUnknownError from error
            raise CutOffError(detail="the keeper of this location is being started anew") from error

    def _remembered(self, key: str, written: Written) -> Written:
        if self.memory is not None:
            self.memory.wrote(self.namespace, key, written.position)
        return written

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the keys that begin with `prefix`, in as many calls as it takes."""
        deleted = 0
        while True:
            done = await self._wire.delete_prefix(self.namespace, prefix)
            deleted += done.deleted
            if self.memory is not None:
                self.memory.wrote_many(done.position)
            if done.list_complete:
                return deleted

    # Listing.

    async def page(
        self,
        *,
        prefix: str,
        limit: int | None,
        cursor: str | None,
        values: bool,
        at_least: str | None,
    ) -> Page:
        """Return one page of keys; see the faces."""
        given = {
            "prefix": prefix or None,
            "limit": None if limit is None else str(limit),
            "cursor": cursor,
            "include": "values" if values else None,
        }
        params = {name: text for name, text in given.items() if text is not None}
        return await self._wire.list(self.namespace, params, self._listed_at(at_least))

    async def count(self, prefix: str, *, at_least: str | None) -> int:
        """Count keys, in as many calls as it takes."""
        total = 0
        params = {"prefix": prefix} if prefix else {}
        while True:
            part = await self._wire.count(self.namespace, params, self._listed_at(at_least))
            total += part.count
            if part.cursor is None:
                return total
            params = {**params, "cursor": part.cursor}

    def watch(
        self, *, prefix: str, since: str | None, values: bool, marks: bool
    ) -> AsyncGenerator[Change]:
        """Yield changes; see the faces."""
        return watched(
            self._wire,
            self.namespace,
            prefix=prefix,
            since=since,
            values=values,
            marks=marks,
            clock=SystemClock(),
        )

    def _listed_at(self, at_least: str | None) -> str | None:
        if at_least is not None or self.memory is None or self.memory.of_all is None:
            return at_least
        return str(self.memory.of_all)


def conditions(
    *,
    if_match: Precondition | None,
    if_none_match: Literal["*"] | None = None,
    idempotency_key: str | None = None,
) -> dict[str, str]:
    """Write the conditions of a write as headers.

    Raises:
        ConditionInvalidError: One is not of a form that there is.
    """
    headers: dict[str, str] = {}
    if if_match is not None:
        try:
            headers["if-match"] = "*" if if_match == "*" else f'"{int(if_match)}"'
        except (TypeError, ValueError) as error:
            raise ConditionInvalidError(given=str(if_match)) from error
    if if_none_match is not None:
        headers["if-none-match"] = if_none_match
    if idempotency_key is not None:
        headers["idempotency-key"] = idempotency_key
    return headers


async def gathered(value: bytes | LargeValue) -> bytes:
    """Return the whole of a value."""
    if isinstance(value, bytes):
        return value
    return b"".join([chunk async for chunk in value.chunks()])


async def _pieces(source: object) -> AsyncIterator[bytes]:
    """Yield what is stored from a stream of any kind; files and generators are read in threads."""
    if isinstance(source, AsyncIterable):
        async for piece in cast("AsyncIterable[bytes]", source):
            yield piece
        return
    if hasattr(source, "read"):
        file = cast("IO[bytes]", source)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES_MAX):
            yield piece
        return
    pieces = iter(cast("Iterable[bytes]", source))
    while (one := await asyncio.to_thread(next, pieces, None)) is not None:
        yield one
