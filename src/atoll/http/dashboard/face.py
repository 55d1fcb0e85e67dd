"""The dashboard as a face: which page a path means, who may see it, and how it is sent.

Pages are made here, from what REST and `/v1` would say. Whatever changes something is a request
of those faces, which the browser makes under `/dashboard/api/`: `lend` turns its session into the
token and its path into theirs, and from there on it is decided like anybody else's.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from atoll.core.errors import (
    AtollError,
    BodyInvalidError,
    ForbiddenError,
    MethodNotAllowedError,
    RouteNotFoundError,
    UnauthenticatedError,
)
from atoll.http import rest, v1
from atoll.http.body import Bodies
from atoll.http.dashboard.pages import Pages, Raw
from atoll.http.dashboard.sessions import Console, Session
from atoll.http.dashboard.shipped import ASSETS, PAGES, RELEASE
from atoll.http.dashboard.visit import Visit
from atoll.http.exchange import Answer, Header, Request, headers_of
from atoll.http.node import Node
from atoll.principal import Principal

PREFIX: Final = b"/dashboard"
API_PREFIX: Final = PREFIX + b"/api"
HOME: Final = "/dashboard/"
SIGN_IN: Final = "/dashboard/sign-in"

COOKIE: Final = "atoll_session"
CSRF_HEADER: Final = b"atoll-csrf"
FORM_BYTES_MAX: Final = 4096
ASSET_KEPT_S: Final = 31_536_000
SAFE: Final = frozenset({"GET", "HEAD"})

_FETCH_SITE: Final = b"sec-fetch-site"
_OWN: Final = (b"same-origin", b"none")

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    b" form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_GUARD: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_WAYS_ON: Final[Mapping[str, str]] = {
    "namespace_not_found": "It may have been deleted, or the link names another deployment.",
    "namespace_id_invalid": "The link seems to have been cut short.",
    "key_not_found": "It may have been deleted, or have expired.",
    "forbidden": "Sign in with a token that may, or ask whoever made yours.",
    "route_not_found": "The link seems to have been cut short, or is of another release.",
    "unavailable": "Try again in a moment.",
}


class Dashboard:
    """See `Face`."""

    name = "dashboard"

    def __init__(self, node: Node, console: Console, bodies: Bodies) -> None:
        """Serve `node`, which is central."""
        self._node = node
        self._console = console
        self._sessions = console.sessions
        self._bodies = bodies
        self._pages = Pages(node, console)
        self._routes: Mapping[tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "sign-in"): self._ask,
            ("POST", "sign-in"): self._sign_in,
            ("POST", "sign-out"): self._sign_out,
        }

    def lend(self, request: Request) -> None:
        """Make a request under `/dashboard/api/` one of REST or `/v1`, with the session's token.

        A write without the session's CSRF token is one without credentials, and so is whatever
        a browser says that another origin asks for.
        """
        path = request.path.removeprefix(API_PREFIX)
        if not path.startswith((v1.PREFIX, rest.PREFIX)):
            return
        request.path = path
        session = self._session(request)
        for name in (b"authorization", b"x-auth-email", b"x-auth-key", b"cookie"):
            request.headers.pop(name, None)
        if session is None or request.headers.get(_FETCH_SITE, _OWN[0]) not in _OWN:
            return
        if request.method not in SAFE and not _vouches(request, session.csrf):
            return
        request.headers[b"authorization"] = b"Bearer " + session.token.encode()

    async def answer(self, request: Request) -> Answer:
        """See `Face`.

        Raises:
            RouteNotFoundError: There is no such page.
            MethodNotAllowedError: It is only read.
        """
        path = request.path.removeprefix(PREFIX).decode("latin-1")
        if not path:
            return _redirect(HOME)
        parts = path[1:].split("/")
        if path[:1] != "/" or parts[0] == "api":
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        method = "GET" if request.method == "HEAD" else request.method
        if parts[0] == "assets":
            request.operation = "asset"
            return _asset(request, parts[1:])
        route = self._routes.get((method, parts[0])) if len(parts) == 1 else None
        if route is not None:
            request.operation = parts[0]
            return await route(request)
        if method != "GET":
            raise MethodNotAllowedError(method=request.method, allowed=("GET", "HEAD"))
        return await self._show(request, parts)

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`."""
        if not isinstance(error, AtollError):
            said = f"Something went wrong. The server's log has it under request {request.id}."
            return self._page("error.html", {"said": said, "on": ""}, status=500)
        facts = {"said": str(error), "on": _WAYS_ON.get(error.code, "")}
        answer = self._page("error.html", facts, status=v1.STATUSES[error.code])
        answer.headers += [h for h in headers_of(error) if h[0] != b"www-authenticate"]
        return answer

    # Pages.

    async def _show(self, request: Request, parts: list[str]) -> Answer:
        request.operation = "page"
        session = self._session(request)
        if session is None:
            return _to_sign_in(request, "")
        try:
            principal = await self._principal(session.token)
        except UnauthenticatedError:
            self._sessions.end(session.id)
            return _to_sign_in(request, "&ended=1")
        visit = await Visit.of(self._node, request, principal, csrf=session.csrf)
        try:
            made = await self._pages.page(visit, parts)
        except AtollError as error:
            facts = {"said": str(error), "on": _WAYS_ON.get(error.code, ""), **visit.facts()}
            return self._page("error.html", facts, status=v1.STATUSES[error.code])
        if isinstance(made, Raw):
            return _raw(made)
        return self._page(made.template, {**visit.facts(), **made.facts}, status=made.status)

    async def _principal(self, token: str) -> Principal:
        return await self._node.accounts.authenticate(authorization=f"Bearer {token}")

    def _session(self, request: Request) -> Session | None:
        # Other programs of this host leave cookies here too, and not all that a parser would take.
        for one in (request.header(b"cookie") or "").split(";"):
            name, _, value = one.strip().partition("=")
            if name == COOKIE:
                return self._sessions.find(value)
        return None

    def _page(self, template: str, facts: Mapping[str, object], *, status: int = 200) -> Answer:
        body = PAGES.get_template(template).render(release=RELEASE, **facts).encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", _POLICY),
            *_GUARD,
        ]
        return Answer(status=status, headers=headers, body=body)

    # Signing in and out.

    async def _ask(self, request: Request) -> Answer:
        """Ask for a token, or take the code of a link in its place."""
        code = request.query.get("code")
        if code is None:
            said = "You were signed out: the token was revoked or has expired."
            return self._asking(request, said if "ended" in request.query else "")
        token = self._sessions.redeem(code)
        if token is None:
            said = "That link was used already, or is too old. Sign in with a token."
            return self._asking(request, said, status=403)
        return await self._begin(request, token, "")

    def _asking(self, request: Request, said: str, *, status: int = 200) -> Answer:
        following = request.query.get("next", "")
        return self._page("sign_in.html", {"said": said, "next": following}, status=status)

    async def _sign_in(self, request: Request) -> Answer:
        form = await self._form(request)
        _require_own_page(request)
        return await self._begin(request, form.get("token", "").strip(), form.get("next", ""))

    async def _begin(self, request: Request, token: str, following: str) -> Answer:
        try:
            await self._principal(token)
        except UnauthenticatedError:
            said = "No such token. It begins with atoll_ and is shown once, when it is created."
            return self._asking(request, said, status=403)
        session = self._sessions.begin(token)
        secure = "; Secure" if self._console.secure else ""
        cookie = f"{COOKIE}={session.id}; Path=/dashboard; HttpOnly; SameSite=Strict{secure}"
        inside = following.startswith(HOME) and "\n" not in following and "\r" not in following
        answer = _redirect(following if inside else HOME)
        answer.headers.append((b"set-cookie", cookie.encode()))
        return answer

    async def _sign_out(self, request: Request) -> Answer:
        form = await self._form(request)
        session = self._session(request)
        if session is not None:
            if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
                raise ForbiddenError
            self._sessions.end(session.id)
        answer = _redirect(SIGN_IN)
        answer.headers.append((b"set-cookie", f"{COOKIE}=; Path=/dashboard; Max-Age=0".encode()))
        return answer

    async def _form(self, request: Request) -> dict[str, str]:
        async with self._bodies.whole(request, bytes_max=FORM_BYTES_MAX) as raw:
            try:
                fields = parse_qs(raw.decode(), max_num_fields=8)
            except ValueError as error:
                raise BodyInvalidError(detail="the body must be a form") from error
        return {name: values[-1] for name, values in fields.items()}


def _vouches(request: Request, csrf: str) -> bool:
    return hmac.compare_digest(request.headers.get(CSRF_HEADER, b""), csrf.encode())


def _require_own_page(request: Request) -> None:
    """Refuse a form that another site sends, as far as the browser says where it comes from."""
    origin = request.header(b"origin")
    if origin is not None and urlsplit(origin).netloc != request.header(b"host"):
        raise ForbiddenError


def _redirect(to: str) -> Answer:
    headers = [
        (b"location", quote(to, safe="/?&=%:+~-._").encode()),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
    ]
    return Answer(status=303, headers=headers)


def _to_sign_in(request: Request, why: str) -> Answer:
    target = request.path.decode("latin-1")
    if request.query_string:
        target += "?" + request.query_string.decode("latin-1")
    return _redirect(f"{SIGN_IN}?next={quote(target, safe='')}{why}")


def _asset(request: Request, parts: list[str]) -> Answer:
    asset = ASSETS.get(parts[-1]) if len(parts) == 2 else None  # noqa: PLR2004 - release and name
    if asset is None:
        raise RouteNotFoundError(path=request.path.decode("latin-1"))
    headers = [
        (b"content-type", asset.type),
        (b"cache-control", b"public, max-age=%d, immutable" % ASSET_KEPT_S),
        (b"vary", b"accept-encoding"),
        *_GUARD,
    ]
    body = asset.body
    if b"gzip" in request.headers.get(b"accept-encoding", b""):
        headers.append((b"content-encoding", b"gzip"))
        body = asset.gzipped
    headers.append((b"content-length", b"%d" % len(body)))
    return Answer(headers=headers, body=body)


def _raw(raw: Raw) -> Answer:
    """Send a value as it is, in a way in which no browser takes it for a page of ours."""
    size = len(raw.body) if isinstance(raw.body, bytes) else raw.body.size_bytes
    headers = [
        (b"content-type", raw.type.encode()),
        (b"content-length", b"%d" % size),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'; sandbox"),
        *_GUARD,
    ]
    if raw.download_as is not None:
        name = quote(raw.download_as, safe="")
        headers.append((b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()))
    return Answer(headers=headers, body=raw.body)
