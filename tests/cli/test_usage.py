"""`atoll usage` and `atoll quota`: statements and limits from a terminal."""

import csv
import io

from tests.cli.conftest import Atoll


def quantities(atoll: Atoll, namespace: str, *more: str) -> dict[str, str]:
    """Return what a namespace used, by line."""
    told = atoll.ok("usage", "--namespace", namespace, "--json", *more).json
    return {line["name"]: line["quantity"] for line in told["lines"]}


def test_the_statement_has_what_was_done(atoll: Atoll, namespace: str) -> None:
    """At once, at central; for people, as JSON and as CSV."""
    atoll.ok("key", "put", namespace, "k", "v")
    atoll.ok("key", "get", namespace, "k")

    assert quantities(atoll, namespace)["writes"] == "1"
    assert quantities(atoll, namespace, "--prices", "2019")["reads"] == "1"
    assert quantities(atoll, namespace, "--month", "2020-02")["reads"] == "0"
    shown = atoll.ok("usage", "--namespace", namespace)
    assert ("writes", "1") in [tuple(line.split("\t")[:2]) for line in shown.text.splitlines()]
    assert shown.err.startswith("20")
    assert "so far" in shown.err
    rows = list(csv.DictReader(io.StringIO(atoll.ok("usage", "--csv").text)))
    assert [row["name"] for row in rows][-1] == "total"
    assert atoll.run("usage", "--month", "soon").code == 1
    assert atoll.run("usage", "--prices", "none").code == 1


def test_quotas_are_set_and_removed(atoll: Atoll, namespace: str) -> None:
    """One replaces another of its kind, and a preset all of them."""
    atoll.ok("quota", "preset", "none")
    atoll.ok("quota", "set", "write", "5", "--namespace", namespace)
    atoll.ok("quota", "set", "write", "0", "--namespace", namespace, "--hard")
    atoll.ok("quota", "set", "read", "7", "--per", "month")

    told = atoll.ok("quota", "list", "--json").json
    assert [(one["meter"], one["limit"], one["hard"]) for one in told] == [
        ("write", 0, True),
        ("read", 7, False),
    ]
    refused = atoll.run("key", "put", namespace, "k", "v", "--json")
    assert (refused.code, refused.error["status"]) == (7, 429)
    atoll.ok("quota", "remove", "write", "--namespace", namespace)
    atoll.ok("key", "put", namespace, "k", "v")
    assert "read\t" in atoll.ok("quota", "list").text
    assert len(atoll.ok("quota", "preset", "free", "--json").json) == 5
    assert "no quotas" in atoll.ok("quota", "preset", "none").err
    assert atoll.run("quota", "preset", "gold").code == 1
    assert atoll.run("quota", "set", "write", "-1").code == 2
