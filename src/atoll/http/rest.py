"""REST v4: which handler a path means, who may call it, and how it fails.

The order is fixed: route, method, credentials, permission, and only then a look at what exists.
So nobody without credentials learns more than the documentation says, and credentials that do
not reach a namespace get the same answer whether it exists or not.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from atoll.core.errors import (
    MethodNotAllowedError,
    NamespaceNotFoundError,
    RouteNotFoundError,
)
from atoll.core.location_errors import CentralOnlyError
from atoll.core.model import CENTRAL_NAME
from atoll.http.body import Bodies
from atoll.http.exchange import Answer, Request
from atoll.http.node import Node
from atoll.http.rest_accounts import RestAccounts
from atoll.http.rest_form import refuse
from atoll.http.rest_keys import RestKeys
from atoll.http.v1_usage import V1Usage
from atoll.http.values import principal_of
from atoll.principal import EVERY_ACCOUNT, Permission, Principal

PREFIX: Final = b"/client/v4/"

READ: Final = Permission.READ
WRITE: Final = Permission.WRITE
ADMIN: Final = Permission.ADMIN


class Reach(Enum):
    """What a request touches, and thereby what its credentials must reach."""

    KEYS = auto()
    """The keys of one namespace, which must exist."""
    NAMESPACE = auto()
    """One namespace itself; reading it takes no more than reaching it."""
    ACCOUNT = auto()
    """An account, which must exist."""
    DEPLOYMENT = auto()
    """All accounts."""
    CALLER = auto()
    """Nobody but the caller."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method means on a path."""

    name: str
    """As messages and metrics call it."""
    reach: Reach
    permission: Permission
    run: Callable[[Request, Principal], Awaitable[Answer]]


Methods = Mapping[str, Operation]


class Rest:
    """See `Face`."""

    name = "rest"

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._routes = _routes(
            RestKeys(node, bodies), RestAccounts(node, bodies), V1Usage(node, bodies)
        )

    async def answer(self, request: Request) -> Answer:
        """See `Face`.

        Raises:
            RouteNotFoundError: As there, like the others.
            MethodNotAllowedError: The path is not for this method.
            CentralOnlyError: This is a location.
        """
        if self._node.name != CENTRAL_NAME:
            raise CentralOnlyError(location=self._node.name)
        methods = self._routes.get(_shape(request))
        if methods is None:
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        method = "GET" if request.method == "HEAD" else request.method
        operation = methods.get(method)
        if operation is None:
            raise MethodNotAllowedError(method=request.method, allowed=_allowed(methods))
        request.operation = operation.name
        principal = await principal_of(self._node, request)
        await self._admit(request, principal, operation)
        return await operation.run(request, principal)

    async def _admit(self, request: Request, principal: Principal, operation: Operation) -> None:
        """Refuse what the credentials do not allow, then what does not exist."""
        accounts = self._node.accounts
        match operation.reach:
            case Reach.KEYS:
                principal.require(
                    operation.permission, account=request.account, namespace=request.namespace
                )
                namespace = await accounts.namespace(request.namespace)
                if namespace.account != request.account:
                    raise NamespaceNotFoundError
                request.rules = namespace.rules
            case Reach.NAMESPACE:
                named = request.namespace if operation.permission is READ else None
                principal.require(operation.permission, account=request.account, namespace=named)
            case Reach.ACCOUNT:
                principal.require(operation.permission, account=request.account)
                await accounts.account(request.account)
            case Reach.DEPLOYMENT:
                principal.require(operation.permission, account=EVERY_ACCOUNT)
            case Reach.CALLER:
                pass

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`."""
        return refuse(request, error)


def _shape(request: Request) -> str:  # noqa: PLR0911 - one return for each kind of path
    """Say which kind of path it is, and take account, namespace and key out of it.

    Nothing is folded or forgiven: a slash too many is another path. Clients whose key is `..`
    ask for `…/namespaces/<id>/`, and must not get what was meant for the namespace.
    """
    parts = request.path.split(b"/", 9)[3:]
    match parts:
        case [b"accounts", account, b"storage", b"kv", b"namespaces", namespace, tail]:
            request.account = account.decode("latin-1")
            request.namespace = namespace.decode("latin-1")
            what, slash, key = tail.partition(b"/")
            if slash and what in {b"values", b"metadata"}:
                request.key = key
                return what.decode() + "/"
            return "namespace/" + tail.decode("latin-1")
        case [b"accounts", account, b"storage", b"kv", b"namespaces", namespace] if namespace:
            request.account = account.decode("latin-1")
            request.namespace = namespace.decode("latin-1")
            return "namespace"
        case [b"accounts", account, *rest] if account:
            request.account = account.decode("latin-1")
            match rest:
                case []:
                    return "account"
                case [b"tokens", token] if token and token != b"verify":
                    request.key = token
                    return "token"
                case _:
                    return "account/" + b"/".join(rest).decode("latin-1")
        case _:
            return "/" + b"/".join(parts).decode("latin-1")


def _routes(keys: RestKeys, accounts: RestAccounts, usage: V1Usage) -> Mapping[str, Methods]:
    """Name every operation by what `_shape` returns and the method."""
    bulk_delete = Operation("bulk remove keys", Reach.KEYS, WRITE, keys.bulk_delete)
    verify = Operation("verify token", Reach.CALLER, READ, accounts.verify_token)
    return {
        "values/": {
            "GET": Operation("get", Reach.KEYS, READ, keys.get),
            "PUT": Operation("put", Reach.KEYS, WRITE, keys.put),
            "DELETE": Operation("remove key", Reach.KEYS, WRITE, keys.delete),
        },
        "metadata/": {"GET": Operation("get metadata", Reach.KEYS, READ, keys.get_metadata)},
        "namespace/keys": {"GET": Operation("list keys", Reach.KEYS, READ, keys.list_keys)},
        "namespace/bulk": {
            "PUT": Operation("bulk put keys", Reach.KEYS, WRITE, keys.bulk_put),
            "DELETE": bulk_delete,
        },
        "namespace/bulk/delete": {"POST": bulk_delete},
        "namespace/bulk/get": {"POST": Operation("bulk get keys", Reach.KEYS, READ, keys.bulk_get)},
        "namespace": {
            "GET": Operation("get namespace", Reach.NAMESPACE, READ, accounts.get_namespace),
            "PUT": Operation("rename namespace", Reach.NAMESPACE, WRITE, accounts.rename_namespace),
            "DELETE": Operation(
                "remove namespace", Reach.NAMESPACE, WRITE, accounts.delete_namespace
            ),
        },
        "account/storage/kv/namespaces": {
            "GET": Operation("list namespaces", Reach.ACCOUNT, READ, accounts.list_namespaces),
            "POST": Operation("create namespace", Reach.ACCOUNT, WRITE, accounts.create_namespace),
        },
        "account/storage/kv/usage": {
            "GET": Operation("get usage", Reach.ACCOUNT, READ, usage.rest_statement)
        },
        "account": {"GET": Operation("get account", Reach.ACCOUNT, READ, accounts.get_account)},
        "account/tokens": {
            "GET": Operation("list tokens", Reach.ACCOUNT, ADMIN, accounts.list_tokens),
            "POST": Operation("create token", Reach.ACCOUNT, ADMIN, accounts.create_token),
        },
        "account/tokens/verify": {
            "GET": Operation("verify token", Reach.ACCOUNT, READ, accounts.verify_token)
        },
        "token": {"DELETE": Operation("revoke token", Reach.ACCOUNT, ADMIN, accounts.revoke_token)},
        "/accounts": {
            "GET": Operation("list accounts", Reach.CALLER, READ, accounts.list_accounts),
            "POST": Operation("create account", Reach.DEPLOYMENT, ADMIN, accounts.create_account),
        },
        "/memberships": {
            "GET": Operation("list memberships", Reach.CALLER, READ, accounts.list_memberships)
        },
        "/graphql": {"POST": Operation("graphql", Reach.CALLER, READ, usage.graphql)},
        "/user": {"GET": Operation("get user", Reach.CALLER, READ, accounts.user)},
        "/user/tokens/verify": {"GET": verify},
    }


def _allowed(methods: Methods) -> tuple[str, ...]:
    """Return the methods of a path; where there is a GET there is a HEAD."""
    return tuple(
        m for method in methods for m in ((method, "HEAD") if method == "GET" else (method,))
    )
