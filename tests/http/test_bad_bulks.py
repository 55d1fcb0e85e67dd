"""Bulks that a caller gets wrong are refused whole, and name what is wrong."""

import base64
import json
from pathlib import Path

import pytest

from atoll.core.limits import PRESETS, Limits
from tests.http.site import Site, unchanged

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000


@pytest.fixture
async def site(anyio_backend: str, tmp_path: Path) -> Site:
    """Return a site with one key."""
    assert anyio_backend == "asyncio"
    site = await Site.make(tmp_path)
    await site.put("kept", b"v")
    return site


PAIR = {"key": "good", "value": "v"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"key":"k","value":"v"}',
        b'"text"',
        b"null",
        b"[",
        b"[1,]",
        b'[{"key":"k","value":"v"}] x',
        b'[{"key":"\xff","value":"v"}]',
        b'[{"key":"\\ud800","value":"v"}]',
        b"key=k&value=v",
        b"[" * 100_000,
    ],
)
async def test_a_bulk_that_is_no_array(site: Site, body: bytes) -> None:
    """For every kind of bulk."""
    for method, path, number in (
        ("PUT", "bulk", 10012),
        ("DELETE", "bulk", 10012),
        ("POST", "bulk/delete", 10012),
        ("POST", "bulk/get", 10029),
    ):
        reply = await site.ask(method, f"{site.home}/{path}", body=body)
        assert reply.refused == (400, number)
    assert await unchanged(site)


@pytest.mark.parametrize(
    ("bad", "key", "said"),
    [
        ({"key": "", "value": "v"}, "", "must not be empty"),
        ({"key": ".", "value": "v"}, ".", "Illegal key name"),
        ({"key": "..", "value": "v"}, "..", "Illegal key name"),
        ({"key": "k" * 513, "value": "v"}, "k" * 513, "exceeds key length limit"),
        ({"key": "bad", "value": "v", "expiration": NOW + 59}, "bad", "Invalid expiration"),
        ({"key": "bad", "value": "v", "expiration": -1}, "bad", "Invalid expiration"),
        ({"key": "bad", "value": "v", "expiration": "soon"}, "bad", "expiration"),
        ({"key": "bad", "value": "v", "expiration_ttl": 59}, "bad", "Invalid expiration_ttl"),
        ({"key": "bad", "value": "v", "expiration_ttl": "60"}, "bad", "expiration_ttl"),
        ({"key": "bad", "value": "v", "metadata": "x" * 1023}, "bad", "Metadata length of 1025"),
        ({"key": "bad", "value": "x" * 2_000_001}, "bad", "Value length"),
        ({"key": "bad", "value": "!!!!", "base64": True}, "bad", "not valid base64"),
        ({"key": "bad", "value": "QQ", "base64": True}, "bad", "not valid base64"),
        ({"key": "bad", "value": "QQ==\n", "base64": True}, "bad", "not valid base64"),
        ({"key": "bad", "value": "_-_-", "base64": True}, "bad", "not valid base64"),
        ({"key": "bad", "value": "é", "base64": True}, "bad", "not valid base64"),
        ({"key": "bad", "value": 5}, "bad", "value"),
        ({"key": "bad", "value": None}, "bad", "value"),
        ({"key": "bad"}, "bad", "value"),
        ({"key": "bad", "value": "v", "base64": "yes"}, "bad", "base64"),
        ({"value": "v"}, '{"value": "v"}', "key"),
        ({"key": 5, "value": "v"}, '{"key": 5, "value": "v"}', "key"),
        ("text", "text", "object"),
    ],
)
async def test_one_bad_pair_refuses_them_all(
    tmp_path: Path, bad: object, key: str, said: str
) -> None:
    """400, naming index and key, and the good pairs are not written either."""
    site = await Site.make(tmp_path, limits=PRESETS["2019"])
    await site.put("kept", b"v")

    reply = await site.ask_json("PUT", f"{site.home}/bulk", [PAIR, PAIR, bad, PAIR])

    assert reply.refused == (400, 10012)
    assert "item 2, key " in reply.message
    assert key in reply.message
    assert said in reply.message
    assert await unchanged(site)


@pytest.mark.parametrize("bad", ["", "..", "k" * 513, 5, None, {"name": "good"}, ["x"]])
async def test_one_bad_key_refuses_a_bulk_delete(site: Site, bad: object) -> None:
    """By either verb, and the good keys stay."""
    for method, path in (("DELETE", "bulk"), ("POST", "bulk/delete")):
        reply = await site.ask_json(method, f"{site.home}/{path}", ["kept", bad])
        assert reply.refused == (400, 10012)
        assert "item 1, key " in reply.message
    assert await unchanged(site)


async def test_a_bulk_of_one_too_many(site: Site) -> None:
    """10,000 pass."""
    pairs = [{"key": "kept", "value": ""}] * 10_000

    fits = await site.ask_json("PUT", f"{site.home}/bulk", pairs)
    exceeds = await site.ask_json("PUT", f"{site.home}/bulk", [*pairs, PAIR])
    deletes = await site.ask_json("DELETE", f"{site.home}/bulk", ["kept"] * 10_001)

    assert fits.status == 200
    assert exceeds.refused == deletes.refused == (400, 10012)
    assert "10001 items exceed the limit of 10000" in exceeds.message
    assert await unchanged(site)


async def test_a_bulk_of_too_many_bytes(tmp_path: Path) -> None:
    """Announced or not."""
    site = await Site.make(tmp_path, limits=Limits(bulk_write_bytes_max=1000))
    await site.put("kept", b"v")
    body = json.dumps([{"key": "k", "value": "v" * 1000}]).encode()

    for headers in ({}, {"content-length": str(len(body))}):
        reply = await site.ask("PUT", f"{site.home}/bulk", body=body, headers=headers)
        assert reply.refused == (413, 10024)
    assert await unchanged(site)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"keys": []},
        {"keys": ["k"] * 101},
        {"keys": "k"},
        {"keys": [5]},
        {"keys": ["k"], "type": "stream"},
        {"keys": ["k"], "withMetadata": "yes"},
        ["k"],
    ],
)
async def test_a_bulk_read_that_cannot_be(site: Site, asked: object) -> None:
    """1 to 100 keys, text or JSON."""
    assert (await site.ask_json("POST", f"{site.home}/bulk/get", asked)).refused == (400, 10029)


async def test_a_bulk_read_of_keys_that_cannot_be(site: Site) -> None:
    """Its keys keep the rules of keys."""
    path = f"{site.home}/bulk/get"

    assert (await site.ask_json("POST", path, {"keys": ["k", ""]})).refused == (400, 10042)
    assert (await site.ask_json("POST", path, {"keys": ["k" * 513]})).refused == (414, 10030)
    assert (await site.ask_json("POST", path, {"keys": ["k"] * 100})).status == 200


async def test_base64_of_the_wrong_alphabet_is_named(site: Site) -> None:
    """The URL-safe one decodes to other bytes, so it must not pass."""
    value = base64.urlsafe_b64encode(b"\xff\xef\xfe").decode()

    reply = await site.ask_json(
        "PUT", f"{site.home}/bulk", [{"key": "k", "value": value, "base64": True}]
    )

    assert reply.refused == (400, 10012)
    assert await unchanged(site)
