"""`/v1`: the same verbs for programs, with what Workers KV does not say.

Every answer says its version (`ETag`), its position and its age; requests may ask for freshness
in the words of RFC 9111, and for a position that the answer must include. Beyond the verbs of
Workers KV: listing with values, counting, deleting by prefix. Versions and positions are text in
JSON, because a JavaScript number cannot hold them.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from atoll.core import rules
from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    ConditionFailedError,
    KeyNotFoundError,
    MethodNotAllowedError,
    ParameterInvalidError,
    RouteNotFoundError,
)
from atoll.core.limits import FACE_V1, MIB
from atoll.core.model import (
    Batch,
    Include,
    Listed,
    ListQuery,
    Mutation,
    Position,
    Written,
)
from atoll.core.version import Version
from atoll.http.body import Bodies
from atoll.http.cache_control import freshness
from atoll.http.cursor import cursor_after, key_before
from atoll.http.exchange import (
    Answer,
    Request,
    at_position,
    decode_key,
    etag,
    headers_of,
    json_answer,
    read_object,
)
from atoll.http.metadata import header_form
from atoll.http.node import Node
from atoll.http.shown import TRUE, combined, headers_of_reading
from atoll.http.v1_inside import V1Inside, is_inside
from atoll.http.v1_locations import LOCATIONS_PREFIX, V1Locations
from atoll.http.v1_nodes import NODES_PREFIX, V1Nodes
from atoll.http.v1_usage import QUOTAS_PATH, USAGE_PATH, V1Usage
from atoll.http.v1_watch import Watches
from atoll.http.values import Values, admitted, headers_of_write, size_of, whole_value
from atoll.principal import Permission, Principal

PREFIX: Final = b"/v1/"
SMALL_BODY_BYTES_MAX: Final = MIB

COUNT_PAGES_MAX: Final = 100
"""How many pages of `count_keys_max` keys one call counts."""

STATUS_ACCEPTED: Final = 202

JOURNALED: Final = (
    "central cannot be reached: the write is on this location's disk and shown here, and goes to"
    " central when that can be reached again. It loses to what central has accepted under a later"
    " version by then."
)

SAFE_INTEGER_MAX: Final = 2**53 - 1
"""What a JavaScript number holds exactly."""

DELETE_ATTEMPTS_MAX: Final = 16
"""How often a page of deletions is tried again without the keys that were rewritten meanwhile."""

STATUSES: Final[Mapping[str, int]] = {
    "internal": 500,
    "invalid_request": 400,
    "key_empty": 400,
    "key_too_long": 414,
    "key_illegal": 400,
    "key_encoding": 400,
    "value_too_large": 413,
    "metadata_too_large": 413,
    "metadata_invalid": 400,
    "expiration_invalid": 400,
    "expiration_ttl_invalid": 400,
    "cursor_invalid": 400,
    "parameter_invalid": 400,
    "body_invalid": 400,
    "body_too_large": 413,
    "bulk_invalid": 400,
    "bulk_read_invalid": 400,
    "bulk_read_too_large": 413,
    "title_invalid": 400,
    "title_taken": 409,
    "namespace_id_invalid": 400,
    "condition_invalid": 400,
    "idempotency_key_reused": 422,
    "route_not_found": 404,
    "method_not_allowed": 405,
    "not_found": 404,
    "key_not_found": 404,
    "namespace_not_found": 404,
    "account_not_found": 404,
    "token_not_found": 404,
    "node_not_found": 404,
    "location_not_found": 404,
    "journal_entry_not_found": 404,
    "unauthenticated": 401,
    "forbidden": 403,
    "condition_failed": 412,
    "limit_reached": 429,
    "rewrite_too_soon": 429,
    "quota_reached": 429,
    "too_many_namespaces": 403,
    "unavailable": 503,
    "not_arrived": 503,
    "deadline_passed": 503,
    "outcome_forgotten": 503,
    "position_too_old": 410,
    "feed_started_over": 503,
    "too_many_watches": 503,
    "stopping": 503,
    "unreachable": 503,
    "cut_off": 503,
    "not_admitted": 503,
    "central_only": 421,
    "location_only": 421,
    "not_held": 504,
    "outcome_unknown": 503,
    "journal_full": 503,
    "location_unknown": 503,
    "location_forgotten": 403,
    "store_failed": 500,
    "disk_full": 507,
    "store_in_use": 500,
    "location_in_use": 500,
    "store_not_found": 500,
    "store_exists": 500,
    "schema_too_new": 500,
    "sealing_key_missing": 500,
    "sealing_key_wrong": 500,
    "corrupt_data": 500,
    "config_invalid": 500,
    "remote": 502,
}

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    permission: Permission
    run: Callable[[Request, Principal], Awaitable[Answer]]


class _Row(msgspec.Struct, omit_defaults=True):
    name: str
    version: str
    size: int
    expiration: int | None = None
    metadata: msgspec.Raw | None = None
    value: str | None = None
    base64: bool = False
    value_omitted: bool = False
    position: str | None = None
    journaled: bool = False


class V1:
    """See `Face`."""

    name = "v1"

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies
        self._nodes = V1Nodes(node, bodies)
        self._usage = V1Usage(node, bodies)
        self._locations = V1Locations(node)
        self._inside = V1Inside(node)
        self._values = Values(node, bodies, FACE_V1)
        watches = Watches(
            node, admit=lambda request: admitted(node, request, Permission.READ), describe=_ended
        )
        self.missing = _encode({"error": _described(KeyNotFoundError())})
        """The body that says that a key is missing."""
        read, write = Permission.READ, Permission.WRITE
        self._routes: Mapping[bytes, Mapping[str, _Operation]] = {
            b"values": {
                "GET": _Operation("get", read, self._get),
                "PUT": _Operation("put", write, self._put),
                "DELETE": _Operation("delete", write, self._delete),
            },
            b"get": {"POST": _Operation("get many", read, self._get_many)},
            b"keys": {"GET": _Operation("list", read, self._list)},
            b"count": {"GET": _Operation("count", read, self._count)},
            b"where": {"GET": _Operation("where", read, self._where)},
            b"watch": {"GET": _Operation("watch", read, watches.answer)},
            b"settings": {
                "GET": _Operation("settings", read, self._settings),
                "PUT": _Operation("change settings", Permission.ADMIN, self._change_settings),
            },
            b"delete": {"POST": _Operation("delete by prefix", write, self._delete_prefix)},
        }

    async def answer(self, request: Request) -> Answer:
        """See `Face`.

        Raises:
            RouteNotFoundError: As there, like the others.
            MethodNotAllowedError: The path is not for this method.
        """
        if request.path.startswith(NODES_PREFIX):
            return await self._nodes.answer(request)
        if request.path in {USAGE_PATH, QUOTAS_PATH}:
            return await self._usage.answer(request)
        if request.path.startswith(LOCATIONS_PREFIX):
            return await self._locations.answer(request)
        if is_inside(request.path):
            return await self._inside.answer(request)
        methods = self._route(request)
        method = "GET" if request.method == "HEAD" else request.method
        operation = methods.get(method)
        if operation is None:
            allowed = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            raise MethodNotAllowedError(method=request.method, allowed=allowed)
        request.operation = operation.name
        principal = await admitted(self._node, request, operation.permission)
        return await operation.run(request, principal)

    def _route(self, request: Request) -> Mapping[str, _Operation]:
        match request.path.split(b"/", 5)[2:]:
            case [b"namespaces", namespace, (b"values" | b"where") as what, key]:
                request.key = key
            case [b"namespaces", namespace, what] if what not in {b"values", b"where"}:
                pass
            case _:
                what, namespace = b"", b""
        methods = self._routes.get(what)
        if methods is None:
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        request.namespace = namespace.decode("latin-1")
        return methods

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`. The facts of an error are members beside its code and message."""
        if not isinstance(error, AtollError):
            message = f"internal error; the server's log has it under request {request.id}"
            body = _encode({"error": {"code": "internal", "message": message}})
            return json_answer(body, status=500)
        body = _encode({"error": _described(error)})
        return json_answer(body, status=STATUSES[error.code], headers=headers_of(error))

    # One key.

    async def _get(self, request: Request, _principal: Principal) -> Answer:
        wanted = freshness(request.headers.get(b"cache-control"))
        reading = await self._values.read(request, wanted=wanted)
        entry = reading.entry
        headers = headers_of_reading(reading, age_ms_max=wanted.age_ms_max)
        if entry is None or entry.value is None:
            answer = self.refuse(request, KeyNotFoundError())
            answer.headers += headers
            return answer
        headers.append(etag(entry.version))
        if entry.metadata is not None:
            headers.append((b"atoll-metadata", header_form(entry.metadata)))
        if entry.expiration is not None:
            headers.append((b"atoll-expiration", b"%d" % entry.expiration))
        if matches(request.headers.get(b"if-none-match"), entry.version):
            return Answer(status=304, headers=headers)
        headers += (
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % size_of(entry)),
        )
        return Answer(headers=headers, body=entry.value)

    async def _put(self, request: Request, principal: Principal) -> Answer:
        metadata = request.headers.get(b"atoll-metadata")
        return _written_answer(
            request, await self._values.put(request, principal, metadata=metadata)
        )

    async def _delete(self, request: Request, principal: Principal) -> Answer:
        return _written_answer(request, await self._values.delete(request, principal))

    async def _where(self, request: Request, _principal: Principal) -> Answer:
        return await self._locations.where(request)

    # The namespace.

    async def _settings(self, request: Request, _principal: Principal) -> Answer:
        return json_answer(_encode(request.rules))

    async def _change_settings(self, request: Request, _principal: Principal) -> Answer:
        async with self._bodies.whole(request, bytes_max=SMALL_BODY_BYTES_MAX) as raw:
            given = read_object(raw)
        accounts = self._node.accounts
        account = (await accounts.namespace(request.namespace)).account
        return json_answer(_encode(await accounts.change_rules(account, request.namespace, given)))

    # Many keys.

    async def _get_many(self, request: Request, _principal: Principal) -> Answer:
        async with self._bodies.whole(request, bytes_max=SMALL_BODY_BYTES_MAX) as raw:
            keys = _names_in(read_object(raw))
        wanted = freshness(request.headers.get(b"cache-control"))
        readings = await self._values.read_many(request, keys, wanted=wanted)
        rows: list[_Row] = []
        missing: list[str] = []
        for key, reading in readings.items():
            entry = reading.entry
            if entry is None:
                missing.append(key)
                continue
            value = await whole_value(entry)
            row = _row(
                Listed(
                    key=key,
                    version=entry.version,
                    size_bytes=len(value),
                    metadata=entry.metadata,
                    expiration=entry.expiration,
                    value=value,
                ),
                with_values=True,
            )
            row.position = str(reading.token or reading.position)
            row.journaled = reading.journaled
            rows.append(row)
        headers = headers_of_reading(combined(readings.values()), age_ms_max=wanted.age_ms_max)
        return json_answer(_encode({"keys": rows, "missing": missing}), headers=headers)

    async def _list(self, request: Request, _principal: Principal) -> Answer:
        limits = self._node.limits
        limit = request.whole_number(
            "limit", default=limits.list_keys_max, low=1, high=limits.list_keys_max
        )
        with_values = request.choice("include", default="", options=("", "values")) == "values"
        prefix = self._prefix(request.query.get("prefix", ""))
        page = await self._node.upstream.list(
            ListQuery(
                namespace=request.namespace,
                prefix=prefix,
                after=self._after(request, prefix),
                limit=limit,
                include=Include.VALUES if with_values else Include.KEYS,
                values_bytes_max=limits.list_values_bytes_max,
                at_least=request.at_least,
            )
        )
        body: dict[str, object] = {
            "keys": [_row(item, with_values=with_values) for item in page.items],
            "list_complete": page.after is None,
            "position": str(page.position),
        }
        if page.after is not None:
            body["cursor"] = cursor_after(request.namespace, prefix, page.after)
        return json_answer(_encode(body), headers=[at_position(page.position)])

    def _prefix(self, prefix: str) -> str:
        rules.check_prefix(self._node.limits, prefix)
        return prefix

    def _after(self, request: Request, prefix: str) -> str | None:
        """Return the key that a page starts behind: by cursor, or by any name the caller likes."""
        cursor = request.query.get("cursor")
        start_after = request.query.get("start_after")
        if cursor and start_after is not None:
            rule = "Pass it or cursor, not both."
            raise ParameterInvalidError(name="start_after", given=start_after, rule=rule)
        return key_before(request.namespace, prefix, cursor) if cursor else start_after

    async def _count(self, request: Request, _principal: Principal) -> Answer:
        prefix = self._prefix(request.query.get("prefix", ""))
        after = self._after(request, prefix)
        count = 0
        first: Position | None = None
        for _ in range(COUNT_PAGES_MAX):
            page = await self._node.upstream.list(
                ListQuery(
                    namespace=request.namespace,
                    prefix=prefix,
                    after=after,
                    limit=self._node.limits.count_keys_max,
                    include=Include.COUNT,
                    at_least=request.at_least,
                )
            )
            count += page.count
            after = page.after
            first = first or page.position
            if after is None:
                break
        assert first is not None
        body: dict[str, object] = {
            "count": count,
            "list_complete": after is None,
            "position": str(first),
        }
        if after is not None:
            body["cursor"] = cursor_after(request.namespace, prefix, after)
        return json_answer(_encode(body), headers=[at_position(first)])

    async def _delete_prefix(self, request: Request, _principal: Principal) -> Answer:
        async with self._bodies.whole(request, bytes_max=SMALL_BODY_BYTES_MAX) as raw:
            prefix = read_object(raw).get("prefix")
        if not isinstance(prefix, str):
            raise BodyInvalidError(detail="the body needs a `prefix`, a text")
        self._prefix(prefix)
        limits = self._node.limits
        deleted = listed = 0
        after: str | None = None
        while True:
            page = await self._node.upstream.list(
                ListQuery(
                    namespace=request.namespace,
                    prefix=prefix,
                    after=after,
                    limit=min(limits.list_keys_max, limits.delete_prefix_keys_max - listed),
                )
            )
            count, written_at = await self._delete_listed(request.namespace, page.items)
            position = written_at or page.position
            deleted += count
            listed += len(page.items)
            after = page.after
            if after is None or listed >= limits.delete_prefix_keys_max:
                break
        answer = {
            "deleted": deleted,
            "list_complete": after is None,
            "position": str(position),
        }
        return json_answer(_encode(answer), headers=[at_position(position)])

    async def _delete_listed(
        self, namespace: str, items: Sequence[Listed]
    ) -> tuple[int, Position | None]:
        """Delete keys as they were listed: what was rewritten since stays.

        One condition that fails stops its whole batch, so the key it is about is left out and
        the rest tried again; if that goes on and on, one by one.

        Returns:
            How many were deleted, and the position that includes it, if any were.
        """
        wanted = {
            item.key: Mutation(key=item.key, value=None, condition=item.version) for item in items
        }
        for _ in range(DELETE_ATTEMPTS_MAX):
            if not wanted:
                return 0, None
            try:
                written = await self._node.upstream.write(
                    Batch(namespace=namespace, mutations=tuple(wanted.values()))
                )
            except ConditionFailedError as error:
                del wanted[error.key]
            else:
                return len(wanted), written.position
        deleted, position = 0, None
        for mutation in wanted.values():
            try:
                written = await self._node.upstream.write(
                    Batch(namespace=namespace, mutations=(mutation,))
                )
            except ConditionFailedError:
                continue
            deleted, position = deleted + 1, written.position
        return deleted, position


def _written_answer(request: Request, written: Written) -> Answer:
    body: dict[str, object] = {
        "key": decode_key(request.key),
        "version": str(written.outcomes[0].version),
        "position": str(written.token or written.position),
    }
    headers = headers_of_write(written)
    if not written.journaled:
        return json_answer(_encode(body), headers=headers)
    body |= {"journaled": True, "message": JOURNALED}
    headers.append((b"atoll-journaled", TRUE))
    return json_answer(_encode(body), status=STATUS_ACCEPTED, headers=headers)


def _names_in(asked: dict[str, object]) -> list[str]:
    """Return the keys that a bulk read asks for."""
    names = asked.get("keys")
    if not isinstance(names, list):
        raise BodyInvalidError(detail="the body needs `keys`, an array of texts")
    keys = cast("list[object]", names)
    if not all(isinstance(key, str) for key in keys):
        raise BodyInvalidError(detail="each of `keys` must be a text")
    return cast("list[str]", keys)


def _row(item: Listed, *, with_values: bool) -> _Row:
    row = _Row(
        name=item.key,
        version=str(item.version),
        size=item.size_bytes,
        expiration=item.expiration,
        metadata=None if item.metadata is None else msgspec.Raw(item.metadata),
    )
    if not with_values:
        return row
    if item.value is None:
        row.value_omitted = True
        return row
    try:
        row.value = item.value.decode()
    except UnicodeDecodeError:
        row.value = base64.b64encode(item.value).decode()
        row.base64 = True
    return row


def _described(error: AtollError) -> dict[str, object]:
    """Return an error as JSON shows it: its facts, its code, its message."""
    facts = {name: _shown(fact) for name, fact in vars(error).items()}
    return {**facts, "code": error.code, "message": str(error)}


def _ended(error: AtollError) -> dict[str, object]:
    """Return what the end of a watch says: the error, and the status it would be answered with."""
    return {**_described(error), "status": STATUSES[error.code]}


def _shown(fact: object) -> object:
    """Return a fact of an error as JSON shows it: versions, which are large, as text."""
    if isinstance(fact, int) and not isinstance(fact, bool) and abs(fact) > SAFE_INTEGER_MAX:
        return str(fact)
    return fact if fact is None or isinstance(fact, bool | int | str) else str(fact)


def matches(if_none_match: bytes | None, version: Version) -> bool:
    """Whether the caller holds this version already."""
    if if_none_match is None:
        return False
    held = {tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")}
    return b"*" in held or b'"%d"' % version in held
