"""wrangler puts, gets, lists and deletes single keys."""

import json

import pytest

from tests.clients.plain import Namespace, titles
from tests.clients.wrangler import Wrangler

EVERY_BYTE = bytes(range(256))
VALUE_BYTES_MAX = 25 * 2**20
TTL_S = 3_600
LATER = 2_000_000_000

# What encodeURIComponent leaves alone, what it escapes, and what servers like to decode twice.
WEIRD = "a/b c%d?e=f&g#h:ключ+*'()!~"


def remote(namespace: Namespace) -> tuple[str, ...]:
    """Return the flags that name a namespace; without the second, wrangler uses local files."""
    return "--namespace-id", namespace.id, "--remote"


def test_put_and_get_of_text(wrangler: Wrangler, namespace: Namespace) -> None:
    """What is typed is stored, and comes back to standard output and nothing with it."""
    value = "hello, wörld"

    wrangler.kv("key", "put", "greeting", value, *remote(namespace))
    stored = namespace.value("greeting")
    bare = wrangler.kv("key", "get", "greeting", *remote(namespace))
    text = wrangler.kv("key", "get", "greeting", "--text", *remote(namespace))

    assert stored == bare.stdout == value.encode()
    assert text.stdout == f"{value}\n".encode()


@pytest.mark.parametrize(
    "value",
    [EVERY_BYTE, EVERY_BYTE * (VALUE_BYTES_MAX // 256)],
    ids=["every byte", "25 MiB"],
)
def test_put_of_a_file_and_get_are_unharmed(
    wrangler: Wrangler, namespace: Namespace, value: bytes
) -> None:
    """A file comes back byte for byte, up to the largest value there may be."""
    path = wrangler.file("value", value)

    wrangler.kv("key", "put", "file", "--path", path, *remote(namespace))
    stored = namespace.value("file")
    got = wrangler.kv("key", "get", "file", *remote(namespace))

    assert stored == value
    assert got.stdout == value


def test_put_of_too_large_a_file_is_refused(wrangler: Wrangler, namespace: Namespace) -> None:
    """One byte more than 25 MiB: wrangler has sent it all, and still shows the answer."""
    path = wrangler.file("value", bytes(VALUE_BYTES_MAX + 1))

    complaint = wrangler.refused("key", "put", "file", "--path", path, *remote(namespace))

    assert f"exceeds limit of {VALUE_BYTES_MAX}" in complaint
    assert "[code: 10024]" in complaint
    assert namespace.names() == []


def test_put_with_metadata(wrangler: Wrangler, namespace: Namespace) -> None:
    """With metadata wrangler sends a form, text and files in parts of different kinds."""
    metadata = {"who": "Zoë", "n": [1, 2.5, None]}
    path = wrangler.file("value", EVERY_BYTE)
    flags = ("--metadata", json.dumps(metadata), *remote(namespace))

    wrangler.kv("key", "put", "text", "some text", *flags)
    wrangler.kv("key", "put", "file", "--path", path, *flags)

    assert (namespace.value("text"), namespace.metadata("text")) == (b"some text", metadata)
    assert (namespace.value("file"), namespace.metadata("file")) == (EVERY_BYTE, metadata)


def test_expirations_are_kept_and_listed(wrangler: Wrangler, namespace: Namespace) -> None:
    """A time to live, a time, and both, of which the time to live wins."""
    put = ("key", "put")
    before = namespace.put("now", b"", expiration_ttl=TTL_S)
    start = namespace.expiration("now")

    wrangler.kv(*put, "ttl", "v", "--ttl", str(TTL_S), *remote(namespace))
    wrangler.kv(*put, "time", "v", "--expiration", str(LATER), *remote(namespace))
    wrangler.kv(
        *put, "both", "v", "--expiration", str(LATER), "--ttl", str(TTL_S), *remote(namespace)
    )
    namespace.put("now", b"", expiration_ttl=TTL_S)
    end = namespace.expiration("now")
    listed = json.loads(wrangler.kv("key", "list", *remote(namespace)).stdout)

    assert before.status == 200
    assert start is not None
    assert end is not None
    shown = {row["name"]: row["expiration"] for row in listed}
    assert shown["time"] == LATER
    assert start <= shown["ttl"] <= end
    assert start <= shown["both"] <= end
    assert shown == {row.name: row.expiration for row in namespace.rows()}


def test_expirations_too_near_are_refused(wrangler: Wrangler, namespace: Namespace) -> None:
    """A minute is the least: 60 s are taken, 59 are not."""
    put = ("key", "put", "k", "v", "--ttl")

    complaint = wrangler.refused(*put, "59", *remote(namespace))
    stored_early = namespace.names()
    wrangler.kv(*put, "60", *remote(namespace))

    assert "[code: 10034]" in complaint
    assert stored_early == []
    assert namespace.names() == ["k"]


def test_a_key_expires_only_once_it_says_so(wrangler: Wrangler, namespace: Namespace) -> None:
    """A put without time to live or metadata takes both from a key that had them."""
    flags = ("--metadata", '{"old": true}', "--ttl", "60")
    wrangler.kv("key", "put", "k", "old", *flags, *remote(namespace))

    wrangler.kv("key", "put", "k", "new", *remote(namespace))

    assert namespace.value("k") == b"new"
    assert namespace.metadata("k") is None
    assert namespace.expiration("k") is None


def test_a_missing_key_is_an_error_to_get_and_none_to_delete(
    wrangler: Wrangler, namespace: Namespace
) -> None:
    """A script sees by the exit code that there is no value, and none is on standard output."""
    got = wrangler("kv", "key", "get", "missing", *remote(namespace))
    wrangler.kv("key", "delete", "missing", *remote(namespace))

    assert got.exit == 1
    assert "404: Not Found" in got.err
    assert "key not found" not in got.out


def test_delete_removes_the_key(wrangler: Wrangler, namespace: Namespace) -> None:
    """What was deleted is gone, and its neighbour is not."""
    namespace.put("gone", b"v")
    namespace.put("stays", b"v")

    wrangler.kv("key", "delete", "gone", *remote(namespace))

    assert namespace.names() == ["stays"]


def test_list_of_an_empty_namespace(wrangler: Wrangler, namespace: Namespace) -> None:
    """No keys are an empty list, and no fault."""
    assert json.loads(wrangler.kv("key", "list", *remote(namespace)).stdout) == []


def test_list_goes_through_every_page(wrangler: Wrangler, namespace: Namespace) -> None:
    """2,500 keys are three pages; all of them are printed, in the order of their bytes."""
    keys = [f"{'é' if n % 2 else 'z'}{n}" for n in range(2_500)]
    namespace.bulk([{"key": key, "value": "", "metadata": {"k": key}} for key in keys])

    listed = json.loads(wrangler.kv("key", "list", *remote(namespace)).stdout)

    assert [row["name"] for row in listed] == sorted(keys, key=str.encode)
    assert all(row["metadata"] == {"k": row["name"]} for row in listed)


@pytest.mark.parametrize("prefix", ["a b", "a+b", "a&b=", "a/b/", "ключ✓", "%2F", ""])
def test_list_of_a_prefix(wrangler: Wrangler, namespace: Namespace, prefix: str) -> None:
    """A prefix means what was typed, whatever it needs on its way."""
    others = ["a", "aXb", "a%20b", "ключ", "/", "z"]
    ours = [f"{prefix}{n}" for n in range(2)]
    namespace.bulk([{"key": key, "value": "v"} for key in others + ours])

    ran = wrangler.kv("key", "list", "--prefix", prefix, *remote(namespace))

    expected = sorted(ours + others, key=str.encode) if prefix == "" else ours
    assert [row["name"] for row in json.loads(ran.stdout)] == expected


def test_a_key_of_many_kinds_of_characters(wrangler: Wrangler, namespace: Namespace) -> None:
    """A key is decoded once: it can be put, listed, read and deleted under its own name."""
    wrangler.kv("key", "put", WEIRD, "weird", *remote(namespace))
    stored = namespace.value(WEIRD)
    listed = json.loads(wrangler.kv("key", "list", *remote(namespace)).stdout)
    got = wrangler.kv("key", "get", WEIRD, *remote(namespace))
    wrangler.kv("key", "delete", WEIRD, *remote(namespace))

    assert stored == b"weird"
    assert listed == [{"name": WEIRD}]
    assert got.stdout == b"weird"
    assert namespace.names() == []


@pytest.mark.parametrize("key", [".", ".."])
def test_dots_are_no_keys_and_hurt_nothing(
    wrangler: Wrangler, namespace: Namespace, key: str
) -> None:
    """These are folded away on the client: the request names another place, and is refused."""
    namespace.put("k", b"v")
    before = titles(namespace.access)

    wrangler.refused("key", "put", key, "v", *remote(namespace))
    wrangler.refused("key", "get", key, *remote(namespace))
    wrangler.refused("key", "delete", key, *remote(namespace))

    assert titles(namespace.access) == before
    assert namespace.names() == ["k"]
    assert namespace.value("k") == b"v"


def test_the_longest_key(wrangler: Wrangler, namespace: Namespace) -> None:
    """512 bytes are a key, 513 are not, however many characters they are."""
    longest = "é" * 256

    wrangler.kv("key", "put", longest, "v", *remote(namespace))
    complaint = wrangler.refused("key", "put", longest + "x", "v", *remote(namespace))

    assert namespace.names() == [longest]
    assert "exceeds key length limit of 512" in complaint


def test_a_binding_of_the_configuration_names_a_namespace(
    wrangler: Wrangler, namespace: Namespace
) -> None:
    """Instead of an id a command takes the binding that a project's file gives it."""
    bound = {"name": "x", "kv_namespaces": [{"binding": "CACHE", "id": namespace.id}]}
    path = wrangler.file("bound.jsonc", json.dumps(bound).encode())
    flags = ("--binding", "CACHE", "--config", path, "--remote")

    wrangler.kv("key", "put", "k", "v", *flags)
    got = wrangler.kv("key", "get", "k", *flags)

    assert namespace.value("k") == b"v"
    assert got.stdout == b"v"
