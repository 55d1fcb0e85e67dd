"""Metadata on its way in and out: compact JSON in UTF-8 inside, ASCII where a header carries it."""

import json
from collections.abc import Sequence
from typing import Final

import msgspec

from atoll.core import rules
from atoll.core.errors import MetadataInvalidError, MetadataTooLargeError
from atoll.core.limits import Limits

_NULL: Final = msgspec.Raw(b"null")
_raws = msgspec.json.Decoder(list[msgspec.Raw])


def stored_form(limits: Limits, text: bytes) -> bytes | None:
    """Compact metadata and check it; what is measured is what is stored.

    Does what `rules.parse_metadata` does, faster: spaces go, and the rest stays as it was
    written. Only text with escapes takes the slow path, which undoes those that need not be.

    Args:
        limits: The limits in force.
        text: JSON as a request gave it. Empty text and null mean no metadata.

    Raises:
        MetadataInvalidError: It is not JSON.
        MetadataTooLargeError: Compact, it exceeds the limit.
    """
    if b"\\" in text or not text or text.isspace():
        return rules.parse_metadata(limits, text)
    try:
        compact = msgspec.json.format(text, indent=-1)
        if not compact.isascii():
            compact.decode()
    except (ValueError, RecursionError) as error:
        raise MetadataInvalidError(detail=str(error)) from error
    if len(compact) > limits.metadata_bytes_max:
        raise MetadataTooLargeError(
            size_bytes=len(compact), size_bytes_max=limits.metadata_bytes_max
        )
    return None if compact == b"null" else compact


def stored_forms(limits: Limits, texts: Sequence[msgspec.Raw]) -> Sequence[bytes | None] | None:
    """Do for many, each one JSON value or empty, what `stored_form` does, at a quarter of its cost.

    Returns:
        `None` if there is anything out of the ordinary about any of them; `stored_form` then says
        what is to be made of each.
    """
    if not any(texts):
        return [None] * len(texts)
    joined = b"[%b]" % b",".join([text or _NULL for text in texts])
    if b"\\" in joined:
        return None
    try:
        compact = msgspec.json.format(joined, indent=-1)
        if not compact.isascii():
            compact.decode()
        forms = _raws.decode(compact)
    except (ValueError, RecursionError):
        return None
    if len(forms) != len(texts) or max(map(len, forms)) > limits.metadata_bytes_max:
        return None
    return [None if form == _NULL else bytes(form) for form in forms]


def header_form(metadata: bytes) -> bytes:
    """Return the same JSON in characters that every header can carry."""
    if metadata.isascii() and b"\x7f" not in metadata:
        return metadata
    text = json.dumps(json.loads(metadata), separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii")
