"""Plain HTTP to a running Atoll: what a client stored is read back here without that client.

Paths go onto the wire exactly as given, which no HTTP library for people would do: dots stay,
double slashes stay, and a broken escape stays broken.
"""

import http.client
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from tests.support.server import Running, Server

BASE: Final = "/client/v4"
ANSWER_S_MAX: Final = 60.0
PAGES_MAX: Final = 1_000


class Access(Running, frozen=True, kw_only=True):
    """Where an Atoll is and who may call it: what `dev.json` says."""

    @property
    def api(self) -> str:
        """The URL that clients are told."""
        return self.central + BASE

    @property
    def namespaces(self) -> str:
        """The path of the account's namespaces."""
        return f"/accounts/{self.account_id}/storage/kv/namespaces"


def access_to(server: Server) -> Access:
    """Return where `server` is, and its owner's credentials."""
    return Access(**msgspec.structs.asdict(server.running))


class Fault(msgspec.Struct, frozen=True):
    """One member of `errors`."""

    code: int
    message: str


class ResultInfo(msgspec.Struct, frozen=True):
    """What a listing says about itself, whichever of the two kinds it is."""

    count: int
    cursor: str = ""
    page: int = 0
    per_page: int = 0
    total_count: int = 0


class Envelope(msgspec.Struct, frozen=True):
    """The form of every answer but a value; all four members are always there."""

    result: object
    success: bool
    errors: list[Fault]
    messages: list[object]
    result_info: ResultInfo | None = None


class Row(msgspec.Struct, frozen=True):
    """A key as a listing shows it."""

    name: str
    expiration: int | None = None
    metadata: object = None


class Space(msgspec.Struct, frozen=True):
    """A namespace as the API shows it."""

    id: str
    title: str
    supports_url_encoding: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: header names in lower case, the body as bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def envelope(self) -> Envelope:
        """The body, if it is an envelope; anything else fails the test."""
        assert self.headers["content-type"].startswith("application/json"), self.headers
        return msgspec.json.decode(self.body, type=Envelope)

    @property
    def code(self) -> int:
        """The number of the error that this is, in a complete envelope."""
        envelope = self.envelope
        assert envelope.result is None
        assert not envelope.success
        return envelope.errors[0].code


def exchange(
    access: Access,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request on a connection of its own; `path` begins behind `/client/v4`."""
    at = urlsplit(access.central)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=ANSWER_S_MAX)
    sent = {"Authorization": f"Bearer {access.token}"} if headers is None else headers
    try:
        connection.request(method, BASE + path, body=body, headers=sent)
        response = connection.getresponse()
        read = response.read()
    finally:
        connection.close()
    named = {name.lower(): value for name, value in response.getheaders()}
    return Answer(status=response.status, headers=named, body=read)


def succeed(access: Access, method: str, path: str, *, body: bytes | None = None) -> Envelope:
    """Send one request that has to succeed."""
    answer = exchange(access, method, path, body=body)
    assert answer.status == 200, (method, path, answer)
    assert answer.envelope.success
    return answer.envelope


def form(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """Return the body of a multipart form, and the header that announces it."""
    pieces = [
        b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), body)
        for name, body in parts
    ]
    announced = {"Content-Type": "multipart/form-data; boundary=cut"}
    return b"".join([*pieces, b"--cut--\r\n"]), announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One namespace, read and written by plain HTTP."""

    access: Access
    id: str
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", f"{self.access.namespaces}/{self.id}")

    def at(self, key: str) -> str:
        """Return the path of a key's value."""
        return f"{self.path}/values/{quote(key, safe='')}"

    def put(self, key: str, value: bytes, **query: int) -> Answer:
        """Store a value; it has to succeed."""
        path = self.at(key) + (f"?{urlencode(query)}" if query else "")
        answer = exchange(self.access, "PUT", path, body=value)
        assert answer.status == 200, answer
        return answer

    def get(self, key: str) -> Answer:
        """Ask for a value, found or not."""
        return exchange(self.access, "GET", self.at(key))

    def value(self, key: str) -> bytes | None:
        """Return a value, or `None` where the key is missing."""
        answer = self.get(key)
        if answer.status == 404:
            assert answer.code == 10009
            return None
        assert answer.status == 200, answer
        return answer.body

    def metadata(self, key: str) -> object:
        """Return the metadata of a key that exists."""
        return succeed(self.access, "GET", f"{self.path}/metadata/{quote(key, safe='')}").result

    def expiration(self, key: str) -> int | None:
        """Return when a key that exists expires."""
        answer = self.get(key)
        assert answer.status == 200, answer
        said = answer.headers.get("expiration")
        return None if said is None else int(said)

    def bulk(self, rows: list[dict[str, object]]) -> None:
        """Store many pairs in one request."""
        succeed(self.access, "PUT", f"{self.path}/bulk", body=msgspec.json.encode(rows))

    def delete(self, keys: list[str]) -> None:
        """Delete many keys in one request."""
        succeed(self.access, "POST", f"{self.path}/bulk/delete", body=msgspec.json.encode(keys))

    def page(self, *, limit: int = 1_000, cursor: str = "", prefix: str = "") -> Envelope:
        """Return one page of the listing, as it came."""
        query = urlencode({"limit": limit, "cursor": cursor, "prefix": prefix})
        return succeed(self.access, "GET", f"{self.path}/keys?{query}")

    def rows(self, *, limit: int = 1_000, prefix: str = "") -> list[Row]:
        """Return the whole listing, page by page, and hold every page to its form."""
        found: list[Row] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            page = self.page(limit=limit, cursor=cursor, prefix=prefix)
            rows = msgspec.convert(page.result, list[Row])
            assert page.result_info is not None
            assert page.result_info.count == len(rows)
            cursor = page.result_info.cursor
            assert rows or not cursor, "an empty page with a cursor: clients stop here"
            found += rows
            if not cursor:
                return found
        raise AssertionError(f"the listing has not ended after {PAGES_MAX} pages")

    def names(self, *, limit: int = 1_000, prefix: str = "") -> list[str]:
        """Return the names of the whole listing."""
        return [row.name for row in self.rows(limit=limit, prefix=prefix)]


def put_form(namespace: Namespace, key: str, *parts: tuple[str, bytes]) -> Answer:
    """Put a key with a form."""
    body, announced = form(*parts)
    headers = announced | {"Authorization": f"Bearer {namespace.access.token}"}
    return exchange(namespace.access, "PUT", namespace.at(key), body=body, headers=headers)


def create(access: Access, title: str) -> Namespace:
    """Make a namespace."""
    body = msgspec.json.encode({"title": title})
    made = succeed(access, "POST", access.namespaces, body=body).result
    return Namespace(access=access, id=msgspec.convert(made, Space).id)


def spaces(access: Access) -> list[Space]:
    """Return every namespace of the account, page by page."""
    found: list[Space] = []
    for number in range(1, PAGES_MAX):
        page = succeed(access, "GET", f"{access.namespaces}?per_page=1000&page={number}")
        if page.result == []:
            return found
        found += msgspec.convert(page.result, list[Space])
    raise AssertionError(f"the listing has not ended after {PAGES_MAX} pages")


def titles(access: Access) -> dict[str, str]:
    """Return the id of each namespace, by title."""
    return {space.title: space.id for space in spaces(access)}
