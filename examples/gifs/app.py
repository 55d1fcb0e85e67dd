"""Keeps one GIF for each user: fetched from a link, stored as bytes, shown to everybody."""

import re
from pathlib import Path
from typing import Final

import httpx
from starlette.applications import Starlette
from starlette.config import Config
from starlette.datastructures import CommaSeparatedStrings
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces

SIZE_BYTES_MAX: Final = 25 * 1024 * 1024  # of a value
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
PAGE: Final = Path(__file__).with_name("page.html").read_text()

setting = Config()
hosts = setting("HOSTS", cast=CommaSeparatedStrings)
kv = Namespaces(
    setting("ATOLL_URL"),
    {"GIFS": setting("GIFS")},
    token=setting("ATOLL_TOKEN", default=None),
)


async def upload(request: Request) -> Response:
    """Fetch a picture and keep it."""
    user = request.query_params.get("user", "")
    link = link_of(request.path_params["link"])
    if NAME.fullmatch(user) is None:
        raise HTTPException(400, "A name has up to 64 letters, digits, _ and -")
    try:
        async with httpx.AsyncClient(follow_redirects=False) as http:
            fetched = await http.get(link)
    except httpx.TransportError as error:
        raise HTTPException(502, "The link leads nowhere") from error
    if not fetched.is_success or fetched.headers.get("content-type") != "image/gif":
        raise HTTPException(502, "There is no GIF at this link")
    if len(fetched.content) > SIZE_BYTES_MAX:
        raise HTTPException(413, "This GIF is too large")
    await kv["GIFS"].put(user, fetched.content)
    return PlainTextResponse("Kept", 201)


def link_of(text: str) -> httpx.URL:
    """Return an absolute URL that we may fetch, or refuse it."""
    try:
        link = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise HTTPException(400, "This is no link") from error
    if not link.scheme:
        raise HTTPException(400, "This is no link")
    # Or whoever asks could have us fetch what only we can reach.
    if link.scheme not in {"http", "https"} or link.netloc.decode() not in hosts:
        raise HTTPException(403, f"Pictures come from {','.join(hosts)} only")
    return link


async def view(request: Request) -> Response:
    """Show the picture of a user."""
    user: str = request.path_params["user"]
    gif = await kv["GIFS"].get(user, "bytes") if NAME.fullmatch(user) else None
    if gif is None:
        return PlainTextResponse("No GIF of this user", 404)
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(gif, media_type="image/gif", headers=headers)


async def page(request: Request) -> Response:
    """Show the form."""
    del request
    return HTMLResponse(PAGE)


app = Starlette(
    routes=[
        Route("/api/upload_gif/{link:path}", upload, methods=["GET", "POST"]),
        Route("/api/view_gif/{user:path}", view),
        Route("/", page),
    ],
    lifespan=kv.lifespan,
    exception_handlers=kv.exception_handlers,
)
