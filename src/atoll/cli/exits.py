"""What the process says when it ends; docs/cli.md lists the codes for scripts to rely on."""

from enum import IntEnum
from typing import Final

from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    ConditionFailedError,
    ConfigError,
    ForbiddenError,
    LimitReachedError,
    NotFoundError,
    RemoteError,
    StoreError,
    UnauthenticatedError,
    UnavailableError,
)


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    REFUSED = 1
    """The request was refused for a reason that has no code of its own, or something broke."""
    USAGE = 2
    """The command line, a setting or a file given is not right."""
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    """The server cannot be reached, or cannot answer now. Trying again may help."""
    CONDITION_FAILED = 6
    LIMIT_REACHED = 7
    """Too much, or too often."""
    STORE = 8
    """The data folder: in use, not there, sealed with another key, no room left."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Who read our output stopped reading."""


_BY_STATUS: Final[dict[int, Exit]] = {
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    408: Exit.UNAVAILABLE,
    410: Exit.NOT_FOUND,
    412: Exit.CONDITION_FAILED,
    429: Exit.LIMIT_REACHED,
    502: Exit.UNAVAILABLE,
    503: Exit.UNAVAILABLE,
    504: Exit.UNAVAILABLE,
    507: Exit.STORE,
}

_BY_REMOTE_CODE: Final[dict[str, Exit]] = {
    "10018": Exit.LIMIT_REACHED,  # As many namespaces as an account may have.
}

_BY_ERROR: Final[tuple[tuple[type[AtollError], Exit], ...]] = (
    (ConfigError, Exit.USAGE),
    (BodyInvalidError, Exit.USAGE),
    (NotFoundError, Exit.NOT_FOUND),
    (UnauthenticatedError, Exit.NOT_ALLOWED),
    (ForbiddenError, Exit.NOT_ALLOWED),
    (UnavailableError, Exit.UNAVAILABLE),
    (ConditionFailedError, Exit.CONDITION_FAILED),
    (LimitReachedError, Exit.LIMIT_REACHED),
    (StoreError, Exit.STORE),
)


def exit_code(error: AtollError) -> Exit:
    """Return the code that a process ends with because of `error`."""
    if isinstance(error, RemoteError):
        by_status = _BY_STATUS.get(error.status, Exit.REFUSED)
        return _BY_REMOTE_CODE.get(error.remote_code, by_status)
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.REFUSED)
