"""The floor of a bulk put: the rows that the server has just written, written once more.

The floor's database begins as a copy of the server's and is given, after each bulk put, exactly
the rows that the server's has and it has not: same tables, same sealed bytes, same history. It
is used through the store's own connection, so that the settings are the same too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atoll.store.sqlite.driver import Access, Database, Row

REPLACED_ROWS_MAX: Final = 100
"""Tables with more new rows get plain inserts; a few rows are counters, and replace the old."""

_TABLES: Final = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name
"""


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
        path.touch()
        self._database = Database(path, Access(), writing=True)
        original = Database(source, Access())
        with original.transaction():
            original.copy_to(self._database, lambda _done, _pages: None)
        original.close()
        self._database.set("journal_mode", value="wal")

    def follow(self) -> float:
        """Write what the server has written since, and return how long that took in seconds."""
        missing = self._missing()
        begun = time.perf_counter()
        self._database.run("BEGIN IMMEDIATE")
        for table in missing:
            self._database.run_many(table.statement, table.rows)
        self._database.run("COMMIT")
        took = time.perf_counter() - begun
        # As in the store, checkpoints are nobody's wait.
        self._database.checkpoint()
        return took

    def _missing(self) -> list[Missing]:
        found: list[Missing] = []
        self._database.run("ATTACH ? AS server", (str(self._source),))
        for name in (str(row[0]) for row in self._database.query(_TABLES)):
            rows = self._database.query(
                f"SELECT * FROM server.{name} EXCEPT SELECT * FROM main.{name}"  # noqa: S608  # our names
            )
            if rows:
                verb = "INSERT" if len(rows) > REPLACED_ROWS_MAX else "REPLACE"
                places = ", ".join("?" * len(rows[0]))
                found.append(
                    Missing(statement=f"{verb} INTO main.{name} VALUES ({places})", rows=rows)
                )
        self._database.run("DETACH server")
        return found

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
