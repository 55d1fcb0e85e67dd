"""wrangler finds every namespace of an account, and comes to an end, however many there are."""

import json

import pytest

from tests.clients.crowd import CROWDS, Crowd, title
from tests.clients.plain import titles
from tests.clients.wrangler import Wrangler


@pytest.mark.parametrize("size", CROWDS)
def test_list_is_complete_and_ends(wrangler: Wrangler, crowd: Crowd, size: int) -> None:
    """Wrangler asks for pages until one is empty, and prints what all of them held."""
    there = wrangler.at(crowd(size))

    listed = json.loads(there.kv("namespace", "list").stdout)

    assert [row["title"] for row in listed] == [title(number) for number in range(size)]


@pytest.mark.parametrize("size", [100, 101])
def test_rename_by_name_finds_the_last_one(wrangler: Wrangler, crowd: Crowd, size: int) -> None:
    """Wrangler asks for pages of 100 until one is shorter; the last namespace is on that one."""
    there = wrangler.at(crowd(size))
    last = title(size - 1)
    last_id = titles(there.access)[last]

    there.kv("namespace", "rename", last, "--new-name", "renamed")
    renamed_id = titles(there.access).get("renamed")
    there.kv("namespace", "rename", "renamed", "--new-name", last)

    assert renamed_id == last_id
    assert titles(there.access)[last] == last_id


@pytest.mark.parametrize("size", [100, 101])
def test_rename_of_an_unknown_name_ends(wrangler: Wrangler, crowd: Crowd, size: int) -> None:
    """A name that no page has is told, after the last page and not never."""
    there = wrangler.at(crowd(size))

    complaint = there.refused("namespace", "rename", "no such name", "--new-name", "new")

    assert "no such name" in complaint
