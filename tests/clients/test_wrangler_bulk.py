"""wrangler writes, reads and deletes many keys from files."""

import base64
import json

from tests.clients.plain import Namespace
from tests.clients.wrangler import Wrangler

PAIRS = 2_500
LATER = 2_000_000_000


def remote(namespace: Namespace) -> tuple[str, ...]:
    """Return the flags that name a namespace; without the second, wrangler uses local files."""
    return "--namespace-id", namespace.id, "--remote"


def pair(n: int) -> dict[str, object]:
    """Return the n-th pair of a file: each second in base64, each third with metadata, ..."""
    value: dict[str, object] = {"value": f"välue {n}"}
    if n % 2:
        value = {"value": base64.b64encode(bytes([n % 256, 0, 255])).decode(), "base64": True}
    extra: dict[str, object] = {"metadata": {"n": n}} if n % 3 == 0 else {}
    if n % 5 == 0:
        extra["expiration"] = LATER
    if n % 7 == 0:
        extra["expiration_ttl"] = 3_600
    return {"key": f"k{n:04}"} | value | extra


def stored_value(n: int) -> bytes:
    """Return the bytes that `pair(n)` stands for."""
    return bytes([n % 256, 0, 255]) if n % 2 else f"välue {n}".encode()


def test_bulk_put_stores_every_pair_of_a_file(wrangler: Wrangler, namespace: Namespace) -> None:
    """Three batches, with bytes, metadata and expirations, all of which arrive."""
    path = wrangler.file("pairs.json", json.dumps([pair(n) for n in range(PAIRS)]).encode())

    ran = wrangler.kv("bulk", "put", path, *remote(namespace))

    rows = namespace.rows()
    assert "Success!" in ran.out
    assert [row.name for row in rows] == [f"k{n:04}" for n in range(PAIRS)]
    for n, row in enumerate(rows):
        assert row.metadata == ({"n": n} if n % 3 == 0 else None)
        assert (row.expiration is not None) == (n % 5 == 0 or n % 7 == 0)
        assert (row.expiration == LATER) == (n % 5 == 0 and n % 7 != 0)
    for n in (0, 1, 999, 1_000, 1_001, PAIRS - 1):
        assert namespace.value(f"k{n:04}") == stored_value(n)


def test_bulk_delete_removes_every_key_of_a_file(wrangler: Wrangler, namespace: Namespace) -> None:
    """Wrangler sends a DELETE with a body, in three batches; missing keys are no fault."""
    keys = [f"k{n:04}" for n in range(PAIRS)]
    namespace.bulk([{"key": key, "value": "v"} for key in [*keys[1:], "stays"]])
    path = wrangler.file("keys.json", json.dumps(keys).encode())

    ran = wrangler.kv("bulk", "delete", path, *remote(namespace))

    assert "Success!" in ran.out
    assert namespace.names() == ["stays"]


def test_bulk_get_prints_values_and_nulls(wrangler: Wrangler, namespace: Namespace) -> None:
    """A missing key is null between the values of the others."""
    namespace.bulk([{"key": "a", "value": "1"}, {"key": "ключ", "value": "zwei"}])
    path = wrangler.file("keys.json", json.dumps(["a", "missing", "ключ"]).encode())

    ran = wrangler.kv("bulk", "get", path, *remote(namespace))

    printed, _ = json.JSONDecoder().raw_decode(ran.out)
    assert printed == {"a": "1", "missing": None, "ключ": "zwei"}


def test_bulk_get_of_too_many_keys_is_refused(wrangler: Wrangler, namespace: Namespace) -> None:
    """Wrangler does not split a read; it shows the refusal."""
    path = wrangler.file("keys.json", json.dumps([f"k{n}" for n in range(101)]).encode())

    assert "[code: 10029]" in wrangler.refused("bulk", "get", path, *remote(namespace))


def test_a_bad_pair_refuses_its_batch(wrangler: Wrangler, namespace: Namespace) -> None:
    """The refusal names place and key, and nothing of the batch was stored."""
    pairs = [{"key": "a", "value": "v"}, {"key": "bad", "value": "v", "expiration_ttl": 59}]
    path = wrangler.file("pairs.json", json.dumps(pairs).encode())

    complaint = wrangler.refused("bulk", "put", path, *remote(namespace))

    assert "[code: 10012]" in complaint
    assert "item 1" in complaint
    assert "bad" in complaint
    assert namespace.names() == []


def test_an_empty_file_changes_nothing(wrangler: Wrangler, namespace: Namespace) -> None:
    """No pairs and no keys are no fault."""
    namespace.put("stays", b"v")
    path = wrangler.file("nothing.json", b"[]")

    wrangler.kv("bulk", "put", path, *remote(namespace))
    wrangler.kv("bulk", "delete", path, *remote(namespace))

    assert namespace.names() == ["stays"]
