"""Trying again: only what may pass, only so often, and longer and longer apart."""

from collections.abc import Awaitable, Callable

import pytest

from atoll.cli.patience import ATTEMPTS_MAX, PAUSE_S_MAX, patiently
from atoll.core.errors import AtollError, RemoteError, UnavailableError


class Pauses:
    """A clock that does not wait, and remembers how long it was asked to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.taken: list[float] = []

    def now_us(self) -> int:
        """Return the same instant always."""
        return 0

    def elapsed_ms(self) -> int:
        """Return the same instant always."""
        return 0

    async def sleep(self, seconds: float) -> None:
        """Remember the pause."""
        self.taken.append(seconds)


def failing(error: AtollError, times: int) -> Callable[[], Awaitable[str]]:
    """Return a request that fails so many times before it succeeds."""
    left = [error] * times

    async def request() -> str:
        if left:
            raise left.pop()
        return "done"

    return request


def remote(status: int) -> RemoteError:
    """Make the error that stands for a server's answer."""
    return RemoteError(status=status, remote_code="x", message="no")


@pytest.mark.parametrize(
    "error", [UnavailableError("gone"), remote(503), remote(429), remote(500), remote(408)]
)
async def test_what_may_pass_is_tried_again(error: AtollError) -> None:
    """As often as it takes, up to the limit, with pauses that grow up to theirs."""
    pauses = Pauses()

    assert await patiently(failing(error, ATTEMPTS_MAX - 1), clock=pauses) == "done"

    assert len(pauses.taken) == ATTEMPTS_MAX - 1
    assert pauses.taken == sorted(pauses.taken)
    assert max(pauses.taken) == PAUSE_S_MAX
    assert 20 < sum(pauses.taken) < 40


async def test_the_last_failure_is_told() -> None:
    """After the last attempt there is no pause, and the error is the caller's."""
    pauses = Pauses()

    with pytest.raises(UnavailableError):
        await patiently(failing(UnavailableError("gone"), ATTEMPTS_MAX), clock=pauses)

    assert len(pauses.taken) == ATTEMPTS_MAX - 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 507])
async def test_what_will_not_pass_is_told_at_once(status: int) -> None:
    """The same request would fail again; a full disk is for a person to see to."""
    pauses = Pauses()

    with pytest.raises(RemoteError):
        await patiently(failing(remote(status), 1), clock=pauses)

    assert pauses.taken == []
