"""One transaction of the writer: what its jobs have in common, and what is written once for all."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, cast

from atoll.clock import Clock
from atoll.core.model import Position
from atoll.core.version import Version
from atoll.store.sealing import Sealing
from atoll.store.sqlite.driver import Database, Row
from atoll.store.sqlite.records import Records

SLICE_MS: Final = 2
"""After how long work on the event loop lets others run."""
SLICE_ROWS: Final = 128
"""How many rows are written between two looks at the clock."""

SLICE_BYTES: Final = 512 * 1024
"""The same for how many bytes."""

_LOG: Final = "INSERT INTO log (sequence, namespace, key, version)"

Pause = Callable[[], Awaitable[None]]


def pauses(clock: Clock) -> Pause:
    """Return what lets others run if the last time was too long ago."""
    since = clock.elapsed_ms()

    async def pause() -> None:
        nonlocal since
        if clock.elapsed_ms() - since >= SLICE_MS:
            await clock.sleep(0)
            since = clock.elapsed_ms()

    return pause


@dataclass(slots=True, kw_only=True)
class Head:
    """Where the log ends and begins, and the largest version ever written."""

    incarnation: int
    sequence: int
    last_version: Version
    log_start: int
    log_rows: int
    _position: Position | None = field(default=None, init=False)

    @property
    def position(self) -> Position:
        """The end of the log; the same object for as long as it is the same."""
        held = self._position
        if held is None or held.sequence != self.sequence:
            held = Position(incarnation=self.incarnation, sequence=self.sequence)
            self._position = held
        return held

    @classmethod
    def read(cls, database: Database) -> "Head":
        """Read it as `database` sees it."""
        rows = database.query(
            "SELECT incarnation, sequence, last_version, log_start, log_rows FROM meta"
        )
        row = cast("tuple[int, int, Version, int, int]", rows[0])
        return cls(
            incarnation=row[0],
            sequence=row[1],
            last_version=row[2],
            log_start=row[3],
            log_rows=row[4],
        )


class Numbers:
    """The numbers that stand for namespaces in the tables, shared with readers.

    One that is not committed yet finds no rows, and one that was rolled back is never given
    again: so readers may know a number before its transaction is durable, and must, lest they
    take what they find at the new position for missing.
    """

    def __init__(self, by_name: dict[str, int]) -> None:
        """Begin with what is stored."""
        self.by_name = by_name
        self._last = max(by_name.values(), default=0)

    def add(self, name: str) -> int:
        """Give a namespace its number."""
        self._last += 1
        self.by_name[name] = self._last
        return self._last


class Transaction:
    """What the jobs of one commit share."""

    def __init__(
        self,
        *,
        database: Database,
        records: Records,
        head: Head,
        numbers: Numbers,
        sequence_issued: int,
        pause: Pause,
    ) -> None:
        """Go on from where `database` has begun one.

        `head` is changed; `sequence_issued` is the largest place that was ever taken.
        """
        self.database = database
        self.records = records
        self.head = head
        self.pause = pause
        self.doomed: set[int] = set()
        self._numbers = numbers
        self._sequence_issued = sequence_issued
        self._created: list[str] = []
        self._usage: dict[int, tuple[int, int]] = {}
        self._log: list[Row] = []

    @property
    def sealing(self) -> Sealing:
        """What seals in this run."""
        return self.records.sealing

    def number(self, namespace: str) -> int | None:
        """Return a namespace's number, `None` if nothing was ever written there."""
        return self._numbers.by_name.get(namespace)

    def number_or_new(self, namespace: str) -> int:
        """Return a namespace's number."""
        number = self._numbers.by_name.get(namespace)
        if number is None:
            number = self._numbers.add(namespace)
            self._created.append(namespace)
            self.database.run(
                "INSERT INTO namespaces (number, name, keys, bytes) VALUES (?, ?, 0, 0)",
                (number, namespace),
            )
        return number

    def take_sequences(self, count: int) -> int:
        """Take the next `count` places in the log and return the one before the first.

        A place that was taken in a transaction that failed is left out for good: what was sealed
        for it may have reached the disk, and a nonce must not seal twice.
        """
        before = max(self.head.sequence, self._sequence_issued)
        self._sequence_issued = before + count
        return before

    @property
    def sequence_issued(self) -> int:
        """The largest place taken so far."""
        return self._sequence_issued

    def account(self, number: int, *, keys: int, size_bytes: int) -> None:
        """Add to what a namespace holds."""
        keys_so_far, bytes_so_far = self._usage.get(number, (0, 0))
        self._usage[number] = (keys_so_far + keys, bytes_so_far + size_bytes)

    def doom(self, blobs: list[tuple[int]]) -> None:
        """Leave large values to the sweeper."""
        self.database.run_many("INSERT INTO doomed (blob) VALUES (?)", blobs)
        self.doomed.update(blob for (blob,) in blobs)

    def log(self, rows: Iterable[Row]) -> None:
        """Add rows to the feed's log: sequence, namespace, key and version of each."""
        self._log += rows

    def flush_log(self) -> None:
        """Write the rows of the log; who reads the log in a transaction does this first."""
        self.database.insert(_LOG, self._log)
        self._log.clear()

    def flush(self) -> None:
        """Write what is written once for all jobs."""
        self.flush_log()
        for number, (keys, size_bytes) in self._usage.items():
            if keys or size_bytes:
                self.database.run(
                    "UPDATE namespaces SET keys = keys + ?, bytes = bytes + ? WHERE number = ?",
                    (keys, size_bytes, number),
                )
        head = self.head
        self.database.run(
            "UPDATE meta SET sequence = ?1, last_version = ?2, log_start = ?3, log_rows = ?4"
            " WHERE (sequence, last_version, log_start, log_rows) IS NOT (?1, ?2, ?3, ?4)",
            (head.sequence, head.last_version, head.log_start, head.log_rows),
        )

    def roll_back(self) -> None:
        """Undo everything."""
        for name in self._created:
            del self._numbers.by_name[name]
        self.database.roll_back()
