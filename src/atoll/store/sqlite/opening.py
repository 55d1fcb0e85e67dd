"""Opening a store: what must be in order before anything is changed, and what begins anew."""

import fcntl
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from atoll.core.errors import SealingKeyWrongError, StoreInUseError
from atoll.store import sealing
from atoll.store.sealing import RandomBytes, Seal, Sealing
from atoll.store.sqlite import schema
from atoll.store.sqlite.driver import Access, Database
from atoll.store.sqlite.schema import Upgrade
from atoll.store.sqlite.transaction import Head

LOCK_NAME: Final = "lock"
KEY_NAME: Final = "sealing.key"
INCARNATION_RANDOM_BITS: Final = 11
"""Beside the time, in 63 bits: two stores that begin in one microsecond are two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A store's files, open and in order."""

    lock: IO[str]
    writing: Database
    reading: Database
    checkpointing: Database
    sealing: Sealing
    key_path: Path
    head: Head
    numbers: dict[str, int]


def open_store(
    folder: Path,
    key_path: Path,
    *,
    random_bytes: RandomBytes,
    now_us: int,
    access: Access,
    upgrades: Sequence[Upgrade],
) -> Opened:
    """Open what is there, or make it; change nothing before all is known to be in order."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = undo.enter_context(lock_folder(folder))
        path = folder / schema.DATABASE_NAME
        if not path.exists():
            _ensure_key(key_path, random_bytes)
            create_file(path)
        database = undo.enter_context(closing(Database(path, access, writing=True)))
        schema.check_schema(database, upgrades)
        seals = stored_seals(database)
        if not seals:  # It was being made when somebody pulled the plug.
            _ensure_key(key_path, random_bytes)
        sealing_ = unlock(key_path, seals)
        database.set("journal_mode", value="wal")
        schema.upgrade(database, upgrades)
        _settle(database, path, sealing_, random_bytes, now_us)
        head = Head.read(database)
        rows = database.query("SELECT name, number FROM namespaces")
        reading = undo.enter_context(closing(Database(path, access)))
        checkpointing = undo.enter_context(closing(Database(path, access)))
        undo.pop_all()
    return Opened(
        lock=lock,
        writing=database,
        reading=reading,
        checkpointing=checkpointing,
        head=head,
        sealing=sealing_,
        key_path=key_path,
        numbers=dict(cast("list[tuple[str, int]]", rows)),
    )


def lock_folder(folder: Path) -> IO[str]:
    """Keep other processes out of a data folder until the file returned is closed.

    Raises:
        StoreInUseError: Another process holds the lock.
    """
    lock = (folder / LOCK_NAME).open("a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise StoreInUseError(path=str(folder), holder=holder) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()}\n")
    lock.flush()
    return lock


def stored_seals(database: Database) -> list[Seal]:
    """Read the seals of a store, none if there is nothing in it yet."""
    if not schema.schema_of(database):
        return []
    rows = database.query("SELECT id, salt, check_value FROM seals ORDER BY id")
    return [
        Seal(id=seal_id, salt=salt, check=check)
        for seal_id, salt, check in cast("list[tuple[int, bytes, bytes]]", rows)
    ]


def create_file(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite gives its other files its mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    sealing.sync_folder(path.parent)


def _ensure_key(key_path: Path, random_bytes: RandomBytes) -> None:
    """See that a new store has a sealing key, its own or one that was put there for it."""
    if not key_path.exists():
        key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealing.create_key(key_path, random_bytes)


def unlock(key_path: Path, seals: Sequence[Seal]) -> Sealing:
    """Read the sealing keys and see that they open the store.

    Raises:
        SealingKeyMissingError: There is no key.
        SealingKeyWrongError: A seal was made by none of the keys.
    """
    sealing_ = Sealing(current=sealing.read_key(key_path), retired=sealing.retired_keys(key_path))
    if not all(sealing_.admit(seal) for seal in seals):
        raise SealingKeyWrongError(path=str(key_path))
    return sealing_


def _settle(
    database: Database, path: Path, sealing_: Sealing, random_bytes: RandomBytes, now_us: int
) -> None:
    """Begin a new incarnation if this is a new file, and a new seal in any case."""
    inode = schema.inode_of(path)
    with database.transaction():
        rows = database.query("SELECT inode, incarnation FROM meta")
        restored = database.get("application_id") == schema.BACKUP_ID
        if not rows:
            database.run(
                "INSERT INTO meta (id, incarnation, inode, sequence, last_version, log_start,"
                " log_rows) VALUES (1, ?, ?, 0, 0, 0, 0)",
                (_new_incarnation(0, random_bytes, now_us), inode),
            )
        elif restored or rows[0][0] != inode:
            earlier = cast("int", rows[0][1])
            database.run(
                "UPDATE meta SET incarnation = ?, inode = ?",
                (_new_incarnation(earlier, random_bytes, now_us), inode),
            )
            database.set("application_id", value=schema.APPLICATION_ID)
        seal = sealing_.begin(next_seal_id(database), random_bytes)
        store_seal(database, seal)
    sealing_.use(seal)


def next_seal_id(database: Database) -> int:
    """Return an id that no seal has or had: those of this run are never removed before it ends."""
    return cast("int", database.query("SELECT ifnull(max(id), 0) + 1 FROM seals")[0][0])


def store_seal(database: Database, seal: Seal) -> None:
    """Store a seal, so that what it seals can be opened later."""
    database.run(
        "INSERT INTO seals (id, salt, check_value) VALUES (?, ?, ?)",
        (seal.id, seal.salt, seal.check),
    )


def _new_incarnation(earlier: int, random_bytes: RandomBytes, now_us: int) -> int:
    """Return a number that no other store has, and larger than any earlier one of this.

    Nodes tell by it which of two incarnations is over. The time makes it so also where an older
    backup is restored than the one before.
    """
    drawn = int.from_bytes(random_bytes(2), "big") >> (16 - INCARNATION_RANDOM_BITS)
    return max(earlier + 1, now_us << INCARNATION_RANDOM_BITS | drawn)
