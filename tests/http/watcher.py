"""Somebody who watches: takes events one by one, can stop taking them, and leave."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from starlette.types import Message

from tests.http.site import Reply, Site

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, as EventSource would have it."""

    name: str
    id: str
    data: dict[str, Any]

    @property
    def said(self) -> tuple[str, str]:
        """What happened to which key."""
        return self.name, self.data["key"]


def parsed(block: str) -> Event | None:
    """Read what stands between two empty lines; `None` if that is no event."""
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, colon, value = line.partition(":")
        assert colon, block
        assert name not in fields, block
        fields[name] = value.removeprefix(" ")
    if "data" not in fields:
        assert fields == {"retry": "1000"}
        return None
    assert fields.keys() == {"event", "id", "data"}
    return Event(name=fields["event"], id=fields["id"], data=json.loads(fields["data"]))


class Watcher:
    """A request to watch, and what is answered."""

    def __init__(
        self, site: Site, query: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Ask for it as `async with` begins."""
        self._site = site
        self._scope = site.scope("GET", f"{site.v1}/watch{query}", headers=headers)
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._left = asyncio.Event()
        self._takes = asyncio.Event()
        self._takes.set()
        self._asked = False
        self._pending = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Ask, and wait for the head of the answer."""
        self._task = asyncio.create_task(self._site.app(self._scope, self._receive, self._send))
        start = await self._message()
        self.status = start["status"]
        self.headers = {k.decode(): v.decode() for k, v in start["headers"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        self._left.set()
        self._takes.set()
        async with asyncio.timeout(PATIENCE_S):
            await self._task

    async def _receive(self) -> Message:
        """Hand over the request, and then its end once we leave."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Take what is sent, unless nothing is taken now."""
        await self._takes.wait()
        self._messages.put_nowait(message)

    async def _message(self) -> Message:
        async with asyncio.timeout(PATIENCE_S):
            return await self._messages.get()

    def stall(self) -> None:
        """Take nothing any more."""
        self._takes.clear()

    def go_on(self) -> None:
        """Take what comes again."""
        self._takes.set()

    async def refusal(self) -> Reply:
        """Return the answer, which is no watch."""
        body = (await self._message())["body"]
        return Reply(status=self.status, headers=self.headers, body=body)

    async def event(self) -> Event:
        """Return the next event."""
        while True:
            block, ended, rest = self._pending.partition("\n\n")
            if not ended:
                message = await self._message()
                assert message.get("more_body"), "the watch ended"
                self._pending += message["body"].decode()
                continue
            self._pending = rest
            event = parsed(block)
            if event is not None:
                return event

    async def until(self, name: str) -> list[Event]:
        """Return the events up to one with a name, that one included."""
        events = [await self.event()]
        while events[-1].name != name:
            events.append(await self.event())
        return events

    async def ended(self) -> Event:
        """Return the last event, behind which nothing comes."""
        last = (await self.until("end"))[-1]
        assert self._pending == ""
        assert not (await self._message()).get("more_body", False)
        return last
