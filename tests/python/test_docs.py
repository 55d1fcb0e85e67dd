"""The examples of docs/python.md do what the page says."""

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.utils.module_loading import import_string

from tests.python.conftest import Ways
from tests.tidy.sources import ROOT

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache
    from fastapi import FastAPI

    from atoll.integrations.starlette import Namespaces

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall((ROOT / "docs" / "python.md").read_text())


def run(ways: Ways, *marks: str) -> dict[str, Any]:
    """Run the blocks in which any of `marks` stands, in their order, and return their names."""
    running = ways.server.running
    names: dict[str, Any] = {
        "URL": running.locations["LHR"],
        "CENTRAL": running.central,
        "TOKEN": running.token,
        "NAMESPACE": running.namespace_id,
        "FOLDER": ways.folder,
    }
    ran = 0
    for block in BLOCKS:
        if any(mark in block for mark in marks):
            exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 - our own page
            ran += 1
    assert ran >= len(marks)
    return names


def test_the_examples_run(ways: Ways, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first screen to watching."""
    run(ways, "atoll.connect", "asyncio")

    said = capsys.readouterr().out
    assert "hello, all" in said
    assert "delete watched" in said


def test_the_settings_of_django_make_a_cache(ways: Ways) -> None:
    """As they stand there."""
    settings = run(ways, "CACHES")["CACHES"]["default"]
    cache: BaseCache = import_string(settings["BACKEND"])(settings["LOCATION"], settings)

    cache.set("key", {1, 2})

    assert cache.get("key") == {1, 2}
    cache.clear()


@pytest.mark.anyio
async def test_the_application_answers(ways: Ways) -> None:
    """It reads what is in the namespace."""
    names = run(ways, "FastAPI")
    app: FastAPI = names["app"]
    kv: Namespaces = names["kv"]

    async with (
        kv.lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as user,
    ):
        await kv["FLAGS"].put("docs", "on")
        assert (await user.get("/flags/docs")).json() == "on"
