"""The one writer: what has queued is committed together, and answered after it is on disk.

The statements run on the event loop's thread in short slices: SQLite lets go of the
interpreter's lock around every step, and a thread beside a busy loop would wait for it each time.
The commit, which waits for the disk, and checkpoints run in threads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final, Generic, TypeVar

import structlog

from atoll.clock import Clock
from atoll.core.errors import AtollError, StoppingError, StoreError
from atoll.store.sqlite.driver import Access, Database
from atoll.store.sqlite.records import Records
from atoll.store.sqlite.transaction import Head, Numbers, Transaction, pauses

T = TypeVar("T")

QUEUE_JOBS_MAX: Final = 1024
"""How many batches may wait; who comes later waits to be queued. Bounds only their number: the
bytes are held by the requests that brought them."""
GROUP_WEIGHT_MAX: Final = 16_384
"""How many mutations share a commit, at most, unless one batch alone has more."""
GATHER_QUIET_TURNS: Final = 2
"""A group is complete when nobody has joined for so many turns of the loop: a request needs one
to be read and one to be understood."""
GATHER_TURNS_MAX: Final = 20
"""But no later than this."""

_log = structlog.get_logger(__name__)

Run = Callable[[Transaction], Awaitable[T | AtollError]]


class _Job(Generic[T]):
    """Something to do in a transaction, and whom to tell. Every write makes one."""

    __slots__ = ("_result", "_run", "done", "weight")

    def __init__(self, run: Run[T], done: asyncio.Future[T], weight: int) -> None:
        self._run = run
        self._result: T | AtollError
        self.done = done
        self.weight = weight

    async def attempt(self, transaction: Transaction) -> None:
        """Do it. Nobody hears of the result before that is durable."""
        self._result = await self._run(transaction)

    def tell(self) -> None:
        """Tell the result."""
        if self.done.done():
            return  # Whoever asked has gone.
        if isinstance(self._result, AtollError):
            self.done.set_exception(self._result)
        else:
            self.done.set_result(self._result)

    def fail(self, error: Exception) -> None:
        """Tell that it was not done."""
        if not self.done.done():
            self.done.set_exception(error)


class Writer:
    """Runs jobs in the order of their coming, as many as have queued in one commit."""

    def __init__(
        self,
        *,
        database: Database,
        checkpoints: "Checkpoints",
        records: Records,
        head: Head,
        numbers: Numbers,
        executor: Executor,
        clock: Clock,
    ) -> None:
        """Write on `database`, commit on `executor`."""
        self.head = head
        self._database = database
        self._checkpoints = checkpoints
        self._records = records
        self._numbers = numbers
        self._sequence_issued: int = head.sequence
        self._executor = executor
        self._clock = clock
        self._pause = pauses(clock)
        self._queue: asyncio.Queue[_Job[Any] | None] = asyncio.Queue(QUEUE_JOBS_MAX)
        self._broken: StoreError | None = None
        self._closing = False
        database.on_commit(checkpoints.note_pages)
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="store writer")

    async def submit(self, run: Run[T], *, weight: int = 1) -> T:
        """Do something in a transaction and return its result once that is durable.

        Args:
            run: Does it. An `AtollError` that it returns, instead of raising it, is raised here,
                and what else it did stays done.
            weight: How many mutations it counts for.

        Raises:
            StoppingError: The store was closed.
            DiskFullError: There is no room; nothing was done.
            StoreError: The database failed; nothing was done.
        """
        if self._closing:
            raise StoppingError
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(run, done, weight)
        if self._queue.full():
            await self._queue.put(job)
        else:
            self._queue.put_nowait(job)
        return await done

    async def close(self) -> None:
        """Do what has queued, and let go of the connection."""
        self._closing = True
        await self._queue.put(None)
        await self._task
        await self._checkpoints.idle()
        self._database.close()

    async def _serve(self) -> None:
        running = True
        while running:
            queued = [await self._queue.get()]
            await self._let_gather()
            weight = 0 if queued[0] is None else queued[0].weight
            while weight < GROUP_WEIGHT_MAX and not self._queue.empty():
                job = self._queue.get_nowait()
                queued.append(job)
                weight += 0 if job is None else job.weight
            group = [job for job in queued if job is not None]
            running = len(group) == len(queued)
            if group:
                await self._commit(group)
                await self._checkpoints.after_commit()

    async def _let_gather(self) -> None:
        """Let requests that have arrived but wait for the loop join the group.

        A commit costs as much for one as for fifty. Under load, requests that came during the
        last commit are still in their sockets; without this they would trickle in by threes.
        An idle loop loses a few turns, some microseconds.
        """
        quiet_turns = 0
        for _ in range(GATHER_TURNS_MAX):
            waiting = self._queue.qsize()
            await self._clock.sleep(0)
            quiet_turns = 0 if self._queue.qsize() > waiting else quiet_turns + 1
            if quiet_turns == GATHER_QUIET_TURNS:
                return

    async def _commit(self, group: list[_Job[Any]]) -> None:
        """Commit a group; if that fails, each of its jobs by itself, so that only the guilty do."""
        try:
            await self._attempt(group)
        except Exception as error:  # noqa: BLE001 - whatever a job raises is for who asked for it
            if self._database.io_failed and self._broken is None:
                # After a sync that failed, pages that were not written may pass for written.
                self._broken = StoreError(f"writing has stopped until a restart: {error}")
                _log.error("store_stopped_writing", error=str(error))
            if len(group) == 1:
                group[0].fail(error)
                return
            for job in group:
                await self._commit([job])
            return
        for job in group:
            job.tell()

    async def _attempt(self, group: list[_Job[Any]]) -> None:
        if self._broken is not None:
            raise self._broken
        loop = asyncio.get_running_loop()
        # Nobody else writes here, unless somebody looks at the file with another program.
        if not self._database.begin_at_once():
            await loop.run_in_executor(self._executor, self._database.begin)
        transaction = Transaction(
            database=self._database,
            records=self._records,
            head=replace(self.head),
            numbers=self._numbers,
            sequence_issued=self._sequence_issued,
            pause=self._pause,
        )
        try:
            for job in group:
                await job.attempt(transaction)
            transaction.flush()
            await loop.run_in_executor(self._executor, self._database.run, "COMMIT")
            self.head = transaction.head
        finally:
            self._sequence_issued = transaction.sequence_issued
            if self.head is not transaction.head:
                transaction.roll_back()


class Checkpoints:
    """Moves what is committed from the write-ahead log into the database, beside the writer."""

    def __init__(self, database: Database, executor: Executor, access: Access) -> None:
        """Checkpoint on `database`, in `executor`, as often as `access` says."""
        self._database = database
        self._access = access
        self._executor = executor
        self._pages = 0
        self._pages_begun = 0
        self._running: asyncio.Future[None] | None = None

    def note_pages(self, pages: int) -> None:
        """Hear, at each commit, how long the log is."""
        self._pages = pages

    async def after_commit(self) -> None:
        """Begin a checkpoint if it is time, and wait for it if the log is too long."""
        if self._pages < self._pages_begun:  # The log has started over.
            self._pages_begun = 0
        if self._pages - self._pages_begun < self._access.checkpoint_pages:
            return
        too_long = self._pages > self._access.wal_pages_max
        if self._running is not None and not self._running.done() and not too_long:
            return
        await self.idle()
        self._pages_begun = self._pages
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._checkpoint)
        if too_long:
            await self.idle()

    async def idle(self) -> None:
        """Wait for the checkpoint that is under way."""
        if self._running is not None:
            await self._running

    def _checkpoint(self) -> None:
        try:
            self._database.checkpoint()
        except StoreError as error:
            # The log keeps what could not be moved, and the next checkpoint tries again.
            _log.warning("checkpoint_failed", error=error.code)

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()
