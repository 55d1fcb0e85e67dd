"""Code of ours cannot block an event loop unnoticed, in any test."""

import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from blockbuster import BlockingError

from tests.tidy.sources import ROOT, SOURCE


def nap() -> None:
    """Block for no time at all."""
    time.sleep(0)  # noqa: TID251 - it is here to be noticed.


def as_if_from(folder: Path) -> Callable[[], None]:
    """Return `nap`, compiled as if it stood in a file of `folder`."""
    code: CodeType = nap.__code__.replace(co_filename=str(folder / "nap.py"))
    return FunctionType(code, globals())


async def test_blocking_in_our_code_is_an_error() -> None:
    """A coroutine that reaches a blocking call in the package fails."""
    with pytest.raises(BlockingError, match="sleep"):
        as_if_from(SOURCE / "atoll")()


async def test_blocking_elsewhere_is_not_our_concern() -> None:
    """Tests themselves may read files in coroutines, and so may libraries."""
    as_if_from(ROOT / "tests")()


def test_blocking_without_a_loop_is_fine() -> None:
    """Threads, commands and start-up code may wait."""
    as_if_from(SOURCE / "atoll")()
