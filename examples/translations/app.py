"""A page in the visitor's language. /translate fetches all texts from a service and stores them."""

from html import escape
from typing import Final

import httpx
from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces

LANGUAGES: Final = ("en", "de")  # the first is for whoever reads none of them
TEXTS: Final = ("title", "intro", "outro")

setting = Config()
strings_url = f"{setting('SERVICE')}/projects/{setting('PROJECT')}/strings.json"
bulk_url = setting("BULK_URL")
credentials = {"X-Auth-Email": setting("EMAIL"), "X-Auth-Key": setting("KEY")}
kv = Namespaces(
    setting("ATOLL_URL"),
    {"TRANSLATIONS": setting("TRANSLATIONS")},
    token=setting("ATOLL_TOKEN", default=None),
)


async def translate(request: Request) -> Response:
    """Store what the service has, with one request."""
    del request
    async with httpx.AsyncClient() as http:
        fetched = await http.get(strings_url)
        if not fetched.is_success:
            said = f"The translation service answered {fetched.status_code}"
            return PlainTextResponse(said, 502)
        strings: dict[str, dict[str, str]] = fetched.json()
        pairs = [
            {"key": f"{name}.{language}", "value": value}
            for language, texts in strings.items()
            for name, value in texts.items()
        ]
        stored = await http.put(bulk_url, headers=credentials, json=pairs)
        if not stored.is_success:
            said = f"The texts could not be stored: {stored.status_code}"
            return PlainTextResponse(said, 502)
    return PlainTextResponse(f"{len(pairs)} texts stored")


async def page(request: Request) -> Response:
    """Show the page in the language that was asked for, text by text where it is there."""
    wanted = request.query_params.get("lang", "")
    other = LANGUAGES[0]
    language = wanted if wanted in LANGUAGES else other
    order = (language, other)
    # One read for all, each text in both languages.
    found = await kv["TRANSLATIONS"].get_many([f"{name}.{one}" for name in TEXTS for one in order])

    def text(name: str) -> str:
        # A text may be empty on purpose, so only `None` is missing: no `or`.
        values = (found[f"{name}.{one}"] for one in order)
        return escape(next((value for value in values if value is not None), name))

    title, intro, outro = map(text, TEXTS)
    return HTMLResponse(
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title>'
        f'<h1>{title}</h1><p id="intro">{intro}</p><p id="outro">{outro}</p></html>\n'
    )


app = Starlette(
    routes=[Route("/translate", translate), Route("/", page)],
    lifespan=kv.lifespan,
    exception_handlers=kv.exception_handlers,
)
