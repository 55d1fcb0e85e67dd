"""To-do list, over HTTP and in a browser."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.examples.running import Answer, App, Site, until

VISITOR = "01234567-89ab-4cde-8f01-23456789abcd"
MILK = {"text": "milk", "done": False}


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run the example."""
    with site.running(form, "todo", "LISTS") as app:
        yield app


def load(app: App, visitor: str) -> Answer:
    """Ask for a visitor's list."""
    return app.fetch("/things", headers={"Cookie": f"a=b; visitor={visitor}"})


def save(app: App, visitor: str, body: bytes) -> Answer:
    """Keep it."""
    return app.fetch("/things", "PUT", body=body, headers={"Cookie": f"visitor={visitor}"})


def test_a_list_is_kept(app: App) -> None:
    """Empty at first, and when it was emptied; a year after the last change it goes."""
    assert (load(app, VISITOR).status, load(app, VISITOR).json) == (200, [])

    assert save(app, VISITOR, json.dumps([MILK]).encode()).status == 204

    assert load(app, VISITOR).json == [MILK]
    (row,) = app.spaces["LISTS"].rows(prefix=VISITOR)
    assert row.expiration is not None
    until(lambda: save(app, VISITOR, b"[]").status, lambda status: status == 204)
    assert load(app, VISITOR).json == []


def test_once_a_second(app: App) -> None:
    """The second is told to wait, and the first stays."""
    visitor = VISITOR.replace("0", "1")
    saved = [save(app, visitor, json.dumps([{**MILK, "text": text}]).encode()) for text in "ab"]

    assert [answer.status for answer in saved] == [204, 429]
    assert saved[1].headers["retry-after"] == "1"
    assert load(app, visitor).json == [{"text": "a", "done": False}]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "{}",
        '"text"',
        "[1]",
        "[null]",
        '[{"text": "no mark"}]',
        '[{"text": 1, "done": true}]',
        '[{"text": "more", "done": true, "more": 1}]',
        json.dumps([{"text": "x" * 201, "done": False}]),
        json.dumps([MILK] * 101),
    ],
)
def test_only_lists_are_kept(app: App, body: str) -> None:
    """What the page would not send is refused."""
    visitor = VISITOR.replace("0", "2")

    assert save(app, visitor, body.encode()).status == 400

    assert app.spaces["LISTS"].value(visitor) is None


@pytest.mark.parametrize("visitor", ["", "x", VISITOR + "0", "../" + VISITOR])
def test_who_is_unknown_has_no_list(app: App, visitor: str) -> None:
    """The page gives an identity; nothing else is one."""
    assert load(app, visitor).status == 401
    assert save(app, visitor, b"[]").status == 401


def test_the_page_gives_an_identity(app: App) -> None:
    """A new one to who has none, in a cookie that no script sees; otherwise the same."""
    new = [app.fetch("/").headers["set-cookie"] for _ in range(2)]
    again = app.fetch("/", headers={"Cookie": f"visitor={VISITOR}"}).headers["set-cookie"]

    assert new[0] != new[1]
    assert again.startswith(f"visitor={VISITOR};")
    for cookie in (*new, again):
        for part in ("httponly", "samesite=strict", "path=/", "max-age=31536000"):
            assert part in cookie.lower()


def add(page: Page, *texts: str) -> None:
    """Type things to do."""
    for text in texts:
        page.get_by_label("What").fill(text)
        page.get_by_role("button", name="Add").click()


def test_in_a_browser(app: App, page: Page, browser: Browser) -> None:
    """Things typed at once are all kept, as text; others see none of them."""
    things = ["milk", "<b>bold</b> & <script>bad()</script>", "bread"]
    page.goto(app.url)
    expect(page.get_by_role("status")).to_have_text("Loaded")
    add(page, *things)
    page.get_by_label("bread").check()
    expect(page.get_by_role("status")).to_have_text("Saved")

    page.reload()
    expect(page.get_by_role("listitem").locator("label")).to_have_text(things)
    expect(page.get_by_label("bread")).to_be_checked()
    expect(page.get_by_label("milk")).not_to_be_checked()
    page.get_by_role("listitem").filter(has_text="milk").get_by_role("button").click()
    expect(page.get_by_role("status")).to_have_text("Saved")
    page.reload()
    expect(page.get_by_role("listitem").locator("label")).to_have_text(things[1:])

    with browser.new_context() as stranger:
        other = stranger.new_page()
        other.goto(app.url)
        expect(other.get_by_role("status")).to_have_text("Loaded")
        expect(other.get_by_role("listitem")).to_have_count(0)
