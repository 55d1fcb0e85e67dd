"""The application: gives each request to its face, sends the answer, and keeps account of both.

There is one dispatch and no chain of middleware, because every write pays for it. Whatever goes
wrong is answered in the form of the face that was asked, with a request id that the log has too.
"""

import itertools
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from atoll.core.errors import AtollError
from atoll.http import binding, peer, rest, v1
from atoll.http.admin import Admin
from atoll.http.body import Bodies, SpoolFile
from atoll.http.dashboard import face as dashboard
from atoll.http.exchange import Answer, Face, Request
from atoll.http.hot import Hot
from atoll.http.metered import TALLY, Metered, Tally
from atoll.http.metrics import RequestMetrics
from atoll.http.node import Node
from atoll.http.peer import Peer

__all__ = ["App", "Node", "create_app", "send_answer"]

US_PER_S: Final = 1_000_000
US_PER_MS: Final = 1000

STATUS_CLIENT_LEFT: Final = 499
"""Counted and logged when the client was gone before there was an answer; never sent."""

STATUS_CLIENT_ERRORS: Final = 400
STATUS_SERVER_ERRORS: Final = 500

Deliver = Callable[[Request, Answer], Awaitable[int]]

log = structlog.stdlib.get_logger()


def create_app(node: Node, *, open_spool: Callable[[], SpoolFile] | None = None) -> "App":
    """Make the ASGI application of a node.

    Args:
        node: What it serves.
        open_spool: Opens a temporary file for a large body; by default in `node.spool_dir`.
    """

    def open_file() -> SpoolFile:
        return tempfile.TemporaryFile(dir=node.spool_dir, prefix="atoll-body-", buffering=0)

    return App(node, Bodies(node.limits, open_spool or open_file))


class App:
    """An ASGI application."""

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """See `create_app`."""
        self._timer_us = node.clock.now_us if node.timer_us is None else node.timer_us
        # Bound once: a logger that is looked up anew costs more than the line that it writes.
        self._access_log = log.bind() if node.access_log else None
        self.metrics = RequestMetrics(node.registry, readers=node.readers)
        self._clock = node.clock
        self._meter = node.meter
        self._accounts = node.accounts
        # What users ask is counted; what nodes ask each other was counted where it came in.
        metered = replace(node, upstream=Metered(node.upstream, node.accounts, node.clock))
        self._rest = rest.Rest(metered, bodies)
        self._v1 = v1.V1(metered, bodies)
        self._binding = binding.Binding(metered, bodies)
        self._admin = Admin(node)
        self._peer = (
            None
            if node.peers is None
            else Peer(node.upstream, node.peers, bodies, stays=node.ready)
        )
        self._dashboard = (
            None if node.console is None else dashboard.Dashboard(node, node.console, bodies)
        )
        self._is_private = node.is_private
        self.hot = (
            None
            if node.near is None
            else Hot(
                node.near,
                self,
                self._timer_us,
                name=node.name,
                missing=self._v1.missing,
                meter=node.meter,
            )
        )
        """What answers plain reads before they are requests."""
        # Request ids are for finding a line in the log, so the start of the process and a
        # number are enough; what a client sends under this name is not looked at.
        self._id_prefix = f"{node.clock.now_us():x}"
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's worth of ASGI: an HTTP request, or the lifespan."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        assert scope["type"] == "http", scope["type"]

        async def deliver(request: Request, answer: Answer) -> int:
            return await send_answer(request, answer, send)

        await self.serve(scope, receive, deliver)

    async def serve(self, scope: Scope, receive: Receive, deliver: Deliver) -> None:
        """Answer one request.

        Args:
            scope: What is known of it before its body, as ASGI names it.
            receive: Returns its body.
            deliver: Sends the answer and returns the size of the body sent.
        """
        started_us = self._timer_us()
        decided_ms = 0 if self.hot is None else self.hot.elapsed_ms()
        request = Request(scope, receive, self.next_id())
        face = self._face(request)
        status = STATUS_CLIENT_LEFT
        sent_bytes = 0
        tally = Tally()
        TALLY.set(tally)
        try:
            answer = await self._answer(face, request)
            status = answer.status
            self._count(tally, face, request, answer, started_us)
            answer.headers.append((b"atoll-request-id", request.id.encode()))
            if request.abandoned:
                answer.headers.append((b"connection", b"close"))
            sent_bytes = await deliver(request, answer)
            if self.hot is not None and request.principal is not None:
                self._grant(self.hot, request, decided_ms)
        except ClientDisconnect:
            log.debug("client_left", request_id=request.id, operation=request.operation)
        finally:
            self.note(
                face=face.name,
                operation=request.operation,
                method=request.method,
                path=request.path,
                request_id=request.id,
                status=status,
                started_us=started_us,
                received_bytes=request.body_bytes,
                sent_bytes=sent_bytes,
            )

    def _grant(self, hot: Hot, request: Request, decided_ms: int) -> None:
        """Let plain reads like a request be answered at once, unless a quota stopped something."""
        now_us = self._clock.now_us()
        namespace = self._accounts.known(request.namespace)
        if namespace is None or any(s.until_s > now_us // US_PER_S for s in namespace.stops):
            return
        hot.grant(request, decided_ms=decided_ms, account=namespace.account, granted_us=now_us)

    def _count(self, tally: Tally, face: Face, request: Request, answer: Answer, us: int) -> None:
        """Count what was done since `us`, before anybody hears that it was."""
        namespace = tally.namespace
        if self._meter is None or namespace is None:
            return
        body = answer.body
        size = len(body) if isinstance(body, bytes) else body.size_bytes
        is_sent = answer.status < STATUS_CLIENT_ERRORS and request.method != "HEAD"
        row = self._meter.row(namespace.id, face.name, namespace.account, self._clock.now_us())
        tally.count(
            row,
            elapsed_us=max(0, self._timer_us() - us),
            received=request.body_bytes,
            sent=size if is_sent else 0,
        )

    # Keeping account; see `Ledger`.

    def next_id(self) -> str:
        """Return the id of a new request."""
        return f"{self._id_prefix}-{next(self._numbers):x}"

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
        """Count a request that was answered, and log it."""
        elapsed_us = max(0, self._timer_us() - started_us)
        self.metrics.of(face, operation).count(
            status,
            elapsed_s=elapsed_us / US_PER_S,
            received_bytes=received_bytes,
            sent_bytes=sent_bytes,
        )
        if self._access_log is not None:
            self._access_log.info(
                "request_answered",
                request_id=request_id,
                face=face,
                operation=operation,
                method=method,
                path=path.decode("latin-1"),
                status=status,
                ms=elapsed_us / US_PER_MS,
                received_bytes=received_bytes,
                sent_bytes=sent_bytes,
            )

    def _face(self, request: Request) -> Face:
        # Before all paths: a key of a binding may be named like any of them.
        if binding.NAMESPACE_HEADER in request.headers and not self._is_private:
            return self._binding
        if self._dashboard is not None and request.path.startswith(dashboard.API_PREFIX):
            self._dashboard.lend(request)
        path = request.path
        if self._peer is not None and path.startswith(peer.PREFIX):
            return self._peer
        if path.startswith(v1.PREFIX):
            return self._v1
        if path.startswith(rest.PREFIX) and not self._is_private:
            return self._rest
        if self._dashboard is not None and path.startswith(dashboard.PREFIX):
            return self._dashboard
        return self._admin

    async def _answer(self, face: Face, request: Request) -> Answer:
        """Let the face answer, or say why not in its form."""
        try:
            return await face.answer(request)
        except ClientDisconnect:
            raise
        except AtollError as error:
            answer = face.refuse(request, error)
            if answer.status >= STATUS_SERVER_ERRORS:
                log.warning(
                    "request_failed",
                    request_id=request.id,
                    operation=request.operation,
                    code=error.code,
                    reason=str(error),
                )
            return answer
        except Exception as error:
            log.exception("request_crashed", request_id=request.id, operation=request.operation)
            return face.refuse(request, error)


async def send_answer(request: Request, answer: Answer, send: Send) -> int:
    """Send an answer and return the size of its body. What fails midway cuts the connection."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    body = answer.body
    if request.method == "HEAD":
        body = b""
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
        return len(body)
    async for chunk in body.chunks():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return body.size_bytes


async def _live(receive: Receive, send: Send) -> None:
    """Say yes to the lifespan's two questions; who made the node starts and stops it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
