"""Namespaces in applications of FastAPI and Starlette."""

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from atoll.client import AsyncNamespace
from atoll.integrations.starlette import Namespaces
from tests.python.conftest import Ways

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("near", [False, True])
async def test_fastapi_passes_a_namespace(ways: Ways, key: str, *, near: bool) -> None:
    """A handler names what it needs, and one client serves the application."""
    running = ways.server.running
    ids = {"FLAGS": running.namespace_id}
    kv = (
        Namespaces(ways.folder, ids)
        if near
        else Namespaces(running.locations["LHR"], ids, token=running.token)
    )
    app = FastAPI(lifespan=kv.lifespan, exception_handlers=kv.exception_handlers)
    flags_of = kv.depends("FLAGS")

    @app.put("/flags/{name}")
    async def put(
        name: str, value: str, flags: Annotated[AsyncNamespace, Depends(flags_of)]
    ) -> str:
        """Set a flag."""
        return (await flags.put(key + name, value)).position

    @app.get("/flags/{name}")
    async def get(name: str, flags: Annotated[AsyncNamespace, Depends(flags_of)]) -> str | None:
        """Read a flag."""
        return await flags.get(key + name)

    transport = httpx.ASGITransport(app)
    async with (
        kv.lifespan(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as user,
    ):
        assert (await user.get("/flags/a")).json() is None
        assert (await user.put("/flags/a", params={"value": "on"})).status_code == 200
        assert (await user.get("/flags/a")).json() == "on"


async def test_starlette_takes_one_by_its_name(ways: Ways, key: str) -> None:
    """What cannot be answered now is 503, and says when to ask again."""
    running = ways.server.running
    kv = Namespaces(
        "http://127.0.0.1:1", {"GONE": running.namespace_id}, token=running.token, timeout_s=5
    )

    async def read(request: Request) -> PlainTextResponse:
        """Read a key."""
        del request
        return PlainTextResponse(await kv["GONE"].get(key) or "")

    app = Starlette(
        routes=[Route("/", read)],
        lifespan=kv.lifespan,
        exception_handlers=kv.exception_handlers,
    )
    transport = httpx.ASGITransport(app)
    async with (
        kv.lifespan(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as user,
    ):
        answer = await user.get("/")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "unreachable"
    with pytest.raises(KeyError):
        kv.depends("OTHER")
