"""Answers 403 to visitors whose address is stored. /block/<ip> stores one, for a week."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces
from examples.origin import METHODS, Origin

WEEK_S: Final = 7 * 24 * 60 * 60

setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"BLOCKED": setting("BLOCKED")},
    token=setting("ATOLL_TOKEN", default=None),
)
origin = Origin(setting("ORIGIN"))


async def answer(request: Request) -> Response:
    """Refuse who is blocked, block an address, or ask the origin."""
    visitor = address_of(request.headers.get("cf-connecting-ip", ""))
    # What is stored is empty, and "" is false: `if await blocked.get(visitor)` would never block.
    if visitor is not None and await kv["BLOCKED"].get(visitor) is not None:
        return PlainTextResponse("You are blocked!", 403)
    path = request.scope["path"]
    if path.startswith("/block/"):
        address = address_of(path.removeprefix("/block/"))
        if address is None:
            return PlainTextResponse("This is no IP address", 400)
        await kv["BLOCKED"].put(address, "", expiration_ttl=WEEK_S)
        return PlainTextResponse(f"{address} is blocked for a week")
    return await origin.answer(request)


def address_of(text: str) -> str | None:
    """Return an address in the one usual way of writing it; `None` where it is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


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
