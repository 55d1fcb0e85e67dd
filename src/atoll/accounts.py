"""Accounts, users, tokens and namespaces, kept as entries of the system namespace.

Nothing here knows where it runs: everything is read and written through an `Upstream`, so a
location will find a token as it finds any key. What changes several entries does so in one batch.

    account/<id>                    Account
    user/<digest of the address>    _User
    token/<id>                      _StoredToken
    namespace/<id>                  Namespace
    of/<account>/<id>               the namespace again, so that an account's can be listed
    title/<account>/<digest>        the id of the namespace that has the title
    dropped/<id>                    a deleted namespace whose entries are still to be removed

Secrets are stored as SHA-256 digests. They are random and long, so a slow hash would add
nothing but load.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from atoll.clock import Clock
from atoll.core.errors import (
    AccountNotFoundError,
    ConditionFailedError,
    NamespaceIdInvalidError,
    NamespaceNotFoundError,
    TitleInvalidError,
    TitleTakenError,
    TokenNotFoundError,
    TooManyNamespacesError,
    UnauthenticatedError,
)
from atoll.core.limits import Limits
from atoll.core.location_errors import CutOffError
from atoll.core.model import (
    SYSTEM_NAMESPACE,
    Batch,
    Include,
    Listed,
    ListQuery,
    Mutation,
    Presence,
    Read,
)
from atoll.core.version import Version
from atoll.namespace_rules import NamespaceRules, changed_rules
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.upstream import Upstream
from atoll.usage.quotas import Stop

DROPPED_PREFIX: Final = "dropped/"
ID_HEX_DIGITS: Final = 32
TOKEN_PREFIX: Final = "atoll_"  # noqa: S105 - what tokens begin with, for people and secret scanners
TOKEN_ID_BYTES: Final = 8
SECRET_BYTES: Final = 20
GLOBAL_KEY_BYTES: Final = 19
KNOWN_CREDENTIALS_MAX: Final = 10_000
LIST_PAGE_KEYS: Final = 1000
RENAME_ATTEMPTS_MAX: Final = 5
US_PER_S: Final = 1_000_000
MS_PER_S: Final = 1000


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who namespaces and tokens belong to."""

    id: str
    name: str
    created_us: int


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """A set of keys with a title that is unique in its account."""

    id: str
    account: str
    title: str
    created_us: int
    rules: NamespaceRules = NamespaceRules()
    stops: tuple[Stop, ...] = ()
    """What quotas have stopped in it; those that have ended stop nothing."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a bearer token allows. The secret itself is shown once and not kept."""

    id: str
    name: str
    account: str
    """An account's id, or `EVERY_ACCOUNT`."""
    permission: Permission
    namespaces: tuple[str, ...] | None
    """Only these; `None` for all, and for creating and deleting them."""
    expires_s: int | None
    created_us: int


class _StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    token: Token
    digest: str


class _User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody with a global key, as `X-Auth-Email` and `X-Auth-Key` give it."""

    email: str
    account: str
    digest: str


Record = TypeVar("Record", Account, Namespace, _StoredToken, _User)


def digest_of(text: str) -> str:
    """Return the SHA-256 of `text` in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Accounts:
    """Finds and changes the entries of the system namespace."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        limits: Limits,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        central_us: Callable[[], int | None] | None = None,
        grace_s: int | None = None,
    ) -> None:
        """Read and write through `upstream`.

        Args:
            upstream: Where the entries are.
            limits: How many namespaces an account may have.
            clock: Central time, where this is central.
            random_bytes: Where ids and secrets come from; must be fit for secrets.
            central_us: Central time as it is known at a location, `None` while it is not;
                by default the clock's.
            grace_s: How far beyond its bound a known credential is honoured while central
                cannot be asked; without, for ever.
        """
        self._upstream = upstream
        self._limits = limits
        self._clock = clock
        self._random_bytes = random_bytes
        self._central_us = central_us or clock.now_us
        self._grace_ms = None if grace_s is None else grace_s * MS_PER_S
        self._known: OrderedDict[str, tuple[Version, Principal]] = OrderedDict()
        self._namespaces: OrderedDict[str, tuple[Version, Namespace]] = OrderedDict()
        # Counting an account's namespaces and adding one is one step. REST creates them at
        # central only, so a lock in this process is enough.
        self._creating = asyncio.Lock()

    # Credentials.

    async def authenticate(
        self, *, authorization: str | None, email: str | None = None, key: str | None = None
    ) -> Principal:
        """Find out who a request comes from.

        Args:
            authorization: The `Authorization` header.
            email: The `X-Auth-Email` header.
            key: The `X-Auth-Key` header; with it the pair decides, as Cloudflare's clients send.

        Raises:
            UnauthenticatedError: Nothing usable came, or nothing that we know.
            CutOffError: Central cannot be asked, and what is held here decides nothing.
        """
        if key is not None and email is not None:
            return await self._principal(f"{email}\n{key}", f"user/{digest_of(email.lower())}", key)
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
            secret = secret.strip()
            if scheme.lower() != "bearer" or not secret:
                raise UnauthenticatedError(
                    detail="Invalid format for Authorization header: use `Bearer <token>`",
                    missing=True,
                )
            token_id = secret.removeprefix(TOKEN_PREFIX).partition("_")[0]
            if not secret.startswith(TOKEN_PREFIX) or len(token_id) != 2 * TOKEN_ID_BYTES:
                raise UnauthenticatedError
            return await self._principal(secret, f"token/{token_id}", secret)
        if email is not None:
            detail = (
                "Missing X-Auth-Key: X-Auth-Email came without X-Auth-Key or Authorization."
                " If you meant to use a token, unset the e-mail address (CLOUDFLARE_EMAIL)."
            )
        elif key is not None:
            detail = "Missing X-Auth-Email: X-Auth-Key came without it"
        else:
            detail = "Missing Authorization header (Bearer token), or X-Auth-Key with X-Auth-Email"
        raise UnauthenticatedError(detail=detail, missing=True)

    async def _principal(self, credentials: str, key: str, secret: str) -> Principal:
        """Compare `secret` with the record at `key`.

        What was compared before is remembered under the record's version, so that a revoked or
        changed record is seen at once, and an unchanged one costs no digest.
        """
        reading = await self._upstream.read(_read_of(key, self._grace_ms))
        entry = reading.entry
        if entry is None and reading.stale:
            raise CutOffError(detail="these credentials are not known here")
        if entry is None:
            raise UnauthenticatedError
        known = self._known.get(credentials)
        if known is None or known[0] != entry.version:
            assert isinstance(entry.value, bytes)
            known = (entry.version, _unlock(key, entry.value, digest_of(secret)))
            _remember(self._known, credentials, known)
        principal = known[1]
        if principal.expires_s is None:
            return principal
        now_us = self._central_us()
        if now_us is None:
            raise CutOffError(detail="central's time, by which credentials expire, is not known")
        if principal.expires_s * US_PER_S <= now_us:
            raise UnauthenticatedError(detail="Authentication error: this token has expired")
        return principal

    async def create_user(self, email: str, *, account: str) -> str:
        """Create or replace a user with a global key, and return the key: it is not kept.

        Args:
            email: The address, compared without regard to case.
            account: An account's id, or `EVERY_ACCOUNT`.
        """
        key = self._random_bytes(GLOBAL_KEY_BYTES).hex()
        user = _User(email=email, account=account, digest=digest_of(key))
        await self._write(_stored(f"user/{digest_of(email.lower())}", user))
        return key

    async def create_token(
        self,
        account: str,
        *,
        name: str,
        permission: Permission,
        namespaces: Sequence[str] | None = None,
        expires_s: int | None = None,
    ) -> tuple[Token, str]:
        """Create a token and return it with its secret, which is not kept.

        Args:
            account: An account's id, or `EVERY_ACCOUNT`.
            name: For people.
            permission: What it allows.
            namespaces: Ids to limit it to; `None` for all.
            expires_s: When it ends, in seconds since the Unix epoch; `None` for never.

        Raises:
            NamespaceNotFoundError: One of `namespaces` is not the account's.
        """
        for namespace in namespaces or ():
            found = await self.namespace(namespace)
            if account not in {EVERY_ACCOUNT, found.account}:
                raise NamespaceNotFoundError
        token_id = self._random_bytes(TOKEN_ID_BYTES).hex()
        secret = f"{TOKEN_PREFIX}{token_id}_{self._random_bytes(SECRET_BYTES).hex()}"
        token = Token(
            id=token_id,
            name=name,
            account=account,
            permission=permission,
            namespaces=None if namespaces is None else tuple(namespaces),
            expires_s=expires_s,
            created_us=self._clock.now_us(),
        )
        await self._write(
            _stored(f"token/{token_id}", _StoredToken(token=token, digest=digest_of(secret)))
        )
        return token, secret

    async def tokens(self, account: str) -> list[Token]:
        """Return an account's tokens, oldest first; those for every account are not among them."""
        stored = [
            _decoded(item.value, _StoredToken, item.key) for item in await self._all("token/")
        ]
        mine = [record.token for record in stored if record.token.account == account]
        return sorted(mine, key=lambda token: (token.created_us, token.id))

    async def revoke_token(self, account: str, token_id: str) -> None:
        """Delete a token.

        Raises:
            TokenNotFoundError: The account has no such token.
        """
        key = f"token/{token_id}"
        found = await self._get(key, _StoredToken)
        if found is None or found[1].token.account != account:
            raise TokenNotFoundError
        await self._write(Mutation(key=key, value=None))

    # Accounts.

    async def create_account(self, name: str) -> Account:
        """Create an account."""
        account = Account(id=self._new_id(), name=name, created_us=self._clock.now_us())
        await self._write(_stored(f"account/{account.id}", account))
        return account

    async def account(self, account_id: str) -> Account:
        """Return an account.

        Raises:
            AccountNotFoundError: There is none with this id.
        """
        found = await self._get(f"account/{account_id}", Account)
        if found is None:
            raise AccountNotFoundError
        return found[1]

    async def accounts(self, principal: Principal) -> list[Account]:
        """Return the accounts that `principal` reaches, by name."""
        if principal.account != EVERY_ACCOUNT:
            return [await self.account(principal.account)]
        found = [_decoded(item.value, Account, item.key) for item in await self._all("account/")]
        return sorted(found, key=lambda account: (account.name, account.id))

    # Namespaces.

    async def namespace(self, namespace_id: str) -> Namespace:
        """Return a namespace, whichever account it belongs to.

        Raises:
            NamespaceIdInvalidError: The id is not 32 hexadecimal digits.
            NamespaceNotFoundError: There is none with this id.
        """
        if len(namespace_id) != ID_HEX_DIGITS or namespace_id.strip("0123456789abcdef"):
            raise NamespaceIdInvalidError(given=namespace_id)
        key = f"namespace/{namespace_id}"
        reading = await self._upstream.read(_read_of(key))
        if reading.entry is None:
            raise NamespaceNotFoundError
        known = self._namespaces.get(namespace_id)
        if known is None or known[0] != reading.entry.version:
            assert isinstance(reading.entry.value, bytes)
            record = _decoded(reading.entry.value, Namespace, key)
            known = (reading.entry.version, record)
            _remember(self._namespaces, namespace_id, known)
        return known[1]

    def known(self, namespace_id: str) -> Namespace | None:
        """Return a namespace as it was when it was last looked up here."""
        known = self._namespaces.get(namespace_id)
        return None if known is None else known[1]

    async def namespaces(self, account: str) -> list[Namespace]:
        """Return an account's namespaces, by id."""
        items = await self._all(f"of/{account}/")
        return [_decoded(item.value, Namespace, item.key) for item in items]

    async def every_namespace(self) -> list[Namespace]:
        """Return the namespaces of all accounts."""
        return [_decoded(item.value, Namespace, item.key) for item in await self._all("namespace/")]

    async def create_namespace(self, account: str, title: str) -> Namespace:
        """Create a namespace.

        Raises:
            TitleInvalidError: The title is empty or too long.
            TitleTakenError: Another namespace of the account has it.
            TooManyNamespacesError: The account has as many as it may.
        """
        self._check_title(title)
        namespace = Namespace(
            id=self._new_id(), account=account, title=title, created_us=self._clock.now_us()
        )
        async with self._creating:
            count_max = self._limits.namespaces_per_account_max
            if count_max is not None:
                page = await self._upstream.list(
                    ListQuery(
                        namespace=SYSTEM_NAMESPACE,
                        prefix=f"of/{account}/",
                        limit=count_max,
                        include=Include.COUNT,
                    )
                )
                if page.count >= count_max:
                    raise TooManyNamespacesError(count_max=count_max)
            try:
                await self._write(
                    _title(namespace, condition=Presence.ABSENT),
                    _stored(f"namespace/{namespace.id}", namespace),
                    _stored(f"of/{account}/{namespace.id}", namespace),
                )
            except ConditionFailedError as error:
                raise TitleTakenError(title=title) from error
        return namespace

    async def rename_namespace(self, account: str, namespace_id: str, title: str) -> Namespace:
        """Give a namespace another title. Its own present title is accepted.

        Raises:
            NamespaceNotFoundError: The account has no such namespace.
            TitleInvalidError: The title is empty or too long.
            TitleTakenError: Another namespace of the account has it.
        """
        self._check_title(title)
        for _ in range(RENAME_ATTEMPTS_MAX):
            version, old = await self._owned(account, namespace_id)
            new = msgspec.structs.replace(old, title=title)
            mutations = [
                _stored(f"namespace/{new.id}", new, condition=version),
                _stored(f"of/{account}/{new.id}", new),
            ]
            if new.title != old.title:
                mutations.append(_title(new, condition=Presence.ABSENT))
                mutations.append(Mutation(key=_title(old).key, value=None))
            try:
                await self._write(*mutations)
            except ConditionFailedError as error:
                if error.key.startswith("title/"):
                    raise TitleTakenError(title=title) from error
                continue  # It was renamed or deleted between our look and our write.
            return new
        raise NamespaceNotFoundError

    async def change_rules(
        self, account: str, namespace_id: str, given: dict[str, Any]
    ) -> NamespaceRules:
        """Change what locations may do for a namespace; what is not given stays.

        Raises:
            NamespaceNotFoundError: The account has no such namespace.
            BodyInvalidError: A setting is unknown or out of range.
        """
        new = await self._change(
            account,
            namespace_id,
            lambda old: msgspec.structs.replace(old, rules=changed_rules(old.rules, given)),
        )
        return new.rules

    async def change_stops(self, account: str, namespace_id: str, stops: tuple[Stop, ...]) -> None:
        """Put other stops in the place of those of a namespace.

        Raises:
            NamespaceNotFoundError: The account has no such namespace.
        """
        await self._change(
            account, namespace_id, lambda old: msgspec.structs.replace(old, stops=stops)
        )

    async def _change(
        self, account: str, namespace_id: str, change: Callable[[Namespace], Namespace]
    ) -> Namespace:
        """Change what lies around the title."""
        for _ in range(RENAME_ATTEMPTS_MAX):
            version, old = await self._owned(account, namespace_id)
            new = change(old)
            try:
                await self._write(
                    _stored(f"namespace/{new.id}", new, condition=version),
                    _stored(f"of/{account}/{new.id}", new),
                )
            except ConditionFailedError:
                continue  # It was changed between our look and our write.
            return new
        raise NamespaceNotFoundError

    async def delete_namespace(self, account: str, namespace_id: str) -> None:
        """Delete a namespace. Its entries are out of reach at once and removed by and by.

        Raises:
            NamespaceNotFoundError: The account has no such namespace.
        """
        for _ in range(RENAME_ATTEMPTS_MAX):
            version, old = await self._owned(account, namespace_id)
            try:
                await self._write(
                    Mutation(key=f"namespace/{old.id}", value=None, condition=version),
                    Mutation(key=f"of/{account}/{old.id}", value=None),
                    Mutation(key=_title(old).key, value=None),
                    Mutation(key=DROPPED_PREFIX + old.id, value=b"%d" % self._clock.now_us()),
                )
            except ConditionFailedError:
                continue
            return
        raise NamespaceNotFoundError

    def _check_title(self, title: str) -> None:
        if not title.strip():
            raise TitleInvalidError(detail="a namespace needs a title that is not empty")
        chars_max = self._limits.title_chars_max
        if len(title) > chars_max:
            raise TitleInvalidError(
                detail=f"title of {len(title)} characters exceeds the limit of {chars_max}"
            )
        if any("\ud800" <= char <= "\udfff" for char in title):
            raise TitleInvalidError(detail="the title holds a lone surrogate, which is no text")

    async def _owned(self, account: str, namespace_id: str) -> tuple[Version, Namespace]:
        found = await self._get(f"namespace/{namespace_id}", Namespace)
        if found is None or found[1].account != account:
            raise NamespaceNotFoundError
        return found

    # Entries.

    def _new_id(self) -> str:
        return self._random_bytes(ID_HEX_DIGITS // 2).hex()

    async def _get(self, key: str, kind: type[Record]) -> tuple[Version, Record] | None:
        reading = await self._upstream.read(_read_of(key))
        if reading.entry is None:
            return None
        assert isinstance(reading.entry.value, bytes)
        return reading.entry.version, _decoded(reading.entry.value, kind, key)

    async def _all(self, prefix: str) -> list[Listed]:
        """Return every entry under `prefix`; the caller filters."""
        items: list[Listed] = []
        after: str | None = None
        while True:
            page = await self._upstream.list(
                ListQuery(
                    namespace=SYSTEM_NAMESPACE,
                    prefix=prefix,
                    after=after,
                    limit=LIST_PAGE_KEYS,
                    include=Include.VALUES,
                    values_bytes_max=self._limits.list_values_bytes_max,
                )
            )
            items.extend(page.items)
            after = page.after
            if after is None:
                return items

    async def _write(self, *mutations: Mutation) -> None:
        await self._upstream.write(Batch(namespace=SYSTEM_NAMESPACE, mutations=mutations))


def _unlock(key: str, value: bytes, digest: str) -> Principal:
    """Compare a secret's digest with a record and say who it is."""
    if key.startswith("user/"):
        user = _decoded(value, _User, key)
        if not hmac.compare_digest(user.digest, digest):
            raise UnauthenticatedError
        return Principal(id=f"user:{user.email}", account=user.account, permission=Permission.ADMIN)
    stored = _decoded(value, _StoredToken, key)
    if not hmac.compare_digest(stored.digest, digest):
        raise UnauthenticatedError
    token = stored.token
    return Principal(
        id=f"token:{token.id}",
        account=token.account,
        permission=token.permission,
        namespaces=None if token.namespaces is None else frozenset(token.namespaces),
        expires_s=token.expires_s,
    )


@lru_cache(KNOWN_CREDENTIALS_MAX)
def _read_of(key: str, stale_ms_max: int | None = None) -> Read:
    """Ask for an entry. Every request asks for two, and mostly for the same ones."""
    return Read(namespace=SYSTEM_NAMESPACE, keys=(key,), stale_ms_max=stale_ms_max)


def _title(namespace: Namespace, condition: Presence | None = None) -> Mutation:
    return Mutation(
        key=f"title/{namespace.account}/{digest_of(namespace.title)}",
        value=namespace.id.encode(),
        condition=condition,
    )


def _stored(key: str, record: msgspec.Struct, condition: Version | None = None) -> Mutation:
    return Mutation(key=key, value=msgspec.json.encode(record), condition=condition)


def _decoded(value: bytes | None, kind: type[Record], key: str) -> Record:
    assert value is not None, key
    return msgspec.json.decode(value, type=kind)


_Known = TypeVar("_Known")


def _remember(known: OrderedDict[str, _Known], name: str, what: _Known) -> None:
    """Keep what was looked up, and let go of what was looked up longest ago."""
    known.pop(name, None)
    known[name] = what
    if len(known) > KNOWN_CREDENTIALS_MAX:
        known.popitem(last=False)
