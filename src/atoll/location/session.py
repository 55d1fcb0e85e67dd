"""The session with the upstream: what is subscribed, heartbeats, and what the feed tells.

One task opens a session, follows it until it ends or goes silent, and opens the next. What comes
down is applied in its order; nothing of an ended session is applied later.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from atoll.clock import Clock
from atoll.core.errors import AtollError
from atoll.core.location_errors import NotAdmittedError
from atoll.core.model import SYSTEM_NAMESPACE, Position
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
from atoll.location.children import Children
from atoll.location.knowledge import Knowledge
from atoll.location.link import Link, retrieve
from atoll.location.telling import Telling

MS_PER_S: Final = 1000
UPWARD_MAX: Final = 1000
"""How many messages wait to go up; who fills that has lost its upstream and opens anew."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a session keeps time."""

    heartbeat_s: float = 1.0
    """Between heartbeats. With a live feed, what is held is about this old."""
    status_s: float = 5.0
    """Between two words about how this location is."""
    silence_s: float = 10.0
    """After so long without a word a session is given up."""
    reconnect_s: float = 1.0
    """Between the end of a session and the next."""


class SessionBrokenError(AtollError):
    """What came down is of an incarnation that is over, so a new session is opened."""

    code = "incarnation_over"

    def __init__(self) -> None:
        super().__init__(
            "the upstream tells of a central that this location has seen restored since; it may not"
            " have heard of that yet"
        )


class Session:
    """This location's end of the session with its upstream."""

    def __init__(
        self,
        knowledge: Knowledge,
        link: Link,
        *,
        clock: Clock,
        settings: SessionSettings,
        on_heartbeat: Callable[[], Upward | None],
        telling: Callable[[], Telling],
    ) -> None:
        """Follow `link`'s upstream into `knowledge`.

        Args:
            knowledge: Where what the feed tells goes.
            link: Whose upstream is followed.
            clock: What heartbeats are timed by.
            settings: How often, and how long.
            on_heartbeat: Asked with each heartbeat what else there is to say.
            telling: What describes this location.
        """
        self._knowledge = knowledge
        self._link = link
        self._clock = clock
        self._settings = settings
        self._on_heartbeat = on_heartbeat
        self._telling = telling
        self._told_ms: int | None = None
        """When it was said last in this session how this location is."""
        self.round_trip_ms: int | None = None
        """How long the last heartbeat took to the upstream and back."""
        self.children = Children(knowledge, self)
        self._wanted: set[str] = {SYSTEM_NAMESPACE, *knowledge.feed.subscribed}
        self._requested: set[str] = set()
        self._upward: asyncio.Queue[Upward] | None = None
        self._running: asyncio.Task[None] | None = None
        self._complained = False
        """Whether it was said that the upstream does not admit us."""

    @property
    def connected(self) -> bool:
        """Whether a session is open, as far as is known here."""
        return self._upward is not None

    def want(self, namespace: str) -> None:
        """See `Above`."""
        self._wanted.add(namespace)
        self._request(namespace)

    def send(self, message: Upward) -> None:
        """See `Above`."""
        if self._upward is not None and not self._upward.full():
            self._upward.put_nowait(message)

    def _request(self, namespace: str) -> None:
        """Subscribe in the session that is open, once."""
        if (
            self._upward is not None
            and not self._upward.full()
            and namespace not in self._requested
            and namespace not in self._knowledge.feed.subscribed
        ):
            self._requested.add(namespace)
            self._upward.put_nowait(Subscribe(namespace=namespace))

    def _request_all(self) -> None:
        for namespace in sorted(self._wanted | self.children.pending()):
            self._request(namespace)

    def end(self) -> None:
        """End the session that is open; the next one is opened by and by."""
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> None:
        """Hold a session with the upstream, again and again, until cancelled."""
        while True:
            self._running = asyncio.create_task(self._follow())
            try:
                await asyncio.wait({self._running})
            finally:
                self._running.cancel()
            if not self._running.cancelled():
                self._running.result()  # An error that no session should end with ends all.
            await self._clock.sleep(self._settings.reconnect_s)

    async def _follow(self) -> None:
        """Hold one session until it ends."""
        upward: asyncio.Queue[Upward] = asyncio.Queue(UPWARD_MAX)
        feed, position = self._knowledge.feed, self._knowledge.position
        known = self._knowledge.incarnation is not None
        hello = Hello(
            resume_after=position if known else None, namespaces=frozenset(feed.subscribed)
        )
        stream = self._link.upstream.follow(hello, _drain(upward))
        self._requested.clear()
        self._upward = upward
        self._told_ms = None
        beating = asyncio.create_task(self._beat(upward))
        arriving: asyncio.Future[Downward] | None = None
        try:
            while True:
                arriving = asyncio.ensure_future(anext(stream))
                await self._arrival(arriving)
                self._apply(arriving.result())
                self._complained = False
        except StopAsyncIteration:
            log.debug("session_ended", location=self._knowledge.name)
        except NotAdmittedError as error:
            if not self._complained:
                log.warning("not_admitted", location=self._knowledge.name, reason=str(error))
            self._complained = True
        except SessionBrokenError as error:
            if not self._complained:
                log.warning(error.code, location=self._knowledge.name, reason=str(error))
            self._complained = True
        except (AtollError, TimeoutError) as error:
            log.debug("session_failed", location=self._knowledge.name, reason=str(error))
        finally:
            beating.cancel()
            if self._upward is upward:
                self._upward = None
            await _close(stream, arriving)

    async def _arrival(self, arriving: "asyncio.Future[Downward]") -> None:
        """Wait for a message, but not for ever.

        Raises:
            TimeoutError: The upstream went silent.
        """
        alarm = asyncio.ensure_future(self._clock.sleep(self._settings.silence_s))
        either: set[asyncio.Future[Downward] | asyncio.Future[None]] = {arriving, alarm}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
        if not arriving.done():
            raise TimeoutError

    async def _beat(self, upward: asyncio.Queue[Upward]) -> None:
        """Send heartbeats."""
        while True:
            if not upward.full():
                self._request_all()
                instant_ms = self._knowledge.time.elapsed_ms()
                upward.put_nowait(Heartbeat(instant_ms=instant_ms))
                more = self._on_heartbeat()
                if more is not None:
                    self.send(more)
            await self._clock.sleep(self._settings.heartbeat_s)

    # What comes down.

    def _apply(self, message: Downward) -> None:
        """Apply one message."""
        knowledge = self._knowledge
        match message:
            case StartedOver(position=position):
                self._meet(position)
                knowledge.new_epoch(position.sequence)
                self.children.start_over()
                self._requested.clear()
                self._request_all()
            case Resumed():
                self._request_all()
            case Subscribed(namespace=namespace, position=position):
                self._meet(position)
                # Of two acknowledgements in one epoch the first covers more, and is as true.
                knowledge.feed.subscribed.setdefault(namespace, position.sequence)
                knowledge.feed.told = max(knowledge.feed.told, position.sequence)
                self._requested.discard(namespace)
                knowledge.save()
                self.children.acknowledged(namespace)
            case Changed():
                self._change(message)
            case Echo():
                self._echo(message)
                self._tell()
            case Asked():
                self.send(self._telling().held(message))
                self.children.ask(message)

    def _tell(self) -> None:
        """Say how this location is, if that was said long ago, or not in this session."""
        now_ms = self._clock.elapsed_ms()
        if self._told_ms is None or now_ms - self._told_ms >= self._settings.status_s * MS_PER_S:
            self._told_ms = now_ms
            self.send(self._telling().status())

    def _meet(self, position: Position) -> None:
        """Refuse to go on with a session of an incarnation that is over."""
        if not self._knowledge.meet(position.incarnation):
            raise SessionBrokenError

    def _change(self, message: Changed) -> None:
        self._meet(message.position)
        sequence = message.position.sequence
        if sequence <= self._knowledge.feed.told:
            return
        held = self._knowledge.change(
            (message.namespace, message.entry.key),
            message.entry,
            sequence=sequence,
            value_included=message.value_included,
        )
        self.children.change(
            message.namespace,
            message.entry,
            message.position,
            value=held and message.value_included,
        )

    def _echo(self, echo: Echo) -> None:
        self._meet(echo.position)
        feed = self._knowledge.feed
        if echo.age_ms is None:
            feed.vouch(echo.position.sequence)
        else:
            feed.echo(instant_ms=echo.instant_ms - echo.age_ms, sequence=echo.position.sequence)
        took_ms = max(0, self._knowledge.time.elapsed_ms() - echo.instant_ms)
        self.round_trip_ms = took_ms
        if echo.central_us is not None:
            error_ms = None if echo.error_ms is None else took_ms + 1 + echo.error_ms
            self._knowledge.time.heard(echo.central_us, error_ms=error_ms)
        self._knowledge.save()


async def _drain(upward: asyncio.Queue[Upward]) -> AsyncIterator[Upward]:
    """Yield what is to go up."""
    while True:
        yield await upward.get()


async def _close(
    stream: AsyncIterator[Downward], arriving: "asyncio.Future[Downward] | None"
) -> None:
    """Close a stream, which must not be waited on any more by then."""
    if arriving is not None and not arriving.done():
        arriving.add_done_callback(retrieve)
        arriving.cancel()
        await asyncio.wait({arriving})
    if isinstance(stream, AsyncGenerator):
        with contextlib.suppress(AtollError):
            await stream.aclose()
