"""The store on SQLite keeps the contract, and some promises of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.store.sqlite import SqliteStore
from tests.contract.store import StoreContract
from tests.support.store import HastyClock, open_store


class TestSqliteStore(StoreContract):
    """Every contract test, against SQLite."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        """Return an empty store."""
        async with open_store(tmp_path) as store:
            yield store


class TestInterruptedSqliteStore(StoreContract):
    """Every contract test, while whatever may pause does so at every turn."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        """Return an empty store."""
        async with open_store(tmp_path, clock=HastyClock()) as store:
            yield store
