"""The database: its tables, and how an older schema becomes this one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from atoll.core.errors import CorruptDataError, SchemaTooNewError
from atoll.store.sqlite.driver import Database

DATABASE_NAME: Final = "atoll.db"

APPLICATION_ID: Final = 0x41746F6C
"""Marks the file as ours ("Atol")."""
BACKUP_ID: Final = 0x41746F42
"""Marks a complete backup ("AtoB"): what opens it as a store begins a new incarnation."""

# Entries hold only what lives, or has expired and was not swept yet; what was deleted is in
# `tombstones`, so that a listing never walks over it. Columns that listings need stand before
# the value. `size` is the value's, `held` what key, value and metadata count for together. A
# `value` that is NULL is in `chunks`, under the sequence of the write and a chunk's number; an
# empty `metadata` is sealed together with the value.
_TABLES: Final = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    incarnation INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    last_version INTEGER NOT NULL,
    log_start INTEGER NOT NULL,
    log_rows INTEGER NOT NULL
) STRICT;
CREATE TABLE namespaces (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    namespace INTEGER NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    expiration INTEGER,
    size INTEGER NOT NULL,
    held INTEGER NOT NULL,
    seal INTEGER NOT NULL,
    metadata BLOB,
    value BLOB,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_expiration ON entries (expiration, namespace, held)
    WHERE expiration IS NOT NULL;
CREATE TABLE tombstones (
    namespace INTEGER NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_by_version ON tombstones (version);
CREATE TABLE chunks (id INTEGER PRIMARY KEY, seal INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE TABLE doomed (blob INTEGER PRIMARY KEY) STRICT;
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE TABLE origins (origin TEXT PRIMARY KEY, lowest BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outcomes (
    origin TEXT NOT NULL,
    name BLOB NOT NULL,
    kept_since_us INTEGER,
    fingerprint BLOB NOT NULL,
    failed_key BLOB,
    failed_version INTEGER,
    outcomes BLOB NOT NULL,
    PRIMARY KEY (origin, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_by_age ON outcomes (kept_since_us) WHERE kept_since_us IS NOT NULL;
CREATE TABLE seals (id INTEGER PRIMARY KEY, salt BLOB NOT NULL, check_value BLOB NOT NULL) STRICT;
CREATE TABLE resealing (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    target BLOB NOT NULL,
    namespace INTEGER NOT NULL,
    key BLOB NOT NULL,
    done INTEGER NOT NULL
) STRICT;
"""

Upgrade = Callable[[Database], None]


def _create_tables(database: Database) -> None:
    database.run(_TABLES)
    database.set("application_id", value=APPLICATION_ID)


UPGRADES: Final[Sequence[Upgrade]] = (_create_tables,)
"""Step n turns schema n into schema n + 1, in one transaction. Released steps never change."""


def schema_of(database: Database) -> int:
    """Return the schema's number, 0 for an empty database."""
    number = database.get("user_version")
    assert isinstance(number, int)
    return number


def check_schema(database: Database, upgrades: Sequence[Upgrade]) -> None:
    """Refuse what this release cannot read.

    Raises:
        SchemaTooNewError: A later release wrote it.
        CorruptDataError: It is a database, but none of ours.
    """
    schema = schema_of(database)
    if schema and database.get("application_id") not in {APPLICATION_ID, BACKUP_ID}:
        raise CorruptDataError(where="the database was not made by Atoll")
    if schema > len(upgrades):
        raise SchemaTooNewError(schema=schema, schema_max=len(upgrades))


def upgrade(database: Database, upgrades: Sequence[Upgrade]) -> None:
    """Bring the schema up to date, one step and one transaction at a time."""
    for number in range(schema_of(database), len(upgrades)):
        with database.transaction():
            upgrades[number](database)
            database.set("user_version", value=number + 1)


def inode_of(path: Path) -> int:
    """Return what tells a file from its copies."""
    # Unsigned 64 bits on some file systems, while SQLite's integers are signed.
    return path.stat().st_ino & (2**63 - 1)
