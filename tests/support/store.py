"""Stores on SQLite for tests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from atoll.clock import Clock, SystemClock
from atoll.store.sqlite import Access, SqliteStore
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
