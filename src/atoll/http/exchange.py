"""A request as the faces read it, and the answer they give; nothing here knows a face.

Paths are matched as bytes, as they came: a key may hold slashes, dots and percent signs, and a
router that decodes, splits or folds first would lose some of them.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    ConditionFailedError,
    KeyEncodingError,
    MethodNotAllowedError,
    ParameterInvalidError,
    RewriteTooSoonError,
    UnauthenticatedError,
    UnavailableError,
)
from atoll.core.model import AtLeast, LargeValue, parse_at_least
from atoll.core.quota_errors import QuotaReachedError
from atoll.core.version import Version
from atoll.namespace_rules import NamespaceRules
from atoll.principal import Principal

QUERY_FIELDS_MAX: Final = 64
MS_PER_S: Final = 1000

NO_RULES: Final = NamespaceRules()
NOBODY: Final[Principal | None] = None

Header = tuple[bytes, bytes]

_HEX_PAIRS: Final = {
    (a + b).encode(): bytes([int(a + b, 16)])
    for a in "0123456789abcdefABCDEF"
    for b in "0123456789abcdefABCDEF"
}
_HEX_PAIR_BYTES: Final = 2

# Clients send 10.0 as well as 10.
_WHOLE_NUMBER: Final = re.compile(r"([0-9]{1,9})(\.0*)?")


class Request:
    """One request.

    `operation`, `account`, `namespace` and `key` are filled in by the face that routes it. The
    key is as it stands in the path, percent-encoded.
    """

    __slots__ = (
        "_query",
        "abandoned",
        "account",
        "body_bytes",
        "first_piece",
        "headers",
        "id",
        "key",
        "method",
        "more_body",
        "namespace",
        "operation",
        "path",
        "principal",
        "query_string",
        "receive",
        "rules",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        """Read what every request has; the query is parsed when somebody asks."""
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query_string: bytes = scope["query_string"]
        fields: list[Header] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(fields)
        if len(self.headers) != len(fields):
            self.headers = _combined(fields)
        self.receive = receive
        self.id = request_id
        self.operation = "route"
        self.account = ""
        self.namespace = ""
        self.key = b""
        self.rules = NO_RULES
        """Those of the namespace, once it was found."""
        self.principal: Principal | None = NOBODY
        """Who asks, once they were admitted to the namespace."""
        self.body_bytes = 0
        """How much of the body has arrived."""
        self.more_body = True
        """Whether more of it may come."""
        self.first_piece: tuple[bytes, bool] | None = None
        """What was received and not yet taken, and whether more will come."""
        self.abandoned = False
        """Whether the rest of the body will not be read; the connection ends with the answer."""
        self._query: dict[str, str] | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header's text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of several with one name, the last.

        Raises:
            ParameterInvalidError: It is not UTF-8, or holds too many.
        """
        if self._query is None:
            self._query = _parsed_query(self.query_string) if self.query_string else {}
        return self._query

    def whole_number(self, name: str, *, default: int, low: int, high: int) -> int:
        """Return a parameter of the query that counts something.

        Args:
            name: The parameter.
            default: What holds without it.
            low: The least it may be.
            high: The most it may be.

        Raises:
            ParameterInvalidError: It is no number in this range.
        """
        text = self.query.get(name)
        if text is None:
            return default
        match = _WHOLE_NUMBER.fullmatch(text)
        number = int(match[1]) if match else low - 1
        if not low <= number <= high:
            rule = f"Use a whole number from {low} to {high}."
            raise ParameterInvalidError(name=name, given=text, rule=rule)
        return number

    def choice(self, name: str, *, default: str, options: tuple[str, ...]) -> str:
        """Return a parameter of the query that chooses among `options`.

        Raises:
            ParameterInvalidError: It is none of them.
        """
        text = self.query.get(name, default)
        if text not in options:
            rule = f"Use {' or '.join(options)}."
            raise ParameterInvalidError(name=name, given=text, rule=rule)
        return text

    @property
    def at_least(self) -> AtLeast | None:
        """The position, or the place in a journal, that the answer must include.

        Raises:
            ParameterInvalidError: `Atoll-At-Least` is neither.
        """
        text = self.header(b"atoll-at-least")
        return None if text is None else parse_at_least(text)


def _combined(fields: Iterable[Header]) -> dict[bytes, bytes]:
    """Join headers of one name, as RFC 9110 has it: of two conditions none may be overlooked."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        before = headers.get(name)
        headers[name] = value if before is None else before + b", " + value
    return headers


def _parsed_query(raw: bytes) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise ParameterInvalidError(
            name="query",
            given=raw.decode("latin-1"),
            rule=f"Percent-encode UTF-8, and pass at most {QUERY_FIELDS_MAX} parameters.",
        ) from error


@dataclass(slots=True, kw_only=True)
class Answer:
    """A response before it is sent. A large value is streamed."""

    status: int = 200
    headers: list[Header] = field(default_factory=list[Header])
    body: bytes | LargeValue = b""
    reason: bytes | None = None
    """What the status line says behind the status; `None` for the usual words. Printable ASCII."""


class Face(Protocol):
    """One form of requests and answers under a prefix of paths."""

    name: str

    async def answer(self, request: Request) -> Answer:
        """Do what the request asks.

        Raises:
            AtollError: It cannot be done; `refuse` says so in this face's form.
        """
        ...

    def refuse(self, request: Request, error: Exception) -> Answer:
        """Turn any error into an answer."""
        ...


def decode_key(raw: bytes) -> str:
    """Percent-decode a key once, strictly: kept literally, `100%` and `100%25` would be one key.

    Raises:
        KeyEncodingError: A percent sign is not followed by two hexadecimal digits, or the
            bytes are not UTF-8.
    """
    if b"%" in raw:
        head, *rest = raw.split(b"%")
        pieces = [head]
        for piece in rest:
            byte = _HEX_PAIRS.get(piece[:_HEX_PAIR_BYTES])
            if byte is None:
                raise KeyEncodingError
            pieces += (byte, piece[_HEX_PAIR_BYTES:])
        raw = b"".join(pieces)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise KeyEncodingError from error


def etag(version: Version) -> Header:
    """Return the header that shows a version."""
    return b"etag", b'"%d"' % version


def at_position(position: AtLeast) -> Header:
    """Return the header that says at which position, or place in a journal, an answer is true."""
    return b"atoll-position", str(position).encode()


def json_answer(body: bytes, *, status: int = 200, headers: Iterable[Header] = ()) -> Answer:
    """Make an answer of JSON that is encoded already."""
    return Answer(
        status=status,
        headers=[
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ],
        body=body,
    )


def read_object(body: bytes) -> dict[str, object]:
    """Decode a body that is a JSON object.

    Raises:
        BodyInvalidError: It is not.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise BodyInvalidError(detail=f"the body must be a JSON object: {error}") from error


def headers_of(error: AtollError) -> list[Header]:
    """Return what HTTP says in headers about an error, in whatever form its body is."""
    match error:
        case UnauthenticatedError():
            return [(b"www-authenticate", b'Bearer realm="atoll"')]
        case MethodNotAllowedError():
            return [(b"allow", ", ".join(error.allowed).encode())]
        case ConditionFailedError() if error.version_current is not None:
            return [etag(Version(error.version_current))]
        case RewriteTooSoonError():
            wait_s = max(1, math.ceil(error.retry_after_ms / MS_PER_S))
            return [
                (b"retry-after", b"%d" % wait_s),
                (b"retry-after-ms", b"%d" % error.retry_after_ms),
            ]
        case QuotaReachedError() | UnavailableError():
            return [(b"retry-after", b"%d" % error.retry_after_s)]
        case _:
            return []
