"""The sessions of the nodes below: what a location relays of what it learns.

A child is told of changes in the order of the log, of those to keys that are not held here the
mark alone. It is acknowledged a namespace only once this location's own upstream has
acknowledged it here. Who does not keep up starts over; nobody waits for a slow child.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from atoll.core.location_errors import UnreachableError
from atoll.core.model import Entry, Position
from atoll.core.session import (
    Asked,
    Changed,
    Downward,
    Echo,
    Heartbeat,
    Held,
    Hello,
    JournalEmpty,
    Resumed,
    StartedOver,
    Status,
    Subscribe,
    Subscribed,
    Upward,
)
from atoll.location.age import AGE_UNKNOWN_BELOW
from atoll.location.knowledge import Knowledge
from atoll.location.link import retrieve
from atoll.location.recent import marked
from atoll.whereabouts import VIA_MAX

QUEUE_MAX: Final = 10_000
"""How many messages wait for a child before it starts over."""


class Above(Protocol):
    """The session with this location's own upstream."""

    def want(self, namespace: str) -> None:
        """Subscribe, unless that is done or under way."""
        ...

    def send(self, message: Upward) -> None:
        """Send a message, if there is a session."""
        ...


@dataclass(slots=True, eq=False)
class _Child:
    queue: deque[Downward] = field(default_factory=deque[Downward])
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    subscribed: set[str] = field(default_factory=set[str])
    pending: set[str] = field(default_factory=set[str])
    """Asked for, and not yet acknowledged by our own upstream."""


class Children:
    """Everybody who follows this location."""

    def __init__(self, knowledge: Knowledge, above: Above) -> None:
        """Relay what `knowledge` learns, and ask `above` for what is asked for here."""
        self._knowledge = knowledge
        self._above = above
        # A dictionary for its order: who is told first must not depend on addresses in memory.
        self._children: dict[_Child, None] = {}
        knowledge.on_discard.append(self.start_over)

    def pending(self) -> set[str]:
        """Return the namespaces that somebody below waits for."""
        return set[str]().union(*(child.pending for child in self._children))

    # What this location's own session tells.

    def change(self, namespace: str, entry: Entry, position: Position, *, value: bool) -> None:
        """Relay a change, with its value or as a mark."""
        message = Changed(
            namespace=namespace,
            entry=entry if value else marked(entry, position.sequence),
            position=position,
            value_included=value,
        )
        for child in self._children:
            if namespace in child.subscribed:
                self._tell(child, message)

    def acknowledged(self, namespace: str) -> None:
        """Acknowledge a namespace to who waits for it: it is acknowledged here now."""
        for child in self._children:
            if namespace in child.pending:
                child.pending.discard(namespace)
                self._subscribe(child, namespace)

    def ask(self, question: Asked) -> None:
        """Ask everybody what they hold of a key; the answers go up as they come."""
        for child in self._children:
            self._tell(child, question)

    def start_over(self) -> None:
        """Let everybody start over: an epoch has begun here."""
        for child in self._children:
            self._start_over(child)

    # A child's session.

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`.

        Raises:
            UnreachableError: Nothing is known here yet, not even whose positions count.
        """
        if self._knowledge.incarnation is None:
            raise UnreachableError(sent=False)
        child = _Child()
        self._open(child, hello)
        self._children[child] = None
        receiving = asyncio.create_task(self._receive(child, upward))
        waiting: asyncio.Task[bool] | None = None
        try:
            while not receiving.done():
                while child.queue:
                    yield child.queue.popleft()
                child.filled.clear()
                waiting = asyncio.create_task(child.filled.wait())
                await asyncio.wait({receiving, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            self._children.pop(child, None)
            receiving.add_done_callback(retrieve)
            receiving.cancel()
            if waiting is not None:
                waiting.cancel()

    def _open(self, child: _Child, hello: Hello) -> None:
        """Go on where an earlier session ended, if everything since then is remembered."""
        after = hello.resume_after
        feed, recent = self._knowledge.feed, self._knowledge.recent
        if (
            after is not None
            and after.incarnation == self._knowledge.incarnation
            and recent.floor <= after.sequence <= feed.told
            and all(
                feed.subscribed.get(name, feed.told + 1) <= after.sequence
                for name in hello.namespaces
            )
        ):
            child.subscribed = set(hello.namespaces)
            self._tell(child, Resumed())
            for namespace, entry in recent.after(after.sequence):
                if namespace in child.subscribed:
                    self._tell(
                        child,
                        Changed(
                            namespace=namespace,
                            entry=entry,
                            position=replace(after, sequence=entry.sequence),
                            value_included=False,
                        ),
                    )
        else:
            self._start_over(child)

    async def _receive(self, child: _Child, upward: AsyncIterator[Upward]) -> None:
        """Take what a child sends."""
        async for message in upward:
            match message:
                case Subscribe(namespace=namespace):
                    if namespace in self._knowledge.feed.subscribed:
                        self._subscribe(child, namespace)
                    else:
                        child.pending.add(namespace)
                        self._above.want(namespace)
                case Heartbeat(instant_ms=instant_ms):
                    self._echo(child, instant_ms)
                case JournalEmpty() | Held():
                    self._above.send(message)
                case Status(via=via):
                    if len(via) < VIA_MAX:
                        self._above.send(replace(message, via=(self._knowledge.name, *via)))

    def _subscribe(self, child: _Child, namespace: str) -> None:
        child.subscribed.add(namespace)
        self._tell(child, Subscribed(namespace=namespace, position=self._told()))

    def _told(self) -> Position:
        """Return where a child begins to be told: nothing up to there will be."""
        return replace(self._knowledge.position, sequence=self._knowledge.feed.told)

    def _echo(self, child: _Child, instant_ms: int) -> None:
        """Answer a heartbeat: how old what was told by now is, is told with it."""
        now_ms = self._knowledge.time.elapsed_ms()
        feed_ms = self._knowledge.time.trusted(self._knowledge.feed.instant_ms)
        self._tell(
            child,
            Echo(
                instant_ms=instant_ms,
                position=self._knowledge.position,
                central_us=self._knowledge.time.central_us(),
                age_ms=None if feed_ms < AGE_UNKNOWN_BELOW else now_ms - feed_ms,
                error_ms=self._knowledge.time.error_ms(),
            ),
        )

    def _start_over(self, child: _Child) -> None:
        child.queue.clear()
        child.subscribed.clear()
        child.pending.clear()
        child.queue.append(StartedOver(position=self._told()))
        child.filled.set()

    def _tell(self, child: _Child, message: Downward) -> None:
        if len(child.queue) >= QUEUE_MAX:
            self._start_over(child)
            return
        child.queue.append(message)
        child.filled.set()
