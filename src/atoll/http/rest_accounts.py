"""REST v4's handlers for what lies around the keys: namespaces, accounts, tokens, the caller."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec

from atoll.accounts import Account, Namespace, Token
from atoll.core.errors import BodyInvalidError, NamespaceNotFoundError, TitleInvalidError
from atoll.core.limits import MIB
from atoll.http.body import Bodies
from atoll.http.exchange import Answer, Request, read_object
from atoll.http.node import Node
from atoll.http.rest_form import succeed, succeed_with_null
from atoll.principal import Permission, Principal

SMALL_BODY_BYTES_MAX: Final = MIB
PAGE_MAX: Final = 10**9 - 1
PER_PAGE_DEFAULT: Final = 20
PER_PAGE_MAX: Final = 1000
NAME_CHARS_MAX: Final = 200
TOKEN_NAMESPACES_MAX: Final = 1000
US_PER_S: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Item = TypeVar("Item")


class _NewToken(msgspec.Struct):
    name: str
    permission: Permission
    namespaces: list[str] | None = None
    expires_on: datetime | None = None


class RestAccounts:
    """Handlers; `rest` has found out who asks and that the account is theirs."""

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies

    # Namespaces.

    async def list_namespaces(self, request: Request, principal: Principal) -> Answer:
        """Answer with a page of namespaces; behind the last page come empty ones."""
        order = request.choice("order", default="id", options=("id", "title"))
        direction = request.choice("direction", default="asc", options=("asc", "desc"))
        found = await self._node.accounts.namespaces(request.account)
        seen = [namespace for namespace in found if principal.may_see(namespace.id)]
        seen.sort(
            key=lambda namespace: (namespace.title if order == "title" else "", namespace.id),
            reverse=direction == "desc",
        )
        return _page(request, seen, _namespace)

    async def create_namespace(self, request: Request, _principal: Principal) -> Answer:
        """Create a namespace and answer with it."""
        title = await self._title(request)
        return succeed(
            _namespace(await self._node.accounts.create_namespace(request.account, title))
        )

    async def get_namespace(self, request: Request, _principal: Principal) -> Answer:
        """Answer with a namespace."""
        return succeed(_namespace(await self._owned(request)))

    async def rename_namespace(self, request: Request, _principal: Principal) -> Answer:
        """Give a namespace another title and answer with it."""
        namespace = await self._owned(request)
        title = await self._title(request)
        return succeed(
            _namespace(
                await self._node.accounts.rename_namespace(request.account, namespace.id, title)
            )
        )

    async def delete_namespace(self, request: Request, _principal: Principal) -> Answer:
        """Delete a namespace with everything in it."""
        namespace = await self._owned(request)
        await self._node.accounts.delete_namespace(request.account, namespace.id)
        return succeed_with_null()

    async def _owned(self, request: Request) -> Namespace:
        namespace = await self._node.accounts.namespace(request.namespace)
        if namespace.account != request.account:
            raise NamespaceNotFoundError
        return namespace

    async def _title(self, request: Request) -> str:
        body = await self._object(request)
        title = body.get("title")
        if not isinstance(title, str):
            raise TitleInvalidError(detail="the body needs a `title`, a text")
        return title

    async def _object(self, request: Request) -> dict[str, object]:
        async with self._bodies.whole(request, bytes_max=SMALL_BODY_BYTES_MAX) as raw:
            return read_object(raw)

    # Accounts.

    async def list_accounts(self, request: Request, principal: Principal) -> Answer:
        """Answer with the accounts that the caller reaches."""
        return _page(request, await self._node.accounts.accounts(principal), _account)

    async def create_account(self, request: Request, _principal: Principal) -> Answer:
        """Create an account and answer with it."""
        name = _name((await self._object(request)).get("name"))
        return succeed(_account(await self._node.accounts.create_account(name)))

    async def get_account(self, request: Request, _principal: Principal) -> Answer:
        """Answer with an account."""
        return succeed(_account(await self._node.accounts.account(request.account)))

    async def list_memberships(self, request: Request, principal: Principal) -> Answer:
        """Answer with the accounts that the caller reaches, as memberships."""
        return _page(
            request,
            await self._node.accounts.accounts(principal),
            lambda account: {
                "id": account.id,
                "status": "accepted",
                "account": _account(account),
            },
        )

    # The caller.

    async def user(self, _request: Request, principal: Principal) -> Answer:
        """Answer with who asks; a token has no e-mail address."""
        kind, _, name = principal.id.partition(":")
        user = {"id": principal.id}
        if kind == "user":
            user["email"] = name
        return succeed(user)

    async def verify_token(self, _request: Request, principal: Principal) -> Answer:
        """Say that the caller's credentials are good: had they not been, we would not be here."""
        return succeed({"id": principal.id.partition(":")[2], "status": "active"})

    # Tokens.

    async def list_tokens(self, request: Request, _principal: Principal) -> Answer:
        """Answer with the account's tokens; their secrets are not kept anywhere."""
        return _page(request, await self._node.accounts.tokens(request.account), _token)

    async def create_token(self, request: Request, _principal: Principal) -> Answer:
        """Create a token; this answer alone carries its secret."""
        asked = await self._new_token(request)
        token, secret = await self._node.accounts.create_token(
            request.account,
            name=_name(asked.name),
            permission=asked.permission,
            namespaces=asked.namespaces,
            expires_s=None if asked.expires_on is None else int(asked.expires_on.timestamp()),
        )
        return succeed({**_token(token), "value": secret})

    async def _new_token(self, request: Request) -> _NewToken:
        async with self._bodies.whole(request, bytes_max=SMALL_BODY_BYTES_MAX) as raw:
            try:
                asked = msgspec.json.decode(raw, type=_NewToken)
            except (ValueError, RecursionError) as error:
                raise BodyInvalidError(
                    detail=f"the body does not describe a token: {error}"
                ) from error
        if asked.expires_on is not None:
            if asked.expires_on.tzinfo is None:
                raise BodyInvalidError(detail="`expires_on` needs a time zone, such as Z")
            if asked.expires_on.timestamp() * US_PER_S <= self._node.clock.now_us():
                raise BodyInvalidError(detail="`expires_on` lies in the past")
        if asked.namespaces is not None and len(asked.namespaces) > TOKEN_NAMESPACES_MAX:
            detail = f"a token is limited to at most {TOKEN_NAMESPACES_MAX} namespaces"
            raise BodyInvalidError(detail=detail)
        return asked

    async def revoke_token(self, request: Request, _principal: Principal) -> Answer:
        """Delete a token; it is refused from now on."""
        token_id = request.key.decode("latin-1")
        await self._node.accounts.revoke_token(request.account, token_id)
        return succeed({"id": token_id})


def _name(given: object) -> str:
    """Check a name for people.

    Raises:
        BodyInvalidError: It is no text, or too long.
    """
    if (
        not isinstance(given, str)
        or not 1 <= len(given) <= NAME_CHARS_MAX
        or any("\ud800" <= char <= "\udfff" for char in given)
    ):
        raise BodyInvalidError(detail=f"`name` must be a text of 1 to {NAME_CHARS_MAX} characters")
    return given


def _page(
    request: Request, items: Sequence[Item], shown: Callable[[Item], dict[str, object]]
) -> Answer:
    """Cut the page that the request asks for out of all items."""
    page = request.whole_number("page", default=1, low=1, high=PAGE_MAX)
    per_page = request.whole_number("per_page", default=PER_PAGE_DEFAULT, low=1, high=PER_PAGE_MAX)
    rows = [shown(item) for item in items[(page - 1) * per_page : page * per_page]]
    return succeed(
        rows,
        result_info={
            "count": len(rows),
            "page": page,
            "per_page": per_page,
            "total_count": len(items),
            "total_pages": -(-len(items) // per_page),
        },
    )


def _namespace(namespace: Namespace) -> dict[str, object]:
    return {"id": namespace.id, "title": namespace.title, "supports_url_encoding": True}


def _account(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "created_on": _rfc3339(account.created_us),
    }


def _token(token: Token) -> dict[str, object]:
    expires_s = token.expires_s
    return {
        "id": token.id,
        "name": token.name,
        "status": "active",
        "permission": token.permission,
        "namespaces": token.namespaces,
        "issued_on": _rfc3339(token.created_us),
        "expires_on": None if expires_s is None else _rfc3339(expires_s * US_PER_S),
    }


def _rfc3339(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%SZ")
