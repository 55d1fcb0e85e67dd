"""`/v1/usage` and `/v1/quotas`: what was used and what it costs, and what may be used.

GET /v1/usage     the statement of a month, as JSON or CSV
GET /v1/quotas    an account's quotas, and how much of each is used
PUT /v1/quotas    put others in their place: {"quotas": [...]} or {"preset": "free"}
"""

from typing import Final

import msgspec

from atoll.core.errors import (
    BodyInvalidError,
    ForbiddenError,
    MethodNotAllowedError,
    NamespaceNotFoundError,
    ParameterInvalidError,
    RouteNotFoundError,
)
from atoll.core.limits import MIB
from atoll.core.location_errors import CentralOnlyError
from atoll.http.body import Bodies
from atoll.http.exchange import Answer, Request, json_answer, read_object
from atoll.http.node import Node
from atoll.http.rest_form import succeed
from atoll.http.values import principal_of
from atoll.metering import Metering, QuotaState
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.usage.prices import DEFAULT_BOOK
from atoll.usage.quotas import PRESETS, decode_quotas
from atoll.usage.statement import Statement, as_csv, month_of

USAGE_PATH: Final = b"/v1/usage"
QUOTAS_PATH: Final = b"/v1/quotas"
BODY_BYTES_MAX: Final = MIB

_encode = msgspec.json.Encoder().encode


class V1Usage:
    """Handlers; the statement is REST's too."""

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies

    def _metering(self) -> Metering:
        if self._node.metering is None:
            raise CentralOnlyError(location=self._node.name)
        return self._node.metering

    async def answer(self, request: Request) -> Answer:
        """Do what the request asks.

        Raises:
            CentralOnlyError: This is a location.
            RouteNotFoundError: There is no such path.
            MethodNotAllowedError: The path is not for this method.
        """
        metering = self._metering()
        allowed = {USAGE_PATH: ("GET", "HEAD"), QUOTAS_PATH: ("GET", "HEAD", "PUT")}
        if request.path not in allowed:
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        if request.method not in allowed[request.path]:
            raise MethodNotAllowedError(method=request.method, allowed=allowed[request.path])
        what = request.path.rpartition(b"/")[2].decode()
        request.operation = f"change {what}" if request.method == "PUT" else what
        principal = await principal_of(self._node, request)
        account = _account_of(request, principal)
        if request.path == USAGE_PATH:
            as_text = request.choice("format", default="json", options=("json", "csv")) == "csv"
            statement = await self._statement(request, principal, account)
            return _csv_answer(statement) if as_text else json_answer(_encode(statement))
        if request.method == "PUT":
            principal.require(Permission.ADMIN, account=account)
            await self._change(request, metering, account)
        else:
            principal.require(Permission.READ, account=account)
        states = await metering.quota_states(account)
        return json_answer(_encode({"account": account, "quotas": [_shown(one) for one in states]}))

    async def rest_statement(self, request: Request, principal: Principal) -> Answer:
        """Answer with the statement in REST's envelope."""
        return succeed(await self._statement(request, principal, request.account))

    async def graphql(self, request: Request, principal: Principal) -> Answer:
        """Answer a query with what it asks for, in GraphQL's form.

        Raises:
            CentralOnlyError: This node does not know.
        """
        if self._node.analytics is None:
            raise CentralOnlyError(location=self._node.name)
        async with self._bodies.whole(request, bytes_max=BODY_BYTES_MAX) as raw:
            return json_answer(await self._node.analytics.answer(raw, principal))

    async def _statement(self, request: Request, principal: Principal, account: str) -> Statement:
        metering = self._metering()
        namespace = request.query.get("namespace")
        principal.require(Permission.READ, account=account, namespace=namespace)
        if namespace is not None:
            # A deleted namespace keeps its history: what is not there costs nothing.
            found = await self._owner(namespace)
            if found not in {None, account}:
                raise NamespaceNotFoundError
        elif principal.namespaces is not None:
            raise ForbiddenError
        month = request.query.get("month")
        return await metering.statement(
            account,
            prices=request.query.get("prices", DEFAULT_BOOK),
            month=None if month is None else month_of(month),
            namespace=namespace,
        )

    async def _owner(self, namespace: str) -> str | None:
        try:
            return (await self._node.accounts.namespace(namespace)).account
        except NamespaceNotFoundError:
            return None

    async def _change(self, request: Request, metering: Metering, account: str) -> None:
        async with self._bodies.whole(request, bytes_max=BODY_BYTES_MAX) as raw:
            given = read_object(raw)
        match given:
            case {"preset": str() as name, **rest} if name in PRESETS and not rest:
                quotas = PRESETS[name]
            case {"quotas": list() as listed, **rest} if not rest:  # pyright: ignore[reportUnknownVariableType]
                quotas = decode_quotas(_encode(listed))
            case _:
                detail = f"the body needs `quotas`, an array, or a `preset`: {', '.join(PRESETS)}"
                raise BodyInvalidError(detail=detail)
        await self._node.accounts.account(account)
        await metering.change_quotas(account, quotas)


def _account_of(request: Request, principal: Principal) -> str:
    """Return the account that a request is about: the caller's, unless they reach all."""
    given = request.query.get("account")
    if principal.account != EVERY_ACCOUNT:
        if given not in {None, principal.account}:
            raise ForbiddenError
        return principal.account
    if given is None:
        rule = "These credentials reach every account: name one."
        raise ParameterInvalidError(name="account", given="", rule=rule)
    return given


def _shown(state: QuotaState) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(state.quota)
    return {**shown, "used": state.used, "used_up": state.is_used_up, "ends_s": state.ends_s}


def _csv_answer(statement: Statement) -> Answer:
    body = as_csv(statement).encode()
    headers = [
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    return Answer(headers=headers, body=body)
