"""What a Worker stores comes back as it was, whichever way it goes in and out."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.workers.running import UNDEFINED, Kind, Kv, KvError, failing, filled, raw, stream, view

EVERY_BYTE = bytes(range(256))
VALUE_BYTES_MAX = 26_214_400
THREADS = 32


def test_text(kv: Kv) -> None:
    """It is kept as UTF-8, and so is a mark of the order of bytes."""
    for text in ("hello", "", "žluť 😀", "\ufeffmark", "\x00", " \r\n "):
        kv.put("k", text)
        assert kv.get("k") == text
        assert kv.get("k", {"type": "text"}) == kv.get("k", "text") == text
        assert kv.get("k", "arrayBuffer") == text.encode()


def test_what_javascript_turns_into_text(kv: Kv) -> None:
    """Numbers, booleans and nothing at all."""
    for value, text in ((1.5, "1.5"), (True, "true"), (None, "null"), (UNDEFINED, "undefined")):
        kv.put("k", value)
        assert kv.get("k") == text


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2]])
def test_what_cannot_be_stored(kv: Kv, value: object) -> None:
    """Objects are for the Worker to write as text."""
    with pytest.raises(KvError) as caught:
        kv.put("k", value)
    assert caught.value.name == "TypeError"
    assert kv.get("k") is None


@pytest.mark.parametrize(
    "value",
    [
        raw(EVERY_BYTE),
        view(EVERY_BYTE),
        stream(EVERY_BYTE, known=True),
        stream(EVERY_BYTE[:100], EVERY_BYTE[100:], known=True),
        stream(EVERY_BYTE, known=False),
        stream(EVERY_BYTE[:1], EVERY_BYTE[1:], known=False),
    ],
    ids=["buffer", "view", "known", "pieces", "unknown", "chunks"],
)
def test_bytes(kv: Kv, value: object) -> None:
    """From a buffer, a part of one, or a stream; as a buffer or a stream."""
    kv.put("k", value)

    assert kv.get("k", "arrayBuffer") == EVERY_BYTE
    assert kv.get("k", "stream") == EVERY_BYTE
    assert kv.entry("k", "arrayBuffer")["value"] == EVERY_BYTE


@pytest.mark.parametrize("value", ["", raw(b""), stream(known=True), stream(known=False)])
def test_an_empty_value_is_a_value(kv: Kv, value: object) -> None:
    """It is not null, alone and among others."""
    kv.put("k", value, metadata="kept")

    assert kv.get("k") == ""
    assert kv.get("k", "arrayBuffer") == b""
    assert kv.get(["k"]) == {"k": ""}
    assert kv.entry(["k"]) == {"k": {"value": "", "metadata": "kept"}}


def test_json(kv: Kv) -> None:
    """What is no JSON throws where it is read as such."""
    document = {"a": [1, None, "x"], "é": {"b": False}}
    kv.put("k", json.dumps(document))
    kv.put("text", "no JSON")

    assert kv.get("k", "json") == document
    assert kv.entry("k", {"type": "json"})["value"] == document
    with pytest.raises(KvError) as caught:
        kv.get("text", "json")
    assert caught.value.name == "SyntaxError"


def test_what_is_no_text(kv: Kv) -> None:
    """Is shown with marks in place of what is wrong, alone and among others."""
    kv.put("k", raw(b"a\xffb"))

    assert kv.get("k") == kv.get(["k"])["k"] == "a\ufffdb"


def test_a_missing_key(kv: Kv) -> None:
    """Is null, whatever it is read as."""
    for kind in ("text", "json", "arrayBuffer", "stream"):
        assert kv.get("none", kind) is None
        entry = kv.entry("none", kind)
        assert (entry["value"], entry["metadata"]) == (None, None)


@pytest.mark.parametrize("known", [True, False])
def test_the_largest_value(kv: Kv, known: bool) -> None:  # noqa: FBT001 - a parameter
    """25 MiB are stored; of a byte more the Worker is told so, and not that a connection broke."""
    kv.put("k", filled(VALUE_BYTES_MAX, known=known))

    with pytest.raises(KvError) as caught:
        kv.put("k", filled(VALUE_BYTES_MAX + 1, known=known))

    assert str(caught.value) == (
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400."
    )
    assert kv.get("k", "arrayBuffer") == {"$size": VALUE_BYTES_MAX}


def test_refused_before_its_body_was_looked_at(kv: Kv) -> None:
    """Even so it is read to its end, and the Worker is told why."""
    with pytest.raises(KvError, match=r"^KV PUT failed: 400 Invalid expiration_ttl of 1\."):
        kv.put("k", filled(8_000_000, known=False), expirationTtl=1)
    with pytest.raises(KvError, match=r"^KV PUT failed: 400 Could not URL-decode key name"):
        kv.put("\udc00", filled(8_000_000, known=True))


def test_a_write_replaces_everything(kv: Kv) -> None:
    """Value, metadata and expiration."""
    kv.put("k", "one", metadata={"n": 1}, expirationTtl=3600)
    kv.put("k", "two")

    assert kv.entry("k")["value"] == "two"
    assert kv.entry("k")["metadata"] is None
    assert kv.page()["keys"] == [{"name": "k"}]


def test_deleting(kv: Kv) -> None:
    """What is there goes, and what is not there has gone."""
    kv.put("k", "value")
    kv.delete("k")
    kv.delete("k")
    kv.delete("never")

    assert kv.get("k") is None
    assert kv.names() == []


def test_a_stream_that_fails_midway(kv: Kv, kind: Kind) -> None:
    """The Worker is told; what has come by then is no value, unless the runtime says that it is."""
    kv.put("k", "before")

    with pytest.raises(KvError):
        kv.put("k", failing(100_000))

    told = {"before"} if kind.is_newer else {"before", "x" * 100_000}
    assert kv.get("k") in told


def test_many_at_once(kv: Kv) -> None:
    """Each answer goes to who asked."""
    rows = {f"k{n}": f"v{n}" for n in range(10 * THREADS)}
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(kv.put, rows.keys(), rows.values()))
        found = list(pool.map(kv.get, rows))

    assert found == list(rows.values())
