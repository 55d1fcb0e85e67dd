"""What Python programs import: namespaces with the verbs of the Workers binding, sync and async.

`connect` and `connect_async` are in `atoll` itself. The classes they return, and the values that
those return, can be imported from here; nothing is loaded before it is used.

    values          what is asked and answered, and how values become bytes
    access          the verbs of one namespace, once, for both faces
    wire, told      over `/v1`: to central, a location, or the socket of a keeper
    watching        following the changes of a namespace
    local           looking up in the cache of a location on this machine
    memory          what a session presents
    sync, aio       the two faces
    background      the thread on which the sync face waits
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from atoll.client.aio import AsyncClient, AsyncNamespace, AsyncStream
    from atoll.client.sync import Client, Namespace, Stream
    from atoll.client.values import Answer, Bounds, Key, Page, ValueUnreadableError, Written
    from atoll.client.watching import Change

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncNamespace",
    "AsyncStream",
    "Bounds",
    "Change",
    "Client",
    "Key",
    "Namespace",
    "Page",
    "Stream",
    "ValueUnreadableError",
    "Written",
    "connect",
    "connect_async",
]

TIMEOUT_S: Final = 10.0

_MODULES: Final = {
    "AsyncClient": "aio",
    "AsyncNamespace": "aio",
    "AsyncStream": "aio",
    "Client": "sync",
    "Namespace": "sync",
    "Stream": "sync",
    "Answer": "values",
    "Bounds": "values",
    "Key": "values",
    "Page": "values",
    "ValueUnreadableError": "values",
    "Written": "values",
    "Change": "watching",
}


def __getattr__(name: str) -> object:
    """Load a class when it is first asked for."""
    module = _MODULES.get(name)
    if module is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def connect(
    where: str | Path,
    *,
    token: str | None = None,
    ca: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> "Client":
    """Return a client whose calls wait. Nothing is connected before the first of them.

    Args:
        where: The URL of central or of a location; or, on the location's own machine, the path of
            its folder or of its socket. By a path, what is cached is looked up in process, and
            the permissions of the folder stand in the place of a token.
        token: What the node knows us by; with a path there is none.
        ca: The authority to trust for TLS, in PEM; by default those that the system trusts.
        timeout_s: How many seconds an answer, or a piece of one, may take.

    Raises:
        ParameterInvalidError: `where` is neither, or a token was given for a path.
    """
    from atoll.client.sync import Client  # noqa: PLC0415 - `import atoll` loads no HTTP client
    from atoll.client.wire import Target  # noqa: PLC0415

    return Client(Target.of(where, token=token, ca=ca, timeout_s=timeout_s))


def connect_async(
    where: str | Path,
    *,
    token: str | None = None,
    ca: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> "AsyncClient":
    """Return a client whose calls are awaited; see `connect`.

    Raises:
        ParameterInvalidError: As there.
    """
    from atoll.client.aio import AsyncClient  # noqa: PLC0415 - as above
    from atoll.client.wire import Target  # noqa: PLC0415

    return AsyncClient(Target.of(where, token=token, ca=ca, timeout_s=timeout_s))
