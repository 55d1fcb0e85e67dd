"""Answers /redirect<path> with a redirect to what is stored for <path>, or asks the origin."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urljoin

from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces
from examples.origin import METHODS, Origin

KEY_BYTES_MAX: Final = 512

setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"REDIRECTS": setting("REDIRECTS")},
    token=setting("ATOLL_TOKEN", default=None),
)
origin = Origin(setting("ORIGIN"))


async def answer(request: Request) -> Response:
    """Redirect, or ask the origin."""
    path: str = request.scope["raw_path"].decode("ascii")
    if path.startswith("/redirect/"):
        path = path.removeprefix("/redirect")
        target = None if len(path) > KEY_BYTES_MAX else await kv["REDIRECTS"].get(path)
        if target is not None:
            return RedirectResponse(urljoin(str(request.url), target), 302)
    return await origin.answer(request)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Close what is open when the application ends."""
    async with kv.lifespan(app), origin:
        yield


app = Starlette(
    routes=[Route("/{path:path}", answer, methods=METHODS)],
    lifespan=lifespan,
    exception_handlers=kv.exception_handlers,
)
