"""A deployment of real processes with ways between them that a test makes worse.

central  <-  LHR (a supervisor, a keeper, two readers)
<-  IAD (one process)  <-  SIN (one process)
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from atoll.clock import SystemClock
from atoll.serve.links import Link
from tests.support.server import ATOLL, STOP_S_MAX, Server, environment, log_of, started

LOOK_S: Final = 0.02
LOOKS_MAX: Final = 1000
SETTINGS: Final = {"limits_expiration_ahead_s_min": "0", "access_log": "false"}


async def until(so: Callable[[], bool], what: str) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It takes far too long.
    """
    for _ in range(LOOKS_MAX):
        if so():
            return
        await SystemClock().sleep(LOOK_S)
    raise AssertionError(what)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def children_of(process: int) -> dict[int, str]:
    """Return the processes that a process started, and how."""
    shown = subprocess.check_output(["/bin/ps", "-ww", "-eo", "pid=,ppid=,args="], text=True)
    rows = (line.split(None, 2) for line in shown.splitlines())
    return {int(pid): args for pid, parent, args in rows if int(parent) == process}


@dataclass(slots=True, kw_only=True)
class Site:
    """One location: its folder, its process, and the way to what it reads through."""

    name: str
    folder: Path
    link: Link
    upstream: str
    credential: str
    processes: int = 1
    settings: dict[str, str] = field(default_factory=dict[str, str])
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, without waiting for it."""
        given = {
            "upstream": self.upstream,
            "node_credential": self.credential,
            "processes": str(self.processes),
            "port": str(self.port),
            **SETTINGS,
            **self.settings,
        }
        with self.folder.with_name(f"{self.folder.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [ATOLL, "location", self.name],
                env=environment(self.folder, **given),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send its first process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def killed(self) -> None:
        """Kill its first process; a child ends when it notices."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        await asyncio.to_thread(self.process.wait)

    async def part(self, name: str) -> int:
        """Return one of its processes, once there is one of that part."""
        assert self.process is not None
        for _ in range(LOOKS_MAX):
            for pid, args in (await asyncio.to_thread(children_of, self.process.pid)).items():
                if f"--part {name}" in args:
                    return pid
        raise AssertionError(f"{self.name} has no {name}")

    async def answers(self) -> None:
        """Wait until it answers."""

        def listens() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, log_of(self.folder)
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        await until(listens, f"{self.name} does not answer")

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
            self.process.wait(STOP_S_MAX)


@dataclass(slots=True, kw_only=True)
class Deployment:
    """Central and its locations."""

    data: Path
    port: int
    server: Server
    sites: dict[str, Site]

    async def restart_central(self) -> None:
        """Start central again where it was."""
        self.server = await asyncio.to_thread(
            lambda: started(self.data, port=str(self.port), **SETTINGS)
        )

    async def kill_central(self) -> None:
        """Kill it."""
        await asyncio.to_thread(self.server.stop, signal.SIGKILL)

    @property
    def errors(self) -> list[str]:
        """What any of them has logged as an error."""
        folders = [self.data, *(site.folder for site in self.sites.values())]
        return [
            line
            for folder in folders
            for line in log_of(folder).splitlines()
            if '"level":"error"' in line
        ]


def command(data: Path, *args: str) -> str:
    """Run a command beside central."""
    return subprocess.run(
        [ATOLL, *args],
        env=environment(data),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=STOP_S_MAX,
        check=True,
    ).stdout


@asynccontextmanager
async def deployed(
    folder: Path, names: tuple[str, ...] = ("LHR", "IAD", "SIN"), **settings: str
) -> AsyncGenerator[Deployment]:
    """Run those of the locations that are named; proxies run on the loop of the caller.

    Args:
        folder: Where everything is.
        names: The locations.
        **settings: Of the locations.
    """
    data, port = folder / "central", free_port()
    server = await asyncio.to_thread(lambda: started(data, port=str(port), **SETTINGS))
    deployment = Deployment(data=data, port=port, server=server, sites={})
    async with AsyncExitStack() as stack:
        stack.callback(lambda: deployment.server.stop())  # noqa: PLW0108 - there may be another by then
        for name in names:
            told = await asyncio.to_thread(command, data, "node", "create", name, "--json")
            above = deployment.sites["IAD"].port if name == "SIN" else port
            link = Link(name, host="127.0.0.1", port=above)
            near = await stack.enter_async_context(link.opened())
            site = Site(
                name=name,
                folder=folder / name,
                link=link,
                upstream=f"http://127.0.0.1:{near}",
                credential=str(json.loads(told)["credential"]),
                processes=2 if name == "LHR" else 1,
                settings=settings,
            )
            deployment.sites[name] = site
            site.start()
            stack.callback(site.stop)
            await site.answers()
        yield deployment


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that a test has started by way of another."""
    os.kill(pid, number)


def host_and_port(url: str) -> tuple[str, int]:
    """Take a URL apart."""
    at = urlsplit(url)
    assert at.hostname is not None
    assert at.port is not None
    return at.hostname, at.port
