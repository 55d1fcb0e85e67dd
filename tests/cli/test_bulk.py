"""`atoll bulk`, in the file formats of wrangler."""

import json

import pytest

from tests.cli.conftest import Atoll


def test_put_get_and_delete_from_files(atoll: Atoll, namespace: str) -> None:
    """2,500 pairs take several requests, and come back, and go."""
    pairs: list[dict[str, object]] = [{"key": f"k{n:04}", "value": str(n)} for n in range(2500)]
    pairs[7] |= {"metadata": {"seven": 7}, "expiration": 4_102_444_800}
    pairs[8] |= {"value": "AP8=", "base64": True}
    (atoll.folder / "pairs.json").write_text(json.dumps(pairs))
    keys = [f"k{n:04}" for n in range(0, 2500, 10)] + ["missing", "k0007"]
    (atoll.folder / "keys.json").write_text(json.dumps(keys))

    put = atoll.ok("bulk", "put", namespace, "pairs.json", "--json")
    got = atoll.ok("bulk", "get", namespace, "keys.json").json
    gone = atoll.ok("bulk", "delete", namespace, "keys.json", "--json")

    assert put.json == {"stored": 2500}
    assert got["k0010"] == {"value": "10"}
    assert got["missing"] is None
    assert got["k0007"] == {
        "value": "7",
        "metadata": {"seven": 7},
        "expiration": 4_102_444_800,
    }
    assert len(got) == len(set(keys))
    assert gone.json == {"deleted": len(keys)}
    left = atoll.ok("key", "list", namespace).text.splitlines()
    assert sorted(left) == sorted({str(pair["key"]) for pair in pairs} - set(keys))
    assert atoll.ok("key", "get", namespace, "k0008").out == b"\x00\xff"


def test_keys_may_be_given_as_objects_with_names(atoll: Atoll, namespace: str) -> None:
    """So the output of `key list --json` is a file of keys."""
    atoll.ok("bulk", "put", namespace, "-", given=b'[{"key":"a","value":"1"}]')
    listed = atoll.ok("key", "list", namespace, "--json").out

    assert atoll.ok("bulk", "get", namespace, "-", given=listed).json == {"a": {"value": "1"}}
    atoll.ok("bulk", "delete", namespace, "-", "--yes", given=listed)
    assert atoll.ok("key", "list", namespace).out == b""


def test_empty_arrays_do_nothing(atoll: Atoll, namespace: str) -> None:
    """And say so."""
    assert atoll.ok("bulk", "put", namespace, "-", "--json", given=b"[]").json == {"stored": 0}
    assert atoll.ok("bulk", "get", namespace, "-", given=b"[]").json == {}
    assert atoll.ok("bulk", "delete", namespace, "-", "--json", given=b"[]").json == {"deleted": 0}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b'["a"]',
        b'[{"key":"a"}]',
        b'[{"key":1,"value":"v"}]',
        b'[{"key":"good","value":"v"},{"value":"v"}]',
        b'[{"key":"good","value":"v"}',
        b'{"good":"v"}',
        b'[{"key":"\xff","value":"v"}]',
    ],
)
def test_a_file_of_something_else_is_refused_before_anything_is_sent(
    atoll: Atoll, namespace: str, raw: bytes
) -> None:
    """The message says which item is wrong."""
    refused = atoll.run("bulk", "put", namespace, "-", "--json", given=raw)

    assert refused.code == 2, refused
    assert refused.error["code"] == "usage"
    assert atoll.ok("key", "list", namespace).out == b""


def test_a_pair_that_the_server_refuses_is_named(atoll: Atoll, namespace: str) -> None:
    """Nothing of its batch is stored."""
    raw = b'[{"key":"good","value":"v"},{"key":"bad","value":"v","expiration_ttl":5}]'

    refused = atoll.run("bulk", "put", namespace, "-", "--json", given=raw)

    assert refused.code == 1
    assert "'bad'" in refused.error["message"]
    assert atoll.ok("key", "list", namespace).out == b""


def test_values_that_are_no_text_are_refused_in_bulk(atoll: Atoll, namespace: str) -> None:
    """JSON cannot carry them; the message names the key to read by itself."""
    atoll.ok("key", "put", namespace, "bytes", given=b"\xff")

    refused = atoll.run("bulk", "get", namespace, "-", given=b'["bytes"]')

    assert refused.code == 1
    assert "'bytes'" in refused.err


def test_a_missing_file_is_named(atoll: Atoll, namespace: str) -> None:
    """For each of the three."""
    for command in ("put", "get", "delete"):
        refused = atoll.run("bulk", command, namespace, "missing.json")
        assert refused.code == 2
        assert "missing.json" in refused.err
