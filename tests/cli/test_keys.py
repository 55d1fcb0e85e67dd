"""`atoll key`."""

import json
import os

import pytest

from tests.cli.conftest import Atoll

ALL_BYTES = bytes(range(256))
ODD_KEYS = [
    "a/b c%d?e=f&g#h:ключ+*'()!~",
    "//x//",
    "a/../b",
    "100%",
    "%2E",
    "...",
    "-starts-with-a-dash",
    "new\nline",
    "é" * 256,
]


def test_put_and_get_a_word(atoll: Atoll, namespace: str) -> None:
    """A value from the command line comes back as it is, without a line's end of ours."""
    put = atoll.ok("key", "put", namespace, "greeting", "hello, world")

    assert put.out == b""
    assert atoll.ok("key", "get", namespace, "greeting").out == b"hello, world"


def test_any_key_goes_in_and_out(atoll: Atoll, namespace: str) -> None:
    """What URLs, shells and terminals treat specially is an ordinary key."""
    for key in ODD_KEYS:
        atoll.ok("key", "put", namespace, "--", key, f"value of {key}")

    listed = atoll.ok("bulk", "get", namespace, "-", given=json.dumps(ODD_KEYS).encode()).json
    assert listed == {key: {"value": f"value of {key}"} for key in ODD_KEYS}
    for key in ODD_KEYS[:3]:
        assert atoll.ok("key", "get", namespace, "--", key).out == f"value of {key}".encode()
        atoll.ok("key", "delete", namespace, "--", key)
    left = [row["name"] for row in atoll.ok("key", "list", namespace, "--json").json]
    assert left == sorted(ODD_KEYS[3:])


def test_what_is_no_key_is_refused(atoll: Atoll, namespace: str) -> None:
    """Nothing is stored, nothing else is touched, and the rule is told."""
    for key in ("", ".", "..", "é" * 257, b"\xff"):
        for command in (["put", namespace, "--", key, "v"], ["delete", namespace, "--", key]):
            refused = atoll.run("key", *command)
            assert refused.code in {1, 2}, refused
            assert refused.err.startswith("atoll: ")
            assert "Traceback" not in refused.err

    assert atoll.ok("key", "list", namespace, "--json").json == []


def test_bytes_pass_unharmed_by_every_way(atoll: Atoll, namespace: str) -> None:
    """File, standard input and command line in; file and standard output out."""
    (atoll.folder / "in").write_bytes(ALL_BYTES)
    atoll.ok("key", "put", namespace, "file", "--path", "in")
    atoll.ok("key", "put", namespace, "stdin", given=ALL_BYTES)
    atoll.ok("key", "put", namespace, "dash", "--path", "-", given=ALL_BYTES)
    atoll.ok("key", "put", namespace, "argument", ALL_BYTES[1:])

    for key in ("file", "stdin", "dash"):
        atoll.ok("key", "get", namespace, key, "--path", f"out-{key}")
        assert (atoll.folder / f"out-{key}").read_bytes() == ALL_BYTES
        assert atoll.ok("key", "get", namespace, key).out == ALL_BYTES
    assert atoll.ok("key", "get", namespace, "argument").out == ALL_BYTES[1:]


def test_the_largest_value_passes_and_one_byte_more_does_not(atoll: Atoll, namespace: str) -> None:
    """25 MiB by file and by standard input, with metadata and without."""
    largest = os.urandom(25 * 2**20)
    (atoll.folder / "largest").write_bytes(largest)
    atoll.ok("key", "put", namespace, "a", "--path", "largest", "--metadata", '{"a":1}')
    atoll.ok("key", "put", namespace, "b", given=largest)
    refused = atoll.run("key", "put", namespace, "c", "--json", given=largest + b"!")

    assert atoll.ok("key", "get", namespace, "a").out == largest
    assert atoll.ok("key", "get", namespace, "b").out == largest
    assert refused.code == 1
    assert refused.error["status"] == 413
    assert atoll.run("key", "get", namespace, "c").code == 3


def test_empty_values_are_values(atoll: Atoll, namespace: str) -> None:
    """From the command line and from standard input."""
    atoll.ok("key", "put", namespace, "a", "")
    atoll.ok("key", "put", namespace, "b", given=b"")

    assert atoll.ok("key", "get", namespace, "a").out == b""
    assert atoll.ok("key", "get", namespace, "b").out == b""


def test_metadata_and_expiration_are_kept_and_shown(atoll: Atoll, namespace: str) -> None:
    """`get --json` tells them with the value, `list` beside the key."""
    put = ["key", "put", namespace, "k", "v", "--metadata", '{"who": "Zoë"}']
    atoll.ok(*put, "--expiration", "4102444800")

    got = atoll.ok("key", "get", namespace, "k", "--json").json
    listed = atoll.ok("key", "list", namespace, "--json").json
    shown = atoll.ok("key", "list", namespace, "--long").text

    assert got["value"] == "v"
    assert got["metadata"] == listed[0]["metadata"] == {"who": "Zoë"}
    assert got["expiration"] == listed[0]["expiration"] == 4102444800
    assert got["version"] == listed[0]["version"]
    assert "2100-01-01 00:00:00Z" in shown
    assert '{"who": "Zoë"}' in shown


def test_a_value_that_is_no_text_is_in_base64_in_json(atoll: Atoll, namespace: str) -> None:
    """In the manner of wrangler's bulk files."""
    atoll.ok("key", "put", namespace, "k", given=b"\xff\x00")

    got = atoll.ok("key", "get", namespace, "k", "--json").json

    assert (got["value"], got["base64"]) == ("/wA=", True)


def test_ttl_counts_from_now(atoll: Atoll, namespace: str) -> None:
    """An hour is an hour, give or take a minute on a slow machine."""
    atoll.ok("key", "put", namespace, "k", "v", "--ttl", "3600")
    expiration = atoll.ok("key", "get", namespace, "k", "--json").json["expiration"]

    atoll.ok("key", "put", namespace, "k2", "v", "--expiration", str(expiration))
    assert atoll.run("key", "put", namespace, "k3", "v", "--ttl", "59").code == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--ttl", "59"],
        ["--ttl", "-1"],
        ["--expiration", "1000"],
        ["--metadata", "{"],
        ["--metadata", '"' + "x" * 1023 + '"'],
    ],
)
def test_what_the_server_refuses_is_told(atoll: Atoll, namespace: str, options: list[str]) -> None:
    """Nothing is stored and the server's sentence is shown."""
    refused = atoll.run("key", "put", namespace, "k", "v", *options)

    assert refused.code == 1, refused
    assert refused.err.startswith("atoll: put: ")
    assert atoll.run("key", "get", namespace, "k").code == 3


@pytest.mark.parametrize(
    "args",
    [
        ["v", "--path", "f"],
        ["--path", "no such file"],
        ["--ttl", "soon"],
        ["v", "--if-match", "1", "--if-none-match"],
        ["v", "surplus"],
        ["v", "--no-such-option"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    atoll: Atoll, namespace: str, args: list[str]
) -> None:
    """Exit code 2, and a hint where to look."""
    refused = atoll.run("key", "put", namespace, "k", *args)

    assert refused.code == 2, refused
    assert "--help" in refused.err
    assert atoll.run("key", "get", namespace, "k").code == 3


def test_conditions_hold_or_nothing_is_written(atoll: Atoll, namespace: str) -> None:
    """Create once; replace and delete only the version that was seen."""
    first = atoll.ok("key", "put", namespace, "k", "1", "--if-none-match", "--json").json
    again = atoll.run("key", "put", namespace, "k", "2", "--if-none-match", "--json")
    second = atoll.ok(
        "key", "put", namespace, "k", "2", "--if-match", first["version"], "--json"
    ).json
    stale = atoll.run("key", "delete", namespace, "k", "--if-match", first["version"])

    assert again.code == 6
    assert again.error["status"] == 412
    assert first["version"] in again.error["message"]
    assert stale.code == 6
    assert atoll.ok("key", "get", namespace, "k").out == b"2"
    atoll.ok("key", "delete", namespace, "k", "--if-match", second["version"])
    assert atoll.run("key", "put", namespace, "k", "3", "--if-match", "*").code == 6


def test_a_missing_key_leaves_standard_output_and_files_alone(atoll: Atoll, namespace: str) -> None:
    """Neither an empty file nor a part of one appears, and an old one stays."""
    (atoll.folder / "old").write_text("old")

    missing = atoll.run("key", "get", namespace, "k", "--path", "old")

    assert missing.code == 3
    assert missing.out == b""
    assert [path.name for path in atoll.folder.iterdir()] == ["old"]
    assert (atoll.folder / "old").read_text() == "old"


def test_deleting_what_is_not_there_succeeds(atoll: Atoll, namespace: str) -> None:
    """As Workers KV has it."""
    atoll.ok("key", "delete", namespace, "nothing")


def test_list_pages_through_everything_in_order(atoll: Atoll, namespace: str) -> None:
    """2,500 keys take three requests; prefix, start and limit cut them as asked."""
    keys = [f"k{n:04}" for n in range(2500)]
    lines = "".join(f'{{"key":"{key}","value":"{key}"}}\n' for key in reversed(keys))
    atoll.ok("import", namespace, "-", given=lines.encode())

    assert atoll.ok("key", "list", namespace).text.splitlines() == keys
    some = atoll.ok("key", "list", namespace, "--prefix", "k1", "--start-after", "k1989")
    assert some.text.splitlines() == [f"k1{n}" for n in range(990, 1000)]
    for limit in (1, 100, 101, 1000, 1001):
        cut = atoll.ok("key", "list", namespace, "--limit", str(limit), "--json").json
        assert [row["name"] for row in cut] == keys[:limit]
    assert atoll.run("key", "list", namespace, "--limit", "0").code == 2
    assert atoll.ok("key", "list", namespace, "--prefix", "x").out == b""
    assert atoll.ok("key", "list", namespace, "--prefix", "x", "--json").json == []


def test_a_listing_never_obeys_a_key(atoll: Atoll, namespace: str) -> None:
    """A key that holds an escape sequence is shown quoted, unless JSON was asked for."""
    atoll.ok("key", "put", namespace, "\x1b[31mred", "v")

    assert atoll.ok("key", "list", namespace).text == '"\\u001b[31mred"'
    assert atoll.ok("key", "list", namespace, "--json").json[0]["name"] == "\x1b[31mred"


def test_a_reader_that_stops_is_no_error_to_shout_about(atoll: Atoll, namespace: str) -> None:
    """`atoll key list | head -1` ends quietly."""
    atoll.ok("key", "put", namespace, "large", given=b"x" * 2**23)
    process = atoll.start("key", "get", namespace, "large")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()

    complaints = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 141
    assert complaints == b"", complaints.decode(errors="replace")
