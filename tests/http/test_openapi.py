"""The OpenAPI document says what is so: schemathesis finds nothing against it."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from atoll.core.limits import PRESETS, Limits
from atoll.http.openapi import document
from tests.http.site import Site
from tests.http.test_wire import serving

pytestmark = pytest.mark.anyio

SCHEMATHESIS: Final = Path(sys.executable).parent / "schemathesis"
RUN_S_MAX: Final = 110.0
METHODS: Final = ("get", "put", "post", "delete", "patch")

# Without real ids nothing but refusals is tried; with them, what depends on what is stored is:
# a condition that fails, a position that has not come, a title that is taken. The check that a
# request which the schema allows is accepted cannot know that, so it runs without them; and a watch
# that begins has no end for schemathesis to wait for, so it is only refused here. What only a
# location has is 421 at central, whatever else is wrong with the request.
UNKNOWN_IDS: Final = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 421, "5xx"]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 421, 422, 428, "5xx"]
"""
REAL_IDS: Final = """
[parameters]
"path.account_id" = "{account}"
"path.namespace_id" = "{namespace}"

[checks.positive_data_acceptance]
enabled = false

[[operations]]
include-operation-id = "v1_watch"
enabled = false

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 421, 422, 428, "5xx"]
"""


@pytest.mark.parametrize("ids", [UNKNOWN_IDS, REAL_IDS], ids=["unknown-ids", "real-ids"])
async def test_schemathesis_finds_nothing(tmp_path: Path, ids: str) -> None:
    """Examples from the schema and against it, in a bounded number and always the same."""
    site = await Site.make(tmp_path)
    settings = tmp_path / "schemathesis.toml"
    await asyncio.to_thread(
        settings.write_text, ids.format(account=site.account.id, namespace=site.namespace.id)
    )
    async with serving(site) as server:
        process = await asyncio.create_subprocess_exec(
            SCHEMATHESIS,
            f"--config-file={settings}",
            "run",
            f"http://127.0.0.1:{server.port}/openapi.json",
            f"--header=Authorization: {site.headers['authorization']}",
            "--seed=1",
            "--max-examples=5",
            "--suppress-health-check=all",
            "--continue-on-failure",
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(RUN_S_MAX):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()

    assert process.returncode == 0, said.decode()
    assert re.search(r"[1-9][0-9]{2,} generated, [1-9][0-9]{2,} passed", said.decode())


def operations() -> Iterator[tuple[str, str]]:
    """Every path and method of the document."""
    paths: dict[str, dict[str, Any]] = json.loads(document(Limits()))["paths"]
    for path, item in paths.items():
        yield from ((path, method.upper()) for method in METHODS if method in item)


@pytest.mark.parametrize(("path", "method"), list(operations()))
async def test_what_is_documented_exists(site: Site, path: str, method: str) -> None:
    """No documented operation is an unknown route or a wrong method."""
    filled = path.format(
        account_id=site.account.id,
        namespace_id=site.namespace.id,
        key="k",
        token_id="0" * 16,
        name="LHR",
        sequence=1,
        node_name="LHR",
    )

    reply = await site.ask(method, filled)

    assert reply.status != 405
    assert b"Could not route" not in reply.body


async def test_what_exists_is_documented(site: Site) -> None:
    """Every path that answers has all its methods in the document, as 405 names them."""
    documented: dict[str, set[str]] = {}
    for path, method in operations():
        documented.setdefault(path, set()).add(method)
    for path, methods in documented.items():
        filled = path.format(
            account_id=site.account.id,
            namespace_id=site.namespace.id,
            key="k",
            token_id="0" * 16,
            name="LHR",
            sequence=1,
            node_name="LHR",
        )
        refused = await site.ask("BREW", filled)
        assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == methods

    home = "/client/v4/accounts/{account_id}/storage/kv/namespaces/{namespace_id}"
    below = {path.removeprefix(home) for path in documented if path.startswith(home)}
    assert below == {
        "",
        "/values/{key}",
        "/metadata/{key}",
        "/keys",
        "/bulk",
        "/bulk/delete",
        "/bulk/get",
    }


def test_the_document_has_the_limits_in_force() -> None:
    """Every mark was filled in, from the limits that were given."""
    today, then = (document(PRESETS[name]).decode() for name in ("today", "2019"))
    short = document(Limits(key_bytes_max=100)).decode()

    assert "$limit" not in today
    assert today == then  # They differ in nothing that a schema can say.
    assert '"maxLength":512' in today
    assert '"maxLength":100' in short


async def test_the_document_is_served_to_anybody(site: Site) -> None:
    """Without credentials."""
    reply = await site.ask("GET", "/openapi.json", as_nobody=True)

    assert reply.json()["openapi"] == "3.1.0"
