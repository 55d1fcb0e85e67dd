"""A follower of central's own feed, which checks that it is told everything, in order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from atoll.core.errors import AtollError
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
from atoll.simulator.checks import Checker
from atoll.simulator.clock import SimClock
from atoll.simulator.loop import VirtualLoop
from atoll.simulator.network import Link

BEAT_S: Final = 1.0
SILENCE_S: Final = 8.0
AGAIN_S: Final = 1.0


class Follower:
    """Subscribes, resumes, and compares what it was told with what happened."""

    def __init__(
        self,
        *,
        link: Link,
        loop: VirtualLoop,
        clock: SimClock,
        checker: Checker,
        namespaces: tuple[str, ...],
    ) -> None:
        self._link = link
        self._loop = loop
        self._clock = clock
        self._checker = checker
        self._namespaces = namespaces
        self._told: dict[tuple[str, str], Entry] = {}
        self._since: dict[str, int] = {}
        self._at: Position | None = None
        self._beats: list[tuple[int, int]] = []

    async def live(self) -> None:
        """Follow, and begin again whenever it ends."""
        while True:
            hello = Hello(
                resume_after=self._at,
                namespaces=frozenset(self._since),
            )
            outbox: asyncio.Queue[Upward] = asyncio.Queue()
            beating = asyncio.create_task(self._beat(outbox))
            self._beats.clear()
            messages = self._link.follow(hello, _sent(outbox))
            try:
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        message = await anext(messages)
                    self._hear(message, outbox)
            except (AtollError, TimeoutError, StopAsyncIteration):
                self._checker.counts["follower: sessions ended"] += 1
            finally:
                beating.cancel()
            await asyncio.sleep(AGAIN_S)  # noqa: TID251 - virtual seconds

    async def _beat(self, outbox: asyncio.Queue[Upward]) -> None:
        while True:
            instant_ms = self._clock.elapsed_ms()
            self._beats.append((instant_ms, self._checker.history.end_sequence))
            outbox.put_nowait(Heartbeat(instant_ms=instant_ms))
            await asyncio.sleep(BEAT_S)  # noqa: TID251 - virtual seconds

    def _hear(self, message: Downward, outbox: asyncio.Queue[Upward]) -> None:
        match message:
            case StartedOver(position=position):
                self._checker.counts["follower: started over"] += 1
                self._at = position
                self._since.clear()
                self._told.clear()
                for namespace in self._namespaces:
                    outbox.put_nowait(Subscribe(namespace=namespace))
            case Resumed():
                self._checker.counts["follower: resumed"] += 1
            case Subscribed(namespace=namespace, position=position):
                self._since[namespace] = position.sequence
                self._advance(position, strictly=False)
            case Changed(namespace=namespace, entry=entry, position=position):
                self._advance(position, strictly=True)
                self._told[namespace, entry.key] = entry
            case Echo(instant_ms=instant_ms, position=position):
                self._advance(position, strictly=False)
                self._echoed(instant_ms, position)
            case Asked():
                pass  # It holds nothing that anybody would ask about.

    def _advance(self, position: Position, *, strictly: bool) -> None:
        """Positions never go back, and no two changes share one."""
        at = self._at
        assert at is not None
        if position.incarnation != at.incarnation:
            self._wrong(f"{position} follows {at} without a start-over")
        elif position.sequence < at.sequence or (strictly and position.sequence == at.sequence):
            self._wrong(f"{position} follows {at}")
        self._at = position

    def _echoed(self, instant_ms: int, position: Position) -> None:
        """Everything that was in the log when the heartbeat was sent has been told by now."""
        sent = self._beats.pop(0)
        if sent[0] != instant_ms:
            self._wrong(f"heartbeat {sent[0]} was answered by an echo of {instant_ms}")
        history = self._checker.history
        if position.incarnation != history.incarnation:
            return
        self._checker.counts["follower: echoes"] += 1
        self._checker.coverage.met("feed")
        if position.sequence < sent[1]:
            self._wrong(f"the echo at {position} leaves out what was at {sent[1]} before")
        for namespace, key in sorted(history.keys()):
            since = self._since.get(namespace)
            if since is None:
                continue
            row = history.key(namespace, key).at(position.sequence).row
            if row.sequence <= since:
                continue
            told = self._told.get((namespace, key))
            if told is None or told.version < row.version:
                self._wrong(f"nothing was told of {key} at {row.sequence}, before {position}")

    def _wrong(self, what: str) -> None:
        self._checker.violated("feed", self._loop.time(), what)


async def _sent(outbox: asyncio.Queue[Upward]) -> AsyncIterator[Upward]:
    while True:
        yield await outbox.get()
