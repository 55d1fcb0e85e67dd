"""Cloudflare's SDK 5 stores values, metadata and expirations, and reads them back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

import cloudflare
import pytest
from cloudflare import AsyncCloudflare

from tests.clients.plain import Namespace
from tests.clients.sdk import place

EVERY_BYTE = bytes(range(256))
TTL_S = 3_600
LATER = 2_000_000_000

KEYS = [
    "a/b/c",
    "a%2Fb",
    "a%25b",
    "100%",
    "a b+c",
    "a?b=c#d&e",
    "ключ✓",
    "%2e",
    "a/../b",
    "...",
    "//x//",
    "new\nline",
    "nul\0inside",
    "\u65e5\u672c\U0001f600",
    "x" * 512,
    "é" * 256,
]

Upload = bytes | Path | IO[bytes] | tuple[str, bytes, str]


async def read(client: AsyncCloudflare, namespace: Namespace, key: str) -> bytes:
    """Read a value through the SDK."""
    got = await client.kv.namespaces.values.get(key, **place(namespace))
    return await got.read()


def opened(path: Path) -> IO[bytes]:
    """Open a file as a program would."""
    return path.open("rb")


FORMS: dict[str, Callable[[Path], Upload]] = {
    "bytes": lambda path: path.read_bytes(),
    "path": lambda path: path,
    "file": opened,
    "tuple": lambda path: (path.name, path.read_bytes(), "text/weird"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_every_form_of_value_comes_back_unharmed(
    sdk: AsyncCloudflare, namespace: Namespace, tmp_path: Path, form: Callable[[Path], Upload]
) -> None:
    """Bytes, a path, an open file and a tuple are all the same to the store."""
    path = tmp_path / 'a "value".bin'
    path.write_bytes(EVERY_BYTE)
    value = form(path)

    await sdk.kv.namespaces.values.update("k", **place(namespace), value=value)

    assert namespace.value("k") == EVERY_BYTE
    assert await read(sdk, namespace, "k") == EVERY_BYTE
    if not isinstance(value, bytes | Path | tuple):
        value.close()


async def test_an_empty_value_is_a_value(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Nothing is not the same as no key."""
    await sdk.kv.namespaces.values.update("k", **place(namespace), value=b"")

    assert await read(sdk, namespace, "k") == b""
    assert namespace.names() == ["k"]


async def test_a_large_value_can_be_read_as_a_stream(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """The pieces of a streamed read make up the value."""
    value = EVERY_BYTE * 40_000
    await sdk.kv.namespaces.values.update("k", **place(namespace), value=value)

    streaming = sdk.kv.namespaces.values.with_streaming_response
    async with streaming.get("k", **place(namespace)) as response:
        pieces = [piece async for piece in response.iter_bytes()]

    assert len(pieces) > 1
    assert b"".join(pieces) == value


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"a": [1, None], "ü": "é"}, {"a": [1, None], "ü": "é"}),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ('"text"', "text"),
        ("12.5", 12.5),
        ("true", True),
        ("null", None),
        (None, None),
    ],
)
async def test_metadata_of_every_kind(
    sdk: AsyncCloudflare, namespace: Namespace, given: object, stored: object
) -> None:
    """An object, or the JSON text of anything; none at all arrives as an empty part."""
    await sdk.kv.namespaces.values.update("k", **place(namespace), value=b"v", metadata=given)

    got = await sdk.kv.namespaces.metadata.get("k", **place(namespace))

    assert got == stored
    assert namespace.value("k") == b"v"
    [row] = namespace.rows()
    assert row.metadata == stored


async def test_a_key_without_metadata(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """Metadata that was never given is null."""
    await sdk.kv.namespaces.values.update("k", **place(namespace), value=b"v")

    assert await sdk.kv.namespaces.metadata.get("k", **place(namespace)) is None


async def test_metadata_of_a_missing_key_is_an_error(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """Null metadata is told apart from no key."""
    with pytest.raises(cloudflare.NotFoundError) as caught:
        await sdk.kv.namespaces.metadata.get("missing", **place(namespace))

    assert caught.value.errors[0].code == 10009


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_means_the_same_to_everybody(
    sdk: AsyncCloudflare, namespace: Namespace, key: str
) -> None:
    """Whatever a key is made of, it is put, listed, read and deleted under its own name."""
    await sdk.kv.namespaces.values.update(key, **place(namespace), value=b"v", metadata={"k": key})
    stored = namespace.value(key)
    listed = [row.name async for row in sdk.kv.namespaces.keys.list(**place(namespace))]
    got = await read(sdk, namespace, key)
    metadata = await sdk.kv.namespaces.metadata.get(key, **place(namespace))
    await sdk.kv.namespaces.values.delete(key, **place(namespace))

    assert stored == got == b"v"
    assert listed == [key]
    assert metadata == {"k": key}
    assert namespace.names() == []


@pytest.mark.parametrize("key", ["x" * 513, "é" * 256 + "x", "\U0001f600" * 128 + "x"])
async def test_longer_keys_are_refused(
    sdk: AsyncCloudflare, namespace: Namespace, key: str
) -> None:
    """Bytes count, not characters."""
    with pytest.raises(cloudflare.APIStatusError) as caught:
        await sdk.kv.namespaces.values.update(key, **place(namespace), value=b"v")

    assert caught.value.status_code == 414
    assert caught.value.errors[0].code == 10030
    assert namespace.names() == []


async def test_expirations_are_answered_with_the_value(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """Exactly the second that was asked for, or a time to live from now; fractions are cut."""
    values = sdk.kv.namespaces.values
    here = place(namespace)
    await values.update("time", **here, value=b"v", expiration=LATER + 0.9)
    await values.update("first", **here, value=b"v", expiration_ttl=TTL_S)
    await values.update("both", **here, value=b"v", expiration=LATER, expiration_ttl=TTL_S + 0.5)
    await values.update("last", **here, value=b"v", expiration_ttl=TTL_S)
    await values.update("never", **here, value=b"v")

    said = {
        key: (await values.with_raw_response.get(key, **here)).headers.get("expiration")
        for key in ("time", "first", "both", "last", "never")
    }

    assert said["time"] == str(LATER)
    assert said["never"] is None
    assert said["first"] is not None
    assert said["both"] is not None
    assert said["last"] is not None
    assert int(said["first"]) <= int(said["both"]) <= int(said["last"])


async def test_writing_again_takes_metadata_and_expiration_away(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """A put replaces everything about a key."""
    values = sdk.kv.namespaces.values
    here = place(namespace)
    await values.update("k", **here, value=b"1", metadata={"a": 1}, expiration_ttl=TTL_S)

    await values.update("k", **here, value=b"2")

    assert namespace.value("k") == b"2"
    assert namespace.metadata("k") is None
    assert namespace.expiration("k") is None


async def test_a_read_tells_no_content_type_of_the_value(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """What is stored is bytes, even where they look like JSON."""
    value = json.dumps({"result": 1}).encode()
    await sdk.kv.namespaces.values.update("k", **place(namespace), value=value)

    raw = await sdk.kv.namespaces.values.with_raw_response.get("k", **place(namespace))

    assert raw.headers["content-type"] == "application/octet-stream"
    assert await raw.read() == value


async def test_delete_of_a_missing_key_is_no_error(
    sdk: AsyncCloudflare, namespace: Namespace
) -> None:
    """Deleting twice is deleting."""
    namespace.put("k", b"v")

    for _ in range(2):
        await sdk.kv.namespaces.values.delete("k", **place(namespace))

    assert namespace.names() == []
