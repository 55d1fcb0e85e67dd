"""`atoll key`: put, get, list, delete. Bytes go in and come out as they are."""

import base64
import contextlib
import io
import os
import stat
import sys
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import IO, Annotated, Final, cast

import httpx
import msgspec
import typer

from atoll.cli.api import Answer, Api, Json, key_path
from atoll.cli.command import Session, remote
from atoll.cli.namespaces import Named
from atoll.cli.output import at_time, printable, to_json

app: Final = typer.Typer()

PIECE_BYTES: Final = 2**20
STDIN: Final = Path("-")
SHORT_LISTING: Final = 100
"""Longer ones take pages as long as the server gives them."""

KeyName = Annotated[
    str, typer.Argument(help="The key. Behind `--` it may begin with a dash.", metavar="KEY")
]
IfMatch = Annotated[
    str | None,
    typer.Option(help="Only if the key has this version; `*`: any.", metavar="VERSION"),
]
Metadata = Annotated[str | None, typer.Option(help="JSON to keep beside the value.")]
Ttl = Annotated[int | None, typer.Option(help="Expire in this many seconds.", metavar="SECONDS")]
Expiration = Annotated[
    int | None,
    typer.Option(help="Expire at this time, in seconds since 1970.", metavar="SECONDS"),
]


@remote(app, "put")
async def put(
    session: Session,
    namespace: Named,
    key: KeyName,
    value: Annotated[
        str | None,
        typer.Argument(help="The value. Without it or --path: standard input.", metavar="VALUE"),
    ] = None,
    *,
    path: Annotated[Path | None, typer.Option(help="Read the value from this file.")] = None,
    metadata: Metadata = None,
    ttl: Ttl = None,
    expiration: Expiration = None,
    if_match: IfMatch = None,
    if_none_match: Annotated[
        bool, typer.Option("--if-none-match", help="Only if the key does not exist.")
    ] = False,
) -> None:
    """Store a value: from the command line, a file or standard input."""
    if value is not None and path is not None:
        raise typer.BadParameter("give the value or --path, not both", param_hint="VALUE")
    params = {"expiration": expiration, "expiration_ttl": ttl}
    headers = _conditions(if_match, if_none_match=if_none_match)
    namespace_id = await session.api.namespace_id(namespace)
    with _opened(value, path) as source:
        upload = _Upload(source, metadata)
        answer = await session.api.kv(
            "PUT",
            f"/{namespace_id}/values/{key_path(key)}",
            params={name: seconds for name, seconds in params.items() if seconds is not None},
            headers=headers | upload.headers,
            content=upload.pieces(),
        )
    _report(session, key, answer)


@remote(app, "get")
async def get(
    session: Session,
    namespace: Named,
    key: KeyName,
    *,
    path: Annotated[
        Path | None, typer.Option(help="Write the value to this file, whole or not at all.")
    ] = None,
) -> None:
    """Print a value as it is, or write it to a file.

    With `--json`: the value with its metadata, expiration and version. A value that is not text
    is in base64 there.
    """
    namespace_id = await session.api.namespace_id(namespace)
    async with session.api.value(namespace_id, key) as response:
        if path is not None:
            size = await _save(response, path)
            session.out.note(f"{size:,} bytes to {path}")
            if session.out.as_json:
                session.out.result(described(key, response.headers) | {"path": str(path)})
        elif session.out.as_json:
            value = await response.aread()
            session.out.result(described(key, response.headers) | as_member(value))
        else:
            sys.stdout.flush()
            async for piece in response.aiter_bytes(PIECE_BYTES):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@remote(app, "list")
async def list_keys(
    session: Session,
    namespace: Named,
    *,
    prefix: Annotated[str, typer.Option(help="Only keys that begin with this.")] = "",
    limit: Annotated[
        int | None, typer.Option(help="At most so many.", min=1, show_default="all")
    ] = None,
    start_after: Annotated[
        str | None, typer.Option(help="Begin behind this key.", metavar="KEY")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Show size, expiration and metadata too.")
    ] = False,
) -> None:
    """List keys in the order of their bytes, one a line.

    A key with characters that a terminal would obey is shown as a JSON string; `--json` shows
    each key exactly.
    """
    namespace_id = await session.api.namespace_id(namespace)
    rows = listing(session.api, namespace_id, prefix=prefix, after=start_after, limit=limit)
    await session.out.stream((row, _line(row, long=long)) async for row in rows)


@remote(app, "delete")
async def delete(
    session: Session, namespace: Named, key: KeyName, *, if_match: IfMatch = None
) -> None:
    """Delete a key. Deleting what is not there succeeds, too."""
    namespace_id = await session.api.namespace_id(namespace)
    answer = await session.api.kv(
        "DELETE",
        f"/{namespace_id}/values/{key_path(key)}",
        headers=_conditions(if_match, if_none_match=False),
    )
    _report(session, key, answer)


# Answers.


async def listing(
    api: Api, namespace_id: str, *, prefix: str, after: str | None, limit: int | None
) -> AsyncIterator[Json]:
    """Yield the keys of a namespace as `/v1` lists them, asking for page after page."""
    left = sys.maxsize if limit is None else limit
    params: dict[str, str | int] = {"prefix": prefix}
    if after is not None:
        params["start_after"] = after
    if left <= SHORT_LISTING:
        params["limit"] = left
    while True:
        answer = await api.v1("GET", f"{namespace_id}/keys", params=params)
        for row in answer.result["keys"][:left]:
            yield row
        left -= len(answer.result["keys"])
        if answer.result["list_complete"] or left <= 0:
            return
        params = {"prefix": prefix, "cursor": answer.result["cursor"]}


def described(key: str, headers: httpx.Headers) -> Json:
    """Return what the headers of a value say about it."""
    facts: Json = {"key": key, "version": headers["etag"].strip('"')}
    if "atoll-metadata" in headers:
        facts["metadata"] = msgspec.json.decode(headers["atoll-metadata"])
    if "atoll-expiration" in headers:
        facts["expiration"] = int(headers["atoll-expiration"])
    return facts


def as_member(value: bytes) -> Json:
    """Return a value as the members of a JSON object, in the manner of wrangler's bulk files."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(value).decode(), "base64": True}


def _line(row: Json, *, long: bool) -> str:
    name = printable(row["name"])
    if not long:
        return name
    metadata = to_json(row["metadata"]) if "metadata" in row else ""
    return f"{row['size']:>12,}  {at_time(row.get('expiration')):20}  {name}  {metadata}".rstrip()


def _report(session: Session, key: str, answer: Answer) -> None:
    """Tell the version that a write got: to programs always, to people when they ask."""
    facts = {
        "key": key,
        "version": answer.headers.get("etag", "").strip('"'),
        "position": answer.headers.get("atoll-position", ""),
    }
    session.out.result(facts)


async def _save(response: httpx.Response, path: Path) -> int:
    """Write a body to a file that appears when it is complete; return its size in bytes."""
    size = 0
    with replacing(path) as file:
        async for piece in response.aiter_bytes(PIECE_BYTES):
            size += file.write(piece)
    return size


@contextlib.contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """Open a new file that takes the place of `path` at the end, or vanishes on an error."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with fresh.open("xb") as file:
            yield file
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


# Requests.


def _conditions(if_match: str | None, *, if_none_match: bool) -> dict[str, str]:
    if if_match is not None and if_none_match:
        raise typer.BadParameter(
            "give --if-match or --if-none-match, not both", param_hint="--if-match"
        )
    if if_none_match:
        return {"If-None-Match": "*"}
    if if_match is None:
        return {}
    version = if_match.strip('"')
    return {"If-Match": version if version == "*" else f'"{version}"'}


@contextlib.contextmanager
def _opened(value: str | None, path: Path | None) -> Generator[io.BufferedIOBase]:
    """Open what is to be stored."""
    if value is not None:
        # An argument that is not UTF-8 arrives with surrogates in it: its bytes are still meant.
        yield io.BytesIO(os.fsencode(value))
    elif path is not None and path != STDIN:
        try:
            file = path.open("rb")
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="--path") from error
        with file:
            yield file
    else:
        if sys.stdin.isatty():
            sys.stderr.write("reading the value from the terminal; Ctrl-D ends it\n")
        yield cast("io.BufferedReader", sys.stdin.buffer)


class _Upload:
    """The body that stores a value: the bytes themselves, or a form where metadata goes along."""

    def __init__(self, source: io.BufferedIOBase, metadata: str | None) -> None:
        self._source = source
        self.headers = {"Content-Type": "application/octet-stream"}
        self._head = self._tail = b""
        if metadata is not None:
            boundary = f"atoll-{os.urandom(16).hex()}"
            self._head = (
                f"--{boundary}\r\n"
                'Content-Disposition: form-data; name="metadata"\r\n\r\n'
                f"{metadata}\r\n"
                f"--{boundary}\r\n"
                'Content-Disposition: form-data; name="value"\r\n\r\n'
            ).encode("utf-8", "surrogateescape")
            self._tail = f"\r\n--{boundary}--\r\n".encode()
            self.headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        size = _size_of(source)
        if size is not None:
            self.headers["Content-Length"] = str(len(self._head) + size + len(self._tail))

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, reading as it goes."""
        if self._head:
            yield self._head
        # Not `read`, which on a terminal would want a second Ctrl-D.
        while piece := self._source.read1(PIECE_BYTES):
            yield piece
        if self._tail:
            yield self._tail


def _size_of(source: io.BufferedIOBase) -> int | None:
    """Return how much is left to read, where that can be known."""
    if isinstance(source, io.BytesIO):
        return len(source.getbuffer())
    status = os.fstat(source.fileno())
    return status.st_size - source.tell() if stat.S_ISREG(status.st_mode) else None
