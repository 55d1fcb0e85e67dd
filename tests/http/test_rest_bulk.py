"""REST v4, many keys at a time: bulk put, delete and get, all or nothing."""

import base64
import json
from pathlib import Path

import pytest

from atoll.core.limits import Limits
from tests.http.site import Site

pytestmark = pytest.mark.anyio

BYTES = bytes(range(256))


async def test_a_bulk_stores_every_kind_of_pair(site: Site) -> None:
    """Text, base64, metadata and both expirations, as numbers with or without a point."""
    now = 1_800_000_000
    pairs = [
        {"key": "text", "value": "é\u0000", "unknown": [1]},
        {"key": "bytes", "value": base64.b64encode(BYTES).decode(), "base64": True},
        {"key": "plain", "value": "AAAA", "base64": False},
        {"key": "meta", "value": "v", "metadata": {"a": [1, "é"]}, "expiration_ttl": 60.0},
        {"key": "at", "value": "", "expiration": now + 99.9, "metadata": None},
        {"key": "both", "value": "", "expiration": 1, "expiration_ttl": 70},
        {"key": "nulls", "value": "", "expiration": None, "expiration_ttl": None, "base64": None},
    ]

    put = await site.ask_json("PUT", f"{site.home}/bulk", pairs)
    rows = {row["name"]: row for row in (await site.ask("GET", f"{site.home}/keys")).result}

    assert put.result == {"successful_key_count": 7, "unsuccessful_keys": []}
    assert "atoll-position" in put.headers
    assert await site.get("text") == "é\0".encode()
    assert await site.get("bytes") == BYTES
    assert await site.get("plain") == b"AAAA"
    assert rows["meta"] == {"name": "meta", "metadata": {"a": [1, "é"]}, "expiration": now + 60}
    assert rows["at"] == {"name": "at", "expiration": now + 99}
    assert rows["both"] == {"name": "both", "expiration": now + 70}
    assert rows["nulls"] == {"name": "nulls"}


@pytest.mark.parametrize(
    "metadata", ['{"a" : 1.50 , "b":[ ]}', '"\\u00e9\\/"', '{"é":"ü"}', "1e5", "[" * 60 + "]" * 60]
)
async def test_bulk_metadata_is_stored_as_single_puts_store_it(site: Site, metadata: str) -> None:
    """The fast way through a bulk and the form end in the same JSON."""
    await site.ask_form(
        "PUT", site.value("one"), ('name="value"', b"v"), ('name="metadata"', metadata.encode())
    )
    body = f'[{{"key":"two","value":"v","metadata": {metadata} }}]'.encode()
    assert (await site.ask("PUT", f"{site.home}/bulk", body=body)).status == 200

    one, two = [await site.ask("GET", site.metadata(key)) for key in ("one", "two")]

    assert one.result == two.result == json.loads(metadata)
    assert one.body == two.body


async def test_of_duplicates_the_last_wins(site: Site) -> None:
    """All are counted, and what is stored is what stood last."""
    pairs = [{"key": "k", "value": str(i)} for i in range(3)]

    put = await site.ask_json("PUT", f"{site.home}/bulk", pairs)

    assert put.result["successful_key_count"] == 3
    assert await site.get("k") == b"2"


@pytest.mark.parametrize(("method", "path"), [("DELETE", "bulk"), ("POST", "bulk/delete")])
async def test_a_bulk_deletes_by_either_verb(site: Site, method: str, path: str) -> None:
    """Wrangler sends DELETE with a body, the SDK POST; what is missing counts as deleted."""
    for key in ("a", "b", "c"):
        await site.put(key, b"v")

    deleted = await site.ask_json(method, f"{site.home}/{path}", ["a", "nope", "c", "a"])

    assert deleted.result == {"successful_key_count": 4, "unsuccessful_keys": []}
    assert await site.keys() == ["b"]


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "bulk"), ("DELETE", "bulk"), ("POST", "bulk/delete")]
)
async def test_an_empty_bulk_does_nothing(site: Site, method: str, path: str) -> None:
    """It succeeds, with or without a name that makes it repeatable."""
    for headers in ({}, {"idempotency-key": "x"}):
        reply = await site.ask(method, f"{site.home}/{path}", body=b" [ ] ", headers=headers)
        assert reply.result == {"successful_key_count": 0, "unsuccessful_keys": []}


async def test_curl_of_2019_means_json(site: Site) -> None:
    """`-d` announces a form's content type; the body is JSON all the same."""
    body = b'[{"key": "built_by", "value": "kyle, alex"}, {"key": "x", "value": "y"}]'

    put = await site.ask(
        "PUT",
        f"{site.home}/bulk",
        body=body,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )

    assert put.result["successful_key_count"] == 2
    assert await site.get("built_by") == b"kyle, alex"


async def test_a_bulk_is_repeatable_too(site: Site) -> None:
    """The same body under the same key writes once."""
    body = b'[{"key":"k","value":"v"}]'
    name = {"idempotency-key": "b1"}
    path = f"{site.home}/bulk"
    await site.ask("PUT", path, body=body, headers=name)
    await site.put("k", b"later")

    again = await site.ask("PUT", path, body=body, headers=name)
    other = await site.ask("PUT", path, body=b"[]", headers=name)

    assert again.result["successful_key_count"] == 1
    assert await site.get("k") == b"later"
    assert other.status == 200  # Nothing to write, so nothing to confuse.


async def test_a_bulk_read_answers_values_and_nulls(site: Site) -> None:
    """Duplicates collapse; what is missing is null; metadata and expiration come if asked for."""
    await site.put("a", "é".encode())
    await site.put("b", b"", "?expiration_ttl=60")
    asked = {"keys": ["a", "b", "nope", "a"]}

    plain = await site.ask_json("POST", f"{site.home}/bulk/get", asked)
    with_metadata = await site.ask_json(
        "POST", f"{site.home}/bulk/get", {**asked, "withMetadata": True, "type": None}
    )

    assert plain.result == {"values": {"a": "é", "b": "", "nope": None}}
    assert with_metadata.result == {
        "values": {
            "a": {"value": "é", "metadata": None},
            "b": {"value": "", "metadata": None, "expiration": 1_800_000_060},
            "nope": None,
        }
    }
    assert "atoll-position" in plain.headers


async def test_a_bulk_read_parses_json(site: Site) -> None:
    """Each value is the JSON that it holds, whatever it is."""
    values = {"a": {"x": [1, 2.5, "é"]}, "b": None, "c": "text", "d": 10**30}
    for key, value in values.items():
        await site.put(key, json.dumps(value).encode())

    read = await site.ask_json(
        "POST", f"{site.home}/bulk/get", {"keys": list(values), "type": "json"}
    )

    assert read.result == {"values": values}


async def test_a_bulk_read_refuses_what_is_no_text(site: Site) -> None:
    """Bytes do not fit in, and text that is no JSON is not parsed; the key is named."""
    await site.put("bytes", b"\xff")
    await site.put("text", b"{not json")
    path = f"{site.home}/bulk/get"

    as_text = await site.ask_json("POST", path, {"keys": ["text", "bytes"]})
    as_json = await site.ask_json("POST", path, {"keys": ["text"], "type": "json"})

    assert as_text.refused == as_json.refused == (400, 10029)
    assert "'bytes'" in as_text.message
    assert "'text'" in as_json.message


async def test_a_bulk_read_is_bounded_in_bytes(tmp_path: Path) -> None:
    """The sum counts, and a byte too many is 413."""
    site = await Site.make(tmp_path, limits=Limits(bulk_read_bytes_max=100))
    await site.put("a", b"x" * 60)
    await site.put("b", b"x" * 40)
    await site.put("c", b"x")
    path = f"{site.home}/bulk/get"

    fits = await site.ask_json("POST", path, {"keys": ["a", "b"]})
    exceeds = await site.ask_json("POST", path, {"keys": ["a", "b", "c"]})

    assert fits.status == 200
    assert exceeds.refused == (413, 10024)
