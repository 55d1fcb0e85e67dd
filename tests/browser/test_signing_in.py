"""Signing in and out, and what a session may do."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Desk, go, ready, sign_in


def session_of(page: Page) -> dict[str, str]:
    """Return the header that a browser sends for its session."""
    (cookie,) = page.context.cookies()
    return {"Cookie": f"{cookie.get('name')}={cookie.get('value')}"}


def test_a_link_works_once(desk: Desk) -> None:
    """Who opens it first is signed in; who opens it again is told so."""
    link = desk.server.dashboard

    with desk.window() as first, desk.window() as second:
        page = first.new_page()
        page.goto(link)
        expect(page.get_by_role("heading", name="Namespaces")).to_be_visible()
        again = second.new_page()
        again.goto(link)
        expect(again.get_by_role("alert")).to_contain_text("used already")


def test_a_token_signs_in_to_where_one_wanted_to_go(desk: Desk) -> None:
    """A link to any state leads there, past the sign-in; a wrong token is told so."""
    namespace = desk.namespace("linked")

    with desk.window() as context:
        page = context.new_page()
        page.goto(desk.page_of(namespace, "?view=flat"))
        page.get_by_label("Token").fill("atoll_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("No such token")

        page.goto(desk.page_of(namespace, "?view=flat"))
        page.get_by_label("Token").fill(desk.server.running.token)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(desk.page_of(namespace, "?view=flat"))


def test_the_cookie_is_kept_from_scripts_and_other_sites(desk: Desk) -> None:
    """It is HttpOnly and SameSite=Strict, and is no token; signing out ends what it stood for."""
    with desk.signed_in() as page:
        ready(page)
        held = session_of(page)
        (cookie,) = page.context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
        assert desk.server.running.token not in str(cookie)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    answer = httpx.get(f"{desk.server.url}/dashboard/", headers=held)
    assert (answer.status_code, "/sign-in" in answer.headers["location"]) == (303, True)


def test_pages_allow_no_script_but_their_own(desk: Desk) -> None:
    """The policy names no exception, and a page holds nothing that would need one."""
    answer = httpx.get(f"{desk.server.url}/dashboard/sign-in")
    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.search(r"<script(?! type=\"module\" src=)| style=| on[a-z]+=", answer.text) is None


def test_a_write_without_the_pages_own_token_is_refused(desk: Desk) -> None:
    """The cookie alone writes nothing, however good it is; it reads."""
    namespace = desk.namespace("guarded", key="before")
    with desk.signed_in() as page:
        ready(page)
        held = session_of(page)
    url = f"{desk.server.url}/dashboard/api/v1/namespaces/{namespace}/values/key"

    assert httpx.put(url, content="after", headers=held).status_code == 401
    wrong = {**held, "Atoll-CSRF": "guessed"}
    assert httpx.put(url, content="after", headers=wrong).status_code == 401
    assert httpx.get(url, headers=held).text == "before"
    # Another port of the same host is another origin, though browsers send it the cookie.
    other = {**held, "Sec-Fetch-Site": "same-site"}
    assert httpx.get(url, headers=other).status_code == 401
    form = {"token": desk.server.running.token}
    elsewhere = {"Origin": "https://elsewhere.example"}
    there = f"{desk.server.url}/dashboard/sign-in"
    assert httpx.post(there, data=form, headers=elsewhere).status_code == 403


def test_a_viewer_sees_no_buttons_and_is_refused_anyway(desk: Desk, rich: str) -> None:
    """What a token may not do is not offered, and not done by who asks nevertheless."""
    _, secret = desk.token("read")

    with desk.signed_in(secret) as page:
        ready(page)
        expect(page.get_by_role("link", name="everything")).to_be_visible()
        for name in ("New namespace", "Rename", "Delete"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        for name in ("Tokens", "Locations"):
            expect(page.get_by_role("link", name=name)).to_have_count(0)
        go(page, desk.page_of(rich))
        for name in ("New key", "Upload files", "Import"):
            expect(page.get_by_text(name, exact=True)).to_have_count(0)
        go(page, desk.page_of(rich, "/key?key=greeting&edit=1"))
        expect(page.get_by_role("textbox", name="Value")).to_have_count(0)

        said = page.evaluate(
            """async ([namespace]) => {
              const csrf = document.querySelector('meta[name="csrf-token"]').content;
              const options = {method: "PUT", body: "mine", headers: {"Atoll-CSRF": csrf}};
              const path = `/dashboard/api/v1/namespaces/${namespace}/values/greeting`;
              return (await fetch(path, options)).status;
            }""",
            [rich],
        )
        assert said == 403
        page.goto(f"{desk.server.url}/dashboard/tokens")
        expect(page.get_by_role("alert")).to_contain_text("do not allow")
    assert desk.get(rich, "greeting").text == "hello, <b>world</b>"


def test_a_token_for_one_namespace_sees_that_one(desk: Desk, rich: str) -> None:
    """The others are neither listed nor opened."""
    mine = desk.namespace("only mine")
    _, secret = desk.token("write", namespaces=[mine])

    with desk.signed_in(secret) as page:
        ready(page)
        expect(page.get_by_role("row")).to_have_count(2)
        page.goto(desk.page_of(rich))
        expect(page.get_by_role("alert")).to_contain_text("do not allow")


def test_a_revoked_token_ends_its_sessions(desk: Desk) -> None:
    """A write is refused in words, with a way on; the next page asks to sign in."""
    namespace = desk.namespace("revoked", key="before")
    token_id, secret = desk.token("write")

    with desk.signed_in(secret) as page:
        go(page, desk.page_of(namespace, "/key?key=key&edit=1"))
        page.get_by_role("textbox", name="Value").fill("after")
        desk.revoke(token_id)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("revoked")
        page.get_by_role("alert").get_by_role("link", name="Sign in").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        sign_in(page, desk.server.url, desk.server.running.token)
    assert desk.get(namespace, "key").text == "before"
