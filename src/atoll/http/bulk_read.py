"""Reading many keys with one request, which REST v4 and the binding do alike."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from atoll.core import rules
from atoll.core.errors import BulkReadInvalidError, BulkReadTooLargeError
from atoll.core.limits import MIB, Limits
from atoll.core.model import Entry, Reading
from atoll.http.body import Bodies
from atoll.http.exchange import Request

BODY_BYTES_MAX: Final = MIB
"""A hundred keys of 512 bytes fit well, each byte escaped."""

NULL: Final = msgspec.Raw(b"null")


class BulkRead(msgspec.Struct, rename="camel"):
    """What a request asks for."""

    keys: list[str]
    type: str | None = None
    with_metadata: bool | None = None
    cache_ttl: str | int | None = None
    """Only of the binding, which writes it as text."""


class Row(msgspec.Struct):
    """A key that was found, where its metadata is asked for."""

    value: str | msgspec.Raw
    metadata: msgspec.Raw


class RowExpiring(msgspec.Struct):
    """The same with its expiration, which REST shows."""

    value: str | msgspec.Raw
    metadata: msgspec.Raw
    expiration: int


_decoder = msgspec.json.Decoder(BulkRead)


async def asked_of(bodies: Bodies, limits: Limits, request: Request) -> BulkRead:
    """Read and check what a request asks for; keys that it names twice are there once.

    Raises:
        BulkReadInvalidError: It is not of the form, or asks for too few keys or too many.
    """
    async with bodies.whole(request, bytes_max=BODY_BYTES_MAX) as body:
        try:
            asked = _decoder.decode(body)
        except (ValueError, RecursionError) as error:
            detail = f"the body must be an object with `keys`, an array of texts: {error}"
            raise BulkReadInvalidError(detail=detail) from error
    if not asked.keys:
        raise BulkReadInvalidError(detail="You must request a minimum of 1 key")
    if len(asked.keys) > limits.bulk_read_keys_max:
        detail = f"You can request a maximum of {limits.bulk_read_keys_max} keys"
        raise BulkReadInvalidError(detail=detail)
    if asked.type not in {None, "text", "json"}:
        detail = f'"{asked.type}" is not a valid type. Use "json" or "text"'
        raise BulkReadInvalidError(detail=detail)
    for key in asked.keys:
        rules.check_key(limits, key)
    asked.keys = list(dict.fromkeys(asked.keys))
    return asked


async def rows_of(
    limits: Limits,
    asked: BulkRead,
    readings: Sequence[Reading],
    *,
    expirations: bool,
    errors: str,
) -> Mapping[str, object]:
    """Return what is shown of each key, ready to be encoded.

    Args:
        limits: The limits in force.
        asked: What was asked for.
        readings: The answer, key by key.
        expirations: Whether they are shown beside metadata.
        errors: What becomes of values that are no text: `strict` or `replace`, as codecs have it.

    Raises:
        BulkReadTooLargeError: The values add up to more than one answer may hold.
    """
    total_bytes = sum(_size_of(reading.entry) for reading in readings)
    if total_bytes > limits.bulk_read_bytes_max:
        raise BulkReadTooLargeError(size_bytes_max=limits.bulk_read_bytes_max)
    rows: dict[str, object] = {}
    for key, reading in zip(asked.keys, readings, strict=True):
        entry = reading.entry
        if entry is None:
            rows[key] = None
            continue
        value = await _shown(key, entry, as_json=asked.type == "json", errors=errors)
        metadata = NULL if entry.metadata is None else msgspec.Raw(entry.metadata)
        if not asked.with_metadata:
            rows[key] = value
        elif entry.expiration is None or not expirations:
            rows[key] = Row(value, metadata)
        else:
            rows[key] = RowExpiring(value, metadata, entry.expiration)
    return rows


def _size_of(entry: Entry | None) -> int:
    if entry is None or entry.value is None:
        return 0
    return len(entry.value) if isinstance(entry.value, bytes) else entry.value.size_bytes


async def _shown(key: str, entry: Entry, *, as_json: bool, errors: str) -> str | msgspec.Raw:
    """Return a value as a bulk read shows it.

    Raises:
        BulkReadInvalidError: It is not text, or not JSON when that was asked for.
    """
    value = entry.value
    assert value is not None
    if not isinstance(value, bytes):
        value = b"".join([chunk async for chunk in value.chunks()])
    try:
        if not as_json:
            return value.decode(errors=errors)
        value.decode()
        msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError and DecodeError
        kind = "json" if as_json else "text"
        detail = f"At least one of the requested keys corresponds to a non-{kind} value: {key!r}"
        raise BulkReadInvalidError(detail=detail) from error
    return msgspec.Raw(value)
