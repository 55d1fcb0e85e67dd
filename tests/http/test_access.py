"""Credentials: who gets in, how far, and what the others learn, which is nothing."""

from pathlib import Path

import pytest

from atoll.principal import EVERY_ACCOUNT, Permission
from tests.http.site import EMAIL, Reply, Site

pytestmark = pytest.mark.anyio


async def bearer(
    site: Site, permission: Permission, *, account: str = "", namespaces: list[str] | None = None
) -> dict[str, str]:
    """Make a token and return the header that carries it."""
    _, secret = await site.accounts.create_token(
        account or site.account.id, name="x", permission=permission, namespaces=namespaces
    )
    return {"authorization": f"Bearer {secret}"}


ALL = [
    ("GET", "{ns}"),
    ("POST", "{ns}"),
    ("GET", "{home}"),
    ("PUT", "{home}"),
    ("DELETE", "{home}"),
    ("GET", "{home}/keys"),
    ("GET", "{home}/values/k"),
    ("HEAD", "{home}/values/k"),
    ("PUT", "{home}/values/k"),
    ("DELETE", "{home}/values/k"),
    ("GET", "{home}/metadata/k"),
    ("PUT", "{home}/bulk"),
    ("DELETE", "{home}/bulk"),
    ("POST", "{home}/bulk/delete"),
    ("POST", "{home}/bulk/get"),
    ("GET", "/client/v4/accounts"),
    ("POST", "/client/v4/accounts"),
    ("GET", "/client/v4/accounts/{account}"),
    ("GET", "/client/v4/accounts/{account}/tokens"),
    ("POST", "/client/v4/accounts/{account}/tokens"),
    ("DELETE", "/client/v4/accounts/{account}/tokens/{id}"),
    ("GET", "/client/v4/accounts/{account}/tokens/verify"),
    ("GET", "/client/v4/memberships"),
    ("GET", "/client/v4/user"),
    ("GET", "/client/v4/user/tokens/verify"),
    ("GET", "/v1/namespaces/{id}/values/k"),
    ("PUT", "/v1/namespaces/{id}/values/k"),
    ("DELETE", "/v1/namespaces/{id}/values/k"),
    ("GET", "/v1/namespaces/{id}/keys"),
    ("GET", "/v1/namespaces/{id}/count"),
    ("POST", "/v1/namespaces/{id}/delete"),
]


def filled(site: Site, path: str) -> str:
    """Put the site's own ids into a path."""
    return path.format(
        ns=site.namespaces, home=site.home, account=site.account.id, id=site.namespace.id
    )


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_without_credentials_there_is_401(site: Site, method: str, path: str) -> None:
    """On every path, and the answer says which header to send."""
    reply = await site.ask(method, filled(site, path), as_nobody=True)

    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":
        assert "Authorization" in reply.message


@pytest.mark.parametrize(
    ("headers", "number", "said"),
    [
        ({}, 9106, "Authorization"),
        ({"x-auth-email": EMAIL}, 9106, "Missing X-Auth-Key"),
        ({"x-auth-key": "abc"}, 9106, "Missing X-Auth-Email"),
        ({"authorization": "Basic YTpi"}, 9106, "Bearer"),
        ({"authorization": "Bearer "}, 9106, "Bearer"),
        ({"authorization": "Bearer nope"}, 10000, "Authentication error"),
        ({"authorization": f"Bearer atoll_{'0' * 16}_{'0' * 40}"}, 10000, "Authentication error"),
        ({"x-auth-email": EMAIL, "x-auth-key": "0" * 38}, 10000, "Authentication error"),
        ({"x-auth-email": "no@x", "x-auth-key": "0" * 38}, 10000, "Authentication error"),
        ({"authorization": "Bearer \xff\xfe"}, 10000, "Authentication error"),
    ],
)
async def test_bad_credentials_are_told_apart_from_missing_ones(
    site: Site, headers: dict[str, str], number: int, said: str
) -> None:
    """Clients look at the number, people at the text."""
    await site.accounts.create_user(EMAIL, account=EVERY_ACCOUNT)

    reply = await site.ask("GET", f"{site.home}/keys", headers=headers, as_nobody=True)

    assert reply.refused == (401, number)
    assert said in reply.message


async def test_key_and_address_win_over_a_token(site: Site) -> None:
    """As Cloudflare's clients have it: with all three, only the pair counts."""
    key = await site.accounts.create_user(EMAIL, account=site.account.id)
    pair = {"x-auth-email": EMAIL.upper(), "x-auth-key": key}
    path = f"{site.home}/keys"

    good = await site.ask("GET", path, headers={**pair, "authorization": "Bearer nope"})
    bad = await site.ask("GET", path, headers={**pair, "x-auth-key": "wrong"})
    token = await site.ask("GET", path, headers={"x-auth-email": EMAIL})

    assert good.status == 200
    assert bad.refused == (401, 10000)
    assert token.status == 200


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_a_reader_only_reads(site: Site, method: str, path: str) -> None:
    """What changes something is 403 for credentials that may only read."""
    reads = method in {"GET", "HEAD"} or path.endswith("bulk/get")
    reads = reads and not path.endswith("/tokens")

    reply = await site.ask(
        method,
        filled(site, path),
        body=b'{"keys":["k"]}' if path.endswith("bulk/get") else b"",
        headers=await bearer(site, Permission.READ),
    )

    assert (reply.status == 403) == (not reads)
    assert reply.status in {200, 403, 404}


def shown(reply: Reply) -> tuple[int, bytes]:
    """Return what a caller can tell answers apart by."""
    return reply.status, reply.body


@pytest.mark.parametrize("face", ["rest", "v1"])
async def test_beyond_its_namespaces_a_token_learns_nothing(site: Site, face: str) -> None:
    """Existing, foreign, missing and malformed namespaces all look alike."""
    mine = await site.accounts.create_namespace(site.account.id, "mine")
    other = await site.accounts.create_account("other")
    theirs = await site.accounts.create_namespace(other.id, "theirs")
    limited = await bearer(site, Permission.WRITE, namespaces=[mine.id])
    answers = set[tuple[int, bytes]]()
    for namespace in (site.namespace.id, theirs.id, "f" * 32, "nonsense"):
        root = f"{site.namespaces}/{namespace}" if face == "rest" else f"/v1/namespaces/{namespace}"
        for method, path in (("GET", "keys"), ("GET", "values/k"), ("PUT", "values/k")):
            answers.add(shown(await site.ask(method, f"{root}/{path}", headers=limited)))

    (answer,) = answers
    assert answer[0] == 403
    home = f"{site.namespaces}/{mine.id}" if face == "rest" else f"/v1/namespaces/{mine.id}"
    assert (await site.ask("GET", f"{home}/keys", headers=limited)).status == 200


async def test_beyond_its_account_a_token_learns_nothing(site: Site) -> None:
    """Other accounts look like accounts that do not exist."""
    other = await site.accounts.create_account("other")
    theirs = await site.accounts.create_namespace(other.id, "theirs")
    answers = {
        shown(await site.ask(method, f"/client/v4/accounts/{account}{path}"))
        for account in (other.id, "f" * 32, "nonsense")
        for method, path in (
            ("GET", ""),
            ("GET", "/tokens"),
            ("GET", "/storage/kv/namespaces"),
            ("POST", "/storage/kv/namespaces"),
            ("GET", f"/storage/kv/namespaces/{theirs.id}"),
            ("DELETE", f"/storage/kv/namespaces/{theirs.id}"),
            ("GET", f"/storage/kv/namespaces/{theirs.id}/values/k"),
        )
    }

    assert [status for status, _ in answers] == [403]


@pytest.mark.parametrize("face", ["rest", "v1"])
async def test_anothers_namespace_looks_missing_from_the_own_account(site: Site, face: str) -> None:
    """404 with the same words as for an id that nobody has."""
    other = await site.accounts.create_account("other")
    theirs = await site.accounts.create_namespace(other.id, "theirs")
    root = site.namespaces if face == "rest" else "/v1/namespaces"

    answers = {
        shown(await site.ask("GET", f"{root}/{namespace}/keys"))
        for namespace in (theirs.id, "f" * 32)
    }

    ((status, body),) = answers
    assert status == 404
    assert b"namespace not found" in body
    if face == "rest":
        for method in ("GET", "PUT", "DELETE"):
            reply = await site.ask(method, f"{root}/{theirs.id}", body=b'{"title":"x"}')
            assert reply.refused == (404, 10013)


async def test_a_limited_token_sees_and_changes_only_its_own(site: Site) -> None:
    """It lists its namespaces alone, and neither makes, renames nor deletes any."""
    mine = await site.accounts.create_namespace(site.account.id, "mine")
    limited = await bearer(site, Permission.ADMIN, namespaces=[mine.id])
    home = f"{site.namespaces}/{mine.id}"

    rows = (await site.ask("GET", site.namespaces, headers=limited)).result

    assert [row["id"] for row in rows] == [mine.id]
    assert (await site.ask("GET", home, headers=limited)).status == 200
    for method, path in (("POST", site.namespaces), ("PUT", home), ("DELETE", home)):
        reply = await site.ask(method, path, body=b'{"title":"x"}', headers=limited)
        assert reply.refused == (403, 10000)
    tokens = f"/client/v4/accounts/{site.account.id}/tokens"
    reply = await site.ask_json("POST", tokens, {"name": "x", "permission": "admin"}, **limited)
    assert reply.refused == (403, 10000)


async def test_a_writer_makes_no_tokens(site: Site) -> None:
    """Tokens are for administrators, looking at them included."""
    writer = await bearer(site, Permission.WRITE)
    path = f"/client/v4/accounts/{site.account.id}/tokens"

    assert (await site.ask("GET", path, headers=writer)).refused == (403, 10000)
    assert (await site.ask("POST", path, headers=writer)).refused == (403, 10000)
    assert (await site.ask("PUT", site.value("k"), body=b"v", headers=writer)).status == 200


async def test_credentials_for_everything_find_nothing_where_nothing_is(tmp_path: Path) -> None:
    """For them an unknown account is 404."""
    site = await Site.make(tmp_path)
    everywhere = await bearer(site, Permission.ADMIN, account=EVERY_ACCOUNT)
    for account in ("f" * 32, "nonsense"):
        for path in ("", "/storage/kv/namespaces", "/tokens"):
            reply = await site.ask(
                "GET", f"/client/v4/accounts/{account}{path}", headers=everywhere
            )
            assert reply.refused == (404, 7003)
    assert (await site.ask("GET", site.home, headers=everywhere)).status == 200
    assert (await site.ask("GET", f"{site.v1}/keys", headers=everywhere)).status == 200
