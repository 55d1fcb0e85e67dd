"""The binding protocol: what a kvNamespace binding of workerd speaks, at every node.

Every request carries the namespace in a header that workerd injects and the Worker can neither
see nor set. By that header it is told from the other faces of the port: a key is the whole path,
and may be named like any path of ours. workerd shows a Worker the status and the reason phrase of a
refusal and nothing of its body, so the message is the reason phrase; and it takes a refusal for a
lost connection if it comes before the body has been read, so the body is read first.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from atoll.core import rules
from atoll.core.errors import (
    AtollError,
    MethodNotAllowedError,
    ParameterInvalidError,
    RewriteTooSoonError,
)
from atoll.core.limits import FACE_BINDING
from atoll.core.model import CacheStatus, Listed, ListQuery
from atoll.http.body import Bodies
from atoll.http.bulk_read import asked_of, rows_of
from atoll.http.cache_control import UNSAID, Freshness
from atoll.http.cursor import cursor_after, key_before
from atoll.http.exchange import MS_PER_S, Answer, Header, Request, headers_of, json_answer
from atoll.http.metadata import header_form
from atoll.http.node import Node
from atoll.http.v1 import STATUS_ACCEPTED, STATUSES
from atoll.http.values import Values, admitted
from atoll.principal import Permission, Principal

NAMESPACE_HEADER: Final = b"atoll-namespace"
"""Which namespace a request is about, and that it is the binding's."""

METADATA_HEADER: Final = b"cf-kv-metadata"

REASON_BYTES_MAX: Final = 512
NUMBER_DIGITS_MAX: Final = 10
"""What a Worker gives is a number of 31 bits."""

TOO_MANY: Final = "Too Many Requests"
"""What Workers look for when they write one key too often."""

_EMPTY: Final[Header] = (b"content-length", b"0")
URLENCODED: Final = b"urlencoded=true"
"""The query of a read that wishes for nothing."""

HIT: Final[Header] = (b"cf-cache-status", b"HIT")
_MISSING: Final = (404, 410)

_CACHE: Final[Mapping[CacheStatus, Header]] = {
    CacheStatus.HIT: HIT,
    CacheStatus.NEGATIVE: HIT,
    CacheStatus.MISS: (b"cf-cache-status", b"MISS"),
    CacheStatus.STALE: (b"cf-cache-status", b"STALE"),
}

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    permission: Permission
    run: Callable[[Request, Principal], Awaitable[Answer]]


class _Row(msgspec.Struct, omit_defaults=True):
    name: str
    expiration: int | None = None
    metadata: str | None = None


class Binding:
    """See `Face`."""

    name = "binding"

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies
        self._values = Values(node, bodies, FACE_BINDING)
        read, write = Permission.READ, Permission.WRITE
        self._of_a_key: Mapping[str, _Operation] = {
            "GET": _Operation("get", read, self._get),
            "PUT": _Operation("put", write, self._put),
            "DELETE": _Operation("delete", write, self._delete),
        }
        self._of_all: Mapping[str, _Operation] = {"GET": _Operation("list", read, self._list)}
        self._of_many: Mapping[str, _Operation] = {
            "POST": _Operation("get many", read, self._get_many)
        }

    async def answer(self, request: Request) -> Answer:
        """See `Face`."""
        try:
            return await self._answer(request)
        except AtollError:
            await self._bodies.discard(request)
            raise

    async def _answer(self, request: Request) -> Answer:
        request.namespace = request.headers[NAMESPACE_HEADER].decode("latin-1")
        request.key = request.path[1:]
        operations = self._of_a_key if request.key else self._of_all
        # A key of this name has its slash escaped, and is never posted.
        if request.method == "POST" and request.key == b"bulk/get":
            operations = self._of_many
        operation = operations.get(request.method)
        if operation is None:
            raise MethodNotAllowedError(method=request.method, allowed=tuple(operations))
        request.operation = operation.name
        principal = await admitted(self._node, request, operation.permission)
        return await operation.run(request, principal)

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`. A Worker reads 404 as a missing value, so nothing else is answered so."""
        del request  # Everything that is told is in the error.
        if not isinstance(error, AtollError):
            return Answer(status=500, headers=[_EMPTY])
        status = STATUSES[error.code]
        return Answer(
            status=400 if status in _MISSING else status,
            headers=[_EMPTY, *headers_of(error)],
            reason=_reason(error),
        )

    # One key.

    async def _get(self, request: Request, _principal: Principal) -> Answer:
        wanted = UNSAID
        if request.query_string != URLENCODED:
            wanted = self._freshness(request.query.get("cache_ttl"))
        reading = await self._values.read(request, wanted=wanted)
        entry = reading.entry
        if entry is None or entry.value is None:
            return Answer(status=404, headers=[_EMPTY, _CACHE[reading.cache]])
        value = entry.value
        size_bytes = len(value) if isinstance(value, bytes) else value.size_bytes
        headers = [(b"content-length", b"%d" % size_bytes), _CACHE[reading.cache]]
        if entry.metadata is not None:
            headers.append((METADATA_HEADER, header_form(entry.metadata)))
        return Answer(headers=headers, body=value)

    def _freshness(self, cache_ttl: str | int | None) -> Freshness:
        """Read `cacheTtl`: a bound that is a preference, as everything is that a Worker says.

        Raises:
            ParameterInvalidError: It is no number of seconds, or too few of them.
        """
        if cache_ttl is None:
            return UNSAID
        given = str(cache_ttl)
        least_s = self._node.limits.cache_ttl_s_min
        seconds = _whole(given, otherwise=-1)
        if seconds < least_s:
            rule = f"Cache TTL must be at least {least_s}."
            raise ParameterInvalidError(name="cache_ttl", given=given, rule=rule)
        return Freshness(age_ms_max=seconds * MS_PER_S)

    async def _put(self, request: Request, principal: Principal) -> Answer:
        metadata = request.headers.get(METADATA_HEADER)
        written = await self._values.put_body(request, principal, metadata=metadata)
        return _done(journaled=written.journaled)

    async def _delete(self, request: Request, principal: Principal) -> Answer:
        written = await self._values.delete(request, principal)
        return _done(journaled=written.journaled)

    # Many keys.

    async def _get_many(self, request: Request, _principal: Principal) -> Answer:
        asked = await asked_of(self._bodies, request)
        wanted = self._freshness(asked.cache_ttl)
        readings = await self._values.read_many(request, asked.keys, wanted=wanted)
        # As text, what is no text is shown as a single `get` shows it.
        rows = await rows_of(asked, readings, expirations=False, errors="replace")
        return json_answer(_encode(rows))

    async def _list(self, request: Request, _principal: Principal) -> Answer:
        prefix = request.query.get("prefix", "")
        rules.check_prefix(self._node.limits, prefix)
        cursor = request.query.get("cursor")
        page = await self._node.upstream.list(
            ListQuery(
                namespace=request.namespace,
                prefix=prefix,
                after=key_before(request.namespace, prefix, cursor) if cursor else None,
                limit=self._limit(request.query.get("key_count_limit")),
            )
        )
        body: dict[str, object] = {
            "keys": [_row(item) for item in page.items],
            "list_complete": page.after is None,
        }
        if page.after is not None:
            body["cursor"] = cursor_after(request.namespace, prefix, page.after)
        return json_answer(_encode(body))

    def _limit(self, given: str | None) -> int:
        """Read how many keys a page may have.

        Raises:
            ParameterInvalidError: It is no number of them, or too large.
        """
        most = self._node.limits.list_keys_max
        if given is None:
            return most
        number = _whole(given, otherwise=most + 1)
        if not 1 <= number <= most:
            bound = "greater than 0" if number < 1 else f"less than {most}"
            raise ParameterInvalidError(
                name="key_count_limit", given=given, rule=f"Please specify an integer {bound}."
            )
        return number


def _whole(given: str, *, otherwise: int) -> int:
    """Read a whole number of a size that workerd can send."""
    sound = given.isascii() and given.isdecimal() and len(given) <= NUMBER_DIGITS_MAX
    return int(given) if sound else otherwise


def _done(*, journaled: bool) -> Answer:
    """Say that it was written. A Worker is not told where to, and takes 202 for success."""
    return Answer(status=STATUS_ACCEPTED if journaled else 200, headers=[_EMPTY])


def _row(item: Listed) -> _Row:
    """Show a key of a listing; its metadata as text that holds JSON, as workerd wants it."""
    metadata = None if item.metadata is None else item.metadata.decode()
    return _Row(item.key, item.expiration, metadata)


def _reason(error: AtollError) -> bytes:
    """Write an error as one line of printable ASCII, in Workers KV's words where it has some."""
    match error:
        case ParameterInvalidError():
            text = f"Invalid {error.name} of {error.given}. {error.rule}"
        case RewriteTooSoonError():
            text = f"{TOO_MANY}: {error}"
        case _:
            text = str(error)
    line = "".join(char if char.isprintable() else "?" for char in text)
    return line.encode("ascii", "replace")[:REASON_BYTES_MAX]
