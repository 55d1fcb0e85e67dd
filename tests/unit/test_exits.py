"""Exit codes: what scripts rely on."""

import re

import pytest

from atoll.cli.exits import Exit, exit_code
from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    ConditionFailedError,
    ConfigError,
    ForbiddenError,
    KeyNotFoundError,
    RemoteError,
    RewriteTooSoonError,
    StoppingError,
    StoreNotFoundError,
    UnauthenticatedError,
    ValueTooLargeError,
)
from tests.tidy.sources import ROOT


def remote(status: int, code: str = "x") -> RemoteError:
    """Make the error that stands for a server's answer."""
    return RemoteError(status=status, remote_code=code, message="no")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (remote(400), Exit.REFUSED),
        (remote(413), Exit.REFUSED),
        (remote(500), Exit.REFUSED),
        (remote(404), Exit.NOT_FOUND),
        (remote(401), Exit.NOT_ALLOWED),
        (remote(403), Exit.NOT_ALLOWED),
        (remote(403, "10018"), Exit.LIMIT_REACHED),
        (remote(429), Exit.LIMIT_REACHED),
        (remote(412), Exit.CONDITION_FAILED),
        (remote(503), Exit.UNAVAILABLE),
        (remote(507), Exit.STORE),
        (ConfigError(name="a", given="b", rule="c", origin="d"), Exit.USAGE),
        (BodyInvalidError(detail="x"), Exit.USAGE),
        (KeyNotFoundError(), Exit.NOT_FOUND),
        (UnauthenticatedError(), Exit.NOT_ALLOWED),
        (ForbiddenError(), Exit.NOT_ALLOWED),
        (StoppingError(), Exit.UNAVAILABLE),
        (ConditionFailedError(key="k", version_current=None), Exit.CONDITION_FAILED),
        (RewriteTooSoonError(key="k", retry_after_ms=1, interval_ms=1), Exit.LIMIT_REACHED),
        (StoreNotFoundError(path="p"), Exit.STORE),
        (ValueTooLargeError(size_bytes=2, size_bytes_max=1), Exit.REFUSED),
    ],
)
def test_each_kind_of_error_has_its_code(error: AtollError, code: Exit) -> None:
    """An error here and the same error from a server end a command alike."""
    assert exit_code(error) is code


def test_the_page_lists_every_code() -> None:
    """docs/cli.md has a row for each, and none that is not one."""
    rows = re.findall(r"^\| ([0-9]+) \|", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)

    assert [int(row) for row in rows] == [code.value for code in Exit]
