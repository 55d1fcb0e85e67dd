"""Which keys a Worker may use, and that the odd ones are keys like any other."""

import pytest

from tests.workers.running import Kv, KvError

ODD = [
    "/",
    "a/b",
    "//x",
    "/client/v4/accounts",
    "/v1/namespaces",
    "/peer/1/read",
    "/healthz",
    "healthz",
    "metrics",
    "bulk/get",
    "bulk",
    "...",
    "a/../b",
    "./a",
    "%2F",
    "100%",
    "a%20b",
    " a b ",
    "a+b",
    "a?b=c&d",
    "a#b",
    "[x]|^:;,@&=+$",
    "~-_.!*()'",
    '"quoted"',
    "back\\slash",
    "\x00\x01\x1f\x7f",
    "\r\nX: y",
    "žluťoučký kůň",
    "e\u0301",
    "\u00e9",
    "😀",
    "__proto__",
    "constructor",
    "urlencoded=true",
]


def test_odd_keys_are_kept_apart(kv: Kv) -> None:
    """Each has its own value, is listed under its own name in the order of bytes, and goes."""
    for key in ODD:
        kv.put(key, f"value of {key}")

    assert {key: kv.get(key) for key in ODD} == {key: f"value of {key}" for key in ODD}
    assert kv.names() == sorted(ODD, key=str.encode)

    for key in ODD:
        kv.delete(key)
    assert kv.names() == []


def test_odd_keys_are_read_together(kv: Kv) -> None:
    """Also the longest; but for names that JavaScript takes for something else in an object."""
    keys = [key for key in ODD if key != "__proto__"] + ["k" * 512]
    for key in keys:
        kv.put(key, key)

    assert kv.get(keys) == {key: key for key in keys}


@pytest.mark.parametrize("method", ["get", "getWithMetadata", "put", "delete"])
@pytest.mark.parametrize("key", ["", ".", ".."])
def test_no_key(kv: Kv, method: str, key: str) -> None:
    """The runtime itself refuses what has no path."""
    rule = "Key name cannot be empty." if not key else f'"{key}" is not allowed as a key name.'

    with pytest.raises(KvError) as caught:
        kv(method, key, "value")

    assert (caught.value.name, str(caught.value)) == ("TypeError", rule)


@pytest.mark.parametrize(("method", "verb"), [("get", "GET"), ("put", "PUT"), ("delete", "DELETE")])
def test_a_key_too_long(kv: Kv, method: str, verb: str) -> None:
    """512 bytes of UTF-8 are a key, one more is none."""
    longest = "é" * 256
    kv.put(longest, "value")
    assert kv.get(longest) == "value"

    with pytest.raises(KvError) as caught:
        kv(method, longest + "x", "value")

    assert str(caught.value) == (
        f"KV {verb} failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512."
    )


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "400 Key names must not be empty"),
        (".", '400 Illegal key name ".". Please use a different name.'),
        ("..", '400 Illegal key name "..". Please use a different name.'),
        ("k" * 513, "414 UTF-8 encoded length of 513 exceeds key length limit of 512."),
    ],
)
def test_bad_keys_among_several(kv: Kv, key: str, why: str) -> None:
    """The runtime does not look at these, so we do."""
    with pytest.raises(KvError) as caught:
        kv.get(["good", key])

    assert str(caught.value) == f"KV GET_BULK failed: {why}"


def test_keys_are_told_apart_by_case(kv: Kv) -> None:
    """As by every other bit."""
    kv.put("Key", "upper")
    kv.put("key", "lower")

    assert (kv.get("Key"), kv.get("key")) == ("upper", "lower")


def test_half_a_character_is_no_key(kv: Kv) -> None:
    """JavaScript can have it, and UTF-8 cannot."""
    with pytest.raises(KvError, match=r"^KV GET failed: 400 Could not URL-decode key name"):
        kv.get("\ud800")
