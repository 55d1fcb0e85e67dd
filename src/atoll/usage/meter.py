"""Counting where answers are given: numbers in mapped files, which outlive the process.

Each process that answers has files of its own and holds locks on them for as long as it counts
there. A file is a table of rows (hour, face, namespace); numbers in it only grow, and nobody else
writes it, so whoever collects remembers what was taken before and nothing is counted twice. What
was counted before a `kill -9` is in the file: the kernel has it. Whoever counts before answering
has counted everything that was acknowledged.
"""

import asyncio
import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from atoll.clock import Clock
from atoll.usage.counts import (
    AGES_AT,
    LATENCY_AT,
    NUMBER_OF,
    RECEIVED_AT,
    SENT_AT,
    US_PER_HOUR,
    WORDS,
    RowKey,
)
from atoll.usage.histogram import BUCKETS, bucket_of

ROWS_PER_FILE: Final = 128
FILES_MAX: Final = 64
"""Files of one process; with more rows in an hour than fit in them it begins with new ones."""
READY: Final = "counts-"
"""What names of files begin with that may be collected."""
PREPARE_S: Final = 1.0
RETRY_US: Final = 1_000_000
"""After a file could not be made, as on a full disk; until then answers are not counted."""

_WORD: Final = 8
_FILE_WORDS: Final = 8
"""Before the rows: how many there are, and room."""
_ROW_HEAD: Final = struct.Struct("<Q120s")
_ROW_HEAD_WORDS: Final = _ROW_HEAD.size // _WORD
_ROW_WORDS: Final = _ROW_HEAD_WORDS + WORDS
SIZE: Final = _WORD * (_FILE_WORDS + ROWS_PER_FILE * _ROW_WORDS)

_PARTS: Final = 3
_MAKING: Final = ".counts-"
_BUCKETS_TO: Final = 2**16 - 1
_BUCKETS: Final = bytes(bucket_of(value) for value in range(_BUCKETS_TO + 1))
"""The buckets of all values that are usual; looking one up takes a third of computing it."""

_log = structlog.get_logger(__name__)

Words = memoryview


class Row:
    """Where one face counts for one namespace in one hour. Take it anew for every answer."""

    __slots__ = ("_ages_at", "_at", "_reads_at", "_sent_at", "_words")

    def __init__(self, words: Words, at: int) -> None:
        self._words = words
        self._at = at
        # The same places for reads, added up once: most answers are reads.
        self._sent_at = at + SENT_AT
        self._reads_at = at + LATENCY_AT
        self._ages_at = at + AGES_AT

    def count_read(self, kind: int, *, sent: int, elapsed_us: int, age_ms: int) -> None:
        """Count a read of one key, before it is answered.

        Args:
            kind: A `Kind` of reads.
            sent: Bytes of its answer's body.
            elapsed_us: How long it took.
            age_ms: How old the answer was.
        """
        words = self._words
        words[self._at + kind] += 1
        words[self._sent_at] += sent
        bucket = _BUCKETS[elapsed_us] if elapsed_us <= _BUCKETS_TO else bucket_of(elapsed_us)
        words[self._reads_at + bucket] += 1
        bucket = _BUCKETS[age_ms] if age_ms <= _BUCKETS_TO else bucket_of(age_ms)
        words[self._ages_at + bucket] += 1

    def count_keys(self, kind: int, keys: int) -> None:
        """Count so many operations of a kind."""
        self._words[self._at + kind] += keys

    def count_age(self, age_ms: int) -> None:
        """Count how old an answer about one key was."""
        self._words[self._ages_at + bucket_of(age_ms)] += 1

    def count_request(self, kind: int, *, received: int, sent: int, elapsed_us: int) -> None:
        """Count what a request took, however many keys it was about; see `count_read`."""
        words = self._words
        operation = NUMBER_OF[kind]
        words[self._at + RECEIVED_AT + operation] += received
        words[self._sent_at + operation] += sent
        words[self._reads_at + operation * BUCKETS + bucket_of(elapsed_us)] += 1


class Meter:
    """What one process counts. It is made, and prepared, where files may be touched."""

    def __init__(self, folder: Path) -> None:
        """Keep files in `folder`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._rows: dict[tuple[str, str], Row] = {}
        self._files: list[_File] = []
        self._spare: _File | None = None
        self._hour_end_us = 0
        self._retry_us = 0
        self._scratch = memoryview(bytearray(_WORD * _ROW_WORDS)).cast("Q")
        self.prepare()

    def prepare(self) -> None:
        """Have a file ready for when the hour ends, or the one in use is full."""
        if self._spare is None:
            try:
                self._spare = _File(self._folder)
            except OSError as error:
                _log.warning("count_file_not_made", reason=str(error))

    async def prepare_forever(self, clock: Clock) -> None:
        """Have a file ready at any time, until cancelled."""
        while True:
            await clock.sleep(PREPARE_S)
            if self._spare is None:
                await asyncio.to_thread(self.prepare)

    def row(self, namespace: str, face: str, account: str, now_us: int) -> Row:
        """Return where to count now.

        Args:
            namespace: What was asked about.
            face: Who answers.
            account: Whose the namespace is.
            now_us: Central time, in microseconds since the Unix epoch.
        """
        if now_us < self._hour_end_us:
            row = self._rows.get((namespace, face))
            if row is not None:
                return row
        return self._new_row(namespace, face, account, now_us)

    def _new_row(self, namespace: str, face: str, account: str, now_us: int) -> Row:
        if now_us >= self._hour_end_us:
            self._let_go()
            self._hour_end_us = (now_us // US_PER_HOUR + 1) * US_PER_HOUR
        if not self._files or self._files[-1].is_full:
            if len(self._files) == FILES_MAX:
                self._let_go()
            if self._spare is None and now_us >= self._retry_us:
                self.prepare()
                self._retry_us = now_us + RETRY_US
            if self._spare is None:
                return Row(self._scratch, 0)
            self._files.append(self._spare)
            self._spare = None
            self._retry_us = 0
        row = self._rows[namespace, face] = self._files[-1].add(
            RowKey(
                hour=self._hour_end_us // US_PER_HOUR - 1,
                face=face,
                account=account,
                namespace=namespace,
            )
        )
        return row

    def _let_go(self) -> None:
        self._rows.clear()
        for file in self._files:
            file.close()
        self._files.clear()

    def close(self) -> None:
        """Leave what was counted to whoever collects."""
        self._let_go()
        if self._spare is not None:
            self._spare.close()
            self._spare = None


class _File:
    """One file that is being counted in."""

    def __init__(self, folder: Path) -> None:
        # A name is never given twice: what was taken of a file is remembered by it.
        self._file, name = tempfile.mkstemp(prefix=_MAKING, dir=folder)
        making = Path(name)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            # Written, not only made long: a page that finds the disk full when it is first touched
            # would end the process.
            with os.fdopen(os.dup(self._file), "wb") as writing:
                writing.write(bytes(SIZE))
            self._map = mmap.mmap(self._file, SIZE)
        except OSError:
            os.close(self._file)
            making.unlink()
            raise
        self._words: Words = memoryview(self._map).cast("Q")
        self._count = 0
        # It has a lock before it has a name by which it is found.
        making.rename(folder / (READY + making.name.removeprefix(_MAKING)))

    @property
    def is_full(self) -> bool:
        return self._count == ROWS_PER_FILE

    def add(self, key: RowKey) -> Row:
        at = _FILE_WORDS + self._count * _ROW_WORDS
        text = f"{key.face}\n{key.account}\n{key.namespace}".encode()
        _ROW_HEAD.pack_into(self._map, at * _WORD, key.hour, text)
        self._count += 1
        self._words[0] = self._count
        return Row(self._words, at + _ROW_HEAD_WORDS)

    def close(self) -> None:
        self._words.release()
        self._map.close()  # It has the lock too.
        # It may wait long for its turn, if central is out of reach.
        os.ftruncate(self._file, _WORD * (_FILE_WORDS + self._count * _ROW_WORDS))
        os.close(self._file)


def rows_in(path: Path) -> tuple[bool, Iterator[tuple[int, RowKey, dict[int, int]]]]:
    """Read a file of counts.

    Args:
        path: The file.

    Returns:
        Whether nobody counts in it any more, and its rows with their numbers.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        is_left = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_left = False
        # What others write to their mappings of a file is what a read of it returns.
        raw = os.pread(file, SIZE, 0)
    finally:
        os.close(file)
    whole = max(0, (len(raw) // _WORD - _FILE_WORDS) // _ROW_WORDS)
    return is_left, _rows(raw, min(int.from_bytes(raw[:_WORD], "little"), whole))


def _rows(raw: bytes, count: int) -> Iterator[tuple[int, RowKey, dict[int, int]]]:
    for number in range(count):
        at = _WORD * (_FILE_WORDS + number * _ROW_WORDS)
        hour, text = _ROW_HEAD.unpack_from(raw, at)
        parts = text.rstrip(b"\0").decode("ascii", "replace").split("\n")
        if not hour or len(parts) != _PARTS:
            continue  # A power cut left less than was written.
        words = memoryview(raw)[at + _ROW_HEAD.size : at + _WORD * _ROW_WORDS].cast("Q")
        counts = {place: word for place, word in enumerate(words) if word}
        face, account, namespace = parts
        yield number, RowKey(hour=hour, face=face, account=account, namespace=namespace), counts
