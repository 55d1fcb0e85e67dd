"""Plain reads of what a location holds, answered as soon as their last byte is here.

Most requests to a location are such a read, and most of what an answer costs is the way to it. A
`GET` by `/v1` or a binding, with a bearer token and without wishes, for a key that is held and
fresh goes no way at all: one look at the cache, one write to the socket. Whatever is different is
not answered here, and goes the ordinary way; no client can tell which way was taken.

Who may read what is not decided here either. The ordinary way decides it, and for a quarter of a
second the same token may read the same namespace without being asked again.
"""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from atoll.core.errors import KeyEncodingError
from atoll.core.model import CacheStatus
from atoll.core.version import Version
from atoll.http.binding import HIT, METADATA_HEADER, NAMESPACE_HEADER, URLENCODED
from atoll.http.exchange import MS_PER_S, Header, Request, decode_key
from atoll.http.metadata import header_form
from atoll.http.shown import cache_status
from atoll.http.v1 import matches
from atoll.location.glance import Glimpse
from atoll.location.quick import Near
from atoll.usage.counts import Kind
from atoll.usage.meter import Meter

GRANT_MS: Final = 250
"""How long a decision that a token may read a namespace holds here."""
RENEWED_MS: Final = 150
"""After how long one request goes the ordinary way to renew it, while others still rely on it."""
GRANTS_MAX: Final = 10_000

HEADS_MAX: Final = 1000
"""How many heads are remembered."""
HEAD_BYTES_MAX: Final = 2048
"""The longest that is."""

STATUS_OK: Final = 200
US_PER_S: Final = 1_000_000
ID_HEX_DIGITS: Final = 32

_V1_HEAD: Final = b"/v1/namespaces/"
_V1_TAIL: Final = b"/values/"
_ID_AT: Final = len(_V1_HEAD)
_TAIL_AT: Final = _ID_AT + ID_HEX_DIGITS
_KEY_AT: Final = _TAIL_AT + len(_V1_TAIL)

_GET: Final = b"GET "
_VERSION: Final = b" HTTP/1.1"
_LINE: Final = b"\r\n"
_END: Final = b"\r\n\r\n"
_SAFE: Final = b"!$%&'()*+,-./0123456789:;=?@_~" + string.ascii_letters.encode()
"""Characters that stand in a target for themselves, whoever reads it."""

_AUTHORIZATION: Final = b"authorization"
_IF_NONE_MATCH: Final = b"if-none-match"

_DECIDING: Final = frozenset(
    {
        _AUTHORIZATION,
        _IF_NONE_MATCH,
        NAMESPACE_HEADER,
        b"atoll-at-least",
        b"cache-control",
        b"content-length",
        b"transfer-encoding",
        b"x-auth-email",
        b"x-auth-key",
    }
)
"""Headers that an answer depends on. Only with the first three can it be given here."""

_BYTES: Final = b"content-type: application/octet-stream\r\n"
_JSON: Final = b"content-type: application/json\r\n"
_CACHED: Final = b"%b: %b\r\n" % HIT


class Plain(NamedTuple):
    """What the headers of a plain read say."""

    authorization: bytes
    none_match: bytes | None
    namespace: bytes | None
    """Of a binding."""


class Ledger(Protocol):
    """Who keeps account of requests."""

    def next_id(self) -> str:
        """Return the id of a new request."""
        ...

    def note(
        self,
        *,
        face: str,
        operation: str,
        method: str,
        path: bytes,
        request_id: str,
        status: int,
        started_us: int,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """Take account of a request that was answered."""
        ...


@dataclass(slots=True)
class _Grant:
    """That a token may read a namespace."""

    namespace: str
    age_ms_max: int | None
    """The namespace's own bound."""
    renewed_ms: int
    until_ms: int
    expires_s: int | None
    """When the token ends, in central time."""
    account: str
    """Whose the namespace is."""
    granted_us: int
    """Central time when this was decided; what is read under it counts in that hour."""


class Hot:
    """Answers what is plain."""

    def __init__(
        self,
        near: Near,
        ledger: Ledger,
        timer_us: Callable[[], int],
        *,
        name: str,
        missing: bytes,
        meter: Meter | None = None,
    ) -> None:
        """Look at `near`, and have `ledger` take account of what was answered.

        Args:
            near: The cache.
            ledger: Who keeps account.
            timer_us: Tells microseconds.
            name: The node's.
            missing: What `/v1` says of a key that is missing.
            meter: Where operations are counted.
        """
        self._meter = meter
        self._near = near
        self._ledger = ledger
        self._timer_us = timer_us
        self._missing = missing
        self._hit = cache_status(name, CacheStatus.HIT)
        self._negative = cache_status(name, CacheStatus.NEGATIVE)
        self._grants: dict[tuple[bytes, bytes], _Grant] = {}
        self._heads: dict[bytes, Plain] = {}
        self._common: Sequence[Header] = ()
        self._common_raw = b""

    def elapsed_ms(self) -> int:
        """Read the clock that grants end by."""
        return self._near.elapsed_ms()

    def grant(self, request: Request, *, decided_ms: int, account: str, granted_us: int) -> None:
        """Hear that a request was admitted to its namespace; others like it will be for a while.

        Args:
            request: The request.
            decided_ms: An instant before it was decided.
            account: Whose the namespace is.
            granted_us: Central time.
        """
        authorization = request.headers.get(_AUTHORIZATION)
        principal = request.principal
        if authorization is None or principal is None:
            return
        if len(self._grants) >= GRANTS_MAX:
            self._grants.clear()
        self._grants[authorization, request.namespace.encode("latin-1")] = _Grant(
            namespace=request.namespace,
            age_ms_max=request.rules.age_ms_max,
            renewed_ms=decided_ms + RENEWED_MS,
            until_ms=decided_ms + GRANT_MS,
            expires_s=principal.expires_s,
            account=account,
            granted_us=granted_us,
        )

    # Heads that were read before. Clients send the same headers again and again.

    def recall(self, data: bytes) -> tuple[bytes, Plain] | None:
        """Return the target and the headers of a request that the parser need not read.

        Args:
            data: All of a piece that came, where a request may begin.
        """
        end = data.find(_LINE)
        headers = self._heads.get(data[end:])
        if headers is None or data[:4] != _GET or data[end - 9 : end] != _VERSION:
            return None
        target = data[4 : end - 9]
        return None if target.translate(None, _SAFE) else (target, headers)

    def remember(self, data: bytes, headers: Plain) -> None:
        """Take note of what the parser made of a request's head.

        Args:
            data: The piece that the request came in.
            headers: What its headers say.
        """
        end = data.find(_LINE)
        head = data[end:]
        # What is behind the head, if anything, was not answered here.
        if head.find(_END) == len(head) - len(_END) and len(head) <= HEAD_BYTES_MAX:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[head] = headers

    # Answers.

    def answer(self, target: bytes, headers: Plain, common: Sequence[Header]) -> bytes | None:
        """Return the answer to a `GET` as it is sent; `None`: this is not a plain read.

        Args:
            target: The request's target, as it came.
            headers: What its headers say.
            common: Headers that every answer begins with.
        """
        started_us = self._timer_us()
        authorization, none_match, binding = headers
        path = target
        if binding is not None:
            path, _, query = target.partition(b"?")
            if query not in {b"", URLENCODED}:
                return None
            namespace, key = binding, path[1:]
        elif target[:_ID_AT] == _V1_HEAD and target[_TAIL_AT:_KEY_AT] == _V1_TAIL:
            namespace, key = target[_ID_AT:_TAIL_AT], target[_KEY_AT:]
        else:
            return None
        answer = self._found(authorization, namespace, key)
        if answer is None:
            return None
        granted, found = answer
        request_id = self._ledger.next_id()
        if binding is not None:
            status, lines, body = _by_binding(found)
        else:
            status, lines, body = self._by_v1(found, none_match)
        if common is not self._common:
            self._common = common
            self._common_raw = b"".join(b"%b: %b\r\n" % header for header in common)
        self._near.note(found)
        face = "v1" if binding is None else "binding"
        if self._meter is not None:
            self._meter.row(
                granted.namespace, face, granted.account, granted.granted_us
            ).count_read(
                Kind.NEGATIVE if found.value is None else Kind.HIT,
                sent=len(body) if status == STATUS_OK else 0,
                elapsed_us=max(0, self._timer_us() - started_us),
                age_ms=found.age_ms,
            )
        self._ledger.note(
            face=face,
            operation="get",
            method="GET",
            path=path,
            request_id=request_id,
            status=status,
            started_us=started_us,
            received_bytes=0,
            sent_bytes=len(body),
        )
        return b"%b%b%batoll-request-id: %b\r\n\r\n%b" % (
            STATUS_LINE[status],
            self._common_raw,
            lines,
            request_id.encode(),
            body,
        )

    def _found(
        self, authorization: bytes, namespace: bytes, key: bytes
    ) -> tuple[_Grant, Glimpse] | None:
        """Return what is held of a key, if whoever asks may read it, and why they may."""
        grant = self._grants.get((authorization, namespace))
        if grant is None or b"?" in key or b"#" in key or not key.isascii():
            return None
        near = self._near
        now_ms = near.elapsed_ms()
        if now_ms >= grant.renewed_ms:
            grant.renewed_ms = grant.until_ms
            return None
        if grant.expires_s is not None:
            central_us = near.central_us()
            if central_us is None or grant.expires_s * US_PER_S <= central_us:
                return None
        try:
            found = near.look(
                grant.namespace, decode_key(key), asked_ms=now_ms, age_ms_max=grant.age_ms_max
            )
        except KeyEncodingError:
            return None
        return None if found is None else (grant, found)

    def _by_v1(self, found: Glimpse, none_match: bytes | None) -> tuple[int, bytes, bytes]:
        """Return the status, the headers and the body that `/v1` answers with."""
        missing = found.value is None
        at = b"atoll-position: %016x-%d\r\ncache-status: %b\r\nage: %d\r\n" % (
            self._near.incarnation,
            found.sequence,
            self._negative if missing else self._hit,
            -(-found.age_ms // MS_PER_S),
        )
        if found.value is None:
            body = self._missing
            return 404, b"%bcontent-length: %d\r\n%b" % (_JSON, len(body), at), body
        at += b'etag: "%d"\r\n' % found.version
        if found.metadata is not None:
            at += b"atoll-metadata: %b\r\n" % header_form(found.metadata)
        if found.expiration is not None:
            at += b"atoll-expiration: %d\r\n" % found.expiration
        if none_match is not None and matches(none_match, Version(found.version)):
            return 304, at, b""
        return 200, b"%b%bcontent-length: %d\r\n" % (at, _BYTES, len(found.value)), found.value


def plain(headers: Sequence[Header]) -> Plain | None:
    """Return what the headers of a request say; `None` if they wish for something."""
    authorization = none_match = namespace = None
    for name, value in headers:
        if name not in _DECIDING:
            continue
        if name == _AUTHORIZATION and authorization is None:
            authorization = value
        elif name == NAMESPACE_HEADER and namespace is None:
            namespace = value
        elif name == _IF_NONE_MATCH and none_match is None:
            none_match = value
        else:
            return None
    return None if authorization is None else Plain(authorization, none_match, namespace)


def _by_binding(found: Glimpse) -> tuple[int, bytes, bytes]:
    """Return the status, the headers and the body that a binding is answered with."""
    body = found.value
    if body is None:
        return 404, b"content-length: 0\r\n%b" % _CACHED, b""
    lines = b"content-length: %d\r\n%b" % (len(body), _CACHED)
    if found.metadata is not None:
        lines += b"%b: %b\r\n" % (METADATA_HEADER, header_form(found.metadata))
    return 200, lines, body
