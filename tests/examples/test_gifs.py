"""GIFs, over HTTP and in a browser."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.examples.internet import BLACK_GIF, GIF, MOVED
from tests.examples.running import EXAMPLES, Answer, App, Site


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run the example; pictures come from the stand-in alone."""
    variables = {
        "HOSTS": f"127.0.0.1:1,{site.internet.removeprefix('http://')}",
        "PAGE": (EXAMPLES / "gifs" / "page.html").read_text(),
    }
    with site.running(form, "gifs", "GIFS", variables=lambda _: variables) as app:
        yield app


def upload(app: App, link: str, user: str) -> Answer:
    """Have a picture kept."""
    return app.fetch(f"/api/upload_gif/{quote(link, safe='')}?user={quote(user)}")


@pytest.mark.parametrize(
    ("user", "path", "gif"),
    [("ada", "/white.gif", GIF), ("bob", "/black.gif?size=1&x=%2F", BLACK_GIF)],
    ids=["white", "black"],
)
def test_a_picture_is_kept_and_shown(
    app: App, site: Site, user: str, path: str, gif: bytes
) -> None:
    """Byte for byte, whatever is in its link."""
    assert app.fetch(f"/api/view_gif/{user}").status == 404

    kept = upload(app, site.internet + path, user)

    assert (kept.status, kept.text) == (201, "Kept")
    shown = app.fetch(f"/api/view_gif/{user}")
    assert (shown.status, shown.body) == (200, gif)
    assert shown.headers["content-type"] == "image/gif"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert app.spaces["GIFS"].value(user) == gif


def test_an_empty_one_is_one(app: App) -> None:
    """Nothing in a value is not nothing under a key."""
    app.spaces["GIFS"].put("empty", b"")

    shown = app.fetch("/api/view_gif/empty")

    assert (shown.status, shown.body) == (200, b"")


@pytest.mark.parametrize(
    ("link", "user", "status"),
    [
        ("{site}/page.html", "eve", 502),
        ("{site}/elsewhere", "eve", 502),
        (f"{{site}}{MOVED}", "eve", 502),
        ("http://127.0.0.1:1/white.gif", "eve", 502),
        ("{site}/white.gif", "", 400),
        ("{site}/white.gif", "../eve", 400),
        ("/white.gif", "eve", 400),
        ("white.gif", "eve", 400),
        ("", "eve", 400),
        ("http://169.254.169.254/latest", "eve", 403),
        ("http://127.0.0.1/white.gif", "eve", 403),
        ("file:///etc/passwd", "eve", 403),
        ("{site}@127.0.0.1/white.gif", "eve", 403),
    ],
)
def test_nothing_else_is_kept(app: App, site: Site, link: str, user: str, status: int) -> None:
    """The status says why, and is a status."""
    said = upload(app, link.format(site=site.internet), user)

    assert said.status == status
    assert app.spaces["GIFS"].value("eve") is None


@pytest.mark.parametrize("user", ["nobody", "", "..%2Fx", "a%20b", "x" * 600])
def test_there_is_none_of_a_stranger(app: App, user: str) -> None:
    """404, whatever the name."""
    assert app.fetch(f"/api/view_gif/{user}").status == 404


def test_in_a_browser(app: App, site: Site, form: str, page: Page) -> None:
    """Who gives a link sees the picture; who gives a bad one is told."""
    page.goto(app.url)
    page.get_by_label("Name").fill(f"visitor-{form}")
    page.get_by_label("Link to a GIF").fill(f"{site.internet}/page.html")
    page.get_by_role("button").click()
    expect(page.get_by_role("status")).to_have_text("There is no GIF at this link")
    expect(page.locator("#gif")).to_be_hidden()

    page.get_by_label("Link to a GIF").fill(f"{site.internet}/white.gif")
    page.get_by_role("button").click()

    expect(page.get_by_role("status")).to_have_text("Kept")
    picture = page.get_by_role("img", name=f"The GIF of visitor-{form}")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 1)
    assert app.spaces["GIFS"].value(f"visitor-{form}") == GIF
