"""`atoll import` and `atoll export`: nothing lost, nothing invented, from wherever they stopped."""

import base64
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from atoll.cli.ndjson import checkpoint_path, read_checkpoint
from tests.cli.conftest import Atoll
from tests.support.server import serving

ALL_BYTES = bytes(range(256))
FAR_S = 4_102_444_800


def write_lines(path: Path, items: Sequence[Mapping[str, object]]) -> bytes:
    """Write pairs to a file, as an export writes them, and return its bytes."""
    lines = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in items)
    raw = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(raw)
    return raw


def pairs_in(raw: bytes) -> list[dict[str, object]]:
    """Read pairs from an export."""
    return [json.loads(line) for line in raw.split(b"\n") if line]


def lines_of(path: Path) -> list[dict[str, object]]:
    """Read pairs from a file."""
    return pairs_in(path.read_bytes())


def every_kind() -> list[dict[str, object]]:
    """Return pairs of every kind, in the order of their keys, as an export writes them."""
    large = base64.b64encode(os.urandom(3 * 2**20)).decode()
    return [
        {"key": "\n", "value": ""},
        {"key": "a", "value": "text, with ключ ✓ and \x00\r\n"},
        {"key": "b", "value": base64.b64encode(ALL_BYTES).decode(), "base64": True},
        {
            "key": "c",
            "value": "v",
            "expiration": FAR_S,
            "metadata": {"z": [1, 2.5, None], "a": "ü"},
        },
        {"key": "d", "value": large, "base64": True, "metadata": "beside a large value"},
        {"key": "e", "value": "x" * (2 * 2**20), "expiration": FAR_S},
        {"key": "é" * 256, "value": "longest key"},
    ]


def test_what_is_imported_is_exported_byte_for_byte(atoll: Atoll, namespace: str) -> None:
    """Text, bytes, metadata and expirations, values large and small."""
    raw = write_lines(atoll.folder / "in.ndjson", every_kind())

    imported = atoll.ok("import", namespace, "in.ndjson", "--json")
    exported = atoll.ok("export", namespace, "out.ndjson", "--json")

    assert imported.json == {"imported": 7, "expired": 0}
    assert exported.json == {"exported": 7, "path": "out.ndjson"}
    assert lines_of(atoll.folder / "out.ndjson") == pairs_in(raw)
    assert atoll.ok("key", "get", namespace, "b").out == ALL_BYTES
    assert not checkpoint_path(atoll.folder / "in.ndjson").exists()


def test_pipes_will_do(atoll: Atoll, namespace: str) -> None:
    """Standard output of one is standard input of the other."""
    write_lines(atoll.folder / "in.ndjson", every_kind())
    atoll.ok("import", namespace, "in.ndjson")
    copy = f"{namespace} copied"
    atoll.ok("namespace", "create", copy)

    written = atoll.ok("export", namespace, "-").out
    atoll.ok("import", copy, "-", given=written)

    assert atoll.ok("export", copy, "-").out == written
    assert len(written.splitlines()) == 7


def test_expired_lines_are_left_out_and_counted(atoll: Atoll, namespace: str) -> None:
    """Long gone, and too soon to be taken: neither stops the lines beside it."""
    soon = int(time.time()) + 20  # noqa: TID251 - what the server's clock will say
    write_lines(
        atoll.folder / "in.ndjson",
        [
            {"key": "a", "value": "v"},
            {"key": "gone", "value": "v", "expiration": 1000},
            {"key": "soon", "value": "v", "expiration": soon},
            {"key": "late", "value": "v", "expiration": soon + 80},
            {"key": "b", "value": "v"},
        ],
    )

    imported = atoll.ok("import", namespace, "in.ndjson", "--json")

    assert imported.json == {"imported": 3, "expired": 2}
    names = [row["name"] for row in atoll.ok("key", "list", namespace, "--json").json]
    assert names == ["a", "b", "late"]


def test_of_two_lines_with_one_key_the_later_counts(atoll: Atoll, namespace: str) -> None:
    """Also when they are far enough apart to be sent at the same time."""
    lines = [{"key": f"k{n % 2500}", "value": str(n)} for n in range(10_000)]
    write_lines(atoll.folder / "in.ndjson", lines)

    atoll.ok("import", namespace, "in.ndjson")

    pairs = pairs_in(atoll.ok("export", namespace, "-").out)
    assert {pair["key"]: pair["value"] for pair in pairs} == {
        f"k{n}": str(7500 + n) for n in range(2500)
    }


def test_a_bad_line_stops_the_import_and_is_named(atoll: Atoll, namespace: str) -> None:
    """What stands before it is stored, and mended the import goes on from there."""
    good = [{"key": f"k{n:05}", "value": "v"} for n in range(5000)]
    raw = write_lines(atoll.folder / "in.ndjson", good)
    (atoll.folder / "in.ndjson").write_bytes(raw + b'{"key": "x"}\n')

    refused = atoll.run("import", namespace, "in.ndjson", "--json")
    (atoll.folder / "in.ndjson").write_bytes(raw + b'{"key": "x", "value": "y"}\n')
    resumed = atoll.ok("import", namespace, "in.ndjson", "--resume", "--json")

    assert refused.code == 2
    assert "in.ndjson, line 5,001: " in refused.error["message"]
    assert resumed.json == {"imported": 5001, "expired": 0}
    assert len(atoll.ok("key", "list", namespace).text.splitlines()) == 5001


def test_what_the_server_refuses_is_named_by_its_lines(atoll: Atoll, namespace: str) -> None:
    """The batch is refused whole; the message says which lines it had and which key it was."""
    items: list[dict[str, object]] = [{"key": f"k{n:05}", "value": "v"} for n in range(3000)]
    items[2500] = {"key": "bad", "value": "not base64!", "base64": True}
    write_lines(atoll.folder / "in.ndjson", items)

    refused = atoll.run("import", namespace, "in.ndjson", "--json")

    assert refused.code == 1
    assert "in.ndjson, lines 2,001 to 3,000: " in refused.error["message"]
    assert "'bad'" in refused.error["message"]
    assert len(atoll.ok("key", "list", namespace).text.splitlines()) == 2000


def test_a_killed_import_goes_on_where_it_was(atoll: Atoll, namespace: str) -> None:
    """Killed without warning again and again, it stores every line in the end."""
    value = "x" * 500
    items: list[dict[str, object]] = [{"key": f"k{n:06}", "value": value} for n in range(60_000)]
    write_lines(atoll.folder / "in.ndjson", items)
    path = atoll.folder / "in.ndjson"
    places: list[int] = []
    for _ in range(3):
        process = atoll.start("import", namespace, "in.ndjson", "--resume")
        before = places[-1] if places else 0
        while process.poll() is None:
            kept = read_checkpoint(path)
            if kept is not None and kept.line > before:
                process.send_signal(signal.SIGKILL)
                process.wait()
        process.communicate()
        kept = read_checkpoint(path)
        assert kept is not None, "it was done before it could be killed"
        places.append(kept.line)

    last = atoll.ok("import", namespace, "in.ndjson", "--resume", "--json")

    assert places == sorted(set(places))
    assert last.json == {"imported": 60_000, "expired": 0}
    assert len(atoll.ok("key", "list", namespace).text.splitlines()) == 60_000


def test_a_server_that_restarts_is_waited_for(tmp_path: Path) -> None:
    """The import stands still while it is gone, and goes on when it is back at its address."""
    data = tmp_path / "data"
    folder = tmp_path / "work"
    folder.mkdir()
    items = [{"key": f"k{n:06}", "value": "x" * 500} for n in range(60_000)]
    write_lines(folder / "in.ndjson", items)
    with serving(data) as first:
        port = first.url.rpartition(":")[2]
        there = Atoll(data, folder)
        process = there.start("import", "my-namespace", "in.ndjson", "--json", "--url", first.url)
        while process.poll() is None and read_checkpoint(folder / "in.ndjson") is None:
            pass
        first.stop(signal.SIGKILL)
    with serving(data, port=port):
        said, complaints = process.communicate()
        listed = there.ok("key", "list", "my-namespace").text.splitlines()

    assert process.returncode == 0, complaints
    assert json.loads(said) == {"imported": 60_000, "expired": 0}
    assert len(listed) == 60_000


def test_an_interrupted_import_keeps_its_place(atoll: Atoll, namespace: str) -> None:
    """Ctrl-C ends it at once, quietly, with the checkpoint left."""
    items: list[dict[str, object]] = [
        {"key": f"k{n:06}", "value": "x" * 900} for n in range(60_000)
    ]
    write_lines(atoll.folder / "in.ndjson", items)
    process = atoll.start("import", namespace, "in.ndjson")
    while process.poll() is None:
        if read_checkpoint(atoll.folder / "in.ndjson") is not None:
            process.send_signal(signal.SIGINT)
            break
    _, complaints = process.communicate()

    assert process.returncode == 130, complaints
    assert b"Traceback" not in complaints
    assert read_checkpoint(atoll.folder / "in.ndjson") is not None


def test_a_checkpoint_of_another_file_or_namespace_is_refused(atoll: Atoll, namespace: str) -> None:
    """Going on in the middle of something else would lose what stands before."""
    raw = write_lines(atoll.folder / "in.ndjson", [{"key": "a", "value": "1"}])
    (atoll.folder / "in.ndjson").write_bytes(raw + b"broken\n")
    assert atoll.run("import", namespace, "in.ndjson").code == 2
    other = f"{namespace} other"
    atoll.ok("namespace", "create", other)

    elsewhere = atoll.run("import", other, "in.ndjson", "--resume")
    (atoll.folder / "in.ndjson").write_bytes(raw.replace(b"1", b"2") + b"broken\n")
    changed = atoll.run("import", namespace, "in.ndjson", "--resume")

    assert elsewhere.code == changed.code == 2
    assert "another namespace" in elsewhere.err
    assert "was changed" in changed.err


def test_a_killed_export_goes_on_behind_its_last_line(atoll: Atoll, namespace: str) -> None:
    """Wherever it was cut, in the middle of a line or between two, the whole comes out."""
    items: list[dict[str, object]] = [{"key": f"k{n:05}", "value": "x" * n} for n in range(1500)]
    raw = write_lines(atoll.folder / "in.ndjson", items)
    atoll.ok("import", namespace, "in.ndjson")

    for cut in (0, 1, raw.index(b"\n"), raw.index(b"\n") + 1, len(raw) // 2, len(raw)):
        path = atoll.folder / f"cut-{cut}.ndjson"
        path.write_bytes(raw[:cut])
        atoll.ok("export", namespace, path.name, "--resume")
        assert lines_of(path) == items, cut


def test_export_does_not_overwrite_unasked(atoll: Atoll, namespace: str) -> None:
    """A file that is there is kept until one of two flags says what to do with it."""
    atoll.ok("key", "put", namespace, "k", "v")
    (atoll.folder / "out.ndjson").write_text("precious\n")

    refused = atoll.run("export", namespace, "out.ndjson")
    not_ours = atoll.run("export", namespace, "out.ndjson", "--resume")

    assert refused.code == not_ours.code == 2
    assert "--overwrite" in refused.err
    assert (atoll.folder / "out.ndjson").read_text() == "precious\n"
    atoll.ok("export", namespace, "out.ndjson", "--overwrite")
    assert lines_of(atoll.folder / "out.ndjson") == [{"key": "k", "value": "v"}]


@pytest.mark.parametrize(
    "args",
    [
        ["import", "NS", "missing.ndjson"],
        ["import", "NS", "."],
        ["import", "NS", "-", "--resume"],
        ["export", "NS", "no/such/folder/out.ndjson"],
        ["export", "NS"],
    ],
)
def test_wrong_usage_is_told(atoll: Atoll, namespace: str, args: list[str]) -> None:
    """Exit code 2, and no file appears."""
    refused = atoll.run(*(namespace if arg == "NS" else arg for arg in args))

    assert refused.code == 2, refused
    assert "Traceback" not in refused.err
    assert list(atoll.folder.iterdir()) == []


def test_an_empty_namespace_is_an_empty_file(atoll: Atoll, namespace: str) -> None:
    """And an empty file imports nothing."""
    atoll.ok("export", namespace, "out.ndjson")
    assert (atoll.folder / "out.ndjson").read_bytes() == b""

    assert atoll.ok("import", namespace, "out.ndjson", "--json").json["imported"] == 0
