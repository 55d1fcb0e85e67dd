"""The tests that every store must pass.

Subclass `StoreContract`, provide a `store` fixture, and the sentences of `atoll.store.protocol`
are checked against it, one test for each. Ours keep them; a store of your own can be held to them.
"""

import pytest

from atoll.store.protocol import Store
from tests.contract.reads import ReadsContract
from tests.contract.tools import Writer
from tests.contract.upkeep import UpkeepContract
from tests.contract.writes import WritesContract


class StoreContract(ReadsContract, WritesContract, UpkeepContract):
    """Promises of `Store`. Each test is one sentence of the contract."""

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store. Subclasses provide it."""
        raise NotImplementedError

    @pytest.fixture
    def write(self, store: Store) -> Writer:
        """Return what applies batches to the store."""
        return Writer(store)
