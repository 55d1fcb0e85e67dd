"""`/client/v4/graphql`: analytics in the words of Workers KV's clients.

`kvOperationsAdaptiveGroups` says what was done, `kvStorageAdaptiveGroups` what was stored; groups
are by whatever dimensions a query selects. Names are Cloudflare's; `location` and `face` are ours.
Importing this takes a while, so only central does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias, cast

import graphql
import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLIncludeDirective,
    GraphQLResolveInfo,
    GraphQLSkipDirective,
    InlineFragmentNode,
    SelectionNode,
    build_schema,
    get_directive_values,
    parse,
    validate,
)

from atoll.accounts import Accounts
from atoll.core.errors import BodyInvalidError
from atoll.metering import Metering
from atoll.principal import Principal
from atoll.usage.counts import HOURS_PER_DAY
from atoll.usage.groups import (
    COMPARISONS,
    Fact,
    Filter,
    days_asked,
    holds,
    most,
    names_in,
    operation_facts,
    quantiles_of,
    storage_facts,
    summed,
)
from atoll.usage.histogram import QUANTILES
from atoll.usage.ledger import DAYS_KEPT_S, HOURS_KEPT_S, S_PER_HOUR

TOKENS_MAX: Final = 2000
"""How long a query may be."""
GROUPS_MAX: Final = 20
"""How many groupings one request may ask for, over all accounts."""
ROWS_MAX: Final = 10_000
ROWS_DEFAULT: Final = 100

_OPERATION_DIMENSIONS: Final = {
    "date": "Date",
    "datetime": "Time",
    "datetimeHour": "Time",
    "namespaceId": "string",
    "actionType": "string",
    "location": "string",
    "face": "string",
}
_STORAGE_DIMENSIONS: Final = {
    name: _OPERATION_DIMENSIONS[name]
    for name in ("date", "datetime", "datetimeHour", "namespaceId")
}
_HOURLY: Final = frozenset({"datetime", "datetimeHour"})


class Asked(msgspec.Struct):
    """A request's body."""

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815 - as GraphQL has it


@dataclass(slots=True, kw_only=True)
class _Context:
    principal: Principal
    groups: int = 0


Info: TypeAlias = GraphQLResolveInfo[_Context]


def _types(name: str, dimensions: Mapping[str, str], numbers: Mapping[str, Iterable[str]]) -> str:
    """Write the types of one kind of groups."""
    filters = "\n".join(
        f"  {dimension}{how}: {f'[{kind}!]' if how.endswith('in') else kind}"
        for dimension, kind in dimensions.items()
        for how in COMPARISONS
    )
    orders = [*dimensions, *(f"{of}_{one}" for of, ones in numbers.items() for one in ones)]
    directed = "\n".join(f"  {order}_{way}" for order in orders for way in ("ASC", "DESC"))
    selected = "\n".join(f"  {dimension}: {kind}!" for dimension, kind in dimensions.items())
    parts = "".join(
        f"type {name}{of.title()} {{\n"
        + "\n".join(f"  {one}: {'float64' if of == 'quantiles' else 'uint64'}!" for one in ones)
        + "\n}\n"
        for of, ones in numbers.items()
    )
    fields = "\n".join(f"  {of}: {name}{of.title()}!" for of in numbers)
    return f"""
input {name}Filter_InputObject {{
{filters}
  AND: [{name}Filter_InputObject!]
  OR: [{name}Filter_InputObject!]
}}
enum {name}OrderBy {{
{directed}
}}
type {name}Dimensions {{
{selected}
}}
{parts}
type {name} {{
  dimensions: {name}Dimensions!
{fields}
}}
"""


_QUANTILES: Final = tuple(f"latencyMs{name}" for name in QUANTILES)
_OPERATIONS: Final = "AccountKvOperationsAdaptiveGroups"
_STORAGE: Final = "AccountKvStorageAdaptiveGroups"

SCHEMA_TEXT: Final = (
    """
scalar string
scalar Date
scalar Time
scalar uint64
scalar float64
type Query {
  viewer: Viewer!
}
type Viewer {
  accounts(filter: AccountFilter_InputObject, limit: uint64): [Account!]!
}
input AccountFilter_InputObject {
  accountTag: string
  accountTag_in: [string!]
}
type Account {
  accountTag: string!
  kvOperationsAdaptiveGroups(
    filter: AccountKvOperationsAdaptiveGroupsFilter_InputObject
    limit: uint64
    orderBy: [AccountKvOperationsAdaptiveGroupsOrderBy!]
  ): [AccountKvOperationsAdaptiveGroups!]!
  kvStorageAdaptiveGroups(
    filter: AccountKvStorageAdaptiveGroupsFilter_InputObject
    limit: uint64
    orderBy: [AccountKvStorageAdaptiveGroupsOrderBy!]
  ): [AccountKvStorageAdaptiveGroups!]!
}
"""
    + _types(
        _OPERATIONS,
        _OPERATION_DIMENSIONS,
        {"sum": ("requests", "objectBytes"), "quantiles": _QUANTILES},
    )
    + _types(_STORAGE, _STORAGE_DIMENSIONS, {"max": ("keyCount", "byteCount")})
)


def _date(given: object) -> str:
    try:
        return date.fromisoformat(str(given)).isoformat()
    except ValueError as error:
        raise GraphQLError(f"{given!r} is no date such as 2026-11-25") from error


def _time(given: object) -> str:
    try:
        at = datetime.fromisoformat(str(given))
    except ValueError as error:
        raise GraphQLError(f"{given!r} is no time such as 2026-11-25T08:00:00Z") from error
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(given: object) -> str:
    if isinstance(given, str):
        return given
    raise GraphQLError(f"{given!r} is no text")


def _number(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise GraphQLError(f"{given!r} is no number that is not negative")


_PARSERS: Final = {"Date": _date, "Time": _time, "string": _text, "uint64": _number}


def _viewer(_source: object, _info: Info) -> dict[str, object]:
    return {}


class Analytics:
    """Answers queries."""

    def __init__(self, metering: Metering, accounts: Accounts) -> None:
        """Answer from `metering` for who is known to `accounts`."""
        self._metering = metering
        self._accounts = accounts
        self._schema = build_schema(SCHEMA_TEXT)
        for name, parser in _PARSERS.items():
            cast("Any", self._schema.type_map[name]).coerce_input_value = parser
        resolvers: dict[tuple[str, str], Any] = {
            ("Query", "viewer"): _viewer,
            ("Viewer", "accounts"): self._reached,
            ("Account", "kvOperationsAdaptiveGroups"): self._operations,
            ("Account", "kvStorageAdaptiveGroups"): self._storage,
        }
        for (kind, name), resolve in resolvers.items():
            cast("Any", self._schema.type_map[kind]).fields[name].resolve = resolve

    async def answer(self, body: bytes, principal: Principal) -> bytes:
        """Answer a request's body with a response's; what is wrong with a query stands in it.

        Raises:
            BodyInvalidError: The body is no request of GraphQL.
        """
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except (ValueError, RecursionError) as error:
            raise BodyInvalidError(detail=f"the body is no GraphQL request: {error}") from error
        result = await self._result(asked, principal)
        told: dict[str, object] = {"data": result.data, "errors": None}
        if result.errors:
            told["errors"] = [error.formatted for error in result.errors]
        return msgspec.json.encode(told)

    async def _result(self, asked: Asked, principal: Principal) -> ExecutionResult:
        try:
            document: DocumentNode = parse(asked.query, max_lexical_tokens=TOKENS_MAX)
        except GraphQLError as error:
            return ExecutionResult(data=None, errors=[error])
        wrong = validate(self._schema, document)
        if wrong:
            return ExecutionResult(data=None, errors=wrong)
        run = cast("Any", graphql.execute)  # pyright: ignore[reportUnknownMemberType]
        result = run(
            self._schema,
            document,
            context_value=_Context(principal=principal),
            variable_values=asked.variables,
            operation_name=asked.operationName,
        )
        return result if isinstance(result, ExecutionResult) else await result

    async def _reached(
        self,
        _source: object,
        info: Info,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - as the schema has it
        limit: int = ROWS_DEFAULT,
    ) -> list[dict[str, str]]:
        principal = info.context.principal
        wanted = filter or {}
        tags = [account.id for account in await self._accounts.accounts(principal)]
        return [
            {"accountTag": tag}
            for tag in tags
            if wanted.get("accountTag", tag) == tag and tag in wanted.get("accountTag_in", (tag,))
        ][:limit]

    async def _operations(
        self,
        source: Mapping[str, str],
        info: Info,
        *,
        filter: Filter | None = None,  # noqa: A002 - as the schema has it
        limit: int = ROWS_DEFAULT,
        orderBy: Sequence[str] = (),  # noqa: N803 - as the schema has it
    ) -> list[dict[str, object]]:
        condition = filter or {}
        await self._begin(info, limit)
        dimensions = _selected(info)
        ledger, account = self._metering.ledger, source["accountTag"]
        looked_at = {*dimensions, *names_in(condition), *(name.split("_")[0] for name in orderBy)}
        hourly = not _HOURLY.isdisjoint(looked_at)
        first, last = self._days(condition, HOURS_KEPT_S if hourly else DAYS_KEPT_S)
        if hourly:
            hours = range(first * HOURS_PER_DAY, (last + 1) * HOURS_PER_DAY)
            counted = await ledger.by_hour(account, hours)
        else:
            counted = await ledger.by_day(account, range(first, last + 1))
        facts = _asked_for(operation_facts(counted, hourly=hourly), condition, info)
        rows: list[dict[str, object]] = [
            {
                "dimensions": fact.dimensions,
                "sum": fact.numbers,
                "quantiles": quantiles_of(fact.latency),
            }
            for fact in summed(facts, dimensions)
        ]
        return _ordered(rows, orderBy)[:limit]

    async def _storage(
        self,
        source: Mapping[str, str],
        info: Info,
        *,
        filter: Filter | None = None,  # noqa: A002 - as the schema has it
        limit: int = ROWS_DEFAULT,
        orderBy: Sequence[str] = (),  # noqa: N803 - as the schema has it
    ) -> list[dict[str, object]]:
        condition = filter or {}
        await self._begin(info, limit)
        await self._metering.ledger.sample()
        first, last = self._days(condition, DAYS_KEPT_S)
        stored = await self._metering.ledger.stored(source["accountTag"], range(first, last + 1))
        facts = _asked_for(storage_facts(stored), condition, info)
        rows: list[dict[str, object]] = [
            {"dimensions": fact.dimensions, "max": fact.numbers}
            for fact in most(facts, _selected(info))
        ]
        return _ordered(rows, orderBy)[:limit]

    async def _begin(self, info: Info, limit: int) -> None:
        """Refuse what would take too long, and take in what has been counted by now."""
        context = info.context
        context.groups += 1
        if context.groups > GROUPS_MAX:
            raise GraphQLError(f"a request may ask for at most {GROUPS_MAX} groupings")
        if limit > ROWS_MAX:
            raise GraphQLError(f"limit must be at most {ROWS_MAX}")
        if context.groups == 1:
            await self._metering.refresh()

    def _days(self, condition: Filter, kept_s: int) -> tuple[int, int]:
        today = self._metering.ledger.now_hour() // HOURS_PER_DAY
        earliest = today - kept_s // (HOURS_PER_DAY * S_PER_HOUR)
        return days_asked(condition, first=earliest, last=today)


def _asked_for(facts: Iterable[Fact], condition: Filter, info: Info) -> list[Fact]:
    """Return what the filter holds for, of namespaces that the caller may see."""
    principal = info.context.principal
    return [
        fact
        for fact in facts
        if principal.may_see(fact.dimensions["namespaceId"]) and holds(condition, fact.dimensions)
    ]


def _ordered(rows: list[dict[str, object]], order: Sequence[str]) -> list[dict[str, object]]:
    """Put rows in the order asked for; of several the first decides first.

    Raises:
        GraphQLError: It orders by a dimension that is not selected.
    """
    for one in reversed(order):
        name, _, way = one.rpartition("_")
        part, _, number = name.rpartition("_")

        def value(row: dict[str, object], part: str = part, number: str = number) -> Any:  # noqa: ANN401 - text or a number
            return cast("Mapping[str, Any]", row[part or "dimensions"])[number]

        try:
            rows.sort(key=value, reverse=way == "DESC")
        except KeyError as error:
            raise GraphQLError(f"to order by {name}, select it among the dimensions") from error
    return rows


def _selected(info: Info) -> tuple[str, ...]:
    """Return the dimensions that a query selects, by which it groups."""
    below = (node.selection_set for node in info.field_nodes)
    groups = (selection for one in below if one for selection in one.selections)
    found: dict[str, None] = {}
    for field in _fields(groups, info):
        if field.name.value == "dimensions" and field.selection_set:
            for dimension in _fields(field.selection_set.selections, info):
                if not dimension.name.value.startswith("__"):
                    found[dimension.name.value] = None
    return tuple(found)


def _fields(selections: Iterable[SelectionNode], info: Info) -> Iterable[FieldNode]:
    """Yield the fields of a selection, also those in fragments."""
    for selection in selections:
        skip = get_directive_values(GraphQLSkipDirective, selection, info.variable_values)
        include = get_directive_values(GraphQLIncludeDirective, selection, info.variable_values)
        if (skip and skip["if"]) or (include and not include["if"]):
            continue
        match selection:
            case FieldNode():
                yield selection
            case FragmentSpreadNode():
                fragment: FragmentDefinitionNode = info.fragments[selection.name.value]
                yield from _fields(fragment.selection_set.selections, info)
            case InlineFragmentNode():
                yield from _fields(selection.selection_set.selections, info)
            case _:
                raise AssertionError(selection)
