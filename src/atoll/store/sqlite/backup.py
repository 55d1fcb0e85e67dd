"""Copies of a store: made while it is in use, and put back in an empty folder.

A backup is one file. It holds what is sealed as it is sealed, and never the key.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atoll.core.errors import CorruptDataError, StoreExistsError, StoreNotFoundError
from atoll.core.model import Position
from atoll.store.sealing import sync_folder
from atoll.store.sqlite import schema
from atoll.store.sqlite.driver import Access, Database
from atoll.store.sqlite.opening import KEY_NAME, create_file, lock_folder, stored_seals, unlock
from atoll.store.sqlite.transaction import Head

Progress = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is, in pages."""

CHECK_FAULTS_MAX: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    path: Path
    size_bytes: int
    position: Position
    """Everything up to here is in it."""


def back_up(folder: Path, target: Path, *, progress: Progress) -> Backup:
    """Copy the store in `folder`, which a server may be using, to the new file `target`.

    The copy is the store as it was at one moment. Until it is complete it has another name.

    Raises:
        StoreNotFoundError: There is no store in `folder`.
        StoreExistsError: `target` exists.
        SchemaTooNewError: A later release wrote the store.
        DiskFullError: There is no room for the copy.
    """
    if target.exists():
        raise StoreExistsError(path=str(target))
    source = Database(folder / schema.DATABASE_NAME, Access())
    try:
        with source.transaction():
            schema.check_schema(source, schema.UPGRADES)
            if not schema.schema_of(source):
                raise StoreNotFoundError(path=str(folder))
            head = Head.read(source)  # Begins the snapshot.
            copy(source, target, progress)
    finally:
        source.close()
    return Backup(path=target, size_bytes=target.stat().st_size, position=head.position)


def restore(
    backup: Path, folder: Path, *, progress: Progress, key_path: Path | None = None
) -> None:
    """Put a backup back as the store in `folder`, which must not have one.

    The store opens as a new incarnation: what it had promised after the backup is gone, and
    nobody shall take its positions for those of before. Versions go on where they were.

    Args:
        backup: A file that `back_up` made.
        folder: Where the store is to be; made if it is not there.
        progress: See `Progress`.
        key_path: Where the sealing key is; by default `sealing.key` in `folder`.

    Raises:
        StoreNotFoundError: There is no such backup.
        StoreExistsError: There is a store in `folder`; it was left as it is.
        StoreInUseError: Another process is making one there.
        SealingKeyMissingError: The key is not there. Nothing was changed.
        SealingKeyWrongError: The key there does not open the backup. Nothing was changed.
        SchemaTooNewError: A later release wrote it.
        CorruptDataError: It is no complete backup, or damaged.
        DiskFullError: There is no room for the copy.
    """
    if not backup.is_file():
        raise StoreNotFoundError(path=str(backup))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / schema.DATABASE_NAME
    with lock_folder(folder):
        if target.exists():
            raise StoreExistsError(path=str(folder))
        source = Database(backup, Access())
        try:
            if source.get("application_id") != schema.BACKUP_ID:
                raise CorruptDataError(where=f"{backup} is not a complete backup")
            schema.check_schema(source, schema.UPGRADES)
            unlock(key_path or folder / KEY_NAME, stored_seals(source))
            if source.get(f"quick_check({CHECK_FAULTS_MAX})") != "ok":
                raise CorruptDataError(where=f"the backup {backup} is damaged")
            with source.transaction():
                copy(source, target, progress)
        finally:
            source.close()


def copy(source: Database, target: Path, progress: Progress) -> None:
    """Copy a database, in the open transaction, to a new file that says it is a backup."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    create_file(partial)
    try:
        database = Database(partial, Access())
        try:
            source.copy_to(database, progress)
            # The copy says of itself that it has a write-ahead log, as the store has.
            database.set("journal_mode", value="delete")
            database.set("application_id", value=schema.BACKUP_ID)
        finally:
            database.close()
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.rename(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
