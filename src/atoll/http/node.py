"""What the faces of one node share. The composition root makes it, `create_app` serves it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CollectorRegistry

from atoll.accounts import Accounts
from atoll.clock import Clock
from atoll.core.limits import Limits
from atoll.http.dashboard.sessions import Console
from atoll.http.exchange import Answer, Request
from atoll.http.metrics import Readers
from atoll.http.peer import Admission
from atoll.location.quick import Near
from atoll.metering import Metering
from atoll.nodes import Nodes
from atoll.oversight import Oversight
from atoll.principal import Principal
from atoll.upstream import Upstream
from atoll.usage.meter import Meter


class Queries(Protocol):
    """Answers queries about what was done and stored."""

    async def answer(self, body: bytes, principal: Principal) -> bytes:
        """Answer a request's body with a response's.

        Raises:
            BodyInvalidError: It is no request.
        """
        ...


WATCHES_MAX: Final = 500
"""Each change wakes every watch of a process, so more would hold up its other work."""


class Inside(Protocol):
    """Who can tell; the paths and methods were checked."""

    async def status(self, request: Request) -> Answer:
        """Tell how the location is."""
        ...

    async def journal(self, request: Request) -> Answer:
        """List what is in the journal."""
        ...

    async def refused(self, request: Request) -> Answer:
        """Hand out what was refused."""
        ...

    async def discard(self, request: Request) -> Answer:
        """Let go of the refused entry whose number is in `request.key`."""
        ...

    async def metrics(self) -> bytes:
        """Return the metrics of the whole location."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as its faces see it."""

    upstream: Upstream
    accounts: Accounts
    limits: Limits
    clock: Clock
    name: str
    """What `Cache-Status` calls this node: `central`, or a location's name."""
    spool_dir: Path
    """Where bodies that are too large for memory wait; it exists."""
    ready: Callable[[], bool]
    """Whether `/readyz` says yes."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """Where metrics are counted and read; others may add theirs."""
    peers: Admission | None = None
    """Which nodes may read through this one; `None` for none."""
    nodes: Nodes | None = None
    """The credentials of nodes, where they are looked after: at central."""
    timer_us: Callable[[], int] | None = None
    """Tells microseconds for durations, where `clock` does more than that; else the clock does."""
    near: Near | None = None
    """The location's cache as this process sees it, where plain reads may be answered from it."""
    oversight: Oversight | None = None
    """The locations, where they are looked after: at central."""
    inside: Inside | None = None
    """What tells of this location from the inside; `None` at central."""
    readers: Readers | None = None
    """At a keeper: what its readers have counted of requests."""
    is_private: bool = False
    """Whether it serves readers and programs of its own machine alone: a keeper's socket."""
    console: Console | None = None
    """What the dashboard needs, where there is one: at central."""
    watches_max: int = WATCHES_MAX
    """How many watches may be open at this process."""
    metering: Metering | None = None
    """What was used by all, where it is added up: at central."""
    analytics: Queries | None = None
    """Answers GraphQL: at central."""
    meter: Meter | None = None
    """Where it counts what users do; `None` to count nothing."""
    access_log: bool = True
    """Whether every request leaves a line in the log."""
