"""apsw, and SQLite behind it, with our errors in the place of theirs. Nothing else imports it."""

# apsw's own annotations name a type that Python 3.11 does not have, so that half of it is unknown.
# pyright: reportUnknownMemberType=false

import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, Self, cast

import apsw

from atoll.core.errors import CorruptDataError, DiskFullError, StoreError, StoreNotFoundError

Value = None | int | float | str | bytes
Row = tuple[Value, ...]

INSERT_ROWS: Final = 32
"""How many rows of a bulk one statement inserts."""

WAL_BYTES_KEPT: Final = 128 * 2**20
"""To so much a longer write-ahead log is cut when it begins anew. It is as much as the log may
grow to: a file that must be made longer makes each commit's sync a quarter dearer."""

BACKUP_PAGES: Final = 256
"""How many pages (1 MiB) one step of a backup copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a database file is opened and run. Tests break promises with it."""

    synchronous: str = "FULL"
    """SQLite's pragma: `FULL` syncs every commit, `NORMAL` does not."""
    vfs: str | None = None
    """The name of a file system that was registered with apsw; `None` is the machine's."""
    write_cache_bytes: int = 32 * 2**20
    """How much the writer may cache, and leave unwritten before a commit."""
    read_cache_bytes: int = 4 * 2**20
    """How much any other connection may cache. Each commit makes it forget, and the machine's own
    cache is behind it."""
    checkpoint_pages: int = 4_000
    """After how many pages in the write-ahead log a checkpoint begins beside the writer."""
    wal_pages_max: int = 32_768
    """From how many pages (128 MiB) on the writer waits for a checkpoint, so that the log, no
    longer written to, can start over. Only a reader that holds an old snapshot lets it grow."""
    busy_timeout_ms: int = 10_000
    """How long to wait for another process, such as a backup that is just beginning."""


class Database:
    """One connection. Threads may use it in turn, never at once.

    Every method raises `StoreError` when the database fails: `DiskFullError` if there is no
    room, `CorruptDataError` if what is stored makes no sense.
    """

    def __init__(self, path: Path, access: Access, *, writing: bool = False) -> None:
        """Open the file at `path`.

        Args:
            path: The file.
            access: How to open it.
            writing: Whether this is the connection that all writing goes through.

        Raises:
            StoreNotFoundError: There is no such file.
            StoreError: It cannot be opened.
        """
        if not path.exists():
            raise StoreNotFoundError(path=str(path.parent))
        self.io_failed = False
        """Whether reading or writing failed for another reason than room."""
        try:
            self._connection = apsw.Connection(
                str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=access.vfs
            )
        except apsw.Error as error:
            raise StoreError(f"{path} cannot be opened: {error}") from error
        try:
            self._busy_timeout_ms = access.busy_timeout_ms
            self._connection.set_busy_timeout(access.busy_timeout_ms)
            # Else some statements are planned anew for each value that is bound to them.
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            self._connection.wal_autocheckpoint(0)
            self.set("trusted_schema", value=0)
            self.set("synchronous", value=access.synchronous)
            self.set("fullfsync", value=1)  # On macOS fsync alone stops at the drive's cache.
            self.set("checkpoint_fullfsync", value=1)
            self.set("journal_size_limit", value=WAL_BYTES_KEPT)
            cache_bytes = access.write_cache_bytes if writing else access.read_cache_bytes
            self.set("cache_size", value=-(cache_bytes // 1024))
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run a statement and return all of its rows."""
        try:
            return cast("list[Row]", self._connection.execute(sql, values).fetchall())
        except apsw.Error as error:
            raise self._translated(error) from error

    def run(self, sql: str, values: Sequence[Value] = ()) -> None:
        """Run a statement that returns nothing, or several without values."""
        try:
            self._connection.execute(sql, values)
        except apsw.Error as error:
            raise self._translated(error) from error

    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement once for each row, if there are any."""
        if not rows:
            return
        if len(rows) == 1:
            self.run(sql, rows[0])
            return
        try:
            self._connection.executemany(sql, rows)
        except apsw.Error as error:
            raise self._translated(error) from error

    def query_each(self, sql: str, value: Value, each: Sequence[bytes]) -> list[Row]:
        """Run a statement whose second value is an array, for `carray`."""
        try:
            array = apsw.carray(tuple(each))
            return cast("list[Row]", self._connection.execute(sql, (value, array)).fetchall())
        except apsw.Error as error:
            raise self._translated(error) from error

    def insert(self, head: str, rows: Sequence[Row]) -> None:
        """Insert rows, many with each statement, which is a quarter cheaper than one by one.

        Args:
            head: The statement up to where `VALUES` stands.
            rows: The rows, all of one width; there may be none.
        """
        if not rows:
            return
        width = len(rows[0])
        if len(rows) == 1:
            self.run(_insertion(head, width, 1), rows[0])
            return
        whole = len(rows) - len(rows) % INSERT_ROWS
        try:
            if whole:
                sql = _insertion(head, width, INSERT_ROWS)
                for at in range(0, whole, INSERT_ROWS):
                    values = tuple(chain.from_iterable(rows[at : at + INSERT_ROWS]))
                    self._connection.execute(sql, values)
            if whole < len(rows):
                self._connection.executemany(_insertion(head, width, 1), rows[whole:])
        except apsw.Error as error:
            raise self._translated(error) from error

    def run_each(self, sql: str, values: Sequence[Value], each: Sequence[bytes]) -> None:
        """Run a statement whose last value is an array, for `carray`."""
        try:
            self._connection.execute(sql, (*values, apsw.carray(tuple(each))))
        except apsw.Error as error:
            raise self._translated(error) from error

    def get(self, pragma: str) -> Value:
        """Read a pragma."""
        return self.query(f"PRAGMA {pragma}")[0][0]

    def set(self, pragma: str, *, value: int | str) -> None:
        """Set a pragma."""
        self.query(f"PRAGMA {pragma} = {value}")

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Do everything inside or nothing; what is read inside is one snapshot."""
        self.run("BEGIN")
        try:
            yield
            self.run("COMMIT")
        finally:
            self.roll_back()

    def begin_at_once(self) -> bool:
        """Begin to write, or return false if another process is writing."""
        self._connection.set_busy_timeout(0)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            raise self._translated(error) from error
        finally:
            self._connection.set_busy_timeout(self._busy_timeout_ms)
        return True

    def begin(self) -> None:
        """Begin to write as soon as no other process is writing."""
        self.run("BEGIN IMMEDIATE")

    def roll_back(self) -> None:
        """End the transaction without effect, if there is one: SQLite may have ended it."""
        if self._connection.in_transaction:
            self.run("ROLLBACK")

    def on_commit(self, hear: Callable[[int], None]) -> None:
        """Have `hear` called at each commit, with the pages in the write-ahead log."""

        def hook(_: apsw.Connection, __: str, pages: int) -> int:
            hear(pages)
            return apsw.SQLITE_OK

        self._connection.set_wal_hook(hook)

    def checkpoint(self) -> None:
        """Move what can be moved from the write-ahead log, and wait for nobody."""
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            raise self._translated(error) from error

    def copy_to(self, target: Self, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database, as it is in the open transaction, in small steps.

        Args:
            target: Is overwritten.
            progress: Called after each step with pages done and pages in all.
        """
        try:
            with target._connection.backup("main", self._connection, "main") as backup:
                while not backup.done:
                    backup.step(BACKUP_PAGES)
                    progress(backup.page_count - backup.remaining, backup.page_count)
        except apsw.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Let go of the file. The last connection moves the write-ahead log into the database."""
        with suppress(apsw.Error):  # What cannot be moved stays in the log, for the next start.
            self._connection.close()

    def _translated(self, error: apsw.Error) -> StoreError:
        """Return the error of ours that says what SQLite's says."""
        if isinstance(error, apsw.FullError):
            return DiskFullError()
        if isinstance(error, apsw.IOError):
            if self._connection.system_errno in {errno.ENOSPC, errno.EDQUOT}:
                return DiskFullError()
            self.io_failed = True
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            return CorruptDataError(where=str(error))
        return StoreError(f"the database failed: {error}")


@cache
def _insertion(head: str, width: int, rows: int) -> str:
    """Write an insertion; there are few, and composing one costs as much as running it."""
    row = f"({', '.join('?' * width)})"
    return f"{head} VALUES {', '.join([row] * rows)}"
