"""Files with one pair a line, and the place in them that has been reached.

A line is one of the objects of wrangler's bulk files: {"key", "value", "base64"?, "expiration"?,
"expiration_ttl"?, "metadata"?}. Other members are passed over. Nothing here holds more of a file
than a line or a batch.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from atoll.core.errors import BodyInvalidError

LINE_BYTES_MAX: Final = 100 * 10**6
"""As much as one bulk write may carry."""

BATCH_LINES_MAX: Final = 2000
BATCH_BYTES_MAX: Final = 4 * 2**20

TAIL_PIECE_BYTES: Final = 2**16
PROOF_BYTES: Final = 4096
"""How much of the file before a checkpoint must be as it was."""

CHECKPOINT_SUFFIX: Final = ".atoll-checkpoint"
CHECKPOINT_BYTES_MAX: Final = 2**16


class Pair(msgspec.Struct, frozen=True):
    """What is looked at in a line; the server looks at the rest."""

    key: str
    value: str
    base64: bool = False
    expiration: int | float | str | None = None


_decode_pair: Final = msgspec.json.Decoder(Pair).decode


@dataclass(slots=True, kw_only=True)
class Batch:
    """Lines that are sent together."""

    first_line: int
    """Counted from 1."""
    last_line: int = 0
    end: int = 0
    """Where the last of them ends in the file, in bytes."""
    size_bytes: int = 0
    lines: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """By key: of two lines with one key, only the later counts."""
    expirations: dict[str, int] = field(default_factory=dict[str, int])
    expired: int = 0
    """Lines left out because they had expired."""

    @property
    def lines_read(self) -> int:
        """How many lines of the file it stands for."""
        return self.last_line - self.first_line + 1


def read_batches(
    file: BinaryIO, *, name: str, now_s: float, start: int = 0, line: int = 0
) -> Iterator[Batch]:
    """Read a file from `start` on, a batch at a time.

    Args:
        file: Open at `start`.
        name: What to call it in errors.
        now_s: What expired before this, in seconds since the Unix epoch, is left out.
        start: Where to begin, in bytes.
        line: How many lines lie before.

    Raises:
        BodyInvalidError: A line is no pair. What came before it was yielded.
    """
    batch = Batch(first_line=line + 1)
    while raw := file.readline(LINE_BYTES_MAX + 1):
        text = raw.strip()
        full = len(batch.lines) == BATCH_LINES_MAX or batch.size_bytes + len(text) > BATCH_BYTES_MAX
        if batch.lines and full:
            yield batch
            batch = Batch(first_line=line + 1)
        line += 1
        start += len(raw)
        batch.last_line, batch.end = line, start
        if not text:
            continue
        try:
            pair = _parsed(text)
        except ValueError as error:
            batch.last_line -= 1
            batch.end -= len(raw)
            if batch.lines:
                yield batch
            raise BodyInvalidError(detail=f"{name}, line {line:,}: {error}") from error
        _add(batch, pair, text, now_s)
    if batch.last_line:
        yield batch


def _parsed(text: bytes) -> Pair:
    if len(text) > LINE_BYTES_MAX:
        message = f"longer than {LINE_BYTES_MAX:,} bytes, which no request may be"
        raise ValueError(message)
    try:
        return _decode_pair(text)
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error


def _add(batch: Batch, pair: Pair, text: bytes, now_s: float) -> None:
    replaced = batch.lines.pop(pair.key, None)
    batch.expirations.pop(pair.key, None)
    if replaced is not None:
        batch.size_bytes -= len(replaced)
    if isinstance(pair.expiration, int | float):
        if pair.expiration <= now_s:
            batch.expired += 1
            return
        batch.expirations[pair.key] = int(pair.expiration)
    batch.lines[pair.key] = text
    batch.size_bytes += len(text)


# Going on where an import or an export was stopped.


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far an import has come: everything before `offset` was acknowledged."""

    namespace_id: str
    offset: int
    line: int
    imported: int
    expired: int
    proof: str
    """A digest of what stands right before `offset`, to notice another file."""


def checkpoint_path(file: Path) -> Path:
    """Return where the checkpoint of an import is kept."""
    return file.with_name(file.name + CHECKPOINT_SUFFIX)


def proof_at(file: BinaryIO, offset: int) -> str:
    """Digest what stands right before `offset`, and leave the file there."""
    start = max(0, offset - PROOF_BYTES)
    file.seek(start)
    return hashlib.sha256(file.read(offset - start)).hexdigest()


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint; a reader finds the old one or the new one."""
    path = checkpoint_path(file)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(msgspec.json.encode(checkpoint))
    fresh.replace(path)


def read_checkpoint(file: Path) -> Checkpoint | None:
    """Return the checkpoint kept beside `file`; `None` if there is none, or none that is whole."""
    try:
        with checkpoint_path(file).open("rb") as kept:
            return msgspec.json.decode(kept.read(CHECKPOINT_BYTES_MAX), type=Checkpoint)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def drop_checkpoint(file: Path) -> None:
    """Remove the checkpoint kept beside `file`."""
    checkpoint_path(file).unlink(missing_ok=True)


def cut_to_last_line(path: Path) -> str | None:
    """Cut an unfinished line off the end of an export.

    Returns:
        The key in the last line that is whole, or `None` if there is none.

    Raises:
        BodyInvalidError: That line is no pair; nothing was cut.
    """
    key: str | None = None
    with path.open("rb+") as file:
        end = _line_end_before(file, file.seek(0, os.SEEK_END))
        if end:
            begin = _line_end_before(file, end - 1)
            file.seek(begin)
            try:
                key = _decode_pair(file.read(end - begin)).key
            except ValueError as error:
                detail = f"the last line of {path} is no pair, so it cannot be continued: {error}"
                raise BodyInvalidError(detail=detail) from error
        file.truncate(end)
    return key


def _line_end_before(file: BinaryIO, limit: int) -> int:
    """Return where the last line that ends at or before `limit` ends, 0 if there is none."""
    while limit > 0:
        start = max(0, limit - TAIL_PIECE_BYTES)
        file.seek(start)
        found = file.read(limit - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        limit = start
    return 0
