"""What a value is shown as: text, JSON folded, a picture, or bytes in hexadecimal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

from markupsafe import Markup, escape

from atoll.core.model import Entry

TEXT_BYTES_MAX: Final = 256 * 1024
"""The largest text that is shown whole and can be edited."""
BINARY_BYTES_MAX: Final = 2048
"""How much of anything else is shown."""
JSON_PARTS_MAX: Final = 4000
JSON_DEPTH_MAX: Final = 60
JSON_OPEN_DEPTH: Final = 2
"""How deep JSON is unfolded at first."""
HEX_ROW: Final = 16
PRINTABLE: Final = range(0x20, 0x7F)

_UNITS: Final = ("KB", "MB", "GB", "TB", "PB")
_UNIT: Final = 1000

_ALLOWED_CONTROLS: Final = frozenset("\t\n\r")


class Kind(StrEnum):
    """What a value is."""

    EMPTY = "empty"
    JSON = "JSON"
    TEXT = "text"
    PICTURE = "picture"
    BINARY = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A value as a page shows it."""

    kind: Kind
    size_bytes: int
    text: str = ""
    """All of it, where it is text that is not too large."""
    tree: Markup | None = None
    picture_type: str | None = None
    hex_rows: Sequence[tuple[str, str, str]] = ()
    """The beginning: offset, bytes, and the same as characters."""
    is_whole: bool = True
    editable: bool = False
    crlf: bool = False
    """Whether its lines end in carriage return and line feed, all of them."""


async def shown(entry: Entry) -> Shown:
    """Find out how to show what an entry holds."""
    value = entry.value
    assert value is not None
    if isinstance(value, bytes):
        head, size_bytes = value, len(value)
    else:
        size_bytes = value.size_bytes
        chunks = value.chunks()
        pieces: list[bytes] = []
        async for chunk in chunks:
            pieces.append(chunk)
            if sum(map(len, pieces)) >= min(size_bytes, TEXT_BYTES_MAX + 1):
                break
        head = b"".join(pieces)
    if not size_bytes:
        return Shown(kind=Kind.EMPTY, size_bytes=0, editable=True)
    picture = picture_type(head)
    if picture is not None:
        return Shown(kind=Kind.PICTURE, size_bytes=size_bytes, picture_type=picture)
    text = _text(head) if size_bytes <= TEXT_BYTES_MAX else None
    if text is None:
        return Shown(
            kind=Kind.BINARY,
            size_bytes=size_bytes,
            hex_rows=hex_rows(head[:BINARY_BYTES_MAX]),
            is_whole=size_bytes <= BINARY_BYTES_MAX,
        )
    tree = json_tree(text)
    plain = text.replace("\r\n", "")
    return Shown(
        kind=Kind.TEXT if tree is None else Kind.JSON,
        size_bytes=size_bytes,
        text=text,
        tree=tree,
        # What a text area does to line ends could not be undone where they are mixed.
        editable="\r" not in plain and ("\r" not in text or "\n" not in plain),
        crlf="\r" in text,
    )


def _text(raw: bytes) -> str | None:
    """Return text that people can read; `None` if it is none."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c > "~" or c in _ALLOWED_CONTROLS for c in text) else None


def picture_type(head: bytes) -> str | None:
    """Tell by its first bytes which picture a value is, of those that cannot hold scripts."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:12] in {b"ftypavif", b"ftypavis"}:
        return "image/avif"
    return None


def hex_rows(head: bytes) -> Sequence[tuple[str, str, str]]:
    """Return rows of a hex dump."""
    rows: list[tuple[str, str, str]] = []
    for at in range(0, len(head), HEX_ROW):
        row = head[at : at + HEX_ROW]
        readable = "".join(chr(byte) if byte in PRINTABLE else "·" for byte in row)
        rows.append((f"{at:06x}", row.hex(" "), readable))
    return rows


class _Number(str):
    """A number as it was written: none is rounded because somebody looked at it."""

    __slots__ = ()


class _Object(list[tuple[str, object]]):
    """The members of an object, also those that are named twice."""

    __slots__ = ()


def json_tree(text: str) -> Markup | None:
    """Return JSON as nested parts that unfold; `None` if it is no object or array, or too much."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        document: object = json.loads(
            text,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=_Object,
        )
    except (ValueError, RecursionError):
        return None
    parts: list[str] = []
    left = _draw(document, None, parts, depth=0, left=JSON_PARTS_MAX)
    return None if left < 0 else Markup("").join(Markup(part) for part in parts)  # noqa: S704 - each was escaped


def _draw(node: object, name: str | None, parts: list[str], *, depth: int, left: int) -> int:
    """Draw a part and what is in it; return how many more may come, below 0 if it was too much."""
    if left <= 0 or depth > JSON_DEPTH_MAX:
        return -1
    label = "" if name is None else f'<span class="j-name">{escape(name)}</span>: '
    if not isinstance(node, list):
        parts.append(f'<div class="j-row">{label}{_leaf(node)}</div>')
        return left - 1
    is_object = isinstance(node, _Object)
    members: list[tuple[str | None, object]] = (
        [*node]
        if isinstance(node, _Object)
        else [(None, item) for item in cast("list[object]", node)]
    )
    begin, end = ("{", "}") if is_object else ("[", "]")
    if not members:
        parts.append(f'<div class="j-row">{label}{begin}{end}</div>')
        return left - 1
    word = "member" if is_object else "item"
    count = f"{len(members):,} {word}{'' if len(members) == 1 else 's'}"
    is_open = " open" if depth < JSON_OPEN_DEPTH else ""
    parts.append(
        f'<details class="j-part"{is_open}><summary>{label}{begin}'
        f' <span class="j-count">{count}</span> {end}</summary><div class="j-in">'
    )
    left -= 1
    for inner_name, inner in members:
        left = _draw(inner, inner_name, parts, depth=depth + 1, left=left)
        if left < 0:
            return left
    parts.append("</div></details>")
    return left


def _leaf(node: object) -> str:
    match node:
        case _Number():
            return f'<span class="j-number">{escape(node)}</span>'
        case str():
            said = json.dumps(node, ensure_ascii=False)
            return f'<span class="j-text">{escape(said)}</span>'
        case _:
            return f'<span class="j-word">{escape(json.dumps(node))}</span>'


def size(size_bytes: int) -> str:
    """Return a size in words."""
    if size_bytes < _UNIT:
        return f"{size_bytes} B"
    number, power = float(size_bytes), -1
    while number >= _UNIT and power < len(_UNITS) - 1:
        number /= _UNIT
        power += 1
    return f"{number:.3g} {_UNITS[power]}"


def duration(ms: int | None) -> str:
    """Return a duration in words, coarse where it is long."""
    if ms is None:
        return "unknown"
    if ms < 1000:  # noqa: PLR2004 - a second
        return f"{ms} ms"
    seconds = ms / 1000
    for length, unit in ((60, "s"), (60, "min"), (24, "h")):
        if seconds < length:
            return f"{seconds:.1f} {unit}" if seconds < 10 else f"{seconds:.0f} {unit}"  # noqa: PLR2004
        seconds /= length
    return f"{seconds:.0f} d"
