"""Lets requests through to the origin whose API key is known, and tells it whose key it was."""

import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces
from examples.origin import METHODS, Origin

BEARER: Final = re.compile(r"Bearer (\S+)")

setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"API_KEYS": setting("API_KEYS")},
    token=setting("ATOLL_TOKEN", default=None),
)
origin = Origin(setting("ORIGIN"))


async def answer(request: Request) -> Response:
    """Pass on what comes with a key that is known.

    Past the bound, when central cannot be asked, the key may have been revoked: reading raises
    then, and the answer is 503.
    """
    bearer = BEARER.fullmatch(request.headers.get("authorization", ""))
    # Keys are stored by their digests, so who can list the namespace learns none.
    digest = hashlib.sha256(bearer[1].encode()).hexdigest() if bearer else None
    user = None if digest is None else await kv["API_KEYS"].get(digest)
    # The name may be empty; only `None` is a key that is not known.
    if user is None:
        challenge = {"WWW-Authenticate": "Bearer"}
        return PlainTextResponse("An API key is needed", 401, headers=challenge)
    headers = request.headers.mutablecopy()
    del headers["authorization"]
    headers["x-user"] = quote(user, safe="")  # whatever the caller had there
    return await origin.answer(request, headers)


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
