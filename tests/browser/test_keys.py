"""Keys: browsing, reading, editing, and what happens when two do it at once."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PNG, Desk, go, ready


def say_yes(page: Page, name: str) -> None:
    """Press a button of the dialog that is open."""
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def test_keys_are_browsed_as_folders_and_flat(desk: Desk, rich: str) -> None:
    """Folders lead down and back up; flat shows every key; pages follow each other."""
    with desk.signed_in() as page:
        go(page, desk.page_of(rich))
        expect(page.get_by_role("row")).to_have_count(9)
        page.get_by_role("link", name="users/").click()
        expect(page.get_by_role("row")).to_have_count(101)
        page.get_by_role("link", name="Next page").click()
        expect(page.get_by_role("row")).to_have_count(31)
        expect(page.get_by_role("link", name="129/")).to_be_visible()
        page.get_by_role("link", name="all keys").click()
        page.get_by_role("link", name="a/").click()
        page.get_by_role("link", name="b/").click()
        page.get_by_role("link", name="c", exact=True).click()
        expect(page.locator("pre").first).to_have_text("deep")

        go(page, desk.page_of(rich, "?view=flat"))
        expect(page.get_by_role("row")).to_have_count(101)
        expect(page.get_by_role("link", name="a/b/c")).to_be_visible()


def test_an_exact_key_is_found_or_said_to_be_missing(desk: Desk, rich: str) -> None:
    """A key that is not there is told with what to do next."""
    with desk.signed_in() as page:
        go(page, desk.page_of(rich))
        page.get_by_label("Exact key").fill("greeting")
        page.get_by_label("Exact key").press("Enter")
        expect(page.locator("pre").first).to_have_text("hello, <b>world</b>")
        go(page, desk.page_of(rich, "/key?key=users/"))
        expect(page.get_by_role("heading", name="There is no key")).to_be_visible()
        page.get_by_role("link", name="Keys that begin with it").click()
        expect(page.get_by_role("row")).to_have_count(101)


def test_values_are_shown_for_what_they_are(desk: Desk, rich: str) -> None:
    """JSON folded and with its numbers as written, a picture, bytes, nothing, and a count-down."""
    with desk.signed_in() as page:
        go(page, desk.page_of(rich, "/key?key=config.json"))
        expect(page.locator(".json")).to_contain_text("12345678901234567890")
        expect(page.locator(".json")).to_contain_text('"<hr>"')
        expect(page.get_by_text('"x"').or_(page.get_by_text("null"))).to_be_hidden()
        page.locator("summary").filter(has_text="deep").click()
        page.locator("summary").filter(has_text="1 member").last.click()
        expect(page.get_by_text("null")).to_be_visible()
        expect(page.locator("pre").last).to_contain_text('"owner": "ops"')

        go(page, desk.page_of(rich, "/key?key=dot.png"))
        picture = page.get_by_role("img", name="The value of dot.png")
        assert picture.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }")

        go(page, desk.page_of(rich, "/key?key=blob.bin"))
        expect(page.locator("pre").first).to_contain_text("00 01 02 03")
        go(page, desk.page_of(rich, "/key?key=empty"))
        expect(page.get_by_text("The value is empty.")).to_be_visible()
        go(page, desk.page_of(rich, "/key?key=session"))
        expect(page.locator("[data-expires]")).to_contain_text("in 1 h")


def test_a_key_is_made_edited_and_deleted(desk: Desk) -> None:
    """With metadata and an expiration, which editing the value alone leaves as they are."""
    namespace = desk.namespace("edited", taken="v")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/new?prefix=folder/"))
        page.get_by_label("Key", exact=False).first.fill("taken")
        page.get_by_role("textbox", name="Value").fill("one")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("exists already")
        page.locator("#key").fill("folder/ключ ?&#%")
        page.get_by_label("Metadata").fill("{not json")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("not JSON")
        page.get_by_label("Metadata").fill('{"naïve": "✓"}')
        page.get_by_label("Expires").select_option(label="in a day")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("heading", name="folder/ключ ?&#%")).to_be_visible()
        first = desk.get(namespace, "folder%2F%D0%BA%D0%BB%D1%8E%D1%87%20%3F%26%23%25")
        assert json.loads(first.headers["atoll-metadata"]) == {"naïve": "✓"}

        ready(page)
        page.get_by_role("link", name="Edit", exact=True).click()
        ready(page)
        page.get_by_role("textbox", name="Value").fill("two\nlines")
        expect(page.get_by_text("Saved.")).to_have_count(0)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        second = desk.get(namespace, "folder%2F%D0%BA%D0%BB%D1%8E%D1%87%20%3F%26%23%25")
        assert second.text == "two\nlines"
        for header in ("atoll-metadata", "atoll-expiration"):
            assert second.headers[header] == first.headers[header]

        ready(page)
        page.get_by_role("button", name="Delete").click()
        say_yes(page, "Delete")
        expect(page.get_by_text("Deleted.")).to_be_visible()
    assert (
        desk.get(namespace, "folder%2F%D0%BA%D0%BB%D1%8E%D1%87%20%3F%26%23%25").status_code == 404
    )


def test_line_ends_survive_an_edit(desk: Desk) -> None:
    """Lines that ended in carriage return and line feed still do."""
    namespace = desk.namespace("lines")
    desk.put(namespace, "crlf", b"\r\none\r\ntwo\r\n")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/key?key=crlf&edit=1"))
        page.get_by_role("textbox", name="Value").press("Control+End")
        page.get_by_role("textbox", name="Value").press_sequentially("three")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.")).to_be_visible()
    assert desk.get(namespace, "crlf").content == b"\r\none\r\ntwo\r\nthree"


def test_two_browsers_edit_one_key(desk: Desk) -> None:
    """The slower sees both values, nothing is lost, and overwriting is a decision."""
    namespace = desk.namespace("contended", key="first")

    with desk.signed_in() as fast, desk.signed_in() as slow:
        for page, text in ((fast, "from the fast one"), (slow, "from the slow one")):
            go(page, desk.page_of(namespace, "/key?key=key&edit=1"))
            page.get_by_role("textbox", name="Value").fill(text)
        fast.get_by_role("button", name="Save", exact=True).click()
        expect(fast.get_by_text("Saved.")).to_be_visible()
        slow.get_by_role("button", name="Save", exact=True).click()
        both = slow.get_by_role("region", name="Somebody was faster")
        expect(both).to_contain_text("from the fast one")
        expect(both).to_contain_text("from the slow one")
        assert desk.get(namespace, "key").text == "from the fast one"

        desk.put(namespace, "key", "from a program")
        slow.get_by_role("button", name="Save mine over it").click()
        expect(both).to_contain_text("from a program")
        assert desk.get(namespace, "key").text == "from a program"
        slow.get_by_role("button", name="Save mine over it").click()
        expect(slow.get_by_text("Saved.")).to_be_visible()
    assert desk.get(namespace, "key").text == "from the slow one"


def test_a_key_that_changed_is_not_deleted(desk: Desk) -> None:
    """The page that asks is out of date, and says so."""
    namespace = desk.namespace("changed", key="first")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "/key?key=key"))
        desk.put(namespace, "key", "second")
        page.get_by_role("button", name="Delete").click()
        say_yes(page, "Delete")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("was changed")
    assert desk.get(namespace, "key").text == "second"


def test_several_keys_are_deleted(desk: Desk) -> None:
    """Those that were chosen, and no others."""
    namespace = desk.namespace("several", a="1", b="2", c="3")

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace))
        page.get_by_label("Select all").check()
        page.get_by_label("Select b").uncheck()
        page.get_by_role("button", name="Delete 2 keys").click()
        say_yes(page, "Delete")
        expect(page.get_by_text("Deleted 2 keys.")).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(2)
    assert [desk.get(namespace, key).status_code for key in "abc"] == [404, 200, 404]


DROP = """async ([name, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name));
  const options = {dataTransfer: files, bubbles: true, cancelable: true};
  document.querySelector("main").dispatchEvent(new DragEvent("drop", options));
}"""


def test_files_are_uploaded_by_choosing_and_by_dropping(desk: Desk, tmp_path: Path) -> None:
    """Each becomes a key where one looks; one that is there is replaced only on purpose."""
    namespace = desk.namespace("uploads", **{"note.txt": "there before"})
    picture = tmp_path / "dot.png"
    picture.write_bytes(PNG)

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace, "?prefix=img/"))
        page.locator("[data-files]").set_input_files([picture])
        expect(page.get_by_role("link", name="dot.png")).to_be_visible()
        assert desk.get(namespace, "img%2Fdot.png").content == PNG

        go(page, desk.page_of(namespace))
        page.evaluate(DROP, ["note.txt", "dropped"])
        expect(page.get_by_text("note.txt exists already")).to_be_visible()
        assert desk.get(namespace, "note.txt").text == "there before"
        page.get_by_role("button", name="Replace it").click()
        expect(page.get_by_text("Replaced.")).to_be_visible()
    assert desk.get(namespace, "note.txt").text == "dropped"


def test_what_was_exported_can_be_imported(desk: Desk, tmp_path: Path) -> None:
    """Text, bytes, metadata and large values come out as they went in."""
    source, target = desk.namespace("source"), desk.namespace("target")
    desk.bulk(source, [{"key": f"k{n}", "value": str(n)} for n in range(1200)])
    desk.bulk(source, [{"key": "meta", "value": "m", "metadata": {"a": [1]}}])
    desk.put(source, "bytes", bytes(range(256)))
    desk.put(source, "large", b"\xff" * 2_000_000)

    with desk.signed_in() as page:
        go(page, desk.page_of(source))
        with page.expect_download() as saved:
            page.get_by_role("button", name="Export").click()
        expect(page.get_by_text("Exported 1203 keys")).to_be_visible()
        file = tmp_path / "export.ndjson"
        saved.value.save_as(file)

        go(page, desk.page_of(target))
        page.locator("[data-import]").set_input_files([file])
        expect(page.get_by_text("Imported 1203 keys.")).to_be_visible()
    for key in ("k7", "bytes", "large"):
        assert desk.get(target, key).content == desk.get(source, key).content
    assert desk.get(target, "meta").headers["atoll-metadata"] == '{"a":[1]}'


@pytest.mark.parametrize("act", ["Import", "Export"])
def test_long_work_is_cancelled(desk: Desk, tmp_path: Path, act: str) -> None:
    """It stops, and says what stays."""
    namespace = desk.namespace(f"cancelled {act}")
    desk.bulk(namespace, [{"key": f"k{n:04d}", "value": "v"} for n in range(1500)])
    file = tmp_path / "many.ndjson"
    file.write_text("".join(f'{{"key":"n{n}","value":"v"}}\n' for n in range(5000)))

    with desk.signed_in() as page:
        go(page, desk.page_of(namespace))
        held: list[Route] = []
        for held_up in ("**/bulk", "**/keys?*"):
            page.route(held_up, lambda route: held.append(route))  # noqa: PLW0108 - it is marked
        if act == "Import":
            page.locator("[data-import]").set_input_files([file])
        else:
            page.get_by_role("button", name="Export").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled.")).to_be_visible()
        assert len(held) == 1
    assert desk.get(namespace, "n4999").status_code == 404
