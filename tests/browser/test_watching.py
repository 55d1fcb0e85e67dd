"""What moves while one looks: changes, locations, and where a key is."""

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Desk, go, ready
from tests.support.server import ATOLL, environment


def order(desk: Desk, *words: str) -> None:
    """Change the way between the location and central."""
    subprocess.run(
        [ATOLL, "dev", *words], env=environment(desk.server.data), check=True, capture_output=True
    )


@pytest.fixture
def healing(desk: Desk) -> Iterator[None]:
    """Heal the way after the test."""
    yield
    order(desk, "heal", "LHR")


def test_changes_appear_as_they_happen(desk: Desk) -> None:
    """Those under the prefix, the latest first; a page that is paused keeps them."""
    namespace = desk.namespace("moving")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/live?prefix=a"))
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        desk.put(namespace, "a1", "v")
        desk.put(namespace, "b1", "v")
        desk.client.delete(f"/v1/namespaces/{namespace}/values/a2").raise_for_status()
        expect(page.get_by_role("row").nth(1)).to_contain_text("deleted")
        expect(page.get_by_role("row").nth(2)).to_contain_text("a1")
        expect(page.get_by_role("row")).to_have_count(3)

        page.get_by_role("button", name="Pause").click()
        desk.put(namespace, "a3", "v")
        page.get_by_role("button", name="Go on (1 waiting)").click()
        expect(page.get_by_role("row").nth(1)).to_contain_text("a3")


def test_a_feed_whose_token_is_revoked_ends_in_words(desk: Desk) -> None:
    """It is not asked for again and again."""
    namespace = desk.namespace("live and revoked")
    token_id, secret = desk.token("read")

    with desk.signed_in(secret) as page:
        go(page, desk.page_of(namespace, "/live"))
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        desk.revoke(token_id)
        expect(page.get_by_text("your token was revoked")).to_be_visible(timeout=10_000)


def test_a_write_is_watched_as_it_arrives(desk: Desk) -> None:
    """A location that holds the key takes the new version, and the page says after how long."""
    namespace = desk.namespace("arriving", key="v")
    at_lhr = desk.server.running.locations["LHR"]
    desk.client.get(f"{at_lhr}/v1/namespaces/{namespace}/values/key").raise_for_status()
    before = desk.get(namespace, "key").headers["etag"]

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/where?key=key"))
        row = page.get_by_role("row").filter(has_text="LHR")
        expect(row).to_contain_text("current")
        page.get_by_role("button", name="Write it again").click()
        expect(row.locator('[data-say="arrived"]')).to_contain_text("s")

        # What a location holds nothing of has not arrived there.
        desk.put(namespace, "other", "v")
        go(page, desk.page_of(namespace, "/where?key=other"))
        page.get_by_role("button", name="Write it again").click()
        expect(page.locator('[data-where="central"] [data-say="arrived"]')).to_contain_text("s")
        for _ in range(2):
            with page.expect_response("**/where/other"):
                pass
        expect(row).to_contain_text("nothing")
        expect(row.locator('[data-say="arrived"]')).to_be_empty()
    after = desk.get(namespace, "key")
    assert (after.text, after.headers["etag"] != before) == ("v", True)


@pytest.mark.usefixtures("healing")
def test_a_location_is_cut_off_while_its_page_is_open(desk: Desk) -> None:
    """The page says so by itself, and says when it is back; and so does the list of locations."""
    namespace = desk.namespace("cut", key="v")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/where?key=key"))
        row = page.get_by_role("row").filter(has_text="LHR")
        expect(row).to_contain_text("nothing")
        listed = page.context.new_page()
        go(listed, f"{desk.server.url}/dashboard/locations")
        card = listed.get_by_role("region", name="LHR")
        expect(card).to_contain_text("connected")
        order(desk, "cut", "LHR")
        expect(row).to_contain_text("no answer", timeout=30_000)
        expect(card).to_contain_text("cut off", timeout=40_000)
        order(desk, "heal", "LHR")
        expect(row).to_contain_text("nothing", timeout=30_000)
        expect(card.get_by_text("connected")).to_be_visible(timeout=30_000)


def test_times_are_those_of_the_viewers_zone(desk: Desk) -> None:
    """Two viewers see one instant as two times."""
    namespace = desk.namespace("zones", key="v")
    seen: list[str] = []
    for zone in ("Asia/Tokyo", "America/Lima"):
        with desk.signed_in(timezone_id=zone, locale="en-GB") as page:
            go(page, desk.page_of(namespace, "/key?key=key"))
            seen.append(page.locator("dl time").first.inner_text())
            ready(page)

    assert seen[0] != seen[1]
    assert "UTC" not in "".join(seen)
