"""Lets requests through to the origin by rules that are changed while it runs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NotRequired, TypedDict

from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atoll.integrations.starlette import Namespaces
from examples.origin import METHODS, Origin


class Rule(TypedDict):
    """Who may reach what."""

    path: str
    callers: NotRequired[list[str]]


setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"CONFIG": setting("CONFIG")},
    token=setting("ATOLL_TOKEN", default=None),
)
origin = Origin(setting("ORIGIN"))


async def answer(request: Request) -> Response:
    """Pass on what a rule admits."""
    rules: list[Rule] | None = await kv["CONFIG"].get("rules", "json")
    if rules is None:  # no rules at all are an empty list
        return PlainTextResponse("There are no rules yet", 503)
    path: str = request.scope["path"]
    if not is_plain(path):
        return PlainTextResponse("Such paths are not passed on", 400)
    caller = request.headers.get("cf-connecting-ip")
    if not any(is_under(rule["path"], path) and admits(rule, caller) for rule in rules):
        return PlainTextResponse("You may not go there", 403)
    return await origin.answer(request)


def is_plain(path: str) -> bool:
    """Tell whether a path leads where it seems to, however the origin reads it."""
    *parts, last = path[1:].split("/")
    odd = "\\" in path or "%" in path or "" in parts
    return not odd and not {".", ".."} & {*parts, last}


def is_under(rule_path: str, path: str) -> bool:
    """Tell: "/reports" is the path itself and what is below it; "/reports-old" is neither."""
    return path == rule_path or path.startswith(rule_path.rstrip("/") + "/")


def admits(rule: Rule, caller: str | None) -> bool:
    """Tell: a rule without callers is for everybody; one with an empty list is for nobody."""
    return "callers" not in rule or caller in rule["callers"]


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
