"""An event loop in which time passes only when nobody has anything to do, and a seed decides.

What is ready at the same moment runs in an order that the seed draws, so one seed is one history.
Every callback belongs to the *life* in whose context it was scheduled: one run of one process on
one machine. A life can be frozen, as SIGSTOP or a sleeping laptop would, and it can end. There are
no sockets, threads or real clocks here.
"""

import asyncio
import heapq
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CALLBACKS_MAX: Final = 50_000_000
"""More than this in one run, and something goes round in circles."""

TASKS_PRUNED_FROM: Final = 64
DRAIN_ROUNDS_MAX: Final = 50


class StuckError(Exception):
    """Nothing is ready, nothing is scheduled, and what is being waited for cannot come."""


class Life:
    """One run of one process: what it started lives and dies with it."""

    __slots__ = ("_prune_at", "alive", "context", "frozen", "name", "parked", "tasks")

    def __init__(self, name: str) -> None:
        """Begin. Tasks belong to it if they were started in a copy of its `context`."""
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: list[_Handle | _Timer] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context: Context = copy_context()
        self.context.run(LIFE.set, self)
        self._prune_at = TASKS_PRUNED_FROM

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task, and forget those that are done when there are too many."""
        self.tasks.append(task)
        if len(self.tasks) > self._prune_at:
            self.tasks = [task for task in self.tasks if not task.done()]
            self._prune_at = TASKS_PRUNED_FROM + 2 * len(self.tasks)


LIFE: ContextVar[Life | None] = ContextVar("LIFE", default=None)
"""Whose code is running."""


class _Handle(asyncio.Handle):
    """A callback, and the life that it belongs to."""

    __slots__ = ("life",)

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[object, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        context = copy_context() if context is None else context
        super().__init__(callback, args, loop, context)
        self.life = context.get(LIFE)

    def run(self) -> None:
        """Call it."""
        self._run()


class _Timer(asyncio.TimerHandle):
    """A callback for later, and the life that it belongs to."""

    __slots__ = ("life",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[object, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        context = copy_context() if context is None else context
        super().__init__(when, callback, args, loop, context)
        self.life = context.get(LIFE)

    def run(self) -> None:
        """Call it."""
        self._run()


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module."""

    def __init__(self, random: Random) -> None:
        """Begin at time 0, with `random` to draw the order of what is ready together."""
        super().__init__()
        self._random = random
        self._now = 0.0
        self._ready_now: list[_Handle | _Timer] = []
        self._later: list[tuple[float, int, _Timer]] = []
        self._scheduled_count = 0
        self._stop_asked = False
        self._frozen_lives = 0
        self._generators: dict[int, AsyncGenerator[Any, Any]] = {}
        self.callbacks = 0
        """How many were run."""

    # What asyncio asks of a loop.

    def time(self) -> float:
        """Return virtual seconds since the beginning."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon`, but in no order."""
        handle = _Handle(callback, args, self, context)
        self._ready_now.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Do as `call_soon` does: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_later`."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_at`."""
        timer = _Timer(when, callback, args, self, context)
        self._scheduled_count += 1
        heapq.heappush(self._later, (when, self._scheduled_count, timer))
        return timer

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """See `asyncio.loop.create_task`; the task belongs to the life of its context."""
        task = asyncio.Task(coro, loop=self, name=str(name or "task"), context=context)
        life = LIFE.get() if context is None else context.get(LIFE)
        if life is not None:
            life.adopt(task)
        return task

    def run_in_executor(
        self, executor: object, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Refuse.

        Raises:
            RuntimeError: Always: a thread would not be repeatable.
        """
        message = f"there are no threads under virtual time: {executor} {func} {args}"
        raise RuntimeError(message)

    def stop(self) -> None:
        """See `asyncio.loop.stop`."""
        self._stop_asked = True

    def is_running(self) -> bool:
        """See `asyncio.loop.is_running`."""
        return asyncio._get_running_loop() is self  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def run_forever(self) -> None:
        """Run until stopped.

        Raises:
            StuckError: Nothing more can happen.
        """
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generator_began, finalizer=self._generator_dropped)
        asyncio._set_running_loop(self)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        try:
            while not self._stop_asked:
                self._turn()
        finally:
            self._stop_asked = False
            asyncio._set_running_loop(None)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            sys.set_asyncgen_hooks(*hooks)

    def _turn(self) -> None:
        """Run what is ready; if nothing is, let time pass to what comes next."""
        later = self._later
        if not self._ready_now:
            while later and later[0][2].cancelled():
                heapq.heappop(later)
            if not later:
                raise StuckError
            self._now = max(self._now, later[0][0])
        while later and later[0][0] <= self._now:
            self._ready_now.append(heapq.heappop(later)[2])
        batch, self._ready_now = self._ready_now, []
        if len(batch) > 1:
            self._random.shuffle(batch)
        self.callbacks += len(batch)
        if self.callbacks > CALLBACKS_MAX:
            raise StuckError
        for handle in batch:
            if handle.cancelled():
                continue
            if self._frozen_lives and handle.life is not None and handle.life.frozen:
                handle.life.parked.append(handle)
                continue
            handle.run()

    def _generator_began(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[id(generator)] = generator

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.call_soon(self.create_task, generator.aclose())

    # Lives.

    def freeze(self, life: Life) -> None:
        """Stop a life in its tracks; what becomes ready for it waits."""
        if not life.frozen:
            life.frozen = True
            self._frozen_lives += 1

    def thaw(self, life: Life) -> None:
        """Let a frozen life go on."""
        if life.frozen:
            life.frozen = False
            self._frozen_lives -= 1
            self._ready_now += life.parked
            life.parked.clear()

    def end(self, life: Life) -> None:
        """End a life at whatever it is waiting for.

        Its tasks are cancelled so that nothing is left behind. What they do on the way out must
        have no effect: the network and the disks ask whether a life is `alive`.
        """
        life.alive = False
        self.thaw(life)
        for task in life.tasks:
            task.cancel()

    def wind_up(self) -> None:
        """Cancel every task that is left, and close."""
        for _ in range(DRAIN_ROUNDS_MAX):
            left = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left, timeout=1))
        self._generators.clear()
        self._ready_now.clear()
        self._later.clear()
        self.close()


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], random: Random) -> T:
    """Run `main` on a loop of its own, from time 0, and leave nothing behind."""
    loop = VirtualLoop(random)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.wind_up()
