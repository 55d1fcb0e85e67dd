"""Show what failed assertions compared, in the contract's own modules too."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.reads", "tests.contract.writes", "tests.contract.upkeep"
)
