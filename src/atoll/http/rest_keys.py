"""REST v4's handlers for the keys of one namespace: values, metadata, listings and bulks."""

import binascii
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NoReturn

import msgspec

from atoll.core import rules
from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    BulkInvalidError,
    KeyNotFoundError,
)
from atoll.core.limits import FACE_REST
from atoll.core.model import Batch, Listed, ListQuery, Mutation, Reading
from atoll.http.body import Bodies
from atoll.http.bulk_read import NULL, asked_of, rows_of
from atoll.http.cursor import cursor_after, key_before
from atoll.http.exchange import Answer, Request, at_position, etag
from atoll.http.metadata import stored_form, stored_forms
from atoll.http.node import Node
from atoll.http.rest_form import refuse, succeed, succeed_with_null
from atoll.http.shown import combined
from atoll.http.values import US_PER_S, Values, headers_of_write, identity_of, size_of
from atoll.namespace_rules import Choice
from atoll.principal import Principal

BULK_MEMORY_FACTOR: Final = 5
"""What a bulk takes in memory, as a multiple of its text: the text, the items, the mutations."""

ITEM_SHOWN_BYTES_MAX: Final = 60
"""How much of an item without a key an error shows."""

_ITEM_INDEX: Final = re.compile(r"`\$\[(\d+)\]")


class _Pair(msgspec.Struct):
    key: str
    value: str
    base64: bool | None = None
    expiration: int | float | None = None
    expiration_ttl: int | float | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"")


class _Keyed(msgspec.Struct):
    key: str


class _KeyRow(msgspec.Struct, omit_defaults=True):
    name: str
    expiration: int | None = None
    metadata: msgspec.Raw | None = None


_pairs = msgspec.json.Decoder(list[_Pair])
_names = msgspec.json.Decoder(list[str])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_keyed = msgspec.json.Decoder(_Keyed)


class RestKeys:
    """Handlers; `rest` has found out who asks and that the namespace is theirs."""

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies
        self._values = Values(node, bodies, FACE_REST)
        self._rate_limited = FACE_REST in node.limits.rewrite_faces

    # One key.

    async def get(self, request: Request, _principal: Principal) -> Answer:
        """Answer with the value itself; only its failure comes in the envelope."""
        reading = await self._values.read(request)
        entry = reading.entry
        if entry is None or entry.value is None:
            return _not_found(request, reading)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % size_of(entry)),
            etag(entry.version),
            at_position(reading.position),
        ]
        if entry.expiration is not None:
            headers.append((b"expiration", b"%d" % entry.expiration))
        return Answer(headers=headers, body=entry.value)

    async def get_metadata(self, request: Request, _principal: Principal) -> Answer:
        """Answer with the metadata, `null` when the key has none."""
        reading = await self._values.read(request)
        if reading.entry is None:
            return _not_found(request, reading)
        return succeed(
            NULL if reading.entry.metadata is None else msgspec.Raw(reading.entry.metadata),
            headers=[etag(reading.entry.version), at_position(reading.position)],
        )

    async def put(self, request: Request, principal: Principal) -> Answer:
        """Store a value."""
        return succeed_with_null(headers_of_write(await self._values.put(request, principal)))

    async def delete(self, request: Request, principal: Principal) -> Answer:
        """Delete a key; that there was none is as good."""
        return succeed_with_null(headers_of_write(await self._values.delete(request, principal)))

    # Listing.

    async def list_keys(self, request: Request, _principal: Principal) -> Answer:
        """Answer with a page of keys, which is empty only if it is the last."""
        limits = self._node.limits
        prefix = request.query.get("prefix", "")
        rules.check_prefix(limits, prefix)
        limit = request.whole_number(
            "limit",
            default=limits.list_keys_max,
            low=limits.list_keys_min_rest,
            high=limits.list_keys_max,
        )
        cursor = request.query.get("cursor")
        page = await self._node.upstream.list(
            ListQuery(
                namespace=request.namespace,
                prefix=prefix,
                after=key_before(request.namespace, prefix, cursor) if cursor else None,
                limit=limit,
                at_least=request.at_least,
            )
        )
        after = page.after
        next_cursor = "" if after is None else cursor_after(request.namespace, prefix, after)
        return succeed(
            [_key_row(item) for item in page.items],
            result_info={"count": len(page.items), "cursor": next_cursor},
            headers=[at_position(page.position)],
        )

    # Bulks.

    async def bulk_put(self, request: Request, principal: Principal) -> Answer:
        """Store many pairs in one transaction; one bad pair refuses them all."""
        async with self._bulk_body(request) as body:
            return await self._bulk_write(request, principal, self._puts(body), body)

    async def bulk_delete(self, request: Request, principal: Principal) -> Answer:
        """Delete many keys in one transaction."""
        async with self._bulk_body(request) as body:
            return await self._bulk_write(request, principal, self._deletes(body), body)

    def _bulk_body(self, request: Request) -> AbstractAsyncContextManager[bytes]:
        return self._bodies.whole(
            request,
            bytes_max=self._node.limits.bulk_write_bytes_max,
            memory_factor=BULK_MEMORY_FACTOR,
        )

    async def _bulk_write(
        self, request: Request, principal: Principal, mutations: Sequence[Mutation], body: bytes
    ) -> Answer:
        written = await self._node.upstream.write(
            Batch(
                namespace=request.namespace,
                mutations=mutations,
                identity=identity_of(request, principal, (body,)),
                rate_limited=self._rate_limited,
                journal_allowed=request.rules.journal is Choice.ALLOW,
            )
        )
        return succeed(
            {"successful_key_count": len(mutations), "unsuccessful_keys": []},
            headers=[at_position(written.position)],
        )

    def _puts(self, body: bytes) -> list[Mutation]:
        try:
            pairs = _pairs.decode(body)
        except (ValueError, RecursionError) as error:
            _explain(body, error, "an array of objects with `key` and `value`")
        self._check_count(len(pairs))
        now_s = self._node.clock.now_us() / US_PER_S
        limits = self._node.limits
        metadatas = stored_forms(limits, [pair.metadata for pair in pairs])
        mutations: list[Mutation] = []
        for index, pair in enumerate(pairs):
            key = pair.key
            try:
                value = _from_base64(pair.value) if pair.base64 else pair.value.encode()
                if metadatas is not None:
                    metadata = metadatas[index]
                else:
                    metadata = stored_form(limits, bytes(pair.metadata))
                expiration = None
                if pair.expiration is not None or pair.expiration_ttl is not None:
                    expiration = rules.expires_at(
                        limits,
                        now_s=now_s,
                        expiration=pair.expiration,
                        expiration_ttl=pair.expiration_ttl,
                    )
                mutation = rules.put(
                    limits, key=key, value=value, metadata=metadata, expiration=expiration
                )
            except AtollError as error:
                raise rules.at_item(index, key, error) from error
            mutations.append(mutation)
        return mutations

    def _deletes(self, body: bytes) -> list[Mutation]:
        try:
            keys = _names.decode(body)
        except (ValueError, RecursionError) as error:
            _explain(body, error, "an array of keys")
        self._check_count(len(keys))
        mutations: list[Mutation] = []
        for index, key in enumerate(keys):
            try:
                mutations.append(rules.delete(self._node.limits, key=key))
            except AtollError as error:
                raise rules.at_item(index, key, error) from error
        return mutations

    def _check_count(self, count: int) -> None:
        count_max = self._node.limits.bulk_write_pairs_max
        if count > count_max:
            detail = f"{count} items exceed the limit of {count_max}. Nothing was written."
            raise BodyInvalidError(detail=detail)

    async def bulk_get(self, request: Request, _principal: Principal) -> Answer:
        """Answer with the values of many keys, as text or as JSON."""
        asked = await asked_of(self._bodies, request)
        readings = await self._values.read_many(request, asked.keys)
        rows = await rows_of(asked, readings, expirations=True, errors="strict")
        position = combined(readings.values()).position
        return succeed({"values": rows}, headers=[at_position(position)])


def _not_found(request: Request, reading: Reading) -> Answer:
    """Say that the key is missing, and as of when."""
    answer = refuse(request, KeyNotFoundError())
    answer.headers.append(at_position(reading.position))
    return answer


def _key_row(item: Listed) -> _KeyRow:
    metadata = None if item.metadata is None else msgspec.Raw(item.metadata)
    return _KeyRow(item.key, item.expiration, metadata)


def _from_base64(text: str) -> bytes:
    """Decode the standard alphabet, padded; nothing else.

    Raises:
        BodyInvalidError: It is not base64.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error is one; so is a character that is not ASCII
        raise BodyInvalidError(detail=f"the value is not valid base64: {error}") from error


def _explain(body: bytes, error: Exception, wanted: str) -> NoReturn:
    """Say what is wrong with a bulk, and with which item of it."""
    match = _ITEM_INDEX.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
    try:
        # Decoding stopped at the item that is wrong; what follows may not even be JSON.
        item = None if match is None else _items.decode(body)[int(match[1])]
    except (ValueError, RecursionError):
        item = None
    if match is None or item is None:
        raise BodyInvalidError(detail=f"the body must be {wanted}, in JSON: {error}") from error
    try:
        key = _keyed.decode(item).key
    except (ValueError, RecursionError):
        key = bytes(item)[:ITEM_SHOWN_BYTES_MAX].decode(errors="replace")
    raise BulkInvalidError(index=int(match[1]), key=key, cause=str(error)) from error
