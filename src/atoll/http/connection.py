"""What one connection may take: bytes and seconds for a request, and a place among others.

uvicorn bounds none of these. Without a bound, a sender of endless headers fills the memory, and
connections that never send a request, or never finish one, use up what the system lets us open.
"""

import asyncio
from typing import Final

from atoll.http.direct import DirectProtocol
from atoll.http.rest_form import envelope

HEAD_BYTES_MAX: Final = 65_536
"""Longest head of a request: method, path and headers. A key takes 1,536 bytes at most."""

HEAD_S_MAX: Final = 30.0
"""How long a connection may take to begin its first request, and to send the head of any."""

BODY_IDLE_S_MAX: Final = 60.0
"""How long nothing of a body may arrive while we wait for it."""

STOPPING_S: Final = 0.25
"""How long a connection without a request is kept when the server stops. What a client has sent
by then is answered; without this, a request that is on its way would end in a reset."""

TOO_LARGE_NUMBER: Final = 20431
FULL_NUMBER: Final = 20508


class Connection(DirectProtocol):
    """uvicorn's connection, bounded; `limit_concurrency` is how many there may be at once."""

    body_idle_s_max: float = BODY_IDLE_S_MAX
    stopping_s: float = STOPPING_S

    _head_open: bool = True
    _head_bytes: int = 0
    _timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _arrived_s: float = 0.0
    _idle_since_s: float | None = None
    _stopping: bool = False

    def connection_made(  # type: ignore[override] # as uvicorn narrows it
        self, transport: asyncio.Transport
    ) -> None:
        """Take a place, or turn the connection away."""
        super().connection_made(transport)
        limit = self.limit_concurrency
        if limit is not None and len(self.connections) >= limit:
            self._refuse(
                b"503 Service Unavailable",
                FULL_NUMBER,
                "too many connections; try again in a moment",
                b"retry-after: 1\r\n",
            )
            return
        self._timer = self.loop.call_later(HEAD_S_MAX, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._stop_timer()
        for timer in (self._body_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._head_open = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting it."""
        self._head_open = False
        super().on_headers_complete()
        if self._stopping:
            self.end_with_answer()

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived, as long as the head keeps to its bounds."""
        if not self._stopping and self.answered_unread(data):
            self._stop_timer()
            return
        was_open = self._head_open
        super().data_received(data)
        if not self._head_open:
            self._head_bytes = 0
            self._stop_timer()
            if self.awaits_body:
                self._arrived_s = self.loop.time()
                if self._body_timer is None:
                    self._watch_body(self.body_idle_s_max)
            return
        # A piece in which one request ends and the next begins is not counted: it is one piece.
        if was_open:
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(
                b"431 Request Header Fields Too Large",
                TOO_LARGE_NUMBER,
                f"the head of a request exceeds the limit of {HEAD_BYTES_MAX} bytes",
            )
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def shutdown(self) -> None:
        """End once there is nothing left to answer: the server stops."""
        self._stopping = True
        if self.awaits_request:
            self.loop.call_later(self.stopping_s, self._close_if_idle)
        elif self._is_endless and self.transport.get_write_buffer_size():
            self.transport.abort()  # Nobody takes it, and it would be waited for.
        else:
            self.end_with_answer()

    @property
    def _is_endless(self) -> bool:
        """Whether an answer is under way that has no end of its own: a session, a watch."""
        begun = self._begun
        return begun is not None and bool(begun.chunked_encoding) and not begun.response_complete

    def _close_if_idle(self) -> None:
        if self.awaits_request:
            self.transport.close()

    # Between requests. A timer that is set and cancelled for each costs more than reading a head.

    def on_response_complete(self) -> None:
        """Go on with the next request, or begin to wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since_s = None

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that has waited long enough, and look again at one that has not."""
        self.timeout_keep_alive_task = None
        if self._idle_since_s is None or self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            self._watch_idle(left_s)

    def _watch_body(self, seconds: float) -> None:
        self._body_timer = self.loop.call_later(seconds, self._look_at_body)

    def _look_at_body(self) -> None:
        """End a connection whose body stopped arriving, unless it is we who do not read."""
        self._body_timer = None
        if not self.awaits_body or self.transport.is_closing():
            return
        if self.flow.read_paused:
            self._arrived_s = self.loop.time()
        left_s = self._arrived_s + self.body_idle_s_max - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            self._watch_body(left_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes, number: int, message: str, headers: bytes = b"") -> None:
        body = envelope(number, message)
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%b"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, headers, len(body), body)
        )
        self.transport.close()
