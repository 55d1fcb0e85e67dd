"""Whoever looks, and with what: no barriers, no overflow, a keyboard alone, a small first view."""

import gzip

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import AXE, Desk, go, ready

PAGES = (
    "",
    "?prefix=users/",
    "?view=flat",
    "?prefix=none/",
    "/key?key=config.json",
    "/key?key=config.json&edit=1",
    "/key?key=dot.png",
    "/key?key=blob.bin",
    "/key?key=missing",
    "/new",
    "/where?key=greeting",
    "/live",
)
FIRST_VIEW_BYTES_MAX = 100_000


def barriers(page: Page) -> list[str]:
    """Return what axe finds on a page."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: `make clients` installs it")
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run()")["violations"]
    return [
        f"{page.url}: {one['id']}: {node['target']} {node.get('failureSummary')}"
        for one in found
        for node in one["nodes"]
    ]


def everywhere(desk: Desk, namespace: str) -> list[str]:
    """Return where all pages are."""
    tops = [
        f"{desk.server.url}/dashboard/{name}"
        for name in ("", "tokens", "usage", "locations", "none")
    ]
    return [*tops, *(desk.page_of(namespace, rest) for rest in PAGES)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_or_overflows(desk: Desk, rich: str, scheme: str) -> None:
    """At the widths of a phone, a tablet and a desk, axe finds nothing and nothing sticks out."""
    desk.token("read")
    faults: list[str] = []
    with desk.signed_in(color_scheme=scheme, reduced_motion="reduce") as page:
        for url in everywhere(desk, rich):
            go(page, url)
            faults += barriers(page)
            for width in (360, 768, 1440):
                page.set_viewport_size({"width": width, "height": 800})
                wide = page.evaluate("document.documentElement.scrollWidth")
                faults += [f"{url} is {wide} wide at {width}"] if wide > width else []
    assert faults == []


def test_dialogs_and_the_sign_in_have_no_barrier(desk: Desk, rich: str) -> None:
    """What opens over a page is looked at as well."""
    with desk.window() as context:
        page = context.new_page()
        go(page, f"{desk.server.url}/dashboard/sign-in")
        assert barriers(page) == []
    with desk.signed_in(reduced_motion="reduce") as page:
        ready(page)
        for name in ("New namespace", "Rename everything", "Delete everything"):
            page.get_by_role("button", name=name).click()
            assert barriers(page) == []
            page.keyboard.press("Escape")
        go(page, f"{desk.server.url}/dashboard/tokens")
        page.get_by_role("button", name="New token").click()
        assert barriers(page) == []
        go(page, desk.page_of(rich, "/key?key=greeting"))
        page.get_by_role("button", name="Delete").click()
        assert barriers(page) == []


def test_a_keyboard_is_enough(desk: Desk) -> None:
    """From the top of the page to a saved value, without a pointer; focus is always somewhere."""
    namespace = desk.namespace("by keyboard", key="before")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace))
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "key":
                break
        page.keyboard.press("Enter")
        page.wait_for_url("**/key?key=key")
        ready(page)
        edit = page.get_by_role("link", name="Edit", exact=True)
        edit.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**edit=1")
        ready(page)
        page.get_by_role("textbox", name="Value").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type("after")
        page.get_by_role("button", name="Save", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Saved.")).to_be_visible()
    assert desk.get(namespace, "key").text == "after"


def test_everything_is_readable_without_scripts(desk: Desk, rich: str) -> None:
    """Pages come whole: there is nothing to wait for."""
    with desk.signed_in(java_script_enabled=False) as page:
        page.goto(desk.page_of(rich))
        expect(page.get_by_role("row")).to_have_count(9)
        page.get_by_role("link", name="config.json").click()
        expect(page.locator(".json")).to_contain_text("atoll")


def test_the_first_view_is_small(desk: Desk) -> None:
    """Page, style and all scripts together, compressed, stay below 100 kB."""
    with desk.window() as context:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        go(page, desk.server.url + "/dashboard/sign-in")
    sizes = [len(gzip.compress(httpx.get(url).content)) for url in dict.fromkeys(asked)]

    assert 0 < sum(sizes) < FIRST_VIEW_BYTES_MAX
