"""The floor of a bulk put: the rows that the server has just written, written once more.

The floor's database begins as a copy of the server's and is given, after each bulk put, exactly
the rows that the server's has and it has not: same tables, same sealed bytes, same history.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from atoll.store.sqlite.schema import SqliteOptions, connect

REPLACED_ROWS_MAX: Final = 100
"""Tables with more new rows get plain inserts; a few rows are counters, and replace the old."""

_TABLES: Final = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name
"""

Row = tuple[apsw.SQLiteValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What one table of the floor lacks."""

    statement: str
    rows: Sequence[Row]


class Floor:
    """A database that follows the server's."""

    def __init__(self, source: Path, path: Path) -> None:
        """Copy the database at `source`, which a server may be using, to `path`."""
        self._source = source
        original = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        copy = apsw.Connection(str(path))
        with copy.backup("main", original, "main") as backup:
            backup.step()
        copy.pragma("journal_mode", "wal")
        copy.close()
        original.close()
        self._connection = connect(path, SqliteOptions())

    def follow(self) -> float:
        """Write what the server has written since, and return how long that took in seconds."""
        missing = self._missing()
        begun = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        for table in missing:
            self._connection.executemany(table.statement, table.rows)
        self._connection.execute("COMMIT")
        took = time.perf_counter() - begun
        # As in the store, checkpoints are nobody's wait.
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return took

    def _missing(self) -> list[Missing]:
        connection = self._connection
        found: list[Missing] = []
        connection.execute("ATTACH ? AS server", (str(self._source),))
        for (name,) in connection.execute(_TABLES).fetchall():
            query = f"SELECT * FROM server.{name} EXCEPT SELECT * FROM main.{name}"  # noqa: S608  # our names
            rows = connection.execute(query).fetchall()
            if rows:
                verb = "INSERT" if len(rows) > REPLACED_ROWS_MAX else "REPLACE"
                places = ", ".join("?" * len(rows[0]))
                found.append(
                    Missing(statement=f"{verb} INTO main.{name} VALUES ({places})", rows=rows)
                )
        connection.execute("DETACH server")
        return found

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()
