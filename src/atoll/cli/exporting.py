"""`atoll export`: writes a namespace to a file, page after page, in the order of its keys."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
import typer

from atoll.cli import ndjson
from atoll.cli.api import Api
from atoll.cli.command import Session, remote
from atoll.cli.keys import as_member, described
from atoll.cli.namespaces import Named
from atoll.cli.patience import patiently
from atoll.cli.progress import progress
from atoll.clock import Clock, SystemClock
from atoll.core.errors import RemoteError

NOT_FOUND: Final = 404
SHOW_EVERY: Final = 500
"""Pairs between two movements of the bar."""
STDOUT: Final = Path("-")
NO_METADATA: Final = msgspec.Raw()


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    remote(app, "export")(export)


async def export(
    session: Session,
    namespace: Named,
    file: Annotated[Path, typer.Argument(help="`-`: standard output.", metavar="FILE")],
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the last whole line of FILE.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Write every pair of a namespace to a file, one JSON object a line.

    The lines are what `atoll import` reads. Memory stays flat whatever the size. It is no
    snapshot: what is written meanwhile may be in the file or not.
    """
    namespace_id = await session.api.namespace_id(namespace)
    exporter = _Exporter(session.api, namespace_id, SystemClock())
    if file == STDOUT:
        sys.stdout.flush()
        async with aclosing(exporter.lines(after=None)) as lines:
            async for line in lines:
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        return
    after, output = _opened(file, resume=resume, overwrite=overwrite)
    if after is not None:
        session.out.note(f"going on behind key {after!r}")
    with output:
        shown = not session.out.as_json and sys.stderr.isatty()
        total = await exporter.count() if shown else None
        with progress(f"export {file.name}", total=total, in_bytes=False, shown=shown) as show:
            async with aclosing(exporter.lines(after=after)) as lines:
                async for line in lines:
                    output.write(line)
                    if not exporter.exported % SHOW_EVERY:
                        show(exporter.exported, "")
        output.flush()
        os.fsync(output.fileno())
    text = f"{exporter.exported:,} pairs exported to {file}"
    session.out.result({"exported": exporter.exported, "path": str(file)}, text)


def _opened(file: Path, *, resume: bool, overwrite: bool) -> tuple[str | None, IO[bytes]]:
    """Open the file to write to, and return the key to go on behind."""
    try:
        if resume and file.exists():
            return ndjson.cut_to_last_line(file), file.open("ab")
        return None, file.open("wb" if overwrite else "xb")
    except FileExistsError as error:
        raise typer.BadParameter(
            f"{file} exists: --resume goes on behind its last line, --overwrite replaces it",
            param_hint="FILE",
        ) from error
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error


class _Row(msgspec.Struct, frozen=True):
    name: str
    value: str = ""
    base64: bool = False
    expiration: int | None = None
    metadata: msgspec.Raw = NO_METADATA
    value_omitted: bool = False


class _Page(msgspec.Struct, frozen=True):
    keys: list[_Row]
    list_complete: bool
    cursor: str = ""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    value: str
    base64: bool = False
    expiration: int | None = None
    metadata: msgspec.Raw | None = None


_encode: Final = msgspec.json.Encoder().encode


class _Exporter:
    """Reads a namespace in order, fetching one page ahead."""

    def __init__(self, api: Api, namespace_id: str, clock: Clock) -> None:
        self.exported = 0
        self._api = api
        self._namespace_id = namespace_id
        self._clock = clock

    async def count(self) -> int | None:
        """Return how many keys there are, unless that takes too long to find out."""
        answer = await self._api.v1("GET", f"{self._namespace_id}/count")
        return answer.result["count"] if answer.result["list_complete"] else None

    async def lines(self, *, after: str | None) -> AsyncGenerator[bytes]:
        """Yield the line of each pair behind the key `after`."""
        where = {} if after is None else {"start_after": after}
        ahead = asyncio.create_task(self._page(where))
        try:
            while True:
                page = await ahead
                if not page.list_complete:
                    ahead = asyncio.create_task(self._page({"cursor": page.cursor}))
                for row in page.keys:
                    line = await self._line(row)
                    if line is not None:
                        self.exported += 1
                        yield line + b"\n"
                if page.list_complete:
                    return
        finally:
            ahead.cancel()

    async def _page(self, where: dict[str, str]) -> _Page:
        path = f"/v1/namespaces/{self._namespace_id}/keys"
        params = {"include": "values", **where}
        return await patiently(lambda: self._api.document(path, params, _Page), clock=self._clock)

    async def _line(self, row: _Row) -> bytes | None:
        """Write a pair, or nothing if it vanished since it was listed."""
        if not row.value_omitted:
            return _encode(
                _Line(
                    key=row.name,
                    value=row.value,
                    base64=row.base64,
                    expiration=row.expiration,
                    metadata=row.metadata if bytes(row.metadata) else None,
                )
            )
        try:
            return await patiently(lambda: self._large(row.name), clock=self._clock)
        except RemoteError as error:
            if error.status != NOT_FOUND:
                raise
            return None

    async def _large(self, key: str) -> bytes:
        """Fetch a value that was too large for the listing, with what belongs to it by now."""
        async with self._api.value(self._namespace_id, key) as response:
            value = as_member(await response.aread())
            facts = described(key, response.headers)
        del facts["version"]
        return _encode({"key": facts.pop("key"), **value, **facts})
