"""What the tests of the faces start with."""

from pathlib import Path

import pytest

from tests.http.site import Site


@pytest.fixture
async def site(anyio_backend: str, tmp_path: Path) -> Site:
    """Return a node in memory with the limits of today."""
    assert anyio_backend == "asyncio"
    return await Site.make(tmp_path)
