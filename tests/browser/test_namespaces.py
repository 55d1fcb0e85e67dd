"""Namespaces and tokens: what a table shows, and what its buttons do."""

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import Desk, go, ready


def test_namespaces_are_made_renamed_and_deleted(desk: Desk) -> None:
    """Deleting says how much goes, and asks for the title."""
    with desk.signed_in() as page:
        ready(page)
        page.get_by_role("button", name="New namespace").click()
        page.get_by_role("textbox", name="Title", exact=True).fill("fresh <i>")
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_role("heading", name="fresh <i>")).to_be_visible()
        namespace = page.url.rpartition("/")[2]
        desk.bulk(namespace, [{"key": f"k{n}", "value": "v"} for n in range(3)])

        go(page, f"{desk.server.url}/dashboard/")
        row = page.get_by_role("row").filter(has_text="fresh <i>")
        expect(row).to_contain_text("3")
        row.get_by_role("button", name="Rename").click()
        page.get_by_role("textbox", name="Title", exact=True).fill("renamed")
        page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        expect(page.get_by_role("link", name="renamed")).to_be_visible()

        ready(page)
        row = page.get_by_role("row").filter(has_text="renamed")
        row.get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("3 keys")
        dialog.get_by_role("textbox").fill("something else")
        dialog.get_by_role("button", name="Delete namespace").click()
        expect(dialog.get_by_role("alert")).to_contain_text("Nothing was deleted")
        dialog.get_by_role("textbox").fill("renamed")
        dialog.get_by_role("button", name="Delete namespace").click()
        expect(page.get_by_role("link", name="renamed")).to_have_count(0)
    assert desk.get(namespace, "k0").status_code == 404


def test_a_title_that_is_taken_is_told_in_words(desk: Desk) -> None:
    """The dialog stays, with what was typed."""
    desk.namespace("taken")

    with desk.signed_in() as page:
        ready(page)
        page.get_by_role("button", name="New namespace").click()
        page.get_by_role("textbox", name="Title", exact=True).fill("taken")
        page.get_by_role("textbox", name="Title", exact=True).press("Enter")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("already")
        expect(page.get_by_role("textbox", name="Title", exact=True)).to_have_value("taken")


def test_usage_is_shown_with_its_statement(desk: Desk) -> None:
    """What a program did stands there, added up, and the same as a statement of the month."""
    namespace = desk.namespace("counted")
    for number in range(7):
        desk.put(namespace, f"k{number}", "v")
        desk.get(namespace, f"k{number}")

    with desk.signed_in() as page:
        go(page, f"{desk.server.url}/dashboard/usage")
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name="counted"))
        expect(row.get_by_role("cell").nth(0)).to_have_text("7")
        expect(row.get_by_role("cell").nth(1)).to_have_text("7")
        expect(page.get_by_role("table", name="Statement")).to_contain_text("storage")
        page.get_by_role("link", name="7 days").click()
        expect(row.get_by_role("cell").nth(1)).to_have_text("7")
        page.get_by_label("Prices").select_option("2019")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("table", name="Statement")).to_contain_text("0.00")
        go(page, f"{desk.server.url}/dashboard/")
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name="counted"))
        expect(row.get_by_role("img", name="14 operations")).to_be_visible()


def test_tokens_are_made_shown_once_and_revoked(desk: Desk) -> None:
    """A token is for what was chosen, its secret is never seen again, and revoking ends it."""
    namespace = desk.namespace("for a token", key="v")

    with desk.signed_in() as page:
        go(page, f"{desk.server.url}/dashboard/tokens")
        page.get_by_role("button", name="New token").click()
        page.get_by_role("textbox", name="Name").fill("deploy bot")
        page.get_by_label("read and write").check()
        page.get_by_label("Reaches").select_option(label="for a token")
        page.get_by_label("Expires").select_option(label="in a week")
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.locator(".secret")).to_contain_text("atoll_")
        secret = page.locator(".secret").inner_text()
        page.get_by_role("button", name="I have it").click()
        row = page.get_by_role("row").filter(has_text="deploy bot")
        expect(row).to_contain_text("read and write")
        expect(row).to_contain_text("for a token")
        assert secret not in page.content()

        url = f"{desk.server.url}/v1/namespaces/{namespace}/values/key"
        bearer = {"Authorization": f"Bearer {secret}"}
        assert httpx.get(url, headers=bearer).text == "v"
        ready(page)
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(row).to_have_count(0)
        assert httpx.get(url, headers=bearer).status_code == 401
