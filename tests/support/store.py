"""Stores on SQLite for tests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from atoll.clock import Clock, SystemClock
from atoll.store.sqlite import Access, SqliteStore
from atoll.store.sqlite.driver import Database
from atoll.store.sqlite.schema import DATABASE_NAME
from tests.support.rng import seeded_bytes


class HastyClock:
    """A clock by which everything takes long, so that whatever may pause does, every time."""

    def __init__(self) -> None:
        """Start at an instant of no importance."""
        self._elapsed_ms = 0

    def now_us(self) -> int:
        """Return one moment for ever."""
        return 1_800_000_000_000_000

    def elapsed_ms(self) -> int:
        """Return ten milliseconds more each time."""
        self._elapsed_ms += 10
        return self._elapsed_ms

    async def sleep(self, seconds: float) -> None:
        """Let the others run once, however long was asked for."""
        del seconds
        await asyncio.sleep(0)  # noqa: TID251 - this is a clock


@asynccontextmanager
async def open_store(
    folder: Path,
    *,
    seed: int = 0,
    clock: Clock | None = None,
    key_path: Path | None = None,
    access: Access | None = None,
) -> AsyncGenerator[SqliteStore]:
    """Open a store, and close it at the end."""
    store = await SqliteStore.open(
        folder,
        clock=clock or SystemClock(),
        random_bytes=seeded_bytes(seed),
        key_path=key_path,
        access=access,
    )
    try:
        yield store
    finally:
        await store.close()


_AUDIT: Final = {
    "usage differs from the entries": """
        SELECT n.name FROM namespaces n
         WHERE (n.keys, n.bytes) IS NOT (
            SELECT count(*), ifnull(sum(e.held), 0) FROM entries e WHERE e.namespace = n.number)
    """,
    "an entry is buried too": """
        SELECT e.key FROM entries e JOIN tombstones t USING (namespace, key)
    """,
    "an entry is not in the log": """
        SELECT e.key FROM entries e
         WHERE e.sequence > (SELECT log_start FROM meta) AND NOT EXISTS (
            SELECT 1 FROM log l
             WHERE (l.sequence, l.namespace, l.key, l.version)
                 = (e.sequence, e.namespace, e.key, e.version))
    """,
    "a tombstone is not in the log": """
        SELECT t.key FROM tombstones t
         WHERE t.sequence > (SELECT log_start FROM meta) AND NOT EXISTS (
            SELECT 1 FROM log l
             WHERE (l.sequence, l.namespace, l.key, l.version)
                 = (t.sequence, t.namespace, t.key, t.version))
    """,
    "the head differs from the log": """
        SELECT sequence FROM meta
         WHERE log_rows <> (SELECT count(*) FROM log)
            OR sequence < (SELECT ifnull(max(sequence), 0) FROM log)
            OR log_start >= (SELECT ifnull(min(sequence), log_start + 1) FROM log)
    """,
    "the last version is not the last": """
        SELECT 1 FROM meta WHERE last_version < (SELECT ifnull(max(version), 0) FROM log)
    """,
    "a chunk is missing": """
        SELECT e.key FROM entries e
         WHERE e.value IS NULL AND (e.size + 1048575) / 1048576 <> (
            SELECT count(*) FROM chunks c
             WHERE c.id BETWEEN e.sequence << 12 AND e.sequence << 12 | 4095)
    """,
    "a chunk belongs to nothing": """
        SELECT c.id FROM chunks c
         WHERE c.id >> 12 NOT IN (SELECT blob FROM doomed)
           AND c.id >> 12 NOT IN (SELECT sequence FROM entries WHERE value IS NULL)
    """,
    "something names a seal that is not there": """
        SELECT key FROM entries WHERE seal NOT IN (SELECT id FROM seals)
    """,
}


def audit(folder: Path) -> list[str]:
    """Look at a store that nobody has open, and say what contradicts itself in it."""
    database = Database(folder / DATABASE_NAME, Access())
    try:
        faults = [fault for fault, sql in _AUDIT.items() if database.query(sql)]
        if database.get("integrity_check") != "ok":
            faults.append("the file is damaged")
        return faults
    finally:
        database.close()
