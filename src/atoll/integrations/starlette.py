"""Namespaces for Starlette and FastAPI applications, over one client for the whole application.

    kv = Namespaces("http://127.0.0.1:8781", {"FLAGS": "<id>"}, token="...")
    app = FastAPI(lifespan=kv.lifespan, exception_handlers=kv.exception_handlers)

    @app.get("/flags/{name}")
    async def flag(
        name: str, flags: Annotated[AsyncNamespace, Depends(kv.depends("FLAGS"))]
    ) -> str | None:
        return await flags.get(name)

In Starlette, which passes no dependencies, a handler takes `kv["FLAGS"]`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from atoll import connect_async
from atoll.client import AsyncNamespace
from atoll.core.errors import UnavailableError

TIMEOUT_S: Final = 10.0
STATUS_UNAVAILABLE: Final = 503

Handler = Callable[[Request, Exception], Coroutine[Any, Any, Response]]


class Namespaces:
    """Namespaces by the names that an application has for them, as Workers have bindings."""

    def __init__(
        self,
        where: str | Path,
        namespaces: Mapping[str, str],
        *,
        token: str | None = None,
        ca: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Connect as `atoll.connect_async` does; nothing is asked before the first call.

        Args:
            where: A URL, or the path of a location's folder or socket.
            namespaces: The ids of namespaces, by names of the application's choosing.
            token: What the node knows us by.
            ca: The authority to trust for TLS, in PEM.
            timeout_s: How many seconds an answer may take.
        """
        self._client = connect_async(where, token=token, ca=ca, timeout_s=timeout_s)
        self._spaces = {name: self._client.namespace(id_) for name, id_ in namespaces.items()}

    def __getitem__(self, name: str) -> AsyncNamespace:
        """Return the namespace of this name; `KeyError` if there is none."""
        return self._spaces[name]

    def depends(self, name: str) -> Callable[[], Awaitable[AsyncNamespace]]:
        """Return what FastAPI's `Depends` takes; `KeyError` if there is no such namespace."""
        space = self._spaces[name]

        async def namespace() -> AsyncNamespace:
            return space

        return namespace

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """Close what is open when the application ends."""
        del app
        try:
            yield
        finally:
            await self._client.aclose()

    @property
    def exception_handlers(self) -> dict[Any, Handler]:
        """What answers 503 with `Retry-After` where a handler met `UnavailableError`."""
        return {UnavailableError: unavailable}


async def unavailable(request: Request, error: Exception) -> Response:
    """Say that what was asked cannot be answered now, and when to ask again."""
    del request
    assert isinstance(error, UnavailableError), error
    return JSONResponse(
        {"error": {"code": error.code, "message": str(error)}},
        status_code=STATUS_UNAVAILABLE,
        headers={"Retry-After": str(error.retry_after_s)},
    )
