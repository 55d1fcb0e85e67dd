"""`atoll bulk`: put, get and delete many keys, in wrangler's JSON file formats."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import msgspec
import typer

from atoll.cli.command import Session, remote
from atoll.cli.namespaces import Named, Yes, confirm

app: Final = typer.Typer()

BATCH_KEYS_MAX: Final = 1000
BATCH_BYTES_MAX: Final = 16 * 2**20
READ_KEYS_MAX: Final = 100

File = Annotated[Path, typer.Argument(help="A JSON file; `-`: standard input.", metavar="FILE")]


@remote(app, "put")
async def put(session: Session, namespace: Named, file: File) -> None:
    """Store the pairs in a JSON file.

    The file is an array of objects {"key", "value", "base64"?, "expiration"?, "expiration_ttl"?,
    "metadata"?}. It is checked before anything is sent, and stored in batches: each whole or not at
    all. It is held in memory; `atoll import` takes files of any size.
    """
    items = _array(file)
    for index, item in enumerate(items):
        _check_pair(index, item)
    namespace_id = await session.api.namespace_id(namespace)
    done = 0
    for batch in batches([msgspec.json.encode(item) for item in items]):
        await session.api.kv("PUT", f"/{namespace_id}/bulk", **json_body(batch))
        done += len(batch)
        session.out.note(f"{done:,} of {len(items):,} stored")
    session.out.result({"stored": done})


@remote(app, "get")
async def get(session: Session, namespace: Named, file: File) -> None:
    """Print the values of the keys in a JSON file, as one JSON object.

    The file is an array of keys, or of objects with a "name". Each key stands in the answer with
    {"value", "metadata"?, "expiration"?}, or null if it is missing. Values must be text.
    """
    keys = list(dict.fromkeys(_names(file)))
    namespace_id = await session.api.namespace_id(namespace)
    values: dict[str, object] = {}
    for start in range(0, len(keys), READ_KEYS_MAX):
        answer = await session.api.kv(
            "POST",
            f"/{namespace_id}/bulk/get",
            json={"keys": keys[start : start + READ_KEYS_MAX], "withMetadata": True},
        )
        values |= answer.result["values"]
    shown = {key: _without_nulls(found) for key, found in values.items()}
    session.out.as_json = True
    session.out.result(shown)


@remote(app, "delete")
async def delete(session: Session, namespace: Named, file: File, *, yes: Yes = False) -> None:
    """Delete the keys in a JSON file: an array of keys, or of objects with a "name"."""
    keys = _names(file)
    namespace_id = await session.api.namespace_id(namespace)
    confirm(f"Delete {len(keys):,} keys from {namespace}?", yes=yes)
    done = 0
    for batch in batches([msgspec.json.encode(key) for key in keys]):
        await session.api.kv("POST", f"/{namespace_id}/bulk/delete", **json_body(batch))
        done += len(batch)
        session.out.note(f"{done:,} of {len(keys):,} deleted")
    session.out.result({"deleted": done})


def batches(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut encoded items into batches that one request may carry."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_KEYS_MAX or size + len(item) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch


def json_body(items: Sequence[bytes]) -> dict[str, Any]:
    """Return what sends encoded items as a JSON array."""
    return {
        "content": b"[" + b",".join(items) + b"]",
        "headers": {"Content-Type": "application/json"},
    }


def _array(file: Path) -> list[object]:
    """Read a JSON array."""
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        document: object = msgspec.json.decode(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from error
    if not isinstance(document, list):
        raise typer.BadParameter(f"{file} holds no JSON array", param_hint="FILE")
    return cast("list[object]", document)


def _check_pair(index: int, item: object) -> None:
    """Refuse what cannot be a pair, before anything is sent; the server knows the other rules."""
    pair = cast("dict[object, object]", item) if isinstance(item, dict) else {}
    for member in ("key", "value"):
        if not isinstance(pair.get(member), str):
            raise typer.BadParameter(
                f"item {index} needs a {member!r} that is text. Nothing was sent.",
                param_hint="FILE",
            )


def _names(file: Path) -> list[str]:
    """Read an array of keys, or of objects that name them."""
    names: list[str] = []
    for index, item in enumerate(_array(file)):
        name = cast("dict[object, object]", item).get("name") if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise typer.BadParameter(
                f'item {index} is neither a key nor an object with a "name". Nothing was sent.',
                param_hint="FILE",
            )
        names.append(name)
    return names


def _without_nulls(found: object) -> object:
    if not isinstance(found, dict):
        return found
    members = cast("dict[str, object]", found)
    return {name: value for name, value in members.items() if value is not None}
