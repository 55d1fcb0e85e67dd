"""Our errors stand in the place of the database's, whichever way it is asked."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll.core.errors import StoreError, StoreNotFoundError
from atoll.store.sqlite.driver import INSERT_ROWS, Access, Database, Row


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a database with one table."""
    path = tmp_path / "test.db"
    path.touch()
    database = Database(path, Access())
    database.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    yield database
    database.close()


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Opening makes no file."""
    with pytest.raises(StoreNotFoundError):
        Database(tmp_path / "no.db", Access())

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_cannot_be_opened(tmp_path: Path) -> None:
    """The error says what and why."""
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(tmp_path, Access())


BROKEN: list[Callable[[Database], object]] = [
    lambda database: database.query("SELECT c FROM t"),
    lambda database: database.run("INSERT INTO u VALUES (1)"),
    lambda database: database.run_many("INSERT INTO u VALUES (?)", [(1,)]),
    lambda database: database.insert("INSERT INTO u", [(1,)]),
    lambda database: database.insert("INSERT INTO u", [(1,)] * INSERT_ROWS),
    lambda database: database.query_each("SELECT ?1 FROM u, carray(?2)", 1, [b"k"]),
    lambda database: database.run_each("INSERT INTO u SELECT ?1 FROM carray(?2)", [1], [b"k"]),
]


@pytest.mark.parametrize("ask", BROKEN)
def test_a_failing_statement_is_an_error_of_ours(
    database: Database, ask: Callable[[Database], object]
) -> None:
    """Callers never see the driver's own."""
    with pytest.raises(StoreError, match="no such"):
        ask(database)


def test_a_transaction_in_a_transaction_is_an_error_of_ours(database: Database) -> None:
    """It is not mistaken for another program's lock."""
    assert database.begin_at_once()
    with pytest.raises(StoreError, match="within a transaction"):
        database.begin_at_once()


def test_a_checkpoint_in_a_transaction_is_an_error_of_ours(database: Database) -> None:
    """And leaves the transaction as it is."""
    database.set("journal_mode", value="wal")
    database.begin()
    database.run("INSERT INTO t VALUES (1, 2)")
    with pytest.raises(StoreError):
        database.checkpoint()
    database.run("COMMIT")

    assert database.query("SELECT * FROM t") == [(1, 2)]


def test_a_copy_onto_a_database_in_use_is_an_error_of_ours(
    database: Database, tmp_path: Path
) -> None:
    """It does not wait for ever either."""
    path = tmp_path / "target.db"
    path.touch()
    target = Database(path, Access(busy_timeout_ms=1))
    holder = Database(path, Access())
    holder.run("CREATE TABLE u (a)")
    holder.begin()
    with pytest.raises(StoreError):
        database.copy_to(target, lambda _done, _total: None)
    holder.close()
    target.close()


@pytest.mark.parametrize("count", [0, 1, INSERT_ROWS - 1, INSERT_ROWS, 3 * INSERT_ROWS + 5])
def test_rows_are_inserted_in_any_number(database: Database, count: int) -> None:
    """Whether or not they fill the last statement."""
    rows: list[Row] = [(i, f"row {i}") for i in range(count)]
    database.insert("INSERT INTO t", rows)

    assert database.query("SELECT * FROM t ORDER BY a") == rows


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    """What fails in the middle leaves nothing."""

    def insert_twice() -> None:
        with database.transaction():
            database.run("INSERT INTO t VALUES (1, 1)")
            database.run("INSERT INTO t VALUES (1, 2)")

    with pytest.raises(StoreError):
        insert_twice()

    assert database.query("SELECT * FROM t") == []
