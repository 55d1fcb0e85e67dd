"""`SqliteStore`: central's store in one SQLite database, for one process."""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self, cast

from atoll.clock import Clock
from atoll.core.errors import SealingKeyWrongError, StoreInUseError
from atoll.core.model import Batch, ListQuery, Page, Position, Written
from atoll.core.version import Version, Versions
from atoll.store import sealing
from atoll.store.protocol import Admit, Changes, Found, SweepOrder, Swept, Usage
from atoll.store.sealing import RandomBytes, Seal, Sealing
from atoll.store.sqlite import applying, schema, sweeping
from atoll.store.sqlite.driver import Access, Database
from atoll.store.sqlite.reader import Reader
from atoll.store.sqlite.records import READERS_MAX, Pool, Records
from atoll.store.sqlite.schema import Upgrade
from atoll.store.sqlite.transaction import Head, Numbers, pauses
from atoll.store.sqlite.writer import Checkpoints, Writer

LOCK_NAME: Final = "lock"
KEY_NAME: Final = "sealing.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A store's files, open and in order."""

    lock: IO[str]
    database: Database
    sealing: Sealing
    key_path: Path
    numbers: dict[str, int]


class SqliteStore:
    """See `Store`. One process has it open, and uses it on one event loop."""

    def __init__(
        self,
        opened: _Opened,
        *,
        path: Path,
        clock: Clock,
        random_bytes: RandomBytes,
        access: Access,
    ) -> None:
        """Take over what `open` has opened."""
        self._lock = opened.lock
        self._key_path = opened.key_path
        self._random_bytes = random_bytes
        # Every reading thread, the one that commits and the one that checkpoints.
        self._executor = ThreadPoolExecutor(READERS_MAX + 2, thread_name_prefix="store")
        self._pool = Pool(lambda: Database(path, access), self._executor)
        self._records = Records(opened.sealing, self._pool)
        numbers = Numbers(opened.numbers)
        self._checkpoints = Checkpoints(Database(path, access), self._executor)
        self._reader = Reader(
            Database(path, access), self._records, numbers=numbers.by_name, pause=pauses(clock)
        )
        self._writer = Writer(
            database=opened.database,
            checkpoints=self._checkpoints,
            records=self._records,
            head=Head.read(opened.database),
            numbers=numbers,
            executor=self._executor,
            clock=clock,
        )
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        key_path: Path | None = None,
        access: Access | None = None,
        upgrades: Sequence[Upgrade] = schema.UPGRADES,
    ) -> Self:
        """Open the store in `folder`, or make one if there is none.

        Args:
            folder: Where the database and the lock are.
            clock: Paces work on the event loop.
            random_bytes: Returns as many unpredictable bytes as asked for.
            key_path: The file of the sealing key; by default `sealing.key` in `folder`. It is
                made together with the store.
            access: How the database is opened; tests break promises with it.
            upgrades: The steps to the present schema; tests add some.

        Raises:
            StoreInUseError: Another process has it open.
            SealingKeyMissingError: The store is sealed and there is no key; nothing was changed.
            SealingKeyWrongError: The key is not this store's; nothing was changed.
            SchemaTooNewError: A later release wrote it; nothing was changed.
            CorruptDataError: It cannot be read.
            StoreError: It cannot be opened.
        """
        key = key_path or folder / KEY_NAME
        access = access or Access()
        opened = await asyncio.to_thread(_open, folder, key, random_bytes, access, upgrades)
        return cls(
            opened,
            path=folder / schema.DATABASE_NAME,
            clock=clock,
            random_bytes=random_bytes,
            access=access,
        )

    @property
    def position(self) -> Position:
        """See `Store`."""
        return self._writer.head.position

    @property
    def last_version(self) -> Version:
        """See `Store`."""
        return self._writer.head.last_version

    async def get(self, namespace: str, keys: Sequence[str]) -> Found:
        """See `Store`."""
        return self._reader.get(namespace, keys)

    async def apply(
        self, batch: Batch, versions: Versions, *, now_us: int, admit: Admit | None = None
    ) -> Written:
        """See `Store`.

        Raises:
            ConditionFailedError: As there, like the others.
        """
        return await self._writer.submit(
            lambda transaction: applying.apply(transaction, batch, versions, now_us, admit),
            weight=len(batch.mutations),
        )

    async def scan(self, query: ListQuery, *, now_us: int) -> Page:
        """See `Store`."""
        return await self._reader.scan(query, now_us=now_us)

    async def changes(self, after: Position, *, limit: int) -> Changes:
        """See `Store`.

        Raises:
            PositionTooOldError: As there.
        """
        return self._reader.changes(after, limit=limit)

    async def usage(self, namespace: str, *, now_us: int) -> Usage:
        """See `Store`."""
        return await self._reader.usage(namespace, now_us=now_us)

    async def sweep(self, order: SweepOrder) -> Swept:
        """See `Store`."""
        return await self._writer.submit(
            lambda transaction: sweeping.sweep(transaction, order), weight=order.limit
        )

    async def close(self) -> None:
        """See `Store`."""
        if self._closed:
            return
        self._closed = True
        await self._pool.close()
        await self._writer.close()
        self._reader.close()
        # The last connection moves what is left in the write-ahead log into the database.
        await asyncio.to_thread(self._checkpoints.close)
        self._executor.shutdown()
        self._lock.close()


def _open(
    folder: Path,
    key_path: Path,
    random_bytes: RandomBytes,
    access: Access,
    upgrades: Sequence[Upgrade],
) -> _Opened:
    """Open what is there, or make it; change nothing before all is known to be in order."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = undo.enter_context(lock_folder(folder))
        path = folder / schema.DATABASE_NAME
        # SQLite gives its other files the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        database = undo.enter_context(closing(Database(path, access)))
        schema.check_schema(database, upgrades)
        seals = stored_seals(database)
        sealing_ = unlock(key_path, seals, random_bytes)
        database.set("journal_mode", value="wal")
        schema.upgrade(database, upgrades)
        _settle(database, path, sealing_, random_bytes)
        rows = database.query("SELECT name, number FROM namespaces")
        undo.pop_all()
    return _Opened(
        lock=lock,
        database=database,
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


def unlock(key_path: Path, seals: Sequence[Seal], random_bytes: RandomBytes) -> Sealing:
    """Read the sealing keys and see that they open the store; make the first one.

    Raises:
        SealingKeyMissingError: There are seals but no key.
        SealingKeyWrongError: A seal was made by none of the keys.
    """
    if not seals and not key_path.exists():
        key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealing.create_key(key_path, random_bytes)
    sealing_ = Sealing(current=sealing.read_key(key_path), retired=sealing.retired_keys(key_path))
    if not all(sealing_.admit(seal) for seal in seals):
        raise SealingKeyWrongError(path=str(key_path))
    return sealing_


def _settle(database: Database, path: Path, sealing_: Sealing, random_bytes: RandomBytes) -> None:
    """Begin a new incarnation if this is a new file, and a new seal in any case."""
    inode = schema.inode_of(path)
    with database.transaction():
        rows = database.query("SELECT inode FROM meta")
        restored = database.get("application_id") == schema.BACKUP_ID
        if not rows:
            database.run(
                "INSERT INTO meta (id, incarnation, inode, sequence, last_version, log_start,"
                " log_rows) VALUES (1, ?, ?, 0, 0, 0, 0)",
                (_new_incarnation(random_bytes), inode),
            )
        elif restored or rows[0][0] != inode:
            database.run(
                "UPDATE meta SET incarnation = ?, inode = ?",
                (_new_incarnation(random_bytes), inode),
            )
            database.set("application_id", value=schema.APPLICATION_ID)
        add_seal(database, sealing_, random_bytes)


def add_seal(database: Database, sealing_: Sealing, random_bytes: RandomBytes) -> None:
    """Store a new seal and use it from now on."""
    row = database.query("SELECT ifnull(max(id), 0) + 1 FROM seals")[0]
    seal = sealing_.begin(cast("int", row[0]), random_bytes)
    database.run(
        "INSERT INTO seals (id, salt, check_value) VALUES (?, ?, ?)",
        (seal.id, seal.salt, seal.check),
    )
    sealing_.use(seal)


def _new_incarnation(random_bytes: RandomBytes) -> int:
    """Draw a number that no other store has; 63 bits, which is what SQLite's integers hold."""
    return int.from_bytes(random_bytes(8), "big") >> 1
