"""`GET /v1/namespaces/{id}/watch`: the feed of a namespace for users, as server-sent events.

A watch follows what this node serves as a node below would, and writes what it is told as text.
It holds no queue of its own: what its reader does not take stays with whom it follows, who tells
it to start over when that is too much. Then, and whenever else changes could be missing, the
watch says so and ends. docs/v1.md has the form of every event.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

import msgspec
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from atoll.core import rules
from atoll.core.errors import (
    AtollError,
    ForbiddenError,
    NotArrivedError,
    NotFoundError,
    ParameterInvalidError,
    PositionTooOldError,
    StoppingError,
    UnauthenticatedError,
)
from atoll.core.location_errors import (
    CutOffError,
    FeedStartedOverError,
    TooManyWatchesError,
    UnreachableError,
)
from atoll.core.model import Entry, Position
from atoll.core.session import (
    Asked,
    Changed,
    Downward,
    Echo,
    Heartbeat,
    Hello,
    Resumed,
    StartedOver,
    Subscribe,
    Subscribed,
    Upward,
)
from atoll.http.exchange import Answer, Header, Request
from atoll.http.node import Node
from atoll.location.link import retrieve
from atoll.principal import Principal
from atoll.upstream import Upstream

HEARTBEAT_S: Final = 10.0
"""How often a watch says how far it has told, also when nothing changes."""
SILENCE_S_MAX: Final = 30.0
"""After so long without an answer to a heartbeat a watch ends."""
LOOK_S: Final = 0.5
"""How often a watch looks whether the server goes on."""
ADMITTED_S: Final = 2.0
"""How long a watch goes on before its credentials and its namespace are looked at again."""
UNSURE_S_MAX: Final = 60.0
"""How long it goes on while nobody can say whether they still hold."""
OPEN_S_MAX: Final = 5.0
"""How long the feed may take to begin, or a position to arrive."""
ARRIVE_PAUSE_S: Final = 0.1
"""Between two looks whether a position has arrived."""
UPWARD_MAX: Final = 16
"""Messages that wait to go up; two are on their way at most."""
STRAY_BYTES_MAX: Final = 65_536
"""How much of a body that nobody asked for is read in search of the connection's end."""

RETRY_MS: Final = 1000
"""What browsers are told about when to come back."""

MS_PER_S: Final = 1000
US_PER_S: Final = 1_000_000

_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

Admit = Callable[[Request], Awaitable[object]]
Describe = Callable[[AtollError], dict[str, object]]

_encode = msgspec.json.Encoder().encode


class _Change(msgspec.Struct, omit_defaults=True):
    key: str
    version: str
    metadata: msgspec.Raw | None = None
    expiration: int | None = None
    value: str | None = None
    base64: bool = False
    value_omitted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a request asks for."""

    namespace: str
    prefix: str
    since: Position | None
    with_values: bool


class Watches(Collector):
    """Everybody who watches at this process."""

    def __init__(self, node: Node, *, admit: Admit, describe: Describe) -> None:
        """Serve `node`.

        Args:
            node: The node.
            admit: Raises what a request would be refused with now.
            describe: Writes an error as this face does.
        """
        self._node = node
        self._admit = admit
        self._describe = describe
        # Weak, so that one that was never begun because its connection broke counts no more.
        self._open: WeakSet[_Watch] = WeakSet()
        node.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield GaugeMetricFamily("atoll_watches", "Watches that are open.", value=len(self._open))

    async def answer(self, request: Request, _principal: Principal) -> Answer:
        """Begin a watch.

        Raises:
            TooManyWatchesError: As many are open as may be.
            PositionTooOldError: What changed since the position asked for is not remembered.
            NotArrivedError: The position asked for has not arrived here.
            CutOffError: The feed did not begin in time.
        """
        wanted = self._wanted(request)
        headers = list(_HEADERS)
        if request.method == "HEAD":
            return Answer(headers=headers)
        count_max = self._node.watches_max
        if len(self._open) >= count_max:
            raise TooManyWatchesError(count_max=count_max)
        watch = _Watch(self._node, request, wanted, admit=self._admit, describe=self._describe)
        self._open.add(watch)
        watch.on_end = lambda: self._open.discard(watch)
        try:
            await watch.open()
        except BaseException:
            self._open.discard(watch)
            raise
        return Answer(headers=headers, body=watch)

    def _wanted(self, request: Request) -> _Wanted:
        prefix = request.query.get("prefix", "")
        rules.check_prefix(self._node.limits, prefix)
        # Who comes back by itself, as browsers do, repeats the address that it began with.
        name, since = "Last-Event-ID", request.header(b"last-event-id")
        if not since:
            name, since = "since", request.query.get("since")
        try:
            position = Position.parse(since) if since else None
        except ParameterInvalidError as error:
            raise ParameterInvalidError(name=name, given=error.given, rule=error.rule) from error
        return _Wanted(
            namespace=request.namespace,
            prefix=prefix,
            since=position,
            with_values=request.choice("include", default="", options=("", "values")) == "values",
        )


class _Feed:
    """A session with what this node serves."""

    def __init__(self, upstream: Upstream, hello: Hello) -> None:
        self._upward: asyncio.Queue[Upward] = asyncio.Queue(UPWARD_MAX)
        messages = upstream.follow(hello, _drained(self._upward))
        assert isinstance(messages, AsyncGenerator), messages
        self._messages: AsyncGenerator[Downward] = messages
        self._coming: asyncio.Future[Downward] | None = None

    def send(self, message: Upward) -> None:
        """Send a message up."""
        if not self._upward.full():
            self._upward.put_nowait(message)

    async def next(self, *others: "asyncio.Future[None]") -> Downward | None:
        """Return the next message, or `None` once one of `others` is done.

        Raises:
            UnreachableError: The other end closed the session.
        """
        self._coming = self._coming or asyncio.ensure_future(anext(self._messages))
        waited: set[asyncio.Future[Downward] | asyncio.Future[None]] = {self._coming, *others}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not self._coming.done():
            return None
        coming, self._coming = self._coming, None
        try:
            return coming.result()
        except StopAsyncIteration as error:
            raise UnreachableError(sent=True) from error

    async def close(self) -> None:
        """End the session."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
            retrieve(self._coming)
        with contextlib.suppress(AtollError):
            await self._messages.aclose()


class _Watch:
    """One watch, as the body of an answer."""

    on_end: Callable[[], None]

    def __init__(
        self,
        node: Node,
        request: Request,
        wanted: _Wanted,
        *,
        admit: Admit,
        describe: Describe,
    ) -> None:
        self._node = node
        self._request = request
        self._wanted = wanted
        self._admit = admit
        self._describe = describe
        self._feed: _Feed | None = None
        self._at = Position(incarnation=0, sequence=0)
        """Up to where everything was told."""
        self._present = False
        self._admitted_ms = self._beat_ms = self._heard_ms = node.clock.elapsed_ms()
        self.size_bytes = 0

    # Beginning.

    async def open(self) -> None:
        """Begin where the request says; see `Watches.answer` for the errors."""
        alarm = asyncio.ensure_future(self._node.clock.sleep(OPEN_S_MAX))
        try:
            while self._feed is None:
                self._feed = await self._begun(alarm)
        finally:
            alarm.cancel()
        self._beat()

    async def _begun(self, alarm: "asyncio.Future[None]") -> _Feed | None:
        """Open a session; `None` if it is to be tried again."""
        namespace, since = self._wanted.namespace, self._wanted.since
        hello = Hello()
        if since is not None:
            hello = Hello(resume_after=since, namespaces=frozenset({namespace}))
        feed = _Feed(self._node.upstream, hello)
        try:
            first = await self._in_time(feed, alarm)
            if isinstance(first, Resumed) and since is not None:
                self._at = since
                return feed
            if since is None or not _is_ahead(since, first):
                self._at = await self._subscribed(feed, alarm)
                return feed
        except BaseException:
            await feed.close()
            raise
        # Elsewhere the feed has come further than here. It is a matter of a moment.
        await feed.close()
        await self._node.clock.sleep(ARRIVE_PAUSE_S)
        if alarm.done():
            assert isinstance(first, StartedOver)
            raise NotArrivedError(required=str(since), held=str(first.position))
        return None

    async def _subscribed(self, feed: _Feed, alarm: "asyncio.Future[None]") -> Position:
        """Subscribe, and return from where on every change is told, if that is what was asked."""
        feed.send(Subscribe(namespace=self._wanted.namespace))
        while not isinstance(message := await self._in_time(feed, alarm), Subscribed):
            if isinstance(message, StartedOver):
                feed.send(Subscribe(namespace=self._wanted.namespace))
        if self._wanted.since is not None:
            since, start_at = str(self._wanted.since), str(message.position)
            raise PositionTooOldError(position=since, start_at=start_at)
        return message.position

    async def _in_time(self, feed: _Feed, alarm: "asyncio.Future[None]") -> Downward:
        message = await feed.next(alarm)
        if message is None:
            raise CutOffError(detail="the feed of this namespace did not begin in time")
        return message

    # Going on.

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield events until something ends the watch; the last event says what."""
        feed = self._feed
        assert feed is not None
        gone = asyncio.ensure_future(self._gone())
        look = asyncio.ensure_future(self._node.clock.sleep(LOOK_S))
        try:
            yield self._counted(b"retry: %d\n\n" % RETRY_MS)
            while not gone.done():
                await self._require_going_on()
                message = await feed.next(gone, look)
                if look.done():
                    look = asyncio.ensure_future(self._node.clock.sleep(LOOK_S))
                event = None if message is None else self._told(message)
                if event is not None:
                    yield self._counted(event)
                    # Whoever watches may have taken a while, in which nothing was asked.
                    self._heard_ms = self._node.clock.elapsed_ms()
        except AtollError as error:
            yield self._counted(self._event(b"end", _encode(self._describe(error))))
        finally:
            for task in (gone, look):
                task.cancel()
            self.on_end()
            await feed.close()

    async def _gone(self) -> None:
        """Wait until whoever watches has gone."""
        while self._request.body_bytes <= STRAY_BYTES_MAX:
            message = await self._request.receive()
            if message["type"] != "http.request":
                return
            self._request.body_bytes += len(message["body"])

    async def _require_going_on(self) -> None:
        """Raise what ends the watch, if anything does; else see that there is something to say."""
        if not self._node.ready():
            raise StoppingError
        now_ms = self._node.clock.elapsed_ms()
        if now_ms - self._heard_ms > SILENCE_S_MAX * MS_PER_S:
            raise UnreachableError(sent=True)
        if now_ms - self._beat_ms >= HEARTBEAT_S * MS_PER_S:
            self._beat()
        if now_ms - self._admitted_ms >= ADMITTED_S * MS_PER_S:
            try:
                await self._admit(self._request)
            except (UnauthenticatedError, ForbiddenError, NotFoundError):
                raise
            except AtollError:
                # Nobody can say now. Who was admitted stays, but not for ever.
                if now_ms - self._admitted_ms > UNSURE_S_MAX * MS_PER_S:
                    raise
            else:
                self._admitted_ms = now_ms

    def _beat(self) -> None:
        """Ask how far the feed has come: the answer stands behind everything up to there."""
        assert self._feed is not None
        self._beat_ms = self._node.clock.elapsed_ms()
        self._feed.send(Heartbeat(instant_ms=self._beat_ms))

    def _told(self, message: Downward) -> bytes | None:
        """Write what the feed told as an event, if it is one."""
        match message:
            case Changed(entry=entry, position=position):
                self._move_to(position)
                if not entry.key.startswith(self._wanted.prefix):
                    return None
                return self._changed(entry, value_included=message.value_included)
            case Echo(position=position, age_ms=age_ms):
                self._move_to(position)
                name = b"position" if self._present else b"present"
                self._present = True
                age_s = None if age_ms is None else -(-age_ms // MS_PER_S)
                return self._event(name, _encode({"age_s": age_s}))
            case StartedOver():
                raise FeedStartedOverError
            case Resumed() | Subscribed() | Asked():
                return None

    def _move_to(self, position: Position) -> None:
        """Remember up to where everything was told. An echo may stand behind a later change."""
        if position.incarnation != self._at.incarnation:
            raise FeedStartedOverError
        if position.sequence > self._at.sequence:
            self._at = position

    def _changed(self, entry: Entry, *, value_included: bool) -> bytes:
        change = _Change(key=entry.key, version=str(entry.version))
        if not rules.is_live(entry, self._node.clock.now_us() / US_PER_S):
            return self._event(b"delete", _encode(change))
        if entry.metadata is not None:
            change.metadata = msgspec.Raw(entry.metadata)
        change.expiration = entry.expiration
        if self._wanted.with_values:
            if value_included:
                assert isinstance(entry.value, bytes), entry.key
                _show(change, entry.value)
            else:
                change.value_omitted = True
        return self._event(b"put", _encode(change))

    def _event(self, name: bytes, data: bytes) -> bytes:
        return b"event: %b\nid: %b\ndata: %b\n\n" % (name, str(self._at).encode(), data)

    def _counted(self, chunk: bytes) -> bytes:
        self.size_bytes += len(chunk)
        return chunk


def _is_ahead(since: Position, first: Downward) -> bool:
    """Whether a position that cannot be resumed at lies ahead of what has arrived here."""
    return (
        isinstance(first, StartedOver)
        and first.position.incarnation == since.incarnation
        and first.position.sequence < since.sequence
    )


def _show(change: _Change, value: bytes) -> None:
    try:
        change.value = value.decode()
    except UnicodeDecodeError:
        change.value = base64.b64encode(value).decode()
        change.base64 = True


async def _drained(upward: asyncio.Queue[Upward]) -> AsyncIterator[Upward]:
    """Yield what is to go up."""
    while True:
        yield await upward.get()
