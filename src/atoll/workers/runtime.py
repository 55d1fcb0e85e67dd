"""The process of workerd: found, started, and started again when what it runs has changed."""

import asyncio
import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from atoll.core.errors import ConfigError, UnavailableError
from atoll.workers.bundle import in_node_modules
from atoll.workers.config import SOCKET
from atoll.workers.logs import LOGGED_BYTES_MAX, pass_on

NAME: Final = "workerd"
CONFIG_NAME: Final = "worker.capnp"

LOOK_S: Final = 0.25
"""How often it is looked whether a file has changed."""
STOP_S: Final = 5.0
"""How long a stopped process may take to end."""
SAID_BYTES_MAX: Final = 65_536
"""The longest line that the process may say about itself."""

_DATE: Final = re.compile(r"\b(\d{4}-\d{2}-\d{2})\b")
_PACKAGES: Final = {
    ("Linux", "x86_64"): "linux-64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-64",
    ("Darwin", "arm64"): "darwin-arm64",
}


def find(folders: Sequence[Path], given: Path | None) -> Path:
    """Find the program.

    Args:
        folders: Where a project may have it in its `node_modules`, by their whole paths.
        given: Where somebody says that it is.

    Raises:
        ConfigError: It is nowhere.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise _missing(str(given), "there is no program of this name")
        return Path(found)
    package = _PACKAGES.get((platform.system(), platform.machine()))
    # What npm puts into .bin is a script for Node that starts the program; the program itself
    # is in the package of the platform, and needs no Node.
    inside = (f"@cloudflare/{NAME}-{package}/bin/{NAME}", f".bin/{NAME}")
    for folder in folders:
        for name in inside:
            found_there = in_node_modules(folder, name)
            if found_there is not None:
                return found_there
    found = shutil.which(NAME)
    if found is None:
        places = " or ".join(str(folder) for folder in dict.fromkeys(folders))
        raise _missing(NAME, f"it is neither on the PATH nor in the node_modules of {places}")
    return Path(found)


def _missing(given: str, why: str) -> ConfigError:
    return ConfigError(
        name=NAME,
        given=given,
        rule=f"{why}. workerd is what runs Workers, Cloudflare's own runtime as open source:"
        " `npm install workerd` puts it here, and --workerd or ATOLL_WORKERD names one that is"
        " elsewhere.",
        origin="in effect",
    )


async def date_of(program: Path) -> str:
    """Return the date of the runtime that a program is: it runs Workers as of up to that day.

    Raises:
        ConfigError: It is no workerd.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise _missing(str(program), f"it cannot be started: {error.strerror}") from error
    said, _ = await process.communicate()
    date = _DATE.search(said.decode(errors="replace"))
    if date is None:
        raise _missing(str(program), "asked for its version, it does not answer as workerd does")
    return date[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is to be run."""

    config: str
    sources: tuple[Path, ...]
    """A change of any of these calls for another."""


class _Told(msgspec.Struct):
    event: str
    socket: str = ""


class Runtime:
    """Runs one Worker for as long as it is wanted."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        listener: socket.socket,
        *,
        announce: Callable[[bool], None],
        complain: Callable[[str], None],
    ) -> None:
        """Run nothing yet.

        Args:
            program: workerd.
            folder: Where its configuration may be put; nobody else may read it.
            listener: Where the Worker answers. It stays open while one process takes the place of
                another, so that nobody is refused.
            announce: Told that the Worker answers, and whether it did before.
            complain: Told what is wrong with the Worker while a change of it is waited for.
        """
        self._program = program
        self._config = folder / CONFIG_NAME
        self._listener = listener
        self._announce = announce
        self._complain = complain
        self._stopping = asyncio.Event()
        self._answered = False

    def stop(self) -> None:
        """End it; `run` returns when that is done."""
        self._stopping.set()

    async def run(self, prepare: Callable[[], Awaitable[Prepared]]) -> None:
        """Run what `prepare` makes, and make it anew whenever one of its files has changed.

        Raises:
            UnavailableError: It has never answered. Later failures are told, and a change waited
                for.
        """
        prepared = await prepare()
        states = await asyncio.to_thread(_states, prepared.sources)
        while not self._stopping.is_set():
            ended = await self._run_until_changed(prepared.config, states)
            if self._stopping.is_set():
                return
            if ended is not None:
                if not self._answered:
                    raise UnavailableError(f"workerd ended with exit code {ended}; see above")
                self._complain(f"workerd ended with exit code {ended}; waiting for a change")
                await self._changed(states)
            made = await self._made_anew(prepare, states)
            if made is not None:
                prepared, states = made

    async def _made_anew(
        self, prepare: Callable[[], Awaitable[Prepared]], states: "_States"
    ) -> tuple[Prepared, "_States"] | None:
        """Make what is to be run next; what is wrong with a file is told until it is right."""
        while not self._stopping.is_set():
            # Looked at before they are read: a change that comes in between is one to come.
            states = await asyncio.to_thread(_states, states)
            try:
                prepared = await prepare()
            except ConfigError as error:
                self._complain(f"{error}; waiting for a change")
                await self._changed(states)
                continue
            found = await asyncio.to_thread(_states, prepared.sources)
            return prepared, {path: states.get(path, state) for path, state in found.items()}
        return None

    async def _run_until_changed(self, config: str, states: "_States") -> int | None:
        """Run one process; return its exit code if it ended by itself."""
        await asyncio.to_thread(_write, self._config, config)
        ours, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                "serve",
                "--verbose",  # Else what the Worker logs is not shown.
                f"--control-fd={theirs}",
                f"--socket-fd={SOCKET}={self._listener.fileno()}",
                self._config,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LOGGED_BYTES_MAX,
                pass_fds=[theirs, self._listener.fileno()],
                start_new_session=True,  # It may be a script that starts the program.
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        assert process.stdout is not None
        assert process.stderr is not None
        telling = [
            asyncio.create_task(pass_on(process.stdout, sys.stdout)),
            asyncio.create_task(pass_on(process.stderr, sys.stderr)),
        ]
        listening = asyncio.create_task(self._listen(ours))
        ended = asyncio.create_task(process.wait())
        changed = asyncio.create_task(self._changed(states))
        try:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            return process.returncode
        finally:
            changed.cancel()
            await _end(process, ended)
            listening.cancel()
            # What it said last is still to be read; its output ends with it.
            await asyncio.gather(*telling, listening, changed, return_exceptions=True)

    async def _listen(self, pipe: int) -> None:
        """Read what the process says about itself: that it listens."""
        said = asyncio.StreamReader(SAID_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(said), os.fdopen(pipe, "rb", buffering=0)
        )
        try:
            async for line in said:
                told = msgspec.json.decode(line, type=_Told)
                if told.event == "listen" and told.socket == SOCKET:
                    again, self._answered = self._answered, True
                    self._announce(again)
        finally:
            transport.close()

    async def _changed(self, states: "_States") -> None:
        """Wait until one of the files is not what it was, or the end is wanted."""
        while not self._stopping.is_set() and states == await asyncio.to_thread(_states, states):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)


async def _end(process: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    """End a process and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        await asyncio.wait({ended}, timeout=STOP_S)
        if ended.done():
            return


_States = dict[Path, tuple[int, int] | None]
"""What tells one state of each file from another; `None` for one that is missing."""


def _states(paths: Iterable[Path]) -> _States:
    states: _States = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            states[path] = None
        else:
            states[path] = stat.st_mtime_ns, stat.st_size
    return states


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
