"""What operators ask: how the locations are, what each holds of a key, what is in a journal."""

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from rich.live import Live

from atoll.cli.api import Api, Json, connected, key_path
from atoll.cli.command import Session, remote
from atoll.cli.folder import read_dev
from atoll.cli.keys import KeyName
from atoll.cli.namespaces import Named, Yes, confirm
from atoll.cli.output import at_time, table_of, to_json
from atoll.clock import SystemClock
from atoll.core.errors import RemoteError

WATCH_S: Final = 1.0
"""Between two looks; locations say how they are every few seconds."""
MS_PER_S: Final = 1000
US_PER_S: Final = 1_000_000
S_PER_MINUTE: Final = 60
MINUTES_SHOWN_MAX: Final = 120
HOURS_SHOWN_MAX: Final = 72
KIB: Final = 1024
KEYS_SHOWN_MAX: Final = 3
STDOUT: Final = Path("-")
CENTRAL_ONLY: Final = "central_only"
NOT_FOUND: Final = 404

STATUS_COLUMNS: Final = (
    "LOCATION", "STATE", "AGE", "BEHIND", "CLOCK ERROR", "HIT RATE", "JOURNAL", "REFUSED", "CACHE",
    "UPTIME", "THROUGH", "RELEASE",
)  # fmt: skip

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        help="The location, by name: one that `atoll dev` or several processes run on the data"
        " folder. Else --url is the location's.",
        metavar="NAME",
    ),
]
Name = Annotated[str, typer.Argument(help="The location.", metavar="NAME")]

journal_app: Final = typer.Typer()


def register(app: typer.Typer, places: typer.Typer) -> None:
    """Add the commands to `app`, and those about locations to `places`."""
    remote(app, "status")(status)
    remote(app, "where")(where)
    remote(places, "list")(list_locations)
    remote(places, "forget")(forget)
    app.add_typer(
        journal_app,
        name="journal",
        help="Journals: writes that a location has not delivered.",
        no_args_is_help=True,
    )


# How the locations are.


async def status(
    session: Session,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second.")] = False,
) -> None:
    """Show every location: its age, clock error, hit rate, journal and cache.

    Asked of a location's own URL, it shows that one, also while central is out of reach. With
    `--watch` it goes on until Ctrl-C; with `--json` each look is a line then.
    """
    if not watch:
        found = await _statuses(session.api)
        session.out.table(
            found, STATUS_COLUMNS, map(_status_row, found), empty="no location is registered"
        )
        return
    clock = SystemClock()
    if session.out.as_json or not sys.stdout.isatty():
        while True:
            found = await _statuses(session.api)
            if session.out.as_json:
                sys.stdout.write(to_json(found) + "\n")
            else:
                sys.stdout.writelines("\t".join(_status_row(one)) + "\n" for one in found)
            sys.stdout.flush()
            await clock.sleep(WATCH_S)
    with Live(auto_refresh=False) as live:
        while True:
            rows = [_status_row(one) for one in await _statuses(session.api)]
            live.update(table_of(STATUS_COLUMNS, rows), refresh=True)
            await clock.sleep(WATCH_S)


async def _statuses(api: Api) -> list[Json]:
    """Return the locations as central knows them; asked of a location, that one."""
    try:
        found: list[Json] = (await api.deployment("GET", "/locations")).result["locations"]
    except RemoteError as error:
        if error.remote_code != CENTRAL_ONLY:
            raise
        found = [(await api.deployment("GET", "/status")).result]
    return found


def _status_row(one: Json) -> Sequence[str]:
    said: Json | None = one["status"]
    if said is None:
        return (one["name"], _state(one), *[""] * (len(STATUS_COLUMNS) - 2))
    behind = one.get("behind")
    return (
        one["name"],
        _state(one),
        _span(said["feed_age_ms"]),
        "" if behind is None else str(behind),
        _span(said["clock_error_ms"]),
        _hit_rate(said),
        _waiting(said),
        str(said["journal_refused"]),
        f"{_size(said['cache_bytes'])} of {_size(said['cache_bytes_max'])}",
        _span(said["uptime_ms"]),
        _through(said),
        said["software"],
    )


def _state(one: Json) -> str:
    """Say in words whether a location follows, and whether it is in anybody's way."""
    if one.get("forgotten"):
        return "forgotten"
    if one["connected"]:
        words = "connected"
    elif one["status"] is None:
        words = "not heard of since central's start"
    elif "silent_ms" in one:
        words = f"silent for {_span(one['silent_ms'])}"
    else:
        words = "cut off"
    return f"{words}; holds up sweeping" if one.get("holds_up_sweeping") else words


def _through(said: Json | None) -> str:
    return "" if said is None else " ".join(said["via"])


def _hit_rate(said: Json) -> str:
    answered = said["hits"] + said["negative"] + said["stale"]
    total = answered + said["misses"]
    return f"{answered / total:.1%}" if total else ""


def _waiting(said: Json) -> str:
    if not said["journal_entries"]:
        return "0"
    return f"{said['journal_entries']:,} ({_size(said['journal_bytes'])})"


def _span(ms: int | None) -> str:
    """Write a time for people; what nobody can say as a question mark."""
    if ms is None:
        return "?"
    seconds = ms / MS_PER_S
    if seconds < S_PER_MINUTE * 2:
        return f"{seconds:.3g} s"
    minutes = seconds / S_PER_MINUTE
    if minutes < MINUTES_SHOWN_MAX:
        return f"{minutes:.0f} min"
    hours = minutes / S_PER_MINUTE
    return f"{hours:.0f} h" if hours < HOURS_SHOWN_MAX else f"{hours / 24:.0f} d"


def _size(size_bytes: int) -> str:
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < KIB:
            return f"{amount:.3g} {unit}"
        amount /= KIB
    return f"{amount:,.3g} TiB"


# Where a key is.


async def where(session: Session, namespace: Named, key: KeyName) -> None:
    """Show what central and each location hold of a key.

    A location that does not answer within two seconds is shown as that.
    """
    namespace_id = await session.api.namespace_id(namespace)
    answer = await session.api.v1("GET", f"{namespace_id}/where/{key_path(key)}")
    central: Json = answer.result["central"]
    rows = [
        ("central", central["holds"], central["version"] or "", "", ""),
        *(_where_row(one) for one in answer.result["locations"]),
    ]
    session.out.table(answer.result, ("NODE", "HOLDS", "VERSION", "AGE", "REMARKS"), rows)


def _where_row(one: Json) -> tuple[str, str, str, str, str]:
    remarks: list[str] = []
    if one.get("journaled") is not None:
        remarks.append(f"shows its journal's {one['journaled']}")
    if "version" not in one:
        return one["name"], one["holds"], "", "", ", ".join(remarks)
    if not one["current"]:
        remarks.append("not current")
    if one["stale"]:
        remarks.append("stale")
    age = _span(one["age_ms"])
    return one["name"], one["holds"], one["version"] or "", age, ", ".join(remarks)


# Locations.


async def list_locations(session: Session) -> None:
    """List the locations that are registered at central, the forgotten among them."""
    found: list[Json] = (await session.api.deployment("GET", "/locations")).result["locations"]
    rows = ((one["name"], str(one["node"]), _state(one), _through(one["status"])) for one in found)
    session.out.table(
        found, ("LOCATION", "ID", "STATE", "THROUGH"), rows, empty="no location is registered"
    )


async def forget(session: Session, name: Name, *, yes: Yes = False) -> None:
    """Release a location that never comes back: what it holds up is swept.

    Should it come back all the same, its journal is refused and set aside there. The name is not
    given again.
    """
    confirm(f"Forget location {name}? What is in its journal will not be applied.", yes=yes)
    answer = await session.api.deployment("DELETE", f"/locations/{key_path(name)}")
    session.out.result(answer.result, f"forgot {name}")


# Journals.


@asynccontextmanager
async def _at(session: Session, name: str | None) -> AsyncGenerator[Api]:
    """Talk to a location: by its name on the data folder, or where requests go anyway."""
    if name is None:
        yield session.api
        return
    config, target = session.config, session.api.target
    if config.url is not None:
        raise typer.BadParameter("give --url or --at, not both", param_hint="--at")
    dev = read_dev(config.data)
    socket: Path | None = None
    if dev is not None and name in dev.locations:
        target = replace(target, url=dev.locations[name], url_from=f"{config.data}/dev.json")
    else:
        from atoll.serve.location import Site  # noqa: PLC0415 - slow to import, and seldom needed

        socket = Site(name=name, config=config).socket_path
        if not socket.is_socket():
            raise typer.BadParameter(
                f"no location {name} runs on the data folder {config.data} that can be found from"
                " here: give its --url",
                param_hint="--at",
            )
        # Whoever may open the socket may ask; the keeper looks at no token there.
        target = replace(target, url="http://keeper", url_from=str(socket), token="none")  # noqa: S106
    async with connected(
        target,
        timeout_s=config.timeout_s,
        ca_certificate=config.ca_certificate,
        socket_path=socket,
    ) as api:
        yield api


async def _entries(api: Api) -> AsyncIterator[Json]:
    after = 0
    complete = False
    while not complete:
        answer = await api.deployment("GET", "/journal", params={"after": after})
        for entry in answer.result["entries"]:
            after = entry["sequence"]
            yield entry
        complete = answer.result["list_complete"]


@remote(journal_app, "list")
async def list_journal(session: Session, *, at: At = None) -> None:
    """List what waits to be delivered, and what central refused and is kept."""
    async with _at(session, at) as api:
        found = [entry async for entry in _entries(api)]
    rows = (
        (
            str(one["sequence"]),
            one["state"],
            at_time(one["stamped_us"] // US_PER_S),
            one["namespace"],
            _keys(one),
            one.get("reason", ""),
        )
        for one in found
    )
    session.out.table(
        found,
        ("ENTRY", "STATE", "WRITTEN", "NAMESPACE", "KEYS", "REASON"),
        rows,
        empty="the journal is empty",
    )


def _keys(entry: Json) -> str:
    keys: list[str] = entry["keys"][:KEYS_SHOWN_MAX]
    more = entry["mutations"] - len(keys)
    return ", ".join(keys) + (f" and {more} more" if more else "")


@remote(journal_app, "export")
async def export_journal(
    session: Session,
    file: Annotated[Path, typer.Argument(help="`-`: standard output.", metavar="[FILE]")] = STDOUT,
    *,
    at: At = None,
) -> None:
    """Write what was refused to a new file, one JSON object a line; nothing is removed.

    A line is what `atoll import` reads, and says besides in which namespace, with which version and
    why it was refused. A deletion has no value, but `"deleted": true`.
    """
    async with _at(session, at) as api:
        if file == STDOUT:
            sys.stdout.flush()
            await _export(api, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        try:
            output = file.open("xb")
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="FILE") from error
        try:
            with output:
                exported = await _export(api, output)
                output.flush()
                os.fsync(output.fileno())
        except BaseException:
            file.unlink()  # A part of it would pass for all of it.
            raise
    text = f"{exported:,} writes exported to {file}"
    session.out.result({"exported": exported, "path": str(file)}, text)


async def _export(api: Api, output: IO[bytes]) -> int:
    """Write page after page, and return how many lines there were."""
    exported = after = 0
    while True:
        lines = await api.lines("/v1/journal/refused", {"after": str(after)})
        if not lines:
            return exported
        for text, line in lines:
            output.write(text + b"\n")
            after = line["sequence"]
        exported += len(lines)


@remote(journal_app, "discard")
async def discard(
    session: Session,
    entries: Annotated[
        list[int] | None, typer.Argument(help="Which, by number.", metavar="ENTRY...")
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All that were refused by now.")
    ] = False,
    at: At = None,
    yes: Yes = False,
) -> None:
    """Let go of entries that were refused. What waits to be delivered is not touched."""
    if bool(entries) == everything:
        raise typer.BadParameter("name entries, or give --all", param_hint="ENTRY")
    async with _at(session, at) as api:
        chosen = entries or [
            entry["sequence"] async for entry in _entries(api) if entry["state"] == "refused"
        ]
        if chosen:
            confirm(f"Discard {len(chosen)} refused entries for good?", yes=yes)
        discarded = [sequence for sequence in chosen if await _discard(api, sequence)]
        missing = [sequence for sequence in chosen if sequence not in discarded]
    if missing and entries:
        raise _not_kept(missing)
    session.out.result({"discarded": discarded}, f"discarded {len(discarded):,} entries")


def _not_kept(missing: Sequence[int]) -> RemoteError:
    numbers = ", ".join(map(str, missing))
    return RemoteError(
        status=NOT_FOUND,
        remote_code="journal_entry_not_found",
        message=f"no refused entry {numbers} is kept there",
    )


async def _discard(api: Api, sequence: int) -> bool:
    """Let go of one entry; it may have gone meanwhile."""
    try:
        await api.deployment("DELETE", f"/journal/refused/{sequence}")
    except RemoteError as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True
