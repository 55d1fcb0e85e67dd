"""Mass redirects."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.running import App, Site

REDIRECTS = 10_000


@pytest.fixture(scope="module")
def app(site: Site, form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Run the example, with many redirects."""
    with site.running(
        form, "redirects", "REDIRECTS", variables=lambda _: {"ORIGIN": site.internet}
    ) as app:
        feed(site, app, tmp_path_factory.mktemp("redirects") / "redirects.ndjson")
        yield app


def feed(site: Site, app: App, file: Path) -> None:
    """Import them as the README says."""
    pairs = {f"/old/{n}": f"https://example.com/new/{n}" for n in range(REDIRECTS)}
    pairs |= {"/here": "/there?q=1", "/caf%C3%A9": "https://example.com/caf%C3%A9", "/empty": ""}
    lines = [json.dumps({"key": key, "value": value}) + "\n" for key, value in pairs.items()]
    file.write_text("".join(lines))
    site.command("import", app.spaces["REDIRECTS"].id, str(file))


@pytest.mark.parametrize("n", [0, 4_711, REDIRECTS - 1])
def test_a_path_that_is_known(app: App, n: int) -> None:
    """It leads to what was imported, whatever the query."""
    answer = app.fetch(f"/redirect/old/{n}?utm_source=mail")

    assert (answer.status, answer.headers["location"]) == (302, f"https://example.com/new/{n}")


def test_paths_as_urls_write_them(app: App) -> None:
    """A key is a path with its escapes."""
    assert app.fetch("/redirect/caf%C3%A9").headers["location"] == "https://example.com/caf%C3%A9"


def test_a_target_on_this_site(app: App) -> None:
    """It is told as a whole URL. An empty one is a value as well: the page itself."""
    assert app.fetch("/redirect/here").headers["location"] == f"{app.url}/there?q=1"
    answer = app.fetch("/redirect/empty")
    assert (answer.status, answer.headers["location"]) == (302, f"{app.url}/redirect/empty")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/redirect",
        "/redirected/old/1",
        "/redirect/unknown?q=%2F",
        f"/redirect/{'x' * 600}",
        "//elsewhere.example/redirect/old/1",
    ],
)
def test_everything_else_goes_to_the_origin(app: App, path: str) -> None:
    """As it came: method, path, query and body; and so does its answer."""
    answer = app.fetch(path, "POST", body=b"hello", headers={"X-Mine": "1"})

    assert (answer.status, answer.headers["x-origin"]) == (203, "yes")
    asked = answer.json
    assert (asked["method"], asked["body"]) == ("POST", "hello")
    # Scripts of 2019 have a URL that makes one slash of two, and never a host of what follows.
    assert asked["path"] in {path, path.replace("//", "/")}
    assert asked["headers"]["x-mine"] == "1"
