"""Watching a namespace: events as a node sends them, and going on where an interruption came."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import httpx
import msgspec

from atoll.client import told
from atoll.client.wire import Wire, unreachable
from atoll.clock import Clock
from atoll.core.errors import AtollError, RemoteError, UnavailableError

SILENCE_S_MAX: Final = 30.0
"""How long nothing may come: a node says every ten seconds how far it has told."""
EVENT_BYTES_MAX: Final = 4 * 2**20
ATTEMPTS_MAX: Final = 10
"""How often in a row it is tried to go on."""
PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 5.0

Kind = Literal["put", "delete", "present", "position"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a key; or, where marks are asked for, how far changes have been told."""

    kind: Kind
    """`put`, `delete`; `present` once the past was told, and `position` now and then after."""
    key: str | None
    """`None` for marks."""
    version: int | None
    metadata: Any
    """A JSON value; `None` when there is none."""
    expiration: int | None
    """Seconds since the Unix epoch; `None`: never."""
    value: bytes | None
    """With `values=True`, where the node has it; read the key for what was left out."""
    position: str
    """Pass it as `since` to go on behind this."""
    age: float | None
    """Of marks: how old, at most, what the node knows is, in seconds; `None`: unknown."""


async def watched(
    wire: Wire,
    namespace: str,
    *,
    prefix: str,
    since: str | None,
    values: bool,
    marks: bool,
    clock: Clock,
) -> AsyncGenerator[Change]:
    """Yield changes, and go on after what may pass.

    Args:
        wire: The node.
        namespace: The id.
        prefix: What keys begin with.
        since: The position to begin behind; `None` for now.
        values: Whether values come along.
        marks: Whether to yield marks as well.
        clock: What is waited by before it is tried again.

    Raises:
        PositionTooOldError: What changed since is not remembered; read anew, and watch from
            `start_at`.
        AtollError: It cannot begin, or cannot go on time after time.
    """
    failures, begun = 0, False
    while True:
        try:
            async with _opened(wire, namespace, prefix, since, values=values) as response:
                async for change in _changes(response, wire.name):
                    begun, failures, since = True, 0, change.position
                    if marks or change.key is not None:
                        yield change
        except UnavailableError as error:
            broken = error
        else:
            broken = UnavailableError(f"{wire.name} broke off a watch")
        failures += 1
        if not begun or failures > ATTEMPTS_MAX:
            raise broken
        await clock.sleep(min(PAUSE_S_FIRST * 2 ** (failures - 1), PAUSE_S_MAX))


@asynccontextmanager
async def _opened(
    wire: Wire, namespace: str, prefix: str, since: str | None, *, values: bool
) -> AsyncGenerator[httpx.Response]:
    given = {"prefix": prefix, "since": since, "include": "values" if values else None}
    params = {name: text for name, text in given.items() if text}
    path = f"/v1/namespaces/{quote(namespace, safe='')}/watch"
    response = await wire.stream(path, params, silence_s_max=SILENCE_S_MAX)
    try:
        yield response
    finally:
        await response.aclose()


async def _changes(response: httpx.Response, name: str) -> AsyncGenerator[Change]:
    """Read what a watch sends."""
    pending = b""
    try:
        async for piece in response.aiter_raw():
            # Not by lines: what Python takes for the end of one may stand in a key.
            *blocks, pending = (pending + piece).split(b"\n\n")
            for block in blocks:
                change = _change(response, block)
                if change is not None:
                    yield change
            if len(pending) > EVENT_BYTES_MAX:
                raise told.not_ours(response)
    except httpx.HTTPError as error:
        raise unreachable(name, error, sent=True) from error


def _change(response: httpx.Response, block: bytes) -> Change | None:
    """Read one event; `None` if that is none of ours.

    Raises:
        AtollError: The node ended the watch, and said why.
    """
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        field, _, fields[field] = line.partition(b": ")
    if b"data" not in fields:
        return None
    try:
        data = msgspec.json.decode(fields[b"data"], type=dict[str, Any])
        kind = fields[b"event"].decode()
        if kind == "end":
            raise _ended(data)
        value = data.get("value")
        if value is not None:
            value = base64.b64decode(value) if data.get("base64") else str(value).encode()
        return Change(
            kind=cast("Kind", kind),
            key=data.get("key"),
            version=int(data["version"]) if "version" in data else None,
            metadata=data.get("metadata"),
            expiration=data.get("expiration"),
            value=value,
            position=fields[b"id"].decode(),
            age=data.get("age_s"),
        )
    except (KeyError, ValueError) as error:
        raise told.not_ours(response) from error


def _ended(data: dict[str, Any]) -> AtollError:
    message = str(data.get("message"))
    error = told.error_told(str(data.get("code")), message, data)
    if error is not None:
        return error
    return RemoteError(status=503, remote_code=str(data.get("code")), message=message)
