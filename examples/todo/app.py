"""A list of things to do for each visitor, who is known by a cookie."""

import re
import secrets
from pathlib import Path
from typing import Annotated, Final

import msgspec
from starlette.applications import Starlette
from starlette.config import Config
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from atoll.core.errors import RewriteTooSoonError
from atoll.integrations.starlette import Namespaces

YEAR_S: Final = 365 * 24 * 60 * 60
VISITOR: Final = re.compile(r"[0-9a-f-]{32,36}")
PAGE: Final = Path(__file__).with_name("page.html").read_text()


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to do."""

    text: Annotated[str, msgspec.Meta(max_length=200)]
    done: bool


Things = Annotated[list[Thing], msgspec.Meta(max_length=100)]

setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"LISTS": setting("LISTS")},
    token=setting("ATOLL_TOKEN", default=None),
)


async def page(request: Request) -> Response:
    """Show the page, and give a visitor who has none an identity."""
    visitor = visitor_of(request) or secrets.token_hex(16)
    answer = HTMLResponse(PAGE)
    # Whoever has the cookie has the list, so no script can read it and no other site can send it.
    answer.set_cookie("visitor", visitor, max_age=YEAR_S, httponly=True, samesite="strict")
    return answer


async def load(request: Request) -> Response:
    """Return the visitor's list, empty at first."""
    things = await kv["LISTS"].get(known(request), "json")
    return JSONResponse([] if things is None else things)


async def save(request: Request) -> Response:
    """Keep the visitor's list."""
    visitor = known(request)
    body = await request.body()
    try:
        msgspec.json.decode(body, type=Things)
    except msgspec.DecodeError as error:
        raise HTTPException(400, "This is no list of things to do") from error
    await kv["LISTS"].put(visitor, body, expiration_ttl=YEAR_S)
    return Response(status_code=204)


def visitor_of(request: Request) -> str | None:
    """Return who asks, if that is known."""
    visitor = request.cookies.get("visitor", "")
    return visitor if VISITOR.fullmatch(visitor) else None


def known(request: Request) -> str:
    """Return who asks, or refuse."""
    visitor = visitor_of(request)
    if visitor is None:
        raise HTTPException(401, "Open the page first")
    return visitor


async def too_soon(request: Request, error: Exception) -> Response:
    """Say that a list can be kept once a second."""
    del request, error
    return PlainTextResponse("Once a second", 429, headers={"Retry-After": "1"})


app = Starlette(
    routes=[
        Route("/", page),
        Route("/things", load),
        Route("/things", save, methods=["PUT"]),
    ],
    lifespan=kv.lifespan,
    exception_handlers={**kv.exception_handlers, RewriteTooSoonError: too_soon},
)
