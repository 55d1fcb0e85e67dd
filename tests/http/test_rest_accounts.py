"""REST v4 around the keys: namespaces, accounts, tokens, and who is asking."""

from pathlib import Path

import pytest

from atoll.core.limits import Limits
from atoll.principal import EVERY_ACCOUNT, Permission
from tests.http.site import EMAIL, Site

pytestmark = pytest.mark.anyio


async def test_a_namespace_lives(site: Site) -> None:
    """Create, get, rename, list, delete; each answers as clients expect."""
    created = await site.ask(
        "POST", site.namespaces, body=b'{\n  "title": "new",\n  "jurisdiction": "eu"\n}'
    )
    path = f"{site.namespaces}/{created.result['id']}"

    got = await site.ask("GET", path)
    renamed = await site.ask_json("PUT", path, {"title": "newer"})
    titles = {row["title"] for row in (await site.ask("GET", site.namespaces)).result}
    deleted = await site.ask("DELETE", path, headers={"content-type": "application/json"})

    assert created.result == got.result
    assert got.result == {
        "id": created.result["id"],
        "title": "new",
        "supports_url_encoding": True,
    }
    assert renamed.result["title"] == "newer"
    assert titles == {"things", "newer"}
    assert deleted.result is None
    assert (await site.ask("GET", path)).refused == (404, 10013)
    assert (await site.ask("GET", f"{path}/keys")).refused == (404, 10013)


async def test_a_title_is_given_once(site: Site) -> None:
    """On creating and on renaming; its own present title may be given again."""
    other = (await site.ask_json("POST", site.namespaces, {"title": "other"})).result["id"]

    created = await site.ask_json("POST", site.namespaces, {"title": "things"})
    renamed = await site.ask_json("PUT", f"{site.namespaces}/{other}", {"title": "things"})
    same = await site.ask_json("PUT", f"{site.namespaces}/{other}", {"title": "other"})

    assert created.refused == renamed.refused == (400, 10014)
    assert created.message == (
        "create namespace: 'a namespace with this account ID and title already exists'"
    )
    assert same.result["title"] == "other"


async def test_namespaces_are_paged_in_order(site: Site) -> None:
    """Both orders, both directions, complete; past the end come empty pages."""
    titles = [f"t{i:03}" for i in range(100)]
    for title in titles:
        await site.accounts.create_namespace(site.account.id, title)
    titles = ["things", *titles]
    seen: list[str] = []
    page = 1
    while True:
        query = f"?per_page=40&order=title&direction=desc&page={page}"
        reply = await site.ask("GET", site.namespaces + query)
        if not reply.result:
            break
        info = reply.json()["result_info"]
        assert info == {
            "count": len(reply.result),
            "page": page,
            "per_page": 40,
            "total_count": 101,
            "total_pages": 3,
        }
        seen += [row["title"] for row in reply.result]
        page += 1

    assert seen == sorted(titles, reverse=True)
    bare = await site.ask("GET", site.namespaces)
    ids = [row["id"] for row in bare.result]
    assert len(ids) == 20
    assert ids == sorted(ids)
    everything = await site.ask("GET", f"{site.namespaces}?per_page=1000&page=1&order=id")
    assert len(everything.result) == 101


async def test_a_full_account_is_refused_with_its_limit(tmp_path: Path) -> None:
    """Deleting one makes room."""
    site = await Site.make(tmp_path, limits=Limits(namespaces_per_account_max=2))
    await site.ask_json("POST", site.namespaces, {"title": "two"})

    full = await site.ask_json("POST", site.namespaces, {"title": "three"})
    await site.ask("DELETE", site.home)

    assert full.refused == (403, 10018)
    assert (await site.ask_json("POST", site.namespaces, {"title": "three"})).status == 200


async def test_accounts_and_memberships_are_found(site: Site) -> None:
    """Wrangler looks for the one account when none is configured."""
    accounts = await site.ask("GET", "/client/v4/accounts?page=1")
    memberships = await site.ask("GET", "/client/v4/memberships?page=1")
    account = await site.ask("GET", f"/client/v4/accounts/{site.account.id}")

    assert [(row["id"], row["name"]) for row in accounts.result] == [(site.account.id, "first")]
    assert accounts.json()["result_info"]["total_count"] == 1
    assert memberships.result[0]["account"]["id"] == site.account.id
    assert account.result == accounts.result[0]


async def test_credentials_for_everything_make_accounts(site: Site) -> None:
    """An account's own credentials do not."""
    key = await site.accounts.create_user(EMAIL, account=EVERY_ACCOUNT)
    everywhere = {"x-auth-email": EMAIL, "x-auth-key": key}

    refused = await site.ask_json("POST", "/client/v4/accounts", {"name": "second"})
    created = await site.ask(
        "POST",
        "/client/v4/accounts",
        body=b'{"name":"second"}',
        headers=everywhere,
        as_nobody=True,
    )
    seen = await site.ask("GET", "/client/v4/accounts", headers=everywhere, as_nobody=True)

    assert refused.refused == (403, 10000)
    assert created.result["name"] == "second"
    assert [row["name"] for row in seen.result] == ["first", "second"]


async def test_who_asks_is_told(site: Site) -> None:
    """A user has an address, a token has none; both are active."""
    key = await site.accounts.create_user(EMAIL, account=site.account.id)
    user = {"x-auth-email": EMAIL, "x-auth-key": key}

    as_user = await site.ask("GET", "/client/v4/user", headers=user, as_nobody=True)
    as_token = await site.ask("GET", "/client/v4/user")
    verified = [
        await site.ask("GET", path)
        for path in (
            "/client/v4/user/tokens/verify",
            f"/client/v4/accounts/{site.account.id}/tokens/verify",
        )
    ]

    assert as_user.result["email"] == EMAIL
    assert "email" not in as_token.result
    assert {reply.result["status"] for reply in verified} == {"active"}


async def test_a_token_lives(site: Site) -> None:
    """Its secret is shown once, it does what it may, and revoked it is nobody's."""
    path = f"/client/v4/accounts/{site.account.id}/tokens"
    created = await site.ask_json(
        "POST",
        path,
        {
            "name": "deploy",
            "permission": "read",
            "namespaces": [site.namespace.id],
            "expires_on": "2027-02-01T00:00:00Z",
        },
    )
    secret = created.result["value"]
    bearer = {"authorization": f"Bearer {secret}"}

    listed = await site.ask("GET", path)
    reads = await site.ask("GET", f"{site.home}/keys", headers=bearer)
    writes = await site.ask("PUT", site.value("k"), body=b"v", headers=bearer)
    revoked = await site.ask("DELETE", f"{path}/{created.result['id']}")
    after = await site.ask("GET", f"{site.home}/keys", headers=bearer)

    row = listed.result[1]
    assert row == {k: v for k, v in created.result.items() if k != "value"}
    assert row["expires_on"] == "2027-02-01T00:00:00Z"
    assert row["namespaces"] == [site.namespace.id]
    assert secret.encode() not in listed.body
    assert reads.status == 200
    assert writes.refused == (403, 10000)
    assert revoked.result == {"id": created.result["id"]}
    assert after.refused == (401, 10000)


async def test_an_expired_token_is_nobodys(site: Site) -> None:
    """From the very second on."""
    path = f"/client/v4/accounts/{site.account.id}/tokens"
    created = await site.ask_json(
        "POST",
        path,
        {"name": "short", "permission": "read", "expires_on": "2027-01-15T08:01:00+00:00"},
    )
    bearer = {"authorization": f"Bearer {created.result['value']}"}
    before = await site.ask("GET", f"{site.home}/keys", headers=bearer)
    site.clock.advance(60)

    after = await site.ask("GET", f"{site.home}/keys", headers=bearer)

    assert before.status == 200
    assert after.refused == (401, 10000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"name":"x","permission":"root"}',
        b'{"name":"","permission":"read"}',
        b'{"name":"' + b"x" * 201 + b'","permission":"read"}',
        b'{"name":"x","permission":"read","expires_on":"2020-01-01T00:00:00Z"}',
        b'{"name":"x","permission":"read","expires_on":"2030-01-01T00:00:00"}',
        b'{"name":"x","permission":"read","expires_on":"soon"}',
        b'{"name":"x","permission":"read","namespaces":"all"}',
        b'{"name":"x","permission":"read","namespaces":[' + b'"a",' * 1000 + b'"a"]}',
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(site: Site, body: bytes) -> None:
    """Nothing is created."""
    path = f"/client/v4/accounts/{site.account.id}/tokens"

    reply = await site.ask("POST", path, body=body)

    assert reply.refused == (400, 20400)
    assert len((await site.ask("GET", path)).result) == 1


async def test_a_token_is_limited_to_namespaces_of_its_account(site: Site) -> None:
    """One that does not exist, or is another's, cannot be named."""
    path = f"/client/v4/accounts/{site.account.id}/tokens"
    other = await site.accounts.create_account("other")
    foreign = await site.accounts.create_namespace(other.id, "theirs")

    for namespace in ("0" * 31 + "1", foreign.id):
        asked = {"name": "x", "permission": "read", "namespaces": [namespace]}
        assert (await site.ask_json("POST", path, asked)).refused == (404, 10013)


async def test_a_token_that_is_not_there_cannot_be_revoked(site: Site) -> None:
    """Nor can another account's, with the same answer."""
    other = await site.accounts.create_account("other")
    theirs, _ = await site.accounts.create_token(
        other.id, name="theirs", permission=Permission.READ
    )

    for token in ("0" * 16, theirs.id):
        reply = await site.ask("DELETE", f"/client/v4/accounts/{site.account.id}/tokens/{token}")
        assert reply.refused == (404, 20404)
