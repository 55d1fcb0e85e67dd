"""What people see, where there is a terminal."""

import json

import pytest

from tests.cli.conftest import Atoll


def test_lists_are_tables_with_headings(atoll: Atoll, namespace: str) -> None:
    """On a terminal; a pipe gets the bare columns."""
    code, shown = atoll.on_a_terminal("namespace", "list")

    assert code == 0
    assert b"TITLE" in shown
    assert namespace.encode() in shown
    assert b"TITLE" not in atoll.ok("namespace", "list").out


@pytest.mark.parametrize("as_json", [True, False])
def test_transfers_show_how_far_they_are(atoll: Atoll, namespace: str, *, as_json: bool) -> None:
    """A bar with the file's name, unless JSON was asked for."""
    lines = "".join(f'{{"key":"k{n:05}","value":"{"x" * 100}"}}\n' for n in range(5000))
    (atoll.folder / "pairs.ndjson").write_text(lines)
    options = ["--json"] if as_json else []

    came, importing = atoll.on_a_terminal("import", namespace, "pairs.ndjson", *options)
    went, exporting = atoll.on_a_terminal("export", namespace, "copy.ndjson", *options)

    assert came == went == 0
    assert (atoll.folder / "copy.ndjson").read_text() == lines
    assert (b"import pairs.ndjson" in importing) is not as_json
    assert (b"export copy.ndjson" in exporting) is not as_json
    if as_json:
        assert json.loads(importing) == {"imported": 5000, "expired": 0}
    else:
        assert b"5,000 pairs imported" in importing
        assert b"5,000 pairs exported" in exporting


def test_who_types_a_value_is_told_how_to_end_it(atoll: Atoll, namespace: str) -> None:
    """Standard input that is a terminal waits for Ctrl-D."""
    code, shown = atoll.on_a_terminal("key", "put", namespace, "k", answer=b"typed\n\x04")

    assert code == 0
    assert b"Ctrl-D" in shown
    assert atoll.ok("key", "get", namespace, "k").out == b"typed\n"


def test_many_keys_are_not_deleted_unasked(atoll: Atoll, namespace: str) -> None:
    """Somebody at a terminal is told how many, and may say no."""
    atoll.ok("key", "put", namespace, "a", "v")
    (atoll.folder / "keys.json").write_text('["a", "b"]')

    no, asked = atoll.on_a_terminal("bulk", "delete", namespace, "keys.json", answer=b"n\n")
    kept = atoll.ok("key", "list", namespace).text
    yes, _ = atoll.on_a_terminal("bulk", "delete", namespace, "keys.json", answer=b"y\n")

    assert (no, kept, yes) == (1, "a", 0)
    assert b"Delete 2 keys" in asked
    assert atoll.ok("key", "list", namespace).out == b""
