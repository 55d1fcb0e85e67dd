"""Blocking."""

from collections.abc import Iterator

import pytest

from tests.examples.running import Answer, App, Site

WEEK_S = 7 * 24 * 60 * 60


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run the example."""
    with site.running(
        form, "blocking", "BLOCKED", variables=lambda _: {"ORIGIN": site.internet}
    ) as app:
        yield app


def visit(app: App, address: str, path: str = "/page") -> Answer:
    """Ask for a page from an address."""
    return app.fetch(path, headers={"CF-Connecting-IP": address})


@pytest.mark.parametrize(
    ("blocked", "key", "written"),
    [
        ("203.0.113.9", "203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1", "2001:DB8::1"),
        ("2001%3ADB8%3A%3A2", "2001:db8::2", "2001:db8::2"),
    ],
)
def test_who_is_blocked_gets_403(app: App, blocked: str, key: str, written: str) -> None:
    """With an empty value, at once, everywhere, however the address is written; for a week."""
    assert visit(app, written).status == 203

    said = app.fetch(f"/block/{blocked}")

    assert (said.status, said.text) == (200, f"{key} is blocked for a week")
    assert app.spaces["BLOCKED"].value(key) == b""
    expiration = app.spaces["BLOCKED"].expiration(key)
    assert expiration is not None
    (row,) = app.spaces["BLOCKED"].rows(prefix=key)
    assert row.expiration == expiration
    for path in ("/page", "/", "/block/198.51.100.1"):
        refused = visit(app, written, path)
        assert (refused.status, refused.text) == (403, "You are blocked!")
    assert app.spaces["BLOCKED"].value("198.51.100.1") is None


def test_all_others_reach_the_origin(app: App) -> None:
    """Neighbours, and whose address nobody told."""
    app.fetch("/block/192.0.2.1")

    assert visit(app, "192.0.2.1").status == 403
    for other in (visit(app, "192.0.2.10"), visit(app, "null"), app.fetch("/page")):
        assert (other.status, other.json["path"]) == (203, "/page")


@pytest.mark.parametrize(
    "text", ["", "everybody", "1.2.3", "1.2.3.256", "::1]:80/x[", "a/b", "1:2"]
)
def test_only_addresses_can_be_blocked(app: App, text: str) -> None:
    """What is none is refused, and nothing is stored."""
    before = app.spaces["BLOCKED"].names()

    assert app.fetch(f"/block/{text}").status == 400

    assert app.spaces["BLOCKED"].names() == before
