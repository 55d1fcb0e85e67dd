"""Files of lines: how they are cut into batches, and where one goes on."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cli.ndjson import (
    BATCH_BYTES_MAX,
    BATCH_LINES_MAX,
    TAIL_PIECE_BYTES,
    Batch,
    Checkpoint,
    checkpoint_path,
    cut_to_last_line,
    drop_checkpoint,
    proof_at,
    read_batches,
    read_checkpoint,
    write_checkpoint,
)
from atoll.core.errors import BodyInvalidError

NOW_S = 1_800_000_000.0

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)


def line(key: str, value: str = "v", **members: object) -> bytes:
    """Write one line."""
    return json.dumps({"key": key, "value": value, **members}).encode() + b"\n"


def batches(raw: bytes, *, start: int = 0, at: int = 0) -> list[Batch]:
    """Read everything in `raw` behind `start`."""
    file = io.BytesIO(raw)
    file.seek(start)
    return list(read_batches(file, name="f", now_s=NOW_S, start=start, line=at))


def test_lines_are_passed_on_as_they_are() -> None:
    """What the server reads is what stood in the file, unknown members included."""
    raw = b'  {"key":"a", "value":"1", "metadata":{"x": 1.0}, "other":[]}\r\n'

    (batch,) = batches(raw)

    assert list(batch.lines.values()) == [raw.strip()]
    assert (batch.first_line, batch.last_line, batch.end) == (1, 1, len(raw))


@given(st.lists(keys), st.sampled_from([b"\n", b""]))
def test_of_two_lines_with_one_key_the_later_counts(names: list[str], end: bytes) -> None:
    """Whatever the order, and whether or not the last line is ended."""
    raw = b"".join(line(name, str(n)) for n, name in enumerate(names))
    read = batches(raw.removesuffix(b"\n") + end if names else b"")

    stored: dict[str, str] = {}
    for batch in read:
        stored |= {key: json.loads(text)["value"] for key, text in batch.lines.items()}
    assert stored == {name: str(n) for n, name in enumerate(names)}
    assert sum(batch.last_line - batch.first_line + 1 for batch in read) == len(names)


def test_batches_are_bounded_and_cover_the_file() -> None:
    """By lines and by bytes; a line larger than a batch stands alone."""
    small = [line(f"k{n}") for n in range(BATCH_LINES_MAX + 1)]
    large = [line(f"L{n}", "x" * (BATCH_BYTES_MAX // 2)) for n in range(3)]
    huge = [line("H", "x" * (BATCH_BYTES_MAX + 1)), line("last")]
    raw = b"".join(small + large + huge)

    read = batches(raw)

    counts = [len(batch.lines) for batch in read]
    assert counts == [BATCH_LINES_MAX, 2, 1, 1, 1, 1]
    assert [batch.end for batch in read][-1] == len(raw)
    assert [batch.first_line for batch in read[1:]] == [batch.last_line + 1 for batch in read[:-1]]


def test_reading_goes_on_at_the_end_of_any_batch() -> None:
    """From where a batch ended, the rest comes as it would have come."""
    raw = b"".join(line(f"k{n}") for n in range(3 * BATCH_LINES_MAX))
    whole = batches(raw)

    for n, batch in enumerate(whole[:-1]):
        assert batches(raw, start=batch.end, at=batch.last_line) == whole[n + 1 :]


def test_what_has_expired_is_left_out_and_counted() -> None:
    """Also when it replaces a line that has not: the later line counts."""
    (batch,) = batches(
        line("a", expiration=1)
        + line("b")
        + line("b", expiration=int(NOW_S))
        + line("c", expiration=NOW_S + 1)
    )

    assert list(batch.lines) == ["c"]
    assert batch.expired == 2
    assert batch.expirations == {"c": int(NOW_S) + 1}


def test_empty_lines_are_passed_over() -> None:
    """Also at the ends of the file, and in a file of nothing else."""
    (batch,) = batches(b"\n\n" + line("a") + b"  \n")

    assert list(batch.lines) == ["a"]
    assert batch.last_line == 4
    assert batches(b"") == []
    assert batches(b"\n") == [Batch(first_line=1, last_line=1, end=1)]


@pytest.mark.parametrize(
    "bad",
    [
        b"not json\n",
        b'["key","value"]\n',
        b'{"key":"a"}\n',
        b'{"value":"a"}\n',
        b'{"key":1,"value":"a"}\n',
        b'{"key":"a","value":null}\n',
        b'{"key":"a","value":"b","base64":"yes"}\n',
        b'{"key":"\xff","value":"b"}\n',
        b'{"key":"a","value":"b"',
        b'{"key":"a","value":"b","metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    ],
)
def test_a_line_that_is_no_pair_is_named(bad: bytes) -> None:
    """What stands before it is read, and the error says which line it is."""
    reading = read_batches(io.BytesIO(line("a") + line("b") + bad), name="f", now_s=NOW_S)

    batch = next(reading)
    assert list(batch.lines) == ["a", "b"]
    assert (batch.last_line, batch.end) == (2, len(line("a") + line("b")))
    with pytest.raises(BodyInvalidError, match="f, line 3: "):
        next(reading)


def test_a_checkpoint_is_kept_and_dropped(tmp_path: Path) -> None:
    """What was written is read; a part of one is none."""
    file = tmp_path / "f.ndjson"
    kept = Checkpoint(namespace_id="0" * 32, offset=5, line=2, imported=2, expired=0, proof="abc")
    assert read_checkpoint(file) is None

    write_checkpoint(file, kept)
    assert read_checkpoint(file) == kept
    checkpoint_path(file).write_bytes(b'{"offset":')
    assert read_checkpoint(file) is None
    drop_checkpoint(file)
    drop_checkpoint(file)
    assert not checkpoint_path(file).exists()


def test_a_changed_file_is_noticed() -> None:
    """The proof differs as soon as what stands right before the place does."""
    file = io.BytesIO(b"x" * 10_000)
    before = proof_at(file, 9000)
    assert file.tell() == 9000
    file.seek(8999)
    file.write(b"y")

    assert proof_at(file, 9000) != before
    assert proof_at(file, 8999) == proof_at(io.BytesIO(b"x" * 9000), 8999)
    assert proof_at(file, 0)


@pytest.mark.parametrize("tail", [b"", b'{"key":"c","val', b"x" * (3 * TAIL_PIECE_BYTES)])
@pytest.mark.parametrize("size", [1, TAIL_PIECE_BYTES - 21, TAIL_PIECE_BYTES, 5 * TAIL_PIECE_BYTES])
def test_an_unfinished_line_is_cut_off(tmp_path: Path, tail: bytes, size: int) -> None:
    """Whatever the length of the last whole line and of what stands behind it."""
    path = tmp_path / "f"
    whole = line("a") + line("b", "x" * size)
    path.write_bytes(whole + tail)

    assert cut_to_last_line(path) == "b"
    assert path.read_bytes() == whole


def test_a_file_without_a_whole_line_begins_anew(tmp_path: Path) -> None:
    """Empty, or with nothing but the beginning of a line."""
    path = tmp_path / "f"
    for raw in (b"", b'{"key"'):
        path.write_bytes(raw)
        assert cut_to_last_line(path) is None
        assert path.read_bytes() == b""


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """What is no export is not cut."""
    path = tmp_path / "f"
    path.write_bytes(b"dear diary\nto")

    with pytest.raises(BodyInvalidError, match="cannot be continued"):
        cut_to_last_line(path)
    assert path.read_bytes() == b"dear diary\nto"
