"""What every test runs with.

Coroutine tests run on asyncio, generated examples have no deadline of their own, code of ours
that blocks an event loop fails its test, and where `CI` is set a skipped test has failed.
"""

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

pytest_plugins = ["tests.no_skips"]

# A slow machine is not a bug, so examples have no deadline: pytest's timeout ends what hangs. CI
# draws the same examples every time, so that what fails there has to do with the change.
settings.register_profile("atoll", deadline=None, print_blob=True)
settings.register_profile("atoll-ci", settings.get_profile("atoll"), derandomize=True)
settings.load_profile("atoll-ci" if os.getenv("CI") else "atoll")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run coroutine tests on asyncio, the only loop we support."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """Raise where our code sleeps, reads files or waits for a socket on a loop's thread."""
    with blockbuster_ctx("atoll"):
        yield
