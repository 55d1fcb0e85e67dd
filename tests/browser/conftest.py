"""A dashboard with some things in it, and people who look at it."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.browser import browsing
from tests.support.server import Server, serving

WAIT_MS: Final = 10_000
AXE: Final = Path(__file__).parents[1] / "clients/axe/node_modules/axe-core/axe.min.js"
PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c63f8cfc0f01f0005000101ff9bc1a2680000000049454e44ae426082"
)


class Desk:
    """A server, what programs do there, and windows of people who do it by hand."""

    def __init__(self, server: Server, browser: Browser) -> None:
        """Talk to `server`, and open windows of `browser`."""
        self.server = server
        self.browser = browser
        self.client = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {server.running.token}"}
        )
        self.account = f"/client/v4/accounts/{server.running.account_id}"

    def namespace(self, title: str, **values: bytes | str) -> str:
        """Make a namespace with some text in it, and return its id."""
        made = self.client.post(f"{self.account}/storage/kv/namespaces", json={"title": title})
        namespace = str(made.json()["result"]["id"])
        for key, value in values.items():
            self.put(namespace, key, value)
        return namespace

    def put(self, namespace: str, key: str, value: bytes | str, **headers: str) -> None:
        """Store a value, as another program would."""
        path = f"{self.account}/storage/kv/namespaces/{namespace}/values/{key}"
        self.client.put(path, content=value, headers=headers).raise_for_status()

    def bulk(self, namespace: str, pairs: list[dict[str, object]]) -> None:
        """Store many values."""
        path = f"{self.account}/storage/kv/namespaces/{namespace}/bulk"
        self.client.put(path, json=pairs).raise_for_status()

    def get(self, namespace: str, key: str) -> httpx.Response:
        """Read a value."""
        return self.client.get(f"/v1/namespaces/{namespace}/values/{key}")

    def token(self, permission: str, **more: object) -> tuple[str, str]:
        """Make a token; return its id and its secret."""
        body = {"name": f"a {permission} token", "permission": permission, **more}
        made = self.client.post(f"{self.account}/tokens", json=body).json()["result"]
        return str(made["id"]), str(made["value"])

    def revoke(self, token_id: str) -> None:
        """Revoke a token."""
        self.client.delete(f"{self.account}/tokens/{token_id}").raise_for_status()

    def page_of(self, namespace: str, rest: str = "") -> str:
        """Return where a page of a namespace is."""
        return f"{self.server.url}/dashboard/namespaces/{namespace}{rest}"

    @contextmanager
    def window(self, **options: object) -> Generator[BrowserContext]:
        """Open windows of one person. What a script fails at, or is refused, fails the test."""
        faults: list[str] = []
        with self.browser.new_context(**options) as context:  # type: ignore[arg-type]
            context.on("weberror", lambda error: faults.append(str(error.error)))
            context.on(
                "console",
                lambda said: faults.append(said.text) if is_fault(said.type, said.text) else None,
            )
            context.set_default_timeout(WAIT_MS)
            outside: list[str] = []
            context.on(
                "request",
                lambda asked: (
                    outside.append(asked.url)
                    if not asked.url.startswith((self.server.url, "blob:"))
                    else None
                ),
            )
            yield context
        assert faults == []
        assert outside == []

    @contextmanager
    def signed_in(self, token: str | None = None, **options: object) -> Generator[Page]:
        """Open a window of somebody who is signed in."""
        with self.window(**options) as context:
            page = context.new_page()
            sign_in(page, self.server.url, token or self.server.running.token)
            yield page


def is_fault(kind: str, text: str) -> bool:
    """Whether a line in the console is a fault: a refusal that the page tells of is none."""
    return kind in {"error", "warning"} and "Failed to load resource" not in text


def sign_in(page: Page, url: str, token: str) -> None:
    """Sign in by hand."""
    page.goto(f"{url}/dashboard/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def go(page: Page, url: str) -> None:
    """Open a page, and wait until its scripts have begun."""
    page.goto(url)
    ready(page)


def ready(page: Page) -> None:
    """Wait until a page's scripts have begun."""
    page.wait_for_selector("html[data-ready]", state="attached")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Run an Atoll with one location, and a browser."""
    data = tmp_path_factory.mktemp("dashboard") / "data"
    with (
        serving(data, locations="LHR", access_log="false") as server,
        browsing() as browser,
    ):
        desk = Desk(server, browser)
        yield desk
        desk.client.close()


@pytest.fixture(scope="module")
def rich(desk: Desk) -> str:
    """Make a namespace with something of everything in it, and return its id."""
    namespace = desk.namespace("everything")
    pairs: list[dict[str, object]] = [
        {"key": f"users/{number:03d}/profile", "value": f'{{"id":{number}}}'}
        for number in range(130)
    ]
    config: dict[str, object] = {
        "name": "atoll",
        "big": 12345678901234567890,
        "html": "<hr>",
        "inner": {"deep": [1, {"x": None}]},
    }
    more: list[dict[str, object]] = [
        {"key": "config.json", "value": json.dumps(config), "metadata": {"owner": "ops"}},
        {"key": "greeting", "value": "hello, <b>world</b>"},
        {"key": "session", "value": "s", "expiration_ttl": 5400},
        {"key": "empty", "value": ""},
        {"key": "a/b/c", "value": "deep"},
    ]
    desk.bulk(namespace, pairs + more)
    desk.put(namespace, "dot.png", PNG)
    desk.put(namespace, "blob.bin", bytes(range(256)))
    return namespace
