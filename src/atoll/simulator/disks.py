"""The disk of a simulated location: what a life wrote, and what the next life finds."""

import asyncio
from collections.abc import Iterable, Iterator
from random import Random
from typing import Final

from atoll.core.errors import StoreError
from atoll.core.model import LargeValue
from atoll.location.age import Record
from atoll.location.cache import CacheState, MemoryCache
from atoll.location.journal import MemoryJournal
from atoll.simulator.loop import LIFE, Life

SYNC_S_MAX: Final = 0.004
SLOW_SYNC_S_MAX: Final = 2.0


class DiskError(StoreError):
    """The disk did not do what it was told."""

    code = "disk_error"


class LifeCache:
    """See `Cache`: the one that survives, as one life sees it. The dead change nothing."""

    def __init__(self, inner: MemoryCache, life: Life) -> None:
        self._inner = inner
        self._life = life
        self.size_bytes_max = inner.size_bytes_max

    @property
    def size_bytes(self) -> int:
        """See `Cache`."""
        return self._inner.size_bytes

    @property
    def entries(self) -> int:
        """See `Cache`."""
        return self._inner.entries

    def load(self) -> CacheState | None:
        """See `Cache`."""
        return self._inner.load()

    def save(self, state: CacheState) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.save(state)

    def get(self, namespace: str, key: str) -> Record | None:
        """See `Cache`."""
        return self._inner.get(namespace, key)

    def put(self, namespace: str, key: str, record: Record) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.put(namespace, key, record)

    def remove(self, namespace: str, key: str) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.remove(namespace, key)

    def clear(self) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.clear()

    def pin_only(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.pin_only(places)

    def pin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.pin(places)

    def unpin(self, places: Iterable[tuple[str, str]]) -> None:
        """See `Cache`."""
        if self._life.alive:
            self._inner.unpin(places)

    def unread(self) -> Iterator[tuple[str, str]]:
        """See `Cache`."""
        return self._inner.unread()

    async def hold(self, value: LargeValue | bytes) -> LargeValue:
        """See `Cache`."""
        return await self._inner.hold(value)


class LocationDisk:
    """A cache and a journal, and how they behave."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.cache = MemoryCache()
        self.journal = MemoryJournal(sync=self._sync)
        self.failing = 0.0
        """How likely a sync fails."""
        self.slow = False

    async def _sync(self) -> None:
        """Take some time to be durable.

        Raises:
            DiskError: It is not, and what was written is taken back.
        """
        slowest_s = SLOW_SYNC_S_MAX if self.slow else SYNC_S_MAX
        await asyncio.sleep(self._random.random() * slowest_s)  # noqa: TID251 - virtual seconds
        life = LIFE.get()
        if life is not None and not life.alive:
            raise DiskError
        if self.failing and self._random.random() < self.failing:
            raise DiskError

    def crash(self) -> None:
        """Become what the next life finds after its process, or its machine, has died."""
        self.journal.crash(unsynced_survives=self._random.random() < 0.5)  # noqa: PLR2004

    def reboot(self, *, clean: bool) -> None:
        """Become what is left by a boot. A cache that was not closed cleanly is thrown away."""
        if clean:
            self.cache.reboot()
        else:
            self.cache.clear()
