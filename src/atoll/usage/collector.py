"""What a node counted, collected into numbered batches and delivered to central, each once.

The state says which batch is being delivered and what was taken of each file of counts, and is
replaced as a whole, so a process that ends between any two steps goes on with the same batch
under the same number, and central knows a number that it has had. It is synced before a batch is
sent: a power cut can take back counts, at most those since the last batch, but never a batch.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from atoll.clock import Clock
from atoll.core.errors import AtollError, IdempotencyKeyReusedError, OutcomeForgottenError
from atoll.core.model import USAGE_NAMESPACE, Batch, Identity, Mutation, Written
from atoll.usage.meter import READY, rows_in

BATCH_PREFIX: Final = "batch/"
BATCH_ROWS_MAX: Final = 128
BATCHES_PER_ROUND: Final = 64
NUMBER_BYTES: Final = 8
LABEL_BYTES: Final = 8
FINGERPRINT_BYTES: Final = 16

USAGE_NAME: Final = "usage"
"""In a node's folder, the folder of a collector."""
COUNTS_NAME: Final = "counts"
"""In that, the folder in which `Meter`s count."""
STATE_NAME: Final = "state"

_log = structlog.get_logger(__name__)

Write = Callable[[Batch], Awaitable[Written]]


class CountedRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of counts as it is delivered: what was counted since the batch before."""

    hour: int
    face: str
    account: str
    namespace: str
    counts: dict[int, int]


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A batch of counts."""

    node: str
    rows: list[CountedRow]


class _State(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    """Tells this state from another one of a node of the same name."""
    number: int = 0
    """Of the last batch that was made."""
    pending: bytes | None = None
    """That batch, as long as central has not acknowledged it."""
    taken: dict[str, dict[int, dict[int, int]]] = {}
    """By file and row, what was counted in it when the last batch was made."""


class Collector:
    """Makes the batches of one node. One process has it."""

    def __init__(self, folder: Path, *, node: str, random_bytes: Callable[[int], bytes]) -> None:
        """Go on with what is in `folder`, where `Meter`s count in `counts`.

        Args:
            folder: The node's own.
            node: Its name.
            random_bytes: Makes the name of a new state.
        """
        self.counts = folder / COUNTS_NAME
        self.counts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._node = node
        self._path = folder / STATE_NAME
        self._state = _State(label=random_bytes(LABEL_BYTES).hex())
        with contextlib.suppress(FileNotFoundError):
            self._state = msgspec.msgpack.decode(self._path.read_bytes(), type=_State)

    def collect(self) -> Batch | None:
        """Return the batch to deliver next, `None` if there is nothing. It may touch the disk."""
        if self._state.pending is None:
            self._make()
        state = self._state
        if state.pending is None:
            return None
        name = state.number.to_bytes(NUMBER_BYTES, "big")
        origin = f"usage/{self._node}/{state.label}"
        digest = hashlib.blake2b(state.pending, digest_size=FINGERPRINT_BYTES)
        return Batch(
            namespace=USAGE_NAMESPACE,
            mutations=(
                Mutation(
                    key=f"{BATCH_PREFIX}{self._node}/{state.label}/{state.number:016x}",
                    value=state.pending,
                ),
            ),
            identity=Identity(
                origin=origin,
                name=name,
                lowest_unresolved=name,
                fingerprint=digest.digest(),
            ),
            journal_allowed=False,
        )

    def acknowledge(self) -> None:
        """Take note that central has the batch. What is on disk is brought up to date later."""
        self._state = msgspec.structs.replace(self._state, pending=None)

    def _make(self) -> None:
        """Make a batch of what was counted since the last, and let go of files that are done."""
        rows: list[CountedRow] = []
        taken: dict[str, dict[int, dict[int, int]]] = {}
        done: list[Path] = []
        for path in sorted(self.counts.glob(READY + "*")):
            try:
                is_left, found = rows_in(path)
            except (OSError, ValueError) as error:
                _log.warning("counts_unreadable", path=str(path), reason=str(error))
                continue
            mine = taken[path.name] = dict(self._state.taken.get(path.name, {}))
            for number, key, counts in found:
                before = mine.get(number, {})
                # After a power cut a file may hold less than was taken of it.
                fresh = {at: n - before.get(at, 0) for at, n in counts.items()}
                fresh = {at: n for at, n in fresh.items() if n > 0}
                if not fresh:
                    continue
                if len(rows) == BATCH_ROWS_MAX:
                    is_left = False
                    break
                mine[number] = counts
                rows.append(CountedRow(key.hour, key.face, key.account, key.namespace, fresh))
            if is_left:
                done.append(path)
        if rows:
            self._state = msgspec.structs.replace(
                self._state,
                number=self._state.number + 1,
                pending=msgspec.msgpack.encode(Delivery(self._node, rows)),
                taken=taken,
            )
            self._save()
        # What was taken of them is in the batch, which is on disk.
        for path in done:
            path.unlink(missing_ok=True)

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.msgpack.encode(self._state))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Courier:
    """Delivers what a collector made."""

    def __init__(self, collector: Collector, write: Write) -> None:
        """Deliver by `write`, which reaches central or a node on the way to it."""
        self._collector = collector
        self._write = write
        self._busy = asyncio.Lock()

    async def deliver(self) -> None:
        """Deliver everything that was counted by now.

        Raises:
            AtollError: Central cannot be reached. What was counted waits for the next time.
        """
        async with self._busy:
            for _ in range(BATCHES_PER_ROUND):
                batch = await asyncio.to_thread(self._collector.collect)
                if batch is None:
                    return
                try:
                    await self._write(batch)
                except (OutcomeForgottenError, IdempotencyKeyReusedError) as error:
                    # Central has had another batch under this number: this folder is a copy, or
                    # was put back from one.
                    _log.warning("counts_refused", code=error.code, reason=str(error))
                self._collector.acknowledge()

    async def deliver_forever(self, clock: Clock, interval_s: float) -> None:
        """Deliver, pause, and again, until cancelled."""
        while True:
            await clock.sleep(interval_s)
            try:
                await self.deliver()
            except AtollError as error:
                _log.debug("counts_wait", code=error.code, reason=str(error))
            except OSError as error:
                _log.warning("collect_failed", reason=str(error))
