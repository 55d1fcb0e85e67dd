"""The processes of one location: started, watched, started again, and replaced on SIGHUP.

Each child has a pipe to us. It writes a byte when it answers requests and one each second after
that; a child that is silent for long is killed and started anew. When we are gone the pipe breaks,
and the child ends too. The listening socket is ours and inherited, so no connection is refused
while a child is replaced.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from atoll.clock import Clock

ALIVE_S: Final = 1.0
"""Between two signs of life."""
SILENT_S: Final = 10.0
"""After so long without one a process is taken for stuck."""
START_S: Final = 60.0
"""How long a process may take until it answers."""
STOP_MARGIN_S: Final = 5.0
"""How much longer than requests may take to finish a process may take to end."""
RESTART_S: Final = 0.2
RESTART_S_MAX: Final = 10.0
SIGNS_BYTES_MAX: Final = 4096

_MAIN: Final = "from atoll.cli import main; main()"

log = structlog.stdlib.get_logger()


def sign_of_life(pipe: int) -> None:
    """Tell the supervisor that this process answers.

    Raises:
        OSError: The supervisor has gone.
    """
    with contextlib.suppress(BlockingIOError):  # It has not read for long; it will find enough.
        os.write(pipe, b".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one child is."""

    name: str
    arguments: Sequence[str]
    """Of the command line."""
    listener: socket.socket | None = None
    """What it listens on, if that is shared."""
    is_single: bool = False
    """Whether there may be only one at a time."""

    def command(self, pipe: int) -> list[str]:
        """Return the command that starts it."""
        listening = () if self.listener is None else ("--listen-fd", str(self.listener.fileno()))
        signs = ("--alive-fd", str(pipe))
        return [sys.executable, "-c", _MAIN, *self.arguments, *listening, *signs]


class _Child:
    """One process."""

    def __init__(self, role: Role, process: asyncio.subprocess.Process, pipe: int) -> None:
        self.role = role
        self.process = process
        self.retired = False
        """Whether it was told to end."""
        self.ready = asyncio.Event()
        self.life = asyncio.create_task(self._watch(pipe))
        """Done when it has ended."""

    def retire(self) -> None:
        """Let it finish what it has begun, and end."""
        self.retired = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def _watch(self, pipe: int) -> None:
        """Read its signs of life until it ends; end it if they stop."""
        signs = asyncio.StreamReader(SIGNS_BYTES_MAX)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(signs), os.fdopen(pipe, "rb", buffering=0)
        )
        try:
            while True:
                silence_s = SILENT_S if self.ready.is_set() else START_S
                async with asyncio.timeout(silence_s):
                    if not await signs.read(SIGNS_BYTES_MAX):
                        break
                self.ready.set()
        except TimeoutError:
            log.warning("process_silent", role=self.role.name, pid=self.process.pid)
            self._signal(signal.SIGKILL)
        finally:
            transport.close()
        await self.process.wait()

    async def end(self, within_s: float) -> None:
        """Retire it and wait; end it at once if that takes too long."""
        self.retire()
        await asyncio.wait({self.life}, timeout=within_s)
        if not self.life.done():
            log.warning("process_killed", role=self.role.name, pid=self.process.pid)
            self._signal(signal.SIGKILL)
            await asyncio.wait({self.life})


class Supervisor:
    """Keeps one child for each role."""

    def __init__(self, roles: Sequence[Role], *, clock: Clock, stop_s: float) -> None:
        """Start nothing yet.

        Args:
            roles: What there is to be, in the order in which it is started; stopped is backwards.
            clock: What pauses are timed by.
            stop_s: How long requests may take to finish.
        """
        self._roles = tuple(roles)
        self._clock = clock
        self._end_s = stop_s + STOP_MARGIN_S
        self._children: dict[str, _Child] = {}
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()

    def stop(self) -> None:
        """End everything; `run` returns when that is done."""
        self._stopping.set()

    async def run(self, announce: Callable[[], None]) -> None:
        """Start everything and keep it running until `stop`.

        Args:
            announce: Called once all children answer.
        """
        slots = [asyncio.create_task(self._begin(role)) for role in self._roles]
        stopping = asyncio.create_task(self._stopping.wait())
        announcing = asyncio.create_task(self._announce(announce))
        try:
            await asyncio.wait({stopping, *slots}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            for task in (stopping, announcing, *slots):
                task.cancel()
            await asyncio.gather(stopping, announcing, *slots, return_exceptions=True)
            for role in reversed(self._roles):
                child = self._children.get(role.name)
                if child is not None:
                    await child.end(self._end_s)

    async def reload(self) -> None:
        """Replace every child by a new one, one after the other."""
        async with self._reloading:
            for role in self._roles:
                before = self._children[role.name]
                if role.is_single:
                    await before.end(self._end_s)
                else:
                    self._children[role.name] = await self._spawned(role)
                await self._ready(role)
                if not role.is_single:
                    await before.end(self._end_s)
            log.info("processes_replaced", count=len(self._roles))

    async def _announce(self, announce: Callable[[], None]) -> None:
        for role in self._roles:
            await self._ready(role)
        announce()

    async def _ready(self, role: Role) -> None:
        """Wait until whoever has the role answers."""
        while True:
            child = self._children.get(role.name)
            if child is None or child.life.done():
                await self._clock.sleep(RESTART_S)
                continue
            answering = asyncio.create_task(child.ready.wait())
            await asyncio.wait({answering, child.life}, return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            if child.ready.is_set():
                return

    async def _begin(self, role: Role) -> None:
        """Fill a role, once those that there is only one of are filled: the others need them."""
        if not role.is_single:
            for needed in self._roles:
                if needed.is_single:
                    await self._ready(needed)
        await self._keep(role)

    async def _keep(self, role: Role) -> None:
        """Have somebody in the role, always."""
        pause_s = RESTART_S
        while True:
            child = self._children[role.name] = await self._spawned(role)
            while True:
                await asyncio.wait({child.life})
                current = self._children[role.name]
                if current is child:
                    break
                child = current  # It was replaced.
            if child.ready.is_set():
                pause_s = RESTART_S
            if not child.retired:
                log.warning("process_ended", role=role.name, code=child.process.returncode)
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, RESTART_S_MAX)

    async def _spawned(self, role: Role) -> _Child:
        ours, theirs = os.pipe()
        try:
            os.set_blocking(theirs, False)
            inherited = [theirs]
            if role.listener is not None:
                inherited.append(role.listener.fileno())
            process = await asyncio.create_subprocess_exec(
                *role.command(theirs),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,  # A Ctrl-C is for us; we tell the children.
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return _Child(role, process, ours)
