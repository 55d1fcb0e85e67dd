"""`atoll namespace`."""

from tests.cli.conftest import Atoll


def test_create_prints_the_id_and_list_shows_it(atoll: Atoll) -> None:
    """The id alone stands on standard output, for a script to keep."""
    created = atoll.ok("namespace", "create", "fruit & veg")

    assert len(created.text) == 32
    listed = atoll.ok("namespace", "list").text.splitlines()
    assert f"{created.text}\tfruit & veg" in listed


def test_a_title_that_is_taken_is_refused(atoll: Atoll, namespace: str) -> None:
    """The server's own words come through, with the code that scripts read."""
    refused = atoll.run("namespace", "create", namespace, "--json")

    assert refused.code == 1
    assert refused.error["code"] == "10014"
    assert refused.error["status"] == 400
    assert "already exists" in refused.error["message"]


def test_rename_keeps_the_id(atoll: Atoll, namespace: str) -> None:
    """By title or by id, and the new title is found at once."""
    renamed = atoll.ok("namespace", "rename", namespace, f"{namespace} renamed", "--json")
    again = atoll.ok("namespace", "rename", renamed.json["id"], f"{namespace} again")

    assert again.text == renamed.json["id"]
    titles = [row["title"] for row in atoll.ok("namespace", "list", "--json").json]
    assert f"{namespace} again" in titles
    assert namespace not in titles


def test_settings_are_shown_and_changed(atoll: Atoll, namespace: str) -> None:
    """What is not given stays, and what the server does not know is refused with the rule."""
    before = atoll.ok("namespace", "settings", namespace, "--json")
    atoll.ok("namespace", "settings", namespace, "--stale", "refuse")
    after = atoll.ok("namespace", "settings", namespace, "--bound", "30", "--json")
    refused = atoll.run("namespace", "settings", namespace, "--journal", "maybe", "--json")

    assert before.json == {"stale": "allow", "journal": "allow", "bound_s": None}
    assert after.json == {"stale": "refuse", "journal": "allow", "bound_s": 30}
    assert refused.code == 1
    assert "`allow` or `refuse`" in refused.error["message"]


def test_delete_asks_nobody_in_a_script(atoll: Atoll, namespace: str) -> None:
    """Without a terminal it does what it was told, and the keys are gone with the namespace."""
    atoll.ok("key", "put", namespace, "k", "v")

    atoll.ok("namespace", "delete", namespace)

    missing = atoll.run("key", "get", namespace, "k", "--json")
    assert missing.code == 3
    assert missing.error["code"] == "namespace_not_found"


def test_delete_asks_on_a_terminal(atoll: Atoll, namespace: str) -> None:
    """Who says no keeps everything; who said --yes is not asked."""
    said_no, question = atoll.on_a_terminal("namespace", "delete", namespace, answer=b"n\n")
    kept = atoll.ok("namespace", "list").text
    said_yes, _ = atoll.on_a_terminal("namespace", "delete", namespace, "--yes")

    assert said_no == 1
    assert b"every key in it?" in question
    assert namespace in kept
    assert said_yes == 0
    assert namespace not in atoll.ok("namespace", "list").text


def test_an_unknown_title_says_where_to_look(atoll: Atoll) -> None:
    """The message names what was asked for and the command that lists what there is."""
    missing = atoll.run("key", "list", "no such namespace")

    assert missing.code == 3
    assert "'no such namespace'" in missing.err
    assert "atoll namespace list" in missing.err


def test_an_empty_title_is_refused(atoll: Atoll) -> None:
    """A namespace needs a name."""
    refused = atoll.run("namespace", "create", "")

    assert refused.code == 1
    assert refused.out == b""
    assert "title" in refused.err
