"""What a node's answers over `/v1` say: readings, listings, and the errors of the one tree."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx
import msgspec

from atoll.client.values import MS_PER_S, Key, Page, Written
from atoll.core.errors import AtollError, RemoteError
from atoll.core.model import (
    CacheStatus,
    Entry,
    JournalToken,
    LargeValue,
    Position,
    Reading,
    parse_at_least,
)
from atoll.core.version import Version
from atoll.peer.codec import error_of

ANSWER_TEXT_MAX: Final = 300
STATUS_BAD_GATEWAY: Final = 502
NOWHERE: Final = Position(incarnation=0, sequence=0)

_CODE_NOT_FOUND: Final = "key_not_found"
_VERSION_FACT: Final = "version_current"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


class _Fault(msgspec.Struct, frozen=True):
    code: str | int
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: dict[str, Any] | None = None
    errors: tuple[_Fault, ...] = ()


class _Row(msgspec.Struct, frozen=True):
    name: str
    version: str
    size: int
    expiration: int | None = None
    metadata: Any = None
    value: str | None = None
    base64: bool = False
    position: str | None = None


class _Many(msgspec.Struct, frozen=True):
    keys: tuple[_Row, ...]
    missing: tuple[str, ...]


class _Listing(msgspec.Struct, frozen=True):
    keys: tuple[_Row, ...]
    list_complete: bool
    position: str
    cursor: str | None = None


class Sum(msgspec.Struct, frozen=True):
    """What counting, or deleting by prefix, answers."""

    list_complete: bool
    position: str
    count: int = 0
    deleted: int = 0
    cursor: str | None = None


_refusals: Final = msgspec.json.Decoder(_Refusal)
_manies: Final = msgspec.json.Decoder(_Many)
_listings: Final = msgspec.json.Decoder(_Listing)
_sums: Final = msgspec.json.Decoder(Sum)


def reading_of(response: httpx.Response, key: str, value: bytes | LargeValue | None) -> Reading:
    """Return what an answer to a read says, its value read or still to be read.

    Args:
        response: The answer, whose head says the rest.
        key: What was asked for.
        value: `None` when the key is missing.

    Raises:
        RemoteError: It lacks what every answer of Atoll has.
    """
    headers = response.headers
    try:
        place = parse_at_least(headers["atoll-position"])
        entry = None
        if value is not None:
            metadata = headers.get("atoll-metadata")
            expiration = headers.get("atoll-expiration")
            entry = Entry(
                key=key,
                version=Version(int(headers["etag"].strip('"'))),
                value=value,
                metadata=None if metadata is None else metadata.encode(),
                expiration=None if expiration is None else int(expiration),
            )
        node, cache = _cache_status(headers["cache-status"])
        age = None if "atoll-age-unknown" in headers else int(headers["age"]) * MS_PER_S
    except (KeyError, ValueError, AtollError) as error:
        raise not_ours(response) from error
    token = place if isinstance(place, JournalToken) else None
    return Reading(
        entry=entry,
        position=NOWHERE if isinstance(place, JournalToken) else place,
        age_ms=age,
        stale="atoll-stale" in headers,
        order_unknown="atoll-order-unknown" in headers,
        token=token,
        cache=cache,
        node=node,
    )


def readings_of(response: httpx.Response, keys: Sequence[str]) -> dict[str, Reading]:
    """Return what an answer to a read of several keys says.

    Raises:
        RemoteError: It lacks what every answer of Atoll has, or one of `keys`.
    """
    shared = reading_of(response, "", None)
    try:
        many = _manies.decode(response.content)
        readings = dict.fromkeys(many.missing, shared)
        for row in many.keys:
            key = _key(row)
            place = parse_at_least(row.position or "")
            token = place if isinstance(place, JournalToken) else None
            readings[key.name] = replace(
                shared,
                entry=Entry(
                    key=key.name,
                    version=Version(key.version),
                    value=key.value or b"",
                    metadata=None if row.metadata is None else msgspec.json.encode(row.metadata),
                    expiration=key.expiration,
                ),
                position=NOWHERE if isinstance(place, JournalToken) else place,
                token=token,
            )
        return {key: readings[key] for key in keys}
    except (KeyError, ValueError, AtollError) as error:
        raise not_ours(response) from error


def _cache_status(text: str) -> tuple[str, CacheStatus]:
    """Read who answered, and how it came by the answer."""
    quoted = _QUOTED.match(text)
    if quoted is None:
        node, _, how = text.partition(";")
    else:
        node, how = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() :]
    if "detail=stale" in how:
        return node, CacheStatus.STALE
    if "detail=negative" in how:
        return node, CacheStatus.NEGATIVE
    is_miss = "fwd=miss" in how or "detail=store" in how
    return node, CacheStatus.MISS if is_miss else CacheStatus.HIT


def written_of(response: httpx.Response) -> Written:
    """Return what an answer to a write says.

    Raises:
        RemoteError: It lacks what every answer of Atoll has.
    """
    headers = response.headers
    try:
        return Written(
            version=int(headers["etag"].strip('"')),
            position=headers["atoll-position"],
            journaled="atoll-journaled" in headers,
        )
    except (KeyError, ValueError) as error:
        raise not_ours(response) from error


def page_of(response: httpx.Response) -> Page:
    """Return the page of a listing.

    Raises:
        RemoteError: It is none.
    """
    try:
        listing = _listings.decode(response.content)
        keys = tuple(_key(row) for row in listing.keys)
    except ValueError as error:
        raise not_ours(response) from error
    return Page(
        keys=keys,
        cursor=None if listing.list_complete else listing.cursor,
        position=listing.position,
    )


def _key(row: _Row) -> Key:
    value = None
    if row.value is not None:
        value = base64.b64decode(row.value) if row.base64 else row.value.encode()
    return Key(
        name=row.name,
        version=int(row.version),
        size_bytes=row.size,
        metadata=row.metadata,
        expiration=row.expiration,
        value=value,
    )


def sum_of(response: httpx.Response) -> Sum:
    """Return what was counted, or deleted.

    Raises:
        RemoteError: It is no such answer.
    """
    try:
        return _sums.decode(response.content)
    except ValueError as error:
        raise not_ours(response) from error


# Errors.


def is_missing(response: httpx.Response) -> bool:
    """Whether an answer, read whole, says that there is no such key."""
    fault = _fault(response)
    return fault is not None and fault.get("code") == _CODE_NOT_FOUND


def refusal_of(response: httpx.Response) -> AtollError:
    """Return the error that the node met, as the same class here."""
    fault = _fault(response)
    if fault is None:
        return not_ours(response)
    code, message = str(fault.get("code")), str(fault.get("message"))
    error = error_told(code, message, fault)
    if error is None:
        return RemoteError(status=response.status_code, remote_code=code, message=message)
    return error


def error_told(code: str, message: str, facts: Mapping[str, Any]) -> AtollError | None:
    """Return the error of the tree with this code; `None` if it has none."""
    known = {name: fact for name, fact in facts.items() if name not in {"code", "message"}}
    version = known.get(_VERSION_FACT)
    if isinstance(version, str) and version.isdecimal():
        known[_VERSION_FACT] = int(version)  # JSON has versions as text.
    error = error_of(code, message, known)
    if error is not None:
        error.args = (message,)  # As the node put it, which knew more than the facts say.
    return error


def _fault(response: httpx.Response) -> dict[str, Any] | None:
    """Read an error from the document of `/v1`, or from the envelope of what stands before it."""
    try:
        refusal = _refusals.decode(response.content)
    except ValueError:
        return None
    if refusal.error is not None:
        return refusal.error
    if refusal.errors:
        first = refusal.errors[0]
        return {"code": str(first.code), "message": first.message}
    return None


def not_ours(response: httpx.Response) -> RemoteError:
    """Say that what answered is no Atoll node."""
    text = response.text[:ANSWER_TEXT_MAX].strip() if response.is_closed else ""
    return RemoteError(
        status=response.status_code if response.is_error else STATUS_BAD_GATEWAY,
        remote_code="not_atoll",
        message=f"{response.url} answered {response.status_code} with what no Atoll node says:"
        f" {text!r}",
    )
