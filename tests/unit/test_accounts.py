"""Who is let in, and that accounts, tokens and namespaces keep their rules."""

import asyncio

import pytest

from atoll.accounts import Accounts
from atoll.central import Central
from atoll.core.errors import (
    AccountNotFoundError,
    ForbiddenError,
    NamespaceIdInvalidError,
    NamespaceNotFoundError,
    TitleInvalidError,
    TitleTakenError,
    TokenNotFoundError,
    TooManyNamespacesError,
    UnauthenticatedError,
)
from atoll.core.limits import Limits
from atoll.core.model import SYSTEM_NAMESPACE, ListQuery
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.store.memory import MemoryStore
from tests.support.clock import ManualClock
from tests.support.rng import seeded_bytes

pytestmark = pytest.mark.anyio

ACCOUNT = "a" * 32
OTHER = "b" * 32


class Setup:
    """Accounts over a central in memory, and the clock of both."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        limits = limits or Limits()
        self.store = MemoryStore(incarnation=1)
        self.central = Central(self.store, clock=self.clock, limits=limits)
        self.accounts = Accounts(
            self.central, limits=limits, clock=self.clock, random_bytes=seeded_bytes()
        )

    async def stored(self) -> bytes:
        """Everything in the system namespace, to look for what should not be there."""
        query = ListQuery(namespace=SYSTEM_NAMESPACE)
        page = await self.store.scan(query, now_us=self.clock.now_us())
        found = await self.store.get(SYSTEM_NAMESPACE, [item.key for item in page.items])
        return b"\n".join(e.value for e in found.entries if e and isinstance(e.value, bytes))


async def test_a_token_is_known_until_it_is_revoked() -> None:
    """The secret opens what the token allows; after revocation it opens nothing, at once."""
    setup = Setup()
    token, secret = await setup.accounts.create_token(
        ACCOUNT, name="ci", permission=Permission.WRITE
    )

    principal = await setup.accounts.authenticate(authorization=f"Bearer {secret}")
    assert principal == Principal(
        id=f"token:{token.id}", account=ACCOUNT, permission=Permission.WRITE
    )

    await setup.accounts.revoke_token(ACCOUNT, token.id)
    with pytest.raises(UnauthenticatedError):
        await setup.accounts.authenticate(authorization=f"Bearer {secret}")


async def test_secrets_are_not_stored() -> None:
    """A copy of the store opens no door: it holds digests only."""
    setup = Setup()
    _, secret = await setup.accounts.create_token(ACCOUNT, name="t", permission=Permission.READ)
    key = await setup.accounts.create_user("kyle@example.com", account=ACCOUNT)

    stored = await setup.stored()

    assert secret.encode() not in stored
    assert secret.rpartition("_")[2].encode() not in stored
    assert key.encode() not in stored


async def test_a_token_ends_when_it_expires() -> None:
    """It is good up to its last second."""
    setup = Setup()
    expires_s = int(setup.clock.now_s) + 60
    _, secret = await setup.accounts.create_token(
        ACCOUNT, name="t", permission=Permission.READ, expires_s=expires_s
    )
    await setup.accounts.authenticate(authorization=f"Bearer {secret}")

    setup.clock.advance(60)

    with pytest.raises(UnauthenticatedError, match="expired"):
        await setup.accounts.authenticate(authorization=f"Bearer {secret}")


async def test_a_global_key_works_with_its_address() -> None:
    """The address is compared without regard to case, the key exactly."""
    setup = Setup()
    key = await setup.accounts.create_user("Kyle@Example.com", account=ACCOUNT)

    principal = await setup.accounts.authenticate(
        authorization=None, email="kyle@example.COM", key=key
    )
    assert (principal.account, principal.permission) == (ACCOUNT, Permission.ADMIN)

    with pytest.raises(UnauthenticatedError):
        await setup.accounts.authenticate(authorization=None, email="kyle@example.com", key=key[1:])
    with pytest.raises(UnauthenticatedError):
        await setup.accounts.authenticate(authorization=None, email="alex@example.com", key=key)


@pytest.mark.parametrize(
    ("authorization", "email", "key", "words"),
    [
        (None, None, None, "Missing Authorization header"),
        (None, "kyle@example.com", None, "Missing X-Auth-Key"),
        (None, None, "k", "Missing X-Auth-Email"),
        ("Basic abc", None, None, "Bearer"),
        ("Bearer ", None, None, "Bearer"),
    ],
)
async def test_missing_credentials_are_named(
    authorization: str | None, email: str | None, key: str | None, words: str
) -> None:
    """An error says which header is missing: a stray address hides a token in some clients."""
    with pytest.raises(UnauthenticatedError, match=words) as caught:
        await Setup().accounts.authenticate(authorization=authorization, email=email, key=key)

    assert caught.value.missing


@pytest.mark.parametrize(
    "secret", ["x", "atoll_", "atoll_" + "0" * 16, "atoll_" + "0" * 16 + "_" + "0" * 40, "\ud800"]
)
async def test_unknown_tokens_are_refused_alike(secret: str) -> None:
    """Whatever is wrong with a token, the answer tells nothing about the ones that exist."""
    with pytest.raises(UnauthenticatedError, match=r"^Authentication error$") as caught:
        await Setup().accounts.authenticate(authorization=f"Bearer {secret}")

    assert not caught.value.missing


def test_a_principal_reaches_as_far_as_it_says() -> None:
    """Account, permission and namespaces each bound what is allowed."""
    reader = Principal(id="t", account=ACCOUNT, permission=Permission.READ)
    limited = Principal(
        id="t", account=ACCOUNT, permission=Permission.WRITE, namespaces=frozenset({"n1"})
    )
    operator = Principal(id="t", account=EVERY_ACCOUNT, permission=Permission.ADMIN)

    reader.require(Permission.READ, account=ACCOUNT, namespace="n1")
    limited.require(Permission.WRITE, account=ACCOUNT, namespace="n1")
    limited.require(Permission.READ, account=ACCOUNT)
    operator.require(Permission.ADMIN, account=OTHER)
    for principal, permission, account, namespace in [
        (reader, Permission.READ, OTHER, "n1"),
        (reader, Permission.WRITE, ACCOUNT, "n1"),
        (limited, Permission.READ, ACCOUNT, "n2"),
        (limited, Permission.WRITE, ACCOUNT, None),
        (limited, Permission.ADMIN, ACCOUNT, None),
    ]:
        with pytest.raises(ForbiddenError):
            principal.require(permission, account=account, namespace=namespace)


async def test_a_token_is_limited_only_to_namespaces_of_its_account() -> None:
    """A token for somebody else's namespace is refused as if that did not exist."""
    setup = Setup()
    theirs = await setup.accounts.create_namespace(OTHER, "theirs")

    with pytest.raises(NamespaceNotFoundError):
        await setup.accounts.create_token(
            ACCOUNT, name="t", permission=Permission.READ, namespaces=[theirs.id]
        )


async def test_tokens_are_listed_per_account() -> None:
    """Oldest first, and only the account's own; another account cannot revoke them."""
    setup = Setup()
    made: list[str] = []
    for name in ("first", "second"):
        token, _ = await setup.accounts.create_token(ACCOUNT, name=name, permission=Permission.READ)
        made.append(token.id)
        setup.clock.advance(1)
    await setup.accounts.create_token(OTHER, name="theirs", permission=Permission.READ)

    assert [token.id for token in await setup.accounts.tokens(ACCOUNT)] == made
    with pytest.raises(TokenNotFoundError):
        await setup.accounts.revoke_token(OTHER, made[0])


async def test_accounts_are_seen_by_who_reaches_them() -> None:
    """An operator sees all, everybody else their own."""
    setup = Setup()
    b = await setup.accounts.create_account("b")
    a = await setup.accounts.create_account("a")
    operator = Principal(id="t", account=EVERY_ACCOUNT, permission=Permission.READ)
    owner = Principal(id="t", account=b.id, permission=Permission.ADMIN)

    assert await setup.accounts.accounts(operator) == [a, b]
    assert await setup.accounts.accounts(owner) == [b]
    with pytest.raises(AccountNotFoundError):
        await setup.accounts.account(OTHER)


async def test_titles_are_unique_in_an_account() -> None:
    """On creating and on renaming; other accounts may use the same."""
    setup = Setup()
    first = await setup.accounts.create_namespace(ACCOUNT, "first")
    second = await setup.accounts.create_namespace(ACCOUNT, "second")
    await setup.accounts.create_namespace(OTHER, "first")

    with pytest.raises(TitleTakenError):
        await setup.accounts.create_namespace(ACCOUNT, "first")
    with pytest.raises(TitleTakenError):
        await setup.accounts.rename_namespace(ACCOUNT, second.id, "first")
    renamed = await setup.accounts.rename_namespace(ACCOUNT, first.id, "third")
    again = await setup.accounts.create_namespace(ACCOUNT, "first")

    assert (renamed.id, renamed.title) == (first.id, "third")
    assert await setup.accounts.namespace(first.id) == renamed
    assert {n.id for n in await setup.accounts.namespaces(ACCOUNT)} == {
        first.id,
        second.id,
        again.id,
    }


async def test_renaming_to_the_present_title_is_accepted() -> None:
    """A client that repeats a rename gets the same answer."""
    setup = Setup()
    made = await setup.accounts.create_namespace(ACCOUNT, "title")

    assert await setup.accounts.rename_namespace(ACCOUNT, made.id, "title") == made


async def test_of_many_who_create_one_title_one_succeeds() -> None:
    """The title is claimed in the same transaction that makes the namespace."""
    setup = Setup()

    results = await asyncio.gather(
        *(setup.accounts.create_namespace(ACCOUNT, "t") for _ in range(10)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, TitleTakenError) for result in results) == 9
    assert len(await setup.accounts.namespaces(ACCOUNT)) == 1


async def test_an_account_has_as_many_namespaces_as_the_limit() -> None:
    """One more is refused, also when many ask at once, and deleting one makes room."""
    setup = Setup(Limits(namespaces_per_account_max=3))

    results = await asyncio.gather(
        *(setup.accounts.create_namespace(ACCOUNT, f"t{i}") for i in range(5)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, TooManyNamespacesError) for result in results) == 2
    made = await setup.accounts.namespaces(ACCOUNT)
    await setup.accounts.delete_namespace(ACCOUNT, made[0].id)
    await setup.accounts.create_namespace(ACCOUNT, "again")


async def test_a_deleted_namespace_is_gone_and_its_title_free() -> None:
    """Nobody finds it, and somebody else's cannot be deleted."""
    setup = Setup()
    made = await setup.accounts.create_namespace(ACCOUNT, "title")
    with pytest.raises(NamespaceNotFoundError):
        await setup.accounts.delete_namespace(OTHER, made.id)

    await setup.accounts.delete_namespace(ACCOUNT, made.id)

    with pytest.raises(NamespaceNotFoundError):
        await setup.accounts.namespace(made.id)
    with pytest.raises(NamespaceNotFoundError):
        await setup.accounts.delete_namespace(ACCOUNT, made.id)
    assert (await setup.accounts.create_namespace(ACCOUNT, "title")).id != made.id


@pytest.mark.parametrize("title", ["", "  ", "x" * 513, "\ud800"])
async def test_titles_that_are_none_are_refused(title: str) -> None:
    """Empty, too long, or no text."""
    with pytest.raises(TitleInvalidError):
        await Setup().accounts.create_namespace(ACCOUNT, title)


@pytest.mark.parametrize("given", ["", "x", "a" * 31, "A" * 32, "g" * 32])
async def test_ids_that_are_none_are_refused(given: str) -> None:
    """A malformed id is told apart from an unknown one."""
    with pytest.raises(NamespaceIdInvalidError):
        await Setup().accounts.namespace(given)
