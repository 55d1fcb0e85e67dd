"""Processes that the bench starts, what they cost, and their end."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.05
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
KIB: Final = 1024

CHILDREN_DEPTH_MAX: Final = 4
"""How deep a server's family is followed."""


Cores = int | str | None
"""One core, several as `taskset` takes them, or all."""


class BenchError(Exception):
    """The bench cannot measure: the sentence says what is wrong."""


class Process:
    """One process of ours, its children included, from start to end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        core: Cores = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            command: What to run.
            log: Takes what it prints.
            core: The cores it may use, by number, if not all of them.
            env: Added to this process's environment.
        """
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self.name = Path(command[0]).name
        self._log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        """Of the process itself, not of a child."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready` says so.

        Raises:
            BenchError: The process ended, or was not ready in time.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if not self.running:
                raise BenchError(f"{self.name} ended at once; it said:\n{self.output()}")
            if ready():
                return
            time.sleep(POLL_SECONDS)
        raise BenchError(f"{self.name} was not ready in {START_SECONDS_MAX} s:\n{self.output()}")

    def wait(self, *, seconds_max: float) -> None:
        """Wait for its own end.

        Raises:
            BenchError: It failed, or took too long (it is then ended).
        """
        try:
            status = self._popen.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.stop()
            raise BenchError(f"{self.name} took more than {seconds_max} s") from None
        if status != 0:
            raise BenchError(f"{self.name} ended with status {status}:\n{self.output()}")

    def output(self) -> str:
        """Return the end of what it printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it and wait; with force if it does not listen."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(STOP_SECONDS_MAX)

    def cpu_seconds(self) -> float:
        """Return the processor time used so far, by it and its children, the ended included."""
        return sum(map(_cpu_seconds, family(self.pid)))

    def memory(self) -> "Memory":
        """Return what it and its children hold now, and held at most."""
        return Memory.together([_memory(pid) for pid in family(self.pid)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident memory in bytes."""

    resident: int = 0
    own: int = 0
    """Without pages of files, which the system may drop at any time."""
    peak: int = 0
    """The largest `resident` so far; of several processes, the sum of their largest."""

    @classmethod
    def together(cls, parts: Sequence["Memory"]) -> "Memory":
        """Add up what several processes hold."""
        return cls(
            resident=sum(part.resident for part in parts),
            own=sum(part.own for part in parts),
            peak=sum(part.peak for part in parts),
        )


def family(pid: int, *, depth: int = 0) -> list[int]:
    """Return a process and those that it started, without the ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((thread / "children").read_text() for thread in threads).split()
    except OSError:
        return []
    if depth == CHILDREN_DEPTH_MAX:
        return [pid]
    return [pid, *(p for child in children for p in family(int(child), depth=depth + 1))]


def _cpu_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # Behind the name, which is in parentheses and may hold anything: utime, stime and the same
    # of children that were waited for are fields 14 to 17, counted from 1.
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND


def _memory(pid: int) -> Memory:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return Memory()
    found = {
        name: int(rest.split()[0]) * KIB
        for name, _, rest in (line.partition(":") for line in lines)
        if name in {"VmRSS", "VmHWM", "RssAnon"}
    }
    return Memory(
        resident=found.get("VmRSS", 0), own=found.get("RssAnon", 0), peak=found.get("VmHWM", 0)
    )


def ended_cpu_seconds() -> float:
    """Return the processor time of all children of this process that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class MemoryWatch:
    """Samples the memory of processes until it is left."""

    def __init__(self, processes: Mapping[str, Process], *, every_seconds: float = 0.2) -> None:
        self._processes = processes
        self._every = every_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: dict[str, list[Memory]] = {name: [] for name in processes}

    def _sample(self) -> None:
        while not self._done.wait(self._every):
            for name, process in self._processes.items():
                memory = process.memory()
                if memory.resident:
                    self.samples[name].append(memory)

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Sample while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Return whether somebody answers on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
