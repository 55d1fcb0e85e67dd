"""Many keys: read with one call, and listed page by page."""

import pytest

from atoll.clock import SystemClock
from tests.workers.running import Kv, KvError

US_PER_S = 1_000_000


def refused(kv: Kv, method: str, *args: object) -> str:
    """Call what has to be refused, and return what the Worker caught."""
    with pytest.raises(KvError) as caught:
        kv(method, *args)
    return str(caught.value)


def fill(kv: Kv, *keys: str) -> None:
    """Store keys."""
    for key in keys:
        kv.put(key, f"value of {key}")


def pages(kv: Kv, **options: object) -> list[list[str]]:
    """Read a listing page by page, each with the cursor of the one before."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = kv.page(**options, **({} if cursor is None else {"cursor": cursor}))
        found.append([row["name"] for row in page["keys"]])
        assert page["list_complete"] is ("cursor" not in page)
        if page["list_complete"]:
            return found
        cursor = page["cursor"]


# Reading several.


def test_several_keys(kv: Kv) -> None:
    """In the order asked for, each once, null for what is not there."""
    fill(kv, "a", "b")

    found = kv.get(["b", "none", "a", "b"])

    assert list(found.items()) == [("b", "value of b"), ("none", None), ("a", "value of a")]


def test_several_keys_with_metadata(kv: Kv) -> None:
    """Null alone for what is not there; expirations are not shown."""
    kv.put("a", "1", metadata={"n": 1}, expirationTtl=600)
    kv.put("b", "2")

    assert kv.entry(["a", "b", "none"]) == {
        "a": {"value": "1", "metadata": {"n": 1}},
        "b": {"value": "2", "metadata": None},
        "none": None,
    }


def test_several_keys_as_json(kv: Kv) -> None:
    """Parsed, also what JavaScript takes for false."""
    for key, text in (("zero", "0"), ("no", "false"), ("null", "null"), ("o", '{"a":[1]}')):
        kv.put(key, text, metadata="m")

    keys = ["zero", "no", "null", "o", "none"]
    assert kv.get(keys, "json") == {
        "zero": 0,
        "no": False,
        "null": None,
        "o": {"a": [1]},
        "none": None,
    }
    assert kv.entry(keys, {"type": "json"})["zero"] == {"value": 0, "metadata": "m"}


def test_several_keys_of_which_one_is_no_json(kv: Kv) -> None:
    """None of them is returned."""
    kv.put("good", "{}")
    kv.put("bad", "no JSON")

    why = refused(kv, "get", ["good", "bad"], "json")

    assert why.startswith(
        "KV GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value"
    )


def test_how_many_keys(kv: Kv) -> None:
    """From one to a hundred."""
    fill(kv, "k0", "k99")
    keys = [f"k{n}" for n in range(100)]

    assert kv.get(keys) == dict.fromkeys(keys) | {
        "k0": "value of k0",
        "k99": "value of k99",
    }
    assert refused(kv, "get", [*keys, "more"]) == (
        "KV GET_BULK failed: 400 You can request a maximum of 100 keys"
    )
    assert refused(kv, "get", []) == "KV GET_BULK failed: 400 You must request a minimum of 1 key"


@pytest.mark.parametrize("wanted", ["arrayBuffer", "stream", "invalid"])
def test_what_several_keys_cannot_be_read_as(kv: Kv, wanted: str) -> None:
    """Only text and JSON fit into one answer."""
    assert refused(kv, "get", ["k"], wanted) == (
        f'KV GET_BULK failed: 400 "{wanted}" is not a valid type. Use "json" or "text"'
    )


def test_several_keys_that_are_too_much_together(kv: Kv) -> None:
    """25 MB of values in all."""
    for key in ("a", "b"):
        kv.put(key, {"$filled": 13_000_000, "known": True})

    assert refused(kv, "get", ["a", "b"]) == (
        "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB"
    )
    assert len(kv.get(["a"])["a"]) == 13_000_000


# Listing.


def test_a_whole_answer(kv: Kv) -> None:
    """Nothing is there that need not be."""
    fill(kv, "b", "a")

    assert kv.page() == {
        "keys": [{"name": "a"}, {"name": "b"}],
        "list_complete": True,
        "cacheStatus": None,
    }


def test_an_empty_namespace(kv: Kv) -> None:
    """Has one page."""
    assert kv.page() == {"keys": [], "list_complete": True, "cacheStatus": None}
    assert kv.page(prefix="x", cursor="") == kv.page()


def test_prefixes(kv: Kv) -> None:
    """By bytes, with no character that means something else."""
    names = ["a", "ab", "aB", "a\\b", "a_b", "a%b", "a b", "a+b", "a!b", "b"]
    fill(kv, *names)

    for prefix in ("", "a", "aB", "a\\", "a_", "a%", "a ", "a+", "A", "none", "b"):
        expected = sorted(name for name in names if name.startswith(prefix))
        assert kv.names(prefix=prefix) == expected, prefix


def test_the_longest_prefix(kv: Kv) -> None:
    """As long as the longest key, and no longer."""
    key = "é" * 256
    kv.put(key, "value")

    assert kv.names(prefix=key) == [key]
    assert refused(kv, "list", {"prefix": key + "x"}) == (
        "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512."
    )


def test_pages(kv: Kv) -> None:
    """Of any size, under a prefix or not, without a cursor on the last one."""
    keys = [f"k{n}" for n in range(7)]
    fill(kv, *keys, "other")

    assert pages(kv, limit=2) == [["k0", "k1"], ["k2", "k3"], ["k4", "k5"], ["k6", "other"]]
    assert pages(kv, limit=3, prefix="k") == [["k0", "k1", "k2"], ["k3", "k4", "k5"], ["k6"]]
    assert pages(kv, limit=7, prefix="k") == [keys]


def test_pages_while_keys_come_and_go(kv: Kv) -> None:
    """What comes behind the cursor is seen; what comes before it is not. The size may change."""
    fill(kv, "b", "d", "f", "h")
    first = kv.page(limit=2)
    fill(kv, "a", "e")
    kv.delete("d")

    second = kv.page(limit=3, cursor=first["cursor"])

    assert [row["name"] for row in second["keys"]] == ["e", "f", "h"]
    assert second["list_complete"]


def test_the_order_is_that_of_bytes(kv: Kv) -> None:
    """Also where JavaScript's own would be another."""
    keys = ["a!b", "a,b", "\uffff", "😀", "z", "Z", "\x01"]
    fill(kv, *keys)

    assert kv.names() == sorted(keys, key=str.encode)


def test_how_many_in_a_page(kv: Kv) -> None:
    """A thousand at most; nothing, and what is no number, means that."""
    fill(kv, "a", "b")

    for limit in (1000, 0, -1, "abc"):
        assert kv.names(limit=limit) == ["a", "b"]
    assert refused(kv, "list", {"limit": 1001}) == (
        "KV GET failed: 400 Invalid key_count_limit of 1001."
        " Please specify an integer less than 1000."
    )


def test_a_cursor_from_elsewhere(kv: Kv) -> None:
    """Is not taken for one of this listing."""
    fill(kv, "a", "b")
    cursor = kv.page(limit=1)["cursor"]

    for options in ({"cursor": "nonsense"}, {"cursor": cursor, "prefix": "a"}):
        assert refused(kv, "list", options).startswith("KV GET failed: 400 Invalid cursor")


def test_expirations_and_metadata(kv: Kv) -> None:
    """Each is there only where the key has it."""
    at = SystemClock().now_us() // US_PER_S + 3600
    kv.put("both", "1", expiration=at, metadata={"n": 1})
    kv.put("expiration", "1", expiration=at)
    kv.put("metadata", "1", metadata=None)
    kv.put("neither", "1")

    assert kv.page()["keys"] == [
        {"name": "both", "expiration": at, "metadata": {"n": 1}},
        {"name": "expiration", "expiration": at},
        {"name": "metadata"},
        {"name": "neither"},
    ]
