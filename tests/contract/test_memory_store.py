"""The store in memory keeps the contract."""

import pytest

from atoll.store.memory import MemoryStore
from tests.contract.store import StoreContract


class TestMemoryStore(StoreContract):
    """Every contract test, against memory."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        """Return an empty store."""
        return MemoryStore(incarnation=7)
