"""`SqliteStore`: central's store in one SQLite database, for one process."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from atoll.clock import Clock
from atoll.core.model import Batch, ListQuery, Page, Position, Written
from atoll.core.version import Version, Versions
from atoll.store import sealing
from atoll.store.protocol import Admit, Changes, Found, SweepOrder, Swept, Usage
from atoll.store.sealing import RandomBytes, Seal
from atoll.store.sqlite import applying, resealing, schema, sweeping
from atoll.store.sqlite.driver import Access, Database
from atoll.store.sqlite.opening import KEY_NAME, Opened, next_seal_id, open_store, store_seal
from atoll.store.sqlite.reader import Reader
from atoll.store.sqlite.records import READERS_MAX, Pool, Records
from atoll.store.sqlite.resealing import Resealed
from atoll.store.sqlite.schema import Upgrade
from atoll.store.sqlite.transaction import Numbers, Transaction, pauses
from atoll.store.sqlite.writer import Checkpoints, Writer


class SqliteStore:
    """See `Store`. One process has it open, and uses it on one event loop."""

    def __init__(
        self,
        opened: Opened,
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
        self._checkpoints = Checkpoints(opened.checkpointing, self._executor, access)
        self._reader = Reader(
            opened.reading, self._records, numbers=numbers.by_name, pause=pauses(clock)
        )
        self._writer = Writer(
            database=opened.writing,
            checkpoints=self._checkpoints,
            records=self._records,
            head=opened.head,
            numbers=numbers,
            executor=self._executor,
            clock=clock,
        )
        self._rotating = asyncio.Lock()
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
            access: How the database is opened and run.
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
        opened = await asyncio.to_thread(
            open_store,
            folder,
            key,
            random_bytes=random_bytes,
            now_us=clock.now_us(),
            access=access,
            upgrades=upgrades,
        )
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

    async def rotate(self) -> None:
        """Put a new sealing key in the place of the old, which is set aside beside it.

        What is written from now on is sealed by the new one. Call `reseal` until it is complete;
        afterwards the old key is needed only for backups made before.
        """
        async with self._rotating:
            master = await asyncio.to_thread(
                sealing.replace_key, self._key_path, self._random_bytes
            )

            async def add(transaction: Transaction) -> Seal:
                seal_id = next_seal_id(transaction.database)
                seal = transaction.sealing.begin(seal_id, self._random_bytes, master=master)
                store_seal(transaction.database, seal)
                return seal

            # A batch that is being written meanwhile goes on under the old seal. `reseal` is queued
            # behind it, and finds it.
            seal = await self._writer.submit(add)
            self._records.sealing.use(seal, master=master)

    async def reseal(self, *, limit: int = 256) -> Resealed:
        """Do one bounded round of sealing anew what earlier keys sealed, if there is any.

        Args:
            limit: How many entries to look at.
        """
        outdated = self._records.sealing.outdated
        if not outdated:
            return Resealed(done=0, total=0, complete=True)
        resealed = await self._writer.submit(
            lambda transaction: resealing.reseal(transaction, limit), weight=limit
        )
        if resealed.complete:
            self._records.sealing.set_aside(outdated)
        return resealed

    async def close(self) -> None:
        """See `Store`."""
        if self._closed:
            return
        self._closed = True
        await self._pool.close()
        await self._writer.close()
        self._reader.close()
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        self._checkpoints.close()
        self._executor.shutdown()
        self._lock.close()
