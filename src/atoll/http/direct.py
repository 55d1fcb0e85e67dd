"""Requests that arrive whole, answered without the detour through ASGI.

To uvicorn a request is a series of messages and so is its answer, each of them awaited and each
part of the answer written by itself. Almost every request of a key-value store is one piece of a
connection's bytes, and its answer another. Such a request is given to the application as one, and
answered with one write. Whatever is different, in its coming or in its answer, goes uvicorn's way;
no client can tell which way was taken.
"""

import asyncio
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from atoll.http.app import App, send_answer
from atoll.http.exchange import Answer, Header, Request
from atoll.http.hot import Hot, Plain, plain
from atoll.http.wire import WireProtocol, legal

_BODILESS: Final = (204, 304)
_FRAMING: Final = (b"connection", b"transfer-encoding")
_END: Final = b"\r\n"

_UNSAFE: Final = bytes(code for code in (*range(32), 127) if code not in b"\t\r\n")
"""What may not stand in a head; ends of lines are counted."""


class DirectProtocol(WireProtocol):
    """uvicorn's protocol, with a short way for requests that arrive whole."""

    direct: bool = True
    """Whether there is the short way at all; tests compare the two."""

    _held: bool = False
    """Whether a request's head has been read of which it is not known yet if all has come."""
    _within: bool = False
    """Whether the parser is in the middle of a request."""
    _came: bytes = b""
    """The piece that is being read, if a request begins with it."""

    def on_message_begin(self) -> None:
        """Begin a request. What uvicorn notes of one besides is noted when it gets it."""
        self._within = True
        self.url = b""
        self.expect_100_continue = False
        self.headers: list[Header] = []

    def on_headers_complete(self) -> None:
        """Hold a request that may turn out whole, and give others to uvicorn."""
        parser = self.parser
        assert parser is not None
        if parser.should_upgrade() or not self._may_be_direct():
            self._hand_over()
            return
        self._keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        self._pieces: list[bytes] = []
        self._held = True

    def _may_be_direct(self) -> bool:
        """Whether uvicorn would do nothing with this request but pass it on at once."""
        limit = self.limit_concurrency
        return (
            self.direct
            and isinstance(self._application, App)
            and self._is_idle()
            and not self.expect_100_continue
            and not self.root_path
            and (limit is None or max(len(self.connections), len(self.tasks)) < limit)
        )

    @property
    def _application(self) -> object:
        """What is served: an `App`, unless uvicorn was told to put something around it."""
        return cast("object", self.app)  # pyright: ignore[reportUnknownMemberType]

    @property
    def _begun(self) -> RequestResponseCycle | None:
        """The last request that was begun; at first there is none, whatever uvicorn declares."""
        return self.cycle

    @property
    def awaits_body(self) -> bool:
        """Whether more of the last request must come, whose head has been read."""
        begun = self._begun
        return begun is not None and begun.more_body

    @property
    def awaits_request(self) -> bool:
        """Whether no request is being answered, and none whose head was read is coming."""
        return not self._held and self._is_idle()

    def end_with_answer(self) -> None:
        """Close the connection behind the answer to the last request."""
        self._keep_alive = False
        if self._begun is not None:
            self._begun.keep_alive = False

    def _is_idle(self) -> bool:
        begun = self._begun
        return begun is None or begun.response_complete

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body. All pieces of a held request came in one read of the socket."""
        if self._held:
            self._pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to answer a request that has come whole."""
        self._within = False
        if not self._held:
            super().on_message_complete()
            return
        self._held = False
        app = self._application
        assert isinstance(app, App)
        if not self._pieces and self._answered_at_once(app):
            return
        exchange = _Exchange(
            self, app, self._read_head(), b"".join(self._pieces), keep=self._keep_alive
        )
        self.cycle = exchange
        task = self.loop.create_task(exchange.run_asgi(exchange.answer))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _answered_at_once(self, app: App) -> bool:
        """Answer a plain read, and say whether it was one."""
        parser = self.parser
        assert parser is not None
        if (
            app.hot is None
            or not self._keep_alive
            or self.flow.write_paused
            or parser.get_method() != b"GET"
        ):
            return False
        headers = plain(self.headers)
        if headers is None or not self._sent_at_once(app.hot, self.url, headers):
            return False
        app.hot.remember(self._came, headers)
        return True

    def _sent_at_once(self, hot: Hot, target: bytes, headers: Plain) -> bool:
        answer = hot.answer(target, headers, self.server_state.default_headers)
        if answer is None:
            return False
        self.transport.write(answer)
        self.on_response_complete()
        return True

    def answered_unread(self, data: bytes) -> bool:
        """Answer a plain read whose like has come before, and say whether it was one.

        Args:
            data: What arrived.
        """
        app = self._application
        if (
            self._within
            or not isinstance(app, App)
            or app.hot is None
            or self.flow.write_paused
            or not self._may_be_direct()
        ):
            return False
        recalled = app.hot.recall(data)
        return recalled is not None and self._sent_at_once(app.hot, *recalled)

    def _read_head(self) -> dict[str, Any]:
        """Return what is known of a request before its body, as ASGI names it."""
        assert self.parser is not None
        target = httptools.parse_url(self.url)
        # A path that is not ASCII is no request; as in uvicorn, the parser hears of that.
        target.path.decode("ascii")
        return {
            "type": "http",
            "method": self.parser.get_method().decode("ascii"),
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
        }

    def data_received(self, data: bytes) -> None:
        """Take what arrived. A request of which more must come is uvicorn's from here on."""
        self._came = b"" if self._within else data
        super().data_received(data if self.awaits_body else legal(data))
        if self._held:
            self._held = False
            self._hand_over()
            for piece in self._pieces:
                super().on_body(piece)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - ASGI
        """Begin a request that goes uvicorn's way, but for a status line in words of our own."""
        if app is not self._application or not isinstance(app, App):
            super()._start_asgi_task(cycle, app)
            return
        served = app

        async def serve(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            async def deliver(request: Request, answer: Answer) -> int:
                if answer.reason is None:
                    return await send_answer(request, answer, send)
                return await written(cycle, request, answer)

            await served.serve(scope, receive, deliver)

        super()._start_asgi_task(cycle, serve)

    def _hand_over(self) -> None:
        """Give uvicorn a request whose head has been read."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()


class _Exchange(RequestResponseCycle):
    """One request that came whole. To its connection it is a cycle like uvicorn's own."""

    def __init__(
        self, protocol: DirectProtocol, app: App, scope: dict[str, Any], body: bytes, *, keep: bool
    ) -> None:
        """Begin with all of the request at hand."""
        super().__init__(
            scope=scope,  # type: ignore[arg-type] # what a `Request` takes, and no more
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=False,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep,
            on_response=protocol.on_response_complete,
        )
        self.more_body = False
        self._app = app
        self._whole: bytes | None = body

    async def answer(self, scope: Any, receive: Any, _send: Any) -> None:  # noqa: ANN401 - ASGI
        """Be the application that `run_asgi` runs."""
        await self._app.serve(scope, receive, self._deliver)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the whole body, and after that nothing but the end of the connection."""
        body = self._whole
        if body is None:
            return await super().receive()
        self._whole = None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _deliver(self, request: Request, answer: Answer) -> int:
        return await written(self, request, answer)


async def written(cycle: RequestResponseCycle, request: Request, answer: Answer) -> int:
    """Send an answer with one write, if that is possible; return the size of its body."""
    body = b"" if request.method == "HEAD" else answer.body
    head = _head(cycle, request, answer)
    if head is None or not isinstance(body, bytes):
        send: Any = cycle.send
        return await send_answer(request, answer, send)
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if not cycle.disconnected:
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(head + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
    return len(body)


def _head(cycle: RequestResponseCycle, request: Request, answer: Answer) -> bytes | None:
    """Write the head as uvicorn would; `None` for one that is better left to uvicorn."""
    reason = answer.reason
    lines = [
        STATUS_LINE[answer.status]
        if reason is None
        else b"HTTP/1.1 %d %b\r\n" % (answer.status, reason)
    ]
    length = None
    for name, value in (*cycle.default_headers, *answer.headers):
        if name == b"content-length":
            length = value
        elif name in _FRAMING:
            return None
        lines.append(b"%b: %b\r\n" % (name, value))
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(_END)
    if request.method != "HEAD":
        size = len(answer.body) if isinstance(answer.body, bytes) else -1
        if length != b"%d" % size and (length or size or answer.status not in _BODILESS):
            return None
    head = b"".join(lines)
    breaks = head.count(b"\n"), head.count(b"\r")
    safe = breaks == (len(lines), len(lines)) and len(head.translate(None, _UNSAFE)) == len(head)
    return head if safe else None
