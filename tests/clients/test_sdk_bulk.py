"""Cloudflare's SDK 5 writes, reads and deletes many keys in one request."""

import base64
from typing import TYPE_CHECKING, Literal

import pytest
from cloudflare import AsyncCloudflare
from cloudflare.types.kv.namespace_bulk_get_response import (
    WorkersKVBulkGetResult,
    WorkersKVBulkGetResultWithMetadata,
)

from tests.clients.plain import Namespace
from tests.clients.sdk import place

if TYPE_CHECKING:
    from cloudflare.types.kv.namespace_bulk_update_params import Body

EVERY_BYTE = bytes(range(256))
LATER = 2_000_000_000


async def test_bulk_update_stores_every_pair(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Text, bytes in base64, metadata and expirations as floats all arrive, and are counted."""
    plain: list[Body] = [{"key": f"k{n}", "value": f"välue {n}"} for n in range(25)]
    special: list[Body] = [
        {"key": "bytes", "value": base64.b64encode(EVERY_BYTE).decode(), "base64": True},
        {"key": "metadata", "value": "", "metadata": {"ü": [1, None]}},
        {"key": "time", "value": "v", "expiration": LATER + 0.454412},
        {"key": "ttl", "value": "v", "expiration_ttl": 60.0, "expiration": LATER},
    ]

    written = await sdk.kv.namespaces.bulk_update(**place(namespace), body=plain + special)

    assert written is not None
    assert written.successful_key_count == len(plain + special)
    assert written.unsuccessful_keys == []
    assert namespace.value("k24") == "välue 24".encode()
    assert namespace.value("bytes") == EVERY_BYTE
    assert namespace.metadata("metadata") == {"ü": [1, None]}
    assert namespace.expiration("time") == LATER
    assert (namespace.expiration("ttl") or LATER) < LATER
    assert namespace.expiration("k0") is None


async def test_bulk_delete_removes_every_key(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """All the keys are gone, the missing one is no fault, and all are counted."""
    namespace.bulk([{"key": key, "value": "v"} for key in ("a", "b", "stays")])

    deleted = await sdk.kv.namespaces.bulk_delete(**place(namespace), body=["a", "b", "missing"])

    assert deleted is not None
    assert deleted.successful_key_count == 3
    assert deleted.unsuccessful_keys == []
    assert namespace.names() == ["stays"]


async def test_nothing_in_bulk_is_no_fault(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Empty lists change nothing and count nothing."""
    namespace.put("stays", b"v")

    written = await sdk.kv.namespaces.bulk_update(**place(namespace), body=[])
    deleted = await sdk.kv.namespaces.bulk_delete(**place(namespace), body=[])

    assert written is not None
    assert deleted is not None
    assert written.successful_key_count == deleted.successful_key_count == 0
    assert namespace.names() == ["stays"]


async def test_bulk_get_as_text(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Values by key, each key once, null for what is missing."""
    namespace.bulk([{"key": "a", "value": "1"}, {"key": "ключ", "value": '{"x": 1}'}])

    got = await sdk.kv.namespaces.bulk_get(**place(namespace), keys=["a", "missing", "ключ", "a"])

    assert isinstance(got, WorkersKVBulkGetResult)
    assert got.values == {"a": "1", "missing": None, "ключ": '{"x": 1}'}


async def test_bulk_get_as_json(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Values are parsed: each kind of JSON comes back as what it is."""
    stored = {"object": '{"x": [1]}', "text": '"t"', "number": "1.5", "bool": "false"}
    namespace.bulk([{"key": key, "value": value} for key, value in stored.items()])

    got = await sdk.kv.namespaces.bulk_get(**place(namespace), keys=list(stored), type="json")

    assert isinstance(got, WorkersKVBulkGetResult)
    assert got.values == {"object": {"x": [1]}, "text": "t", "number": 1.5, "bool": False}


@pytest.mark.parametrize(("form", "value"), [("text", "[1]"), ("json", [1])])
async def test_bulk_get_with_metadata(
    sdk: AsyncCloudflare, namespace: Namespace, form: Literal["text", "json"], value: object
) -> None:
    """Value, metadata and expiration by key, null for what is missing."""
    namespace.bulk(
        [
            {"key": "all", "value": "[1]", "metadata": {"m": 1}, "expiration": LATER},
            {"key": "bare", "value": '"v"'},
        ]
    )

    got = await sdk.kv.namespaces.bulk_get(
        **place(namespace),
        keys=["all", "bare", "missing"],
        type=form,
        with_metadata=True,
    )

    assert isinstance(got, WorkersKVBulkGetResultWithMetadata)
    assert got.values is not None
    everything, bare = got.values["all"], got.values["bare"]
    assert everything is not None
    assert bare is not None
    assert everything.value == value
    assert (everything.metadata, everything.expiration) == ({"m": 1}, LATER)
    assert (bare.metadata, bare.expiration) == (None, None)
    assert got.values["missing"] is None


async def test_bulk_get_of_nothing_that_exists(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Only nulls is an answer too."""
    got = await sdk.kv.namespaces.bulk_get(**place(namespace), keys=["a", "b"])

    assert got is not None
    assert got.values == {"a": None, "b": None}


async def test_the_deprecated_names_of_the_bulk_calls(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """Programs that call them under `keys` reach the same."""
    here = place(namespace)
    keys = sdk.kv.namespaces.keys

    with pytest.deprecated_call():
        written = await keys.bulk_update(**here, body=[{"key": "a", "value": "1"}])  # pyright: ignore[reportDeprecated]
        got = await keys.bulk_get(**here, keys=["a"])  # pyright: ignore[reportDeprecated]
        deleted = await keys.bulk_delete(**here, body=["a"])  # pyright: ignore[reportDeprecated]

    assert written is not None
    assert got is not None
    assert deleted is not None
    assert written.successful_key_count == deleted.successful_key_count == 1
    assert got.values == {"a": "1"}
    assert namespace.names() == []
