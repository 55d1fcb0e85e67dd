"""A network that delays, reorders, loses and cuts, around any `Upstream`.

Calls travel by themselves: each has its own delays, and either leg may be lost, so that the effect
of a write can be there without its answer, or come long after its sender gave up. A session is one
connection: what it carries stays in order, and stops coming for good when the connection breaks,
which neither side need notice.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from random import Random
from typing import Final, Generic, Protocol, TypeVar, TypeVarTuple

from atoll.core.errors import AtollError
from atoll.core.location_errors import UnreachableError
from atoll.core.model import Batch, ListQuery, Page, Read, Reading, Written
from atoll.core.session import Changed, Downward, Echo, Hello, Upward
from atoll.simulator.loop import LIFE, Life, VirtualLoop
from atoll.simulator.weather import Traffic, Weather
from atoll.upstream import Upstream

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GIVE_UP_S: Final = 30.0
"""After this long without an answer a connection reports that it is broken."""

WINDOW_MESSAGES: Final = 64
"""A session carries this many unread messages; its sender waits beyond that."""

RESET_AFTER_S_MAX: Final = 3.0

_NOBODY: Final[Context] = copy_context()
"""What is on its way belongs to no life: it arrives whatever becomes of its sender."""


class LinkError(UnreachableError):
    """The connection failed, and not the node at its other end."""

    def __init__(self, *, origin: str, sent: bool) -> None:
        super().__init__(sent=sent)
        self.origin = origin


class Server(Protocol):
    """A node, as the network sees it."""

    name: str

    @property
    def life(self) -> Life | None:
        """Its present life; `None` while it is down."""
        ...

    @property
    def upstream(self) -> Upstream | None:
        """What its present life serves; `None` until it is ready to."""
        ...


class Network:
    """Who can reach whom, and how slowly."""

    def __init__(
        self,
        loop: VirtualLoop,
        random: Random,
        *,
        delay_s: Callable[[str, str], float],
        grain_s: float = 0.0,
    ) -> None:
        """Begin with good weather.

        Args:
            loop: Whose time passes while something is on its way.
            random: Draws delays and losses.
            delay_s: The least time from one node to another, in seconds.
            grain_s: Things arrive at multiples of this, so that many arrive together; 0 for not.
        """
        self.loop = loop
        self.weather = Weather()
        self.traffic = Traffic()
        self._random = random
        self._delay_s = delay_s
        self._grain_s = grain_s
        self._cuts: dict[frozenset[str], bool] = {}
        self._feeds_cut: set[frozenset[str]] = set()
        self._slow: dict[str, float] = {}
        self._servers: dict[str, Server] = {}
        self._sessions: list[_Session] = []
        self.calm: set[str] = set()
        """Nodes on whose ways nothing is lost or late: clients, who sit beside their place."""
        self.on_change: Callable[[str, Changed], None] | None = None
        """Told of each change that a node sends to a follower."""
        self.on_echo: Callable[[str, int | None], None] | None = None
        """Told of the central time in each echo when it reaches whoever follows."""

    def add(self, server: Server) -> None:
        """Make a node reachable."""
        self._servers[server.name] = server

    def link(self, origin: str, target: str) -> "Link":
        """Return the upstream `target` as the node `origin` reaches it."""
        return Link(self, origin, target)

    def cut(self, a: str, b: str, *, silent: bool) -> None:
        """Part two nodes. In silence nothing comes back; else connections are refused."""
        self._cuts[frozenset((a, b))] = silent
        self.break_sessions(a, b)

    def heal(self) -> None:
        """Join everybody, and let nobody be slow."""
        self._cuts.clear()
        self._feeds_cut.clear()
        self._slow.clear()
        self.weather = Weather()

    def join(self, a: str, b: str) -> None:
        """Undo a cut."""
        self._cuts.pop(frozenset((a, b)), None)

    def cut_feed(self, a: str, b: str) -> None:
        """Let no session live between two nodes; calls get through."""
        self._feeds_cut.add(frozenset((a, b)))
        self.break_sessions(a, b)

    def join_feed(self, a: str, b: str) -> None:
        """Undo that."""
        self._feeds_cut.discard(frozenset((a, b)))

    def carries_feed(self, a: str, b: str) -> bool:
        """Whether sessions can live between two nodes."""
        pair = frozenset((a, b))
        return pair not in self._cuts and pair not in self._feeds_cut

    def slow(self, name: str, factor: float) -> None:
        """Let everything from and to a node take longer; 1 for as usual."""
        self._slow[name] = factor

    def is_cut(self, a: str, b: str) -> bool:
        """Whether two nodes are parted."""
        return frozenset((a, b)) in self._cuts

    def break_sessions(self, a: str, b: str | None = None) -> None:
        """Break the connections between two nodes, or all of one."""
        for session in self._sessions:
            if a in session.ends and (b is None or b in session.ends):
                session.doom()
        self._sessions = [session for session in self._sessions if not session.doomed]

    def server(self, name: str) -> Server:
        """Return a node."""
        return self._servers[name]

    def leg_s(self, origin: str, target: str) -> float:
        """Draw how long a message takes."""
        draw = self._random.random
        delay_s = self._delay_s(origin, target) * (1 + draw() ** 3)
        if origin in self.calm or target in self.calm:
            return delay_s
        if self._slow:
            delay_s *= max(self._slow.get(origin, 1.0), self._slow.get(target, 1.0))
        if self.weather.spikes and draw() < self.weather.spikes:
            delay_s += 10 * delay_s + draw() ** 2 * 5
        return delay_s

    def when_s(self, delay_s: float) -> float:
        """Return when something arrives that takes so long: where time is coarse, with others."""
        at_s = self.loop.time() + delay_s
        return math.ceil(at_s / self._grain_s) * self._grain_s if self._grain_s else at_s

    def after(
        self,
        delay_s: float,
        callback: Callable[[*Ts], None],
        *args: *Ts,
        context: Context | None = None,
    ) -> None:
        """Let something arrive; in the context of who sent it, it would be frozen with them."""
        self.loop.call_at(self.when_s(delay_s), callback, *args, context=context or _NOBODY)

    def lost(self, origin: str, target: str) -> bool:
        """Draw whether a leg is lost."""
        if origin in self.calm or target in self.calm:
            return False
        return self.weather.loss > 0 and self._random.random() < self.weather.loss

    def chance(self, likely: float) -> bool:
        """Draw whether something happens."""
        return likely > 0 and self._random.random() < likely

    def failure_s(self, a: str, b: str) -> float:
        """Draw when the caller hears that a connection failed: soon, or when it gives up."""
        silent = self._cuts.get(frozenset((a, b)))
        if silent is None:
            silent = self._random.random() < 0.5  # noqa: PLR2004 - a fair coin
        if silent:
            return GIVE_UP_S
        return self._random.random() * RESET_AFTER_S_MAX if self._random.random() < 0.5 else 0.001  # noqa: PLR2004

    def opened(self, session: "_Session") -> None:
        """Count a session and be ready to break it."""
        self.traffic.sessions += 1
        self._sessions = [session for session in self._sessions if not session.over]
        self._sessions.append(session)


class Link:
    """See `Upstream`: another node, through the network."""

    def __init__(self, network: Network, origin: str, target: str) -> None:
        self._network = network
        self.origin = origin
        self.target = target
        self._flying: dict[tuple[str, str], int] = {}

    def flying(self, namespace: str, key: str) -> bool:
        """Whether a read of a key is on its way."""
        return self._flying.get((namespace, key), 0) > 0

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        key = (request.namespace, request.keys[0])
        flying = self._flying[key] = self._flying.get(key, 0) + 1
        if self.origin not in self._network.calm:
            traffic = self._network.traffic
            traffic.flights_most = max(traffic.flights_most, flying)
        try:
            return await self._call(lambda upstream: upstream.read(request))
        finally:
            self._flying[key] -= 1

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        return await self._call(lambda upstream: upstream.read_many(request))

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        return await self._call(lambda upstream: upstream.write(batch))

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`."""
        return await self._call(lambda upstream: upstream.list(query))

    async def _call(self, ask: Callable[[Upstream], Awaitable[T]]) -> T:
        life = LIFE.get()
        if life is not None and not life.alive:
            raise LinkError(origin=self.origin, sent=False)
        call = _Call(self._network, self.origin, self.target, ask)
        return await call.begin()

    async def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`.

        Raises:
            LinkError: The connection broke.
        """
        life = LIFE.get()
        if life is not None and not life.alive:
            raise LinkError(origin=self.origin, sent=False)
        session = _Session(self._network, self.origin, self.target)
        sending = asyncio.create_task(_pour(upward, session.up))
        session.begin(hello)
        try:
            while True:
                message = await session.down.get()
                if message is None:
                    if session.down.failed:
                        raise LinkError(origin=self.origin, sent=True)
                    return
                if isinstance(message, Echo) and self._network.on_echo is not None:
                    self._network.on_echo(self.origin, message.central_us)
                yield message
        finally:
            sending.cancel()
            session.leave()
            with contextlib.suppress(asyncio.CancelledError, AtollError):
                await sending


class _Call(Generic[T]):
    """One request on its way to a node, and its answer on the way back."""

    __slots__ = ("_answer", "_ask", "_network", "_origin", "_target", "_task")

    def __init__(
        self,
        network: Network,
        origin: str,
        target: str,
        ask: Callable[[Upstream], Awaitable[T]],
    ) -> None:
        self._network = network
        self._origin = origin
        self._target = target
        self._ask = ask
        self._answer: asyncio.Future[T] = network.loop.create_future()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> T:
        """Send it, and wait for the answer."""
        network = self._network
        network.traffic.calls += 1
        delay_s = network.leg_s(self._origin, self._target)
        if network.lost(self._origin, self._target):
            network.traffic.lost += 1
            self._fail()
        else:
            life = network.server(self._target).life
            context = _NOBODY if life is None else life.context
            network.after(delay_s, self._arrive, life, context=context)
        try:
            return await self._answer
        except asyncio.CancelledError:
            if self._task is not None and network.chance(network.weather.hangups):
                network.after(delay_s, self._hang_up)
            raise

    def _hang_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _fail(self) -> None:
        """Let the caller find out that nothing will come."""
        network = self._network
        after_s = network.failure_s(self._origin, self._target)
        network.after(after_s, self._refuse)

    def _refuse(self, sent: bool = True) -> None:  # noqa: FBT001, FBT002 - a callback
        if not self._answer.done():
            self._answer.set_exception(LinkError(origin=self._origin, sent=sent))

    def _arrive(self, life: Life | None) -> None:
        network = self._network
        server = network.server(self._target)
        if network.is_cut(self._origin, self._target):
            network.traffic.lost += 1
            self._fail()
            return
        upstream = server.upstream
        # A request to a process that has ended since does not reach the next one.
        if life is None or upstream is None or server.life is not life:
            network.traffic.refused += 1
            delay_s = network.leg_s(self._target, self._origin)
            network.after(delay_s, self._refuse, False)  # noqa: FBT003
            return
        if self._answer.done():
            network.traffic.late += 1
        self._task = network.loop.create_task(
            self._serve(upstream, life), context=life.context.copy()
        )

    async def _serve(self, upstream: Upstream, life: Life) -> None:
        network = self._network
        answer: tuple[T] | None = None
        error: Exception | None = None
        try:
            answer = (await self._ask(upstream),)
        except AtollError as failed:
            error = failed
        except asyncio.CancelledError:
            self._fail()
            return
        except Exception as failed:  # noqa: BLE001 - any other error is a bug, to be reported
            if life.alive:
                network.traffic.faults.append(f"{self._target}: {failed!r}")
            error = LinkError(origin=self._origin, sent=True)
        if (
            not life.alive
            or network.lost(self._origin, self._target)
            or network.is_cut(self._origin, self._target)
        ):
            network.traffic.lost += 1
            self._fail()
            return
        delay_s = network.leg_s(self._target, self._origin)
        network.after(delay_s, self._deliver, answer, error)

    def _deliver(self, answer: tuple[T] | None, error: Exception | None) -> None:
        if self._answer.done():
            return
        if answer is not None:
            self._answer.set_result(answer[0])
        elif error is not None:
            self._answer.set_exception(error)


class _Pipe(Generic[T]):
    """One direction of a session: in order, with a window."""

    __slots__ = (
        "_arrived",
        "_ended",
        "_last_s",
        "_network",
        "_origin",
        "_room",
        "_session",
        "_target",
        "_under_way",
        "_waiter",
        "failed",
    )

    def __init__(self, session: "_Session", origin: str, target: str) -> None:
        self._session = session
        self._network = session.network
        self._origin = origin
        self._target = target
        self._arrived: deque[T] = deque()
        self._under_way = 0
        self._last_s = 0.0
        self._ended = False
        self.failed = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def put(self, message: T) -> None:
        """Send, waiting while too much is unread."""
        while self._under_way + len(self._arrived) >= WINDOW_MESSAGES and not self._ended:
            self._room = self._network.loop.create_future()
            await self._room
        network = self._network
        session = self._session
        if session.doomed or self._ended:
            return
        carried = network.carries_feed(self._origin, self._target)
        if not carried or network.chance(network.weather.breaks):
            session.doom()
            return
        loop = network.loop
        self._last_s = max(
            self._last_s + 1e-6, network.when_s(network.leg_s(self._origin, self._target))
        )
        self._under_way += 1
        loop.call_at(self._last_s, self._arrive, message, context=_NOBODY)

    def _arrive(self, message: T) -> None:
        self._under_way -= 1
        if not self._session.doomed and not self._ended:
            self._arrived.append(message)
            self._wake()

    def end(self, *, failed: bool) -> None:
        """Let the reader know that nothing more comes."""
        if not self._ended:
            self._ended = True
            self.failed = failed
        self._wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> T | None:
        """Return the next message, `None` behind the last."""
        while not self._arrived:
            if self._ended:
                return None
            self._waiter = self._network.loop.create_future()
            await self._waiter
        message = self._arrived.popleft()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return message


class _Session:
    """A connection that carries `follow`."""

    def __init__(self, network: Network, origin: str, target: str) -> None:
        self.network = network
        self.ends = (origin, target)
        self.doomed = False
        self.over = False
        self.up: _Pipe[Upward] = _Pipe(self, origin, target)
        self.down: _Pipe[Downward] = _Pipe(self, target, origin)
        self._task: asyncio.Task[None] | None = None

    def begin(self, hello: Hello) -> None:
        """Knock."""
        network = self.network
        network.opened(self)
        origin, target = self.ends
        if network.lost(origin, target) or not network.carries_feed(origin, target):
            self.doom()
            return
        life = network.server(target).life
        context = _NOBODY if life is None else life.context
        network.after(network.leg_s(origin, target), self._arrive, life, hello, context=context)

    def _arrive(self, life: Life | None, hello: Hello) -> None:
        network = self.network
        server = network.server(self.ends[1])
        upstream = server.upstream
        if life is None or upstream is None or server.life is not life:
            self._end_both()
            return
        if not self.doomed and not self.over:
            serving = self._serve(upstream, life, hello)
            self._task = network.loop.create_task(serving, context=life.context.copy())

    async def _serve(self, upstream: Upstream, life: Life, hello: Hello) -> None:
        failed = True
        try:
            messages = upstream.follow(hello, self._upward())
            try:
                async for message in messages:
                    if isinstance(message, Changed) and self.network.on_change is not None:
                        self.network.on_change(self.ends[1], message)
                    await self.down.put(message)
            finally:
                await _close(messages)
            failed = False
        except (asyncio.CancelledError, AtollError):
            pass
        except Exception as error:  # noqa: BLE001 - any other error is a bug, to be reported
            if life.alive:
                self.network.traffic.faults.append(f"{self.ends[1]}, in a session: {error!r}")
        if life.alive and not self.doomed:
            delay_s = self.network.leg_s(*self.ends)
            self.network.after(delay_s, lambda: self.down.end(failed=failed), context=_NOBODY)
        else:
            self.doom()

    async def _upward(self) -> AsyncIterator[Upward]:
        while (message := await self.up.get()) is not None:
            yield message

    def doom(self) -> None:
        """Break: nothing more arrives, and each side finds out by itself, or gives up."""
        if self.doomed:
            return
        self.doomed = True
        self.network.traffic.broken += 1
        for pipe in (self.up, self.down):
            after_s = self.network.failure_s(*self.ends)
            self.network.after(after_s, self._end, pipe)

    def _end(self, pipe: "_Pipe[Upward] | _Pipe[Downward]") -> None:
        pipe.end(failed=True)
        if self.up.failed and self.down.failed:
            self.over = True

    def _end_both(self) -> None:
        self.up.end(failed=True)
        self.down.end(failed=True)
        self.over = True

    def leave(self) -> None:
        """Let go of the follower's end. A machine that dies does not say so."""
        self.down.end(failed=True)
        life = LIFE.get()
        if life is not None and not life.alive and self.network.chance(0.5):
            self.doom()
        if not self.doomed:
            delay_s = self.network.leg_s(*self.ends)
            self.network.after(delay_s, self._end_both)


async def _close(messages: AsyncIterator[Downward]) -> None:
    """Finish a session at the server's end, as a server does whose follower has gone."""
    assert isinstance(messages, AsyncGenerator), messages
    await messages.aclose()


async def _pour(source: AsyncIterator[Upward], pipe: _Pipe[Upward]) -> None:
    """Send what a follower says until it stops."""
    async for message in source:
        await pipe.put(message)
