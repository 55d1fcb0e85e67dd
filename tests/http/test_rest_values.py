"""REST v4, one key at a time: what is put is what is got, under every key and in every way."""

import asyncio
import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import KeyEncodingError
from atoll.core.limits import PRESETS
from atoll.http.cursor import cursor_after
from atoll.http.exchange import decode_key
from tests.http.site import Site, form

pytestmark = pytest.mark.anyio

ODD_KEYS = [
    "a b+c",
    "a%25b",
    "a%2Fb",
    "//x//",
    "/",
    "a/../b",
    "a/./b",
    "...",
    "..a",
    "100%",
    "a?b=c#d&e",
    "ключ✓",
    "\x00",
    "new\nline",
    "a/b c%d?e=f&g#h:ключ+*'()!~",
    "k" * 512,
    "é" * 256,
    "𝄞" * 128,
    "values/x",
    "keys",
]

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128).filter(
    lambda key: key not in {".", ".."}
)


def fully_encoded(key: str) -> str:
    """Percent-encode every byte."""
    return "".join(f"%{byte:02X}" for byte in key.encode())


def as_uri_component(key: str) -> str:
    """Encode as JavaScript's encodeURIComponent does."""
    safe = (string.ascii_letters + string.digits + "-_.!~*'()").encode()
    return "".join(chr(b) if b in safe else f"%{b:02x}" for b in key.encode())


def hardly_encoded(key: str) -> str:
    """Encode only what cannot stand in a request line, as the older SDK's raw slashes show."""
    plain = (string.ascii_letters + string.digits + "-_.!~*'()/:@$&+,;=").encode()
    return "".join(chr(b) if b in plain else f"%{b:02x}" for b in key.encode())


@given(keys)
def test_a_key_survives_every_encoding(key: str) -> None:
    """Whichever bytes of a key a client encodes, it names the same key."""
    for encoded in (fully_encoded(key), as_uri_component(key), hardly_encoded(key)):
        assert decode_key(encoded.encode()) == key


@given(keys, st.binary(max_size=100))
def test_any_pair_survives_the_whole_way(key: str, value: bytes) -> None:
    """Put under one encoding, it is got under the others, listed, read in bulk, and deleted."""

    async def round_trip() -> None:
        """Go the whole way once."""
        site = await Site.make(Path("nowhere"), metered=False)
        paths = [encode(key) for encode in (hardly_encoded, as_uri_component, fully_encoded)]
        put = await site.ask("PUT", site.value(paths[0]), body=value)
        assert put.result is None
        for path in paths:
            assert await site.get(path) == value
            assert (await site.ask("GET", f"{site.v1}/values/{path}")).body == value
        assert await site.keys() == [key]
        cursor = cursor_after(site.namespace.id, "", key)
        assert (await site.ask("GET", f"{site.home}/keys?cursor={cursor}")).result == []
        assert (await site.ask_json("DELETE", f"{site.home}/bulk", [key])).status == 200
        assert await site.get(paths[1]) is None

    asyncio.run(round_trip())


@given(st.binary(max_size=40))
def test_a_key_is_decoded_once_or_refused(raw: bytes) -> None:
    """No bytes crash the decoding, and what it returns encodes back to what was meant."""
    try:
        key = decode_key(raw)
    except KeyEncodingError:
        return
    assert decode_key(fully_encoded(key).encode()) == key
    assert key.encode() == raw or b"%" in raw


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_odd_key_round_trips(site: Site, key: str) -> None:
    """It is put under one encoding, got under the others, listed by name, and deleted."""
    paths = [encode(key) for encode in (as_uri_component, hardly_encoded, fully_encoded)]

    put = await site.ask("PUT", site.value(paths[0]), body=b"odd")

    assert put.result is None
    for path in paths:
        got = await site.ask("GET", site.value(path))
        assert (got.status, got.body) == (200, b"odd")
        assert (await site.ask("GET", site.metadata(path))).result is None
    assert await site.keys() == [key]
    assert (await site.ask("DELETE", site.value(paths[1]))).result is None
    assert await site.keys() == []


async def test_encoded_and_raw_slashes_are_one_key_and_double_encoding_another(site: Site) -> None:
    """What the older SDK writes the newer reads, and neither decodes twice."""
    await site.put("a/b", b"raw")

    assert await site.get("a%2Fb") == b"raw"
    assert await site.get("a%252Fb") is None


async def test_any_bytes_round_trip(site: Site) -> None:
    """Every byte value passes, and the type is always octet-stream."""
    value = bytes(range(256)) * 3

    await site.put("k", value, **{"content-type": "text/plain"})
    got = await site.ask("GET", site.value("k"))

    assert got.body == value
    assert got.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""]
)
async def test_without_a_form_the_body_is_the_value(site: Site, content_type: str) -> None:
    """JSON that looks like a form's parts is stored as it came, as is what `curl -d` sends."""
    body = b'{"value":"x","metadata":{"a":1}}'

    await site.put("k", body, **{"content-type": content_type})

    assert await site.get("k") == body
    assert (await site.ask("GET", site.metadata("k"))).result is None


async def test_an_empty_value_is_a_value(site: Site) -> None:
    """It is got and listed, not missing."""
    await site.put("k", b"")

    assert await site.get("k") == b""
    assert await site.keys() == ["k"]


@pytest.mark.parametrize(
    "parts",
    [
        [('name="value"', b"v\r\n\x00"), ('name="metadata"', b'{"a": 1}')],
        [('name="metadata"', b'{"a": 1}'), ('name="value"', b"v\r\n\x00")],
        [
            ('name="value"; filename="blob"\r\nContent-Type: text/html', b"v\r\n\x00"),
            ('name="metadata"; filename="m.json"\r\nContent-Type: application/json', b'{"a": 1}'),
        ],
        [
            ('name="other"', b"ignored"),
            ('name="value"', b"v\r\n\x00"),
            ('name="metadata"', b'{"a": 1}'),
        ],
    ],
)
async def test_a_form_carries_value_and_metadata(
    site: Site, parts: list[tuple[str, bytes]]
) -> None:
    """Order, file names, part types and other parts make no difference."""
    put = await site.ask_form("PUT", site.value("k"), *parts)

    assert put.result is None
    assert await site.get("k") == b"v\r\n\x00"
    assert (await site.ask("GET", site.metadata("k"))).result == {"a": 1}


async def test_a_form_may_arrive_byte_by_byte(site: Site) -> None:
    """Where the pieces of a body end does not matter."""
    body = form(('name="metadata"', b"[1]"), ('name="value"', b"\r\n--x\r\n"))

    put = await site.ask(
        "PUT",
        site.value("k"),
        body=[body[i : i + 1] for i in range(len(body))],
        headers={"content-type": 'multipart/form-data; boundary="----xyz"'},
    )

    assert put.result is None
    assert await site.get("k") == b"\r\n--x\r\n"


@pytest.mark.parametrize("text", [b"", b" ", b"null"])
async def test_empty_metadata_is_no_metadata(site: Site, text: bytes) -> None:
    """The SDK sends an empty part for None."""
    await site.ask_form("PUT", site.value("k"), ('name="value"', b"v"), ('name="metadata"', text))

    assert (await site.ask("GET", site.metadata("k"))).result is None
    assert (await site.ask("GET", f"{site.home}/keys")).result == [{"name": "k"}]


@pytest.mark.parametrize("metadata", [{"a": [1, None]}, [], "text", 7, 1.5, True, "é\u2028", "\\"])
async def test_metadata_is_any_json(site: Site, metadata: object) -> None:
    """It comes back equal, by itself, in a list and in a bulk read."""
    text = json.dumps(metadata, indent=1).encode()

    await site.ask_form("PUT", site.value("k"), ('name="value"', b"v"), ('name="metadata"', text))

    assert (await site.ask("GET", site.metadata("k"))).result == metadata
    assert (await site.ask("GET", f"{site.home}/keys")).result == [
        {"name": "k", "metadata": metadata}
    ]
    bulk = await site.ask_json(
        "POST", f"{site.home}/bulk/get", {"keys": ["k"], "withMetadata": True}
    )
    assert bulk.result == {"values": {"k": {"value": "v", "metadata": metadata}}}


async def test_a_put_replaces_everything(site: Site) -> None:
    """Metadata and expiration that are not given again are gone."""
    path = site.value("k") + "?expiration_ttl=60"
    await site.ask_form("PUT", path, ('name="value"', b"v"), ('name="metadata"', b"1"))
    first = await site.ask("GET", site.value("k"))

    await site.put("k", b"w")
    second = await site.ask("GET", site.value("k"))

    assert first.headers["expiration"] == str(int(site.clock.now_s) + 60)
    assert "expiration" not in second.headers
    assert (await site.ask("GET", site.metadata("k"))).result is None


@pytest.mark.parametrize(
    ("query", "ahead_s"),
    [
        ("expiration_ttl=60", 60),
        ("expiration_ttl=60.9", 60),
        ("expiration=1800000100", 100),
        ("expiration=1800000100.454412", 100),
        ("expiration=1800000100&expiration_ttl=90", 90),
        ("expiration=1&expiration_ttl=90", 90),
    ],
)
async def test_expirations_are_whole_seconds_and_a_ttl_wins(
    site: Site, query: str, ahead_s: int
) -> None:
    """Fractions are cut off, and the header says exactly when."""
    await site.put("k", b"v", f"?{query}")

    got = await site.ask("GET", site.value("k"))

    assert int(got.headers["expiration"]) == 1_800_000_000 + ahead_s


async def test_what_has_expired_is_absent_at_once(site: Site) -> None:
    """It is neither got, nor listed, nor read in a bulk, whether swept or not."""
    await site.put("k", b"v", "?expiration_ttl=60")
    site.clock.advance(60)

    got = await site.ask("GET", site.value("k"))

    assert got.refused == (404, 10009)
    assert (await site.ask("GET", site.metadata("k"))).refused == (404, 10009)
    assert await site.keys() == []
    bulk = await site.ask_json("POST", f"{site.home}/bulk/get", {"keys": ["k"]})
    assert bulk.result == {"values": {"k": None}}


async def test_a_missing_key_is_said_in_the_clients_words(site: Site) -> None:
    """Clients compare status, number and text; deleting what is absent succeeds."""
    got = await site.ask("GET", site.value("nope"))

    assert got.refused == (404, 10009)
    assert got.message == "get: 'key not found'"
    assert (await site.ask("DELETE", site.value("nope"))).result is None


async def test_head_says_what_get_says_without_a_body(site: Site) -> None:
    """Also when the answer is an error."""
    await site.put("k", b"value")

    there = await site.ask("HEAD", site.value("k"))
    missing = await site.ask("HEAD", site.value("nope"))

    assert (there.status, there.body, there.headers["content-length"]) == (200, b"", "5")
    assert (missing.status, missing.body) == (404, b"")


async def test_writes_and_reads_say_version_and_position(site: Site) -> None:
    """The ETag of a write is the ETag of the read; positions grow."""
    put = await site.put("k", b"v")
    got = await site.ask("GET", site.value("k"))
    deleted = await site.ask("DELETE", site.value("k"))
    missing = await site.ask("GET", site.value("k"))

    assert put.headers["etag"] == got.headers["etag"] != deleted.headers["etag"]
    positions = [
        int(reply.headers["atoll-position"].partition("-")[2])
        for reply in (put, got, deleted, missing)
    ]
    assert positions[0] == positions[1] < positions[2] == positions[3]


async def test_conditions_protect_a_key(site: Site) -> None:
    """412 says the current version, in the message and as the ETag, and changes nothing."""
    put = await site.put("k", b"v")
    etag = put.headers["etag"]
    await site.put("k", b"w", **{"if-match": etag})

    stale = await site.ask("PUT", site.value("k"), body=b"x", headers={"if-match": etag})
    exists = await site.ask("PUT", site.value("k"), body=b"x", headers={"if-none-match": "*"})
    absent = await site.ask("DELETE", site.value("l"), headers={"if-match": "*"})

    current = (await site.ask("GET", site.value("k"))).headers["etag"]
    assert stale.refused == exists.refused == absent.refused == (412, 20412)
    assert stale.headers["etag"] == exists.headers["etag"] == current
    assert current.strip('"') in stale.message
    assert "etag" not in absent.headers
    assert await site.get("k") == b"w"
    await site.put("l", b"new", **{"if-none-match": "*"})
    gone = await site.ask("DELETE", site.value("k"), headers={"if-match": current})
    assert gone.result is None


async def test_an_idempotency_key_makes_a_retry_safe(site: Site) -> None:
    """The repeat gets the first answer and changes nothing; another request is refused."""
    name = {"idempotency-key": "order-17"}
    first = await site.put("k", b"v", "?expiration_ttl=60", **name)
    await site.put("k", b"later")
    site.clock.advance(1)

    again = await site.put("k", b"v", "?expiration_ttl=60", **name)
    other = await site.ask("PUT", site.value("k"), body=b"x", headers=name)

    assert again.headers["etag"] == first.headers["etag"]
    assert other.refused == (422, 20422)
    assert await site.get("k") == b"later"


async def test_a_position_can_be_demanded(site: Site) -> None:
    """What has arrived is answered, what has not is 503 with Retry-After."""
    put = await site.put("k", b"v")
    position = put.headers["atoll-position"]
    head, _, sequence = position.partition("-")

    there = await site.ask("GET", site.value("k"), headers={"atoll-at-least": position})
    ahead = await site.ask(
        "GET", site.value("k"), headers={"atoll-at-least": f"{head}-{int(sequence) + 1}"}
    )

    assert there.body == b"v"
    assert ahead.refused == (503, 20503)
    assert ahead.headers["retry-after"] == "1"


async def test_rest_may_rewrite_a_key_at_will(site: Site) -> None:
    """One write a second is the rule of programs; deploy tools write as fast as they like."""
    for i in range(5):
        await site.put("k", b"%d" % i)

    assert await site.get("k") == b"4"


async def test_in_2019_a_rewritten_key_waits(tmp_path: Path) -> None:
    """429 says for how long, in seconds and exactly."""
    site = await Site.make(tmp_path, limits=PRESETS["2019"])
    await site.put("k", b"v")
    site.clock.advance(0.4)

    soon = await site.ask("PUT", site.value("k"), body=b"w")
    site.clock.advance(0.6)

    assert soon.refused == (429, 10022)
    assert (soon.headers["retry-after"], soon.headers["retry-after-ms"]) == ("1", "600")
    await site.put("k", b"w")
