"""`atoll account` and `atoll token`: who may do what."""

import pytest

from tests.cli.conftest import Atoll


def test_accounts_are_separate(atoll: Atoll, namespace: str) -> None:
    """A new account sees nothing of the old one's, and has to be chosen by name from then on."""
    created = atoll.ok("account", "create", "second", "--json").json
    account = created["id"]
    token = atoll.ok("token", "create", "t", "--permission", "write", "--account", account).text
    given = {"token": token, "url": atoll_url(atoll)}

    accounts = atoll.ok("account", "list", "--json").json
    assert account in [one["id"] for one in accounts]
    assert atoll.ok("namespace", "list", settings=given).out == b""
    assert atoll.run("key", "list", namespace, settings=given).code == 3
    assert atoll.ok("namespace", "create", namespace, settings=given).text
    full = {"token": full_token(atoll), "url": given["url"]}
    several = atoll.run("namespace", "list", settings=full)
    assert several.code == 1
    assert "--account" in several.err


def atoll_url(atoll: Atoll) -> str:
    """Return the server's address, as somebody elsewhere would be told it."""
    return str(atoll.ok("env", "--json").json["ATOLL_URL"])


def full_token(atoll: Atoll) -> str:
    """Return the token that may do everything."""
    return str(atoll.ok("env", "--json").json["ATOLL_TOKEN"])


def test_a_token_reaches_as_far_as_it_says(atoll: Atoll, namespace: str) -> None:
    """Read is not write, write is not admin, and one namespace is not another."""
    other = f"{namespace} other"
    atoll.ok("namespace", "create", other)
    atoll.ok("key", "put", namespace, "k", "v")
    url = atoll_url(atoll)
    account = str(atoll.ok("env", "--json").json["ATOLL_ACCOUNT_ID"])
    made = atoll.ok("token", "create", "reader", "--namespace", namespace, "--json").json
    reader = {"url": url, "token": made["value"], "account_id": account}
    writer = {**reader, "token": atoll.ok("token", "create", "w", "--permission", "write").text}

    assert atoll.ok("key", "get", namespace, "k", settings=reader).out == b"v"
    assert atoll.run("key", "put", namespace, "k", "2", settings=reader).code == 4
    assert atoll.run("key", "get", other, "k", settings=reader).code in {3, 4}
    atoll.ok("key", "put", namespace, "k", "2", settings=writer)
    assert atoll.run("token", "list", settings=writer).code == 4
    assert atoll.run("account", "create", "x", settings=writer).code == 4

    listed = {one["id"]: one for one in atoll.ok("token", "list", "--json").json}
    assert listed[made["id"]]["permission"] == "read"
    assert len(listed[made["id"]]["namespaces"]) == 1
    assert all("value" not in one for one in listed.values())

    atoll.ok("token", "revoke", made["id"])
    refused = atoll.run("key", "get", namespace, "k", "--json", settings=reader)
    assert refused.code == 4
    assert refused.error["status"] == 401
    assert "environment ATOLL_TOKEN" in refused.error["message"]
    assert atoll.run("token", "revoke", made["id"]).code == 3


def test_the_secret_alone_stands_on_standard_output(atoll: Atoll) -> None:
    """So that a script can keep it; what people should know stands beside it."""
    created = atoll.ok("token", "create", "script", "--expires-in", "90d")

    assert created.text.startswith("atoll_")
    assert len(created.text.splitlines()) == 1
    assert "not shown again" in created.err
    assert "never" not in next(
        line for line in atoll.ok("token", "list").text.splitlines() if "\tscript\t" in line
    )


@pytest.mark.parametrize("span", ["90", "d", "0d", "-1d", "1w", "1.5h", "999999999d"])
def test_a_span_that_is_none_is_refused(atoll: Atoll, span: str) -> None:
    """With an example of one that is."""
    refused = atoll.run("token", "create", "x", "--expires-in", span)

    assert refused.code == 2
    assert "--expires-in" in refused.err


def test_wrong_permissions_and_namespaces_are_refused(atoll: Atoll) -> None:
    """Before or by the server."""
    assert atoll.run("token", "create", "x", "--permission", "root").code == 2
    assert atoll.run("token", "create", "x", "--namespace", "no such").code == 3
    assert atoll.run("token", "create", "").code == 1
    assert atoll.run("token", "revoke", "no/such").code == 3
