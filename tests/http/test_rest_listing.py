"""REST v4, listing keys: order, prefixes, pages and cursors."""

import base64
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import CursorInvalidError
from atoll.core.limits import Limits
from atoll.http.cursor import cursor_after, key_before
from tests.http.site import Site

pytestmark = pytest.mark.anyio

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


async def fill(site: Site, keys: list[str]) -> None:
    """Store an empty value under each key."""
    pairs = [{"key": key, "value": ""} for key in keys]
    assert (await site.ask_json("PUT", f"{site.home}/bulk", pairs)).status == 200


async def listed(site: Site, query: str, *, pages_max: int = 100) -> list[list[str]]:
    """Follow cursors to the end and return the names, page by page."""
    pages: list[list[str]] = []
    cursor = ""
    for _ in range(pages_max):
        reply = await site.ask("GET", f"{site.home}/keys?{query}&cursor={cursor}")
        names = [row["name"] for row in reply.result]
        info = reply.json()["result_info"]
        assert info["count"] == len(names)
        pages.append(names)
        cursor = info["cursor"]
        if not cursor:
            return pages
        assert names, "an empty page with a cursor makes clients stop"
    raise AssertionError("the listing has no end")


async def test_keys_come_in_the_order_of_their_bytes(site: Site) -> None:
    """Neither UTF-16 nor any alphabet decides."""
    keys = ["", "￿", "𐀀", "é", "z", "Z", "a/b", "a", "a\x00", "10", "9"]
    await fill(site, [key for key in keys if key])

    assert await site.keys() == sorted((k for k in keys if k), key=str.encode)


@pytest.mark.parametrize("prefix", ["a b", "a+b", "a&b", "a/b", "ключ", "a=b", "%", "a"])
async def test_prefixes_are_form_encoded(site: Site, prefix: str) -> None:
    """A plus sign in a query is a space, as clients write it."""
    await fill(site, [f"{prefix}{i}" for i in range(3)] + ["other", "A"])

    pages = await listed(site, f"prefix={quote_plus(prefix)}")

    assert pages == [[f"{prefix}{i}" for i in range(3)]]


async def test_an_empty_prefix_and_an_empty_cursor_mean_everything(site: Site) -> None:
    """Wrangler sends `prefix=` always."""
    await fill(site, ["a", "b"])

    assert await listed(site, "prefix=") == [["a", "b"]]
    assert await listed(site, "prefix=&cursor=") == [["a", "b"]]


async def test_2500_keys_are_three_pages(site: Site) -> None:
    """The default page holds a thousand, and together they are complete and in order."""
    keys = [f"k{i:04}" for i in range(2500)]
    await fill(site, keys)

    pages = await listed(site, "prefix=")

    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [key for page in pages for key in page] == keys


async def test_a_full_last_page_is_the_last(site: Site) -> None:
    """Exactly as many keys as a page holds: no cursor, for the page behind it would be empty."""
    await fill(site, [f"k{i:02}" for i in range(20)])

    assert [len(page) for page in await listed(site, "limit=10")] == [10, 10]


async def test_pages_under_writes_neither_repeat_nor_drop(site: Site) -> None:
    """Keys that were there throughout appear once, whatever comes and goes around the cursor."""
    stay = [f"k{i:02}" for i in range(40)]
    await fill(site, [*stay, *(f"k{i:02}-gone" for i in range(40))])
    seen: list[str] = []
    cursor = ""
    for step in range(20):
        reply = await site.ask("GET", f"{site.home}/keys?limit=10&cursor={cursor}")
        seen += [row["name"] for row in reply.result]
        cursor = reply.json()["result_info"]["cursor"]
        if not cursor:
            break
        assert reply.result
        await site.ask("DELETE", site.value(seen[-1])) if seen[-1].endswith("gone") else None
        gone = [f"k{i:02}-gone" for i in range(step * 4, step * 4 + 8)]
        await site.ask_json("DELETE", f"{site.home}/bulk", gone)
        await fill(site, [f"k{step:02}-new", f"k{39 - step:02}-new"])

    assert not cursor
    assert len(seen) == len(set(seen))
    assert [key for key in seen if key in stay] == stay


@pytest.mark.parametrize("limit", ["10", "10.0", "1000", "0010"])
async def test_limits_in_range_pass(site: Site, limit: str) -> None:
    """The SDK sends floats."""
    assert (await site.ask("GET", f"{site.home}/keys?limit={limit}")).status == 200


async def test_rows_leave_out_what_is_not_there(site: Site) -> None:
    """No null metadata, no null expiration."""
    await site.put("a", b"")
    await site.put("b", b"", "?expiration_ttl=60")

    assert (await site.ask("GET", f"{site.home}/keys")).result == [
        {"name": "a"},
        {"name": "b", "expiration": 1_800_000_060},
    ]


@given(texts, texts)
def test_a_cursor_leads_back_to_its_key(prefix: str, rest: str) -> None:
    """In its own listing, for any key; in another it is refused."""
    key = prefix + rest
    cursor = cursor_after("a" * 32, prefix, key)

    assert key_before("a" * 32, prefix, cursor) == key
    for namespace, other in (("b" * 32, prefix), ("a" * 32, prefix + "x")):
        with pytest.raises(CursorInvalidError):
            key_before(namespace, other, cursor)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: base64.b64encode(b).decode()))
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    """Whatever its characters."""
    with pytest.raises(CursorInvalidError):
        key_before("a" * 32, "", cursor)


async def test_pages_have_no_more_keys_than_the_limit_in_force(tmp_path: Path) -> None:
    """The limit is also the default."""
    site = await Site.make(tmp_path, limits=Limits(list_keys_max=12))
    await fill(site, [f"k{i:02}" for i in range(20)])

    assert [len(page) for page in await listed(site, "prefix=")] == [12, 8]
    assert (await site.ask("GET", f"{site.home}/keys?limit=13")).refused == (400, 10028)
