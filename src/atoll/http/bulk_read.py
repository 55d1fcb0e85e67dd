"""Reading many keys with one request, which REST v4 and the binding do alike."""

from collections.abc import Mapping
from typing import Final

import msgspec

from atoll.core.errors import BulkReadInvalidError
from atoll.core.limits import MIB
from atoll.core.model import Entry, Reading
from atoll.http.body import Bodies
from atoll.http.exchange import Request
from atoll.http.values import whole_value

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


async def asked_of(bodies: Bodies, request: Request) -> BulkRead:
    """Read what a request asks for; how many keys it may name is for `Values.read_many` to say.

    Raises:
        BulkReadInvalidError: It is not of the form.
    """
    async with bodies.whole(request, bytes_max=BODY_BYTES_MAX) as body:
        try:
            asked = _decoder.decode(body)
        except (ValueError, RecursionError) as error:
            detail = f"the body must be an object with `keys`, an array of texts: {error}"
            raise BulkReadInvalidError(detail=detail) from error
    if asked.type not in {None, "text", "json"}:
        detail = f'"{asked.type}" is not a valid type. Use "json" or "text"'
        raise BulkReadInvalidError(detail=detail)
    return asked


async def rows_of(
    asked: BulkRead, readings: Mapping[str, Reading], *, expirations: bool, errors: str
) -> Mapping[str, object]:
    """Return what is shown of each key, ready to be encoded.

    Args:
        asked: What was asked for.
        readings: The answer, by key.
        expirations: Whether they are shown beside metadata.
        errors: What becomes of values that are no text: `strict` or `replace`, as codecs have it.
    """
    rows: dict[str, object] = {}
    for key, reading in readings.items():
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


async def _shown(key: str, entry: Entry, *, as_json: bool, errors: str) -> str | msgspec.Raw:
    """Return a value as a bulk read shows it.

    Raises:
        BulkReadInvalidError: It is not text, or not JSON when that was asked for.
    """
    value = await whole_value(entry)
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
