"""`atoll watch`: the changes of a namespace as they happen, over interruptions too."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer

from atoll.cli.api import Json
from atoll.cli.command import Session, remote
from atoll.cli.namespaces import Named
from atoll.cli.output import Out, at_time, printable, to_json
from atoll.cli.patience import may_pass
from atoll.clock import Clock, SystemClock
from atoll.core.errors import AtollError, RemoteError, UnavailableError

SILENCE_S_MAX: Final = 30.0
"""A server says something every ten seconds; after so long without a word it is asked anew."""

PAUSE_S_FIRST: Final = 0.25
PAUSE_S_MAX: Final = 8.0
ATTEMPTS_MAX: Final = 75
"""How often in a row it is tried to go on: for about ten minutes."""

LATE_S: Final = 30
"""From this age on it is said that what a location tells may be late."""

EVENT_BYTES_MAX: Final = 2**20
"""More is no event of ours: the feed carries small values only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What the server sent at a time."""

    name: str
    position: str
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is to be watched."""

    namespace_id: str
    prefix: str
    with_values: bool

    def params(self, since: str | None) -> dict[str, str]:
        """Return the query, from a position on."""
        given = {
            "prefix": self.prefix,
            "include": "values" if self.with_values else "",
            "since": since or "",
        }
        return {name: value for name, value in given.items() if value}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    remote(app, "watch")(watch)


async def watch(
    session: Session,
    namespace: Named,
    *,
    prefix: Annotated[str, typer.Option(help="Only keys that begin with this.")] = "",
    since: Annotated[
        str | None,
        typer.Option(help="Begin behind this position instead of now.", metavar="POSITION"),
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show values too, as far as the server has them.")
    ] = False,
) -> None:
    """Show changes as they happen, until Ctrl-C.

    One line for each: put or delete, key, version, expiration, metadata. A line `present` says up
    to where the past was told. After an interruption it goes on where it was. Of several changes
    of one key that were made close together only the last may be shown.
    """
    asked = _Asked(
        namespace_id=await session.api.namespace_id(namespace), prefix=prefix, with_values=values
    )
    await _watch(session, asked, since, clock=SystemClock())


async def _watch(session: Session, asked: _Asked, since: str | None, *, clock: Clock) -> None:
    """Show events, and go on after what may pass."""
    shown = _Shown(session.out)
    failures = 0
    position = since
    begun = False
    while True:
        try:
            async with session.api.stream(
                f"/v1/namespaces/{asked.namespace_id}/watch",
                params=asked.params(position),
                read_s_max=SILENCE_S_MAX,
            ) as response:
                async for event in events(response):
                    begun, failures, position = True, 0, event.position
                    shown.show(event)
            raise UnavailableError("the watch broke off")
        except AtollError as error:
            failures += 1
            if not begun or not may_pass(error) or failures > ATTEMPTS_MAX:
                raise
            pause_s = min(PAUSE_S_FIRST * 2 ** (failures - 1), PAUSE_S_MAX)
            reason = str(error).rstrip(".")
            session.out.note(f"atoll: {reason}; going on from {position} in {pause_s:g} s")
        await clock.sleep(pause_s)


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """Read what a watch sends.

    Raises:
        RemoteError: The server ended the watch and said why, or this is no watch of ours.
    """
    pending = b""
    async for piece in response.aiter_bytes():
        # Not by lines: what Python takes for the end of one may stand in a key.
        *blocks, pending = (pending + piece).split(b"\n\n")
        for block in blocks:
            fields: dict[bytes, bytes] = {}
            for line in block.split(b"\n"):
                field, _, fields[field] = line.partition(b": ")
            if b"data" in fields:
                yield _event(fields)
        if len(pending) > EVENT_BYTES_MAX:
            raise _not_ours(f"{len(pending)} bytes without an end")


def _event(fields: dict[bytes, bytes]) -> Event:
    name = fields.get(b"event", b"").decode("latin-1")
    try:
        data: Json = msgspec.json.decode(fields[b"data"], type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise _not_ours(str(error)) from error
    if name == "end":
        raise RemoteError(
            status=int(data.get("status", 503)),
            remote_code=str(data.get("code")),
            message=str(data.get("message")),
        )
    return Event(name=name, position=fields.get(b"id", b"").decode("latin-1"), data=data)


def _not_ours(detail: str) -> RemoteError:
    return RemoteError(status=502, remote_code="not_atoll", message=f"this is no watch: {detail}")


class _Shown:
    """Prints events, each at once."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._late = False

    def show(self, event: Event) -> None:
        """Print one."""
        if self._out.as_json:
            document = {"event": event.name, "position": event.position, **event.data}
            sys.stdout.write(to_json(document) + "\n")
        elif event.name in {"put", "delete"}:
            sys.stdout.write("\t".join(_cells(event)) + "\n")
        elif event.name == "present":
            sys.stdout.write(f"present\t{event.position}\n")
        sys.stdout.flush()
        if "age_s" in event.data:
            self._note_age(event.data["age_s"])

    def _note_age(self, age_s: int | None) -> None:
        """Say so when a location has lost touch with central, and when it has it again."""
        late = age_s is None or age_s >= LATE_S
        if late and not self._late:
            since = "" if age_s is None else f" for {age_s} s"
            self._out.note(f"atoll: this location has heard nothing from central{since}")
        elif self._late and not late:
            self._out.note("atoll: this location hears from central again")
        self._late = late


def _cells(event: Event) -> list[str]:
    data = event.data
    cells = [event.name, printable(data["key"]), data["version"]]
    if event.name == "delete":
        return cells
    cells.append(at_time(data.get("expiration")))
    cells.append(to_json(data["metadata"]) if "metadata" in data else "")
    if data.get("value_omitted"):
        cells.append("(value left out)")
    elif "value" in data:
        cells.append(("base64:" if data.get("base64") else "") + printable(data["value"]))
    return [printable(cell) for cell in cells]
