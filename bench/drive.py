"""The generator of reads: `drive.c`, compiled here, on a core of its own.

It sends requests that were prepared beforehand and looks at every answer, speaks what memcached
and NATS speak beside HTTP, and has an open loop. It costs a core less than most servers do, which
it proves in every result: a generator that was busy all the time would have measured itself.
"""

import json
import random
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bench import machine
from bench.process import BenchError

SOURCE: Final = Path(__file__).with_suffix(".c")
PROGRAM: Final = machine.ROOT / ".cache" / "drive"
COMPILE_SECONDS_MAX: Final = 120.0
GRACE_SECONDS: Final = 60.0
FILL_SECONDS_MAX: Final = 900.0
GENERATOR_CORE: Final = 0
ANY_SIZE: Final = -1
ANY_STATUS: Final = 0
OK: Final = 200
MISSING: Final = 404
RECORD: Final = struct.Struct("<IIi")
SEED: Final = 11

Protocol = Literal["http", "memcached", "nats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """How a server answered for a while."""

    requests: int
    duration_us: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    errors: int
    body_bytes: int
    late: int
    """In an open loop: begun more than a millisecond after they were due, mostly for want of a
    free connection."""
    unsent: int
    """In an open loop: due and never begun, because the server did not keep up."""
    own_cpu_us: int
    complaint: str

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return self.requests / (self.duration_us / 1e6)

    @property
    def generator_busy(self) -> float:
        """The part of its core that the generator used."""
        return self.own_cpu_us / self.duration_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request and what its answer has to be."""

    raw: bytes
    status: int = OK
    size: int = ANY_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How requests are sent."""

    clients: int
    seconds: float = 0.0
    requests: int = 0
    """Instead of a time."""
    rate: float = 0.0
    """Requests due a second in an open loop; 0 closes it."""
    core: int | None = GENERATOR_CORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where requests go, and in which protocol."""

    port: int
    protocol: Protocol = "http"


@dataclass(slots=True)
class Offsets:
    """So that no two runs begin with the same requests."""

    _source: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311

    def next(self) -> int:
        """Return where a run begins."""
        return self._source.randrange(2**31)


OFFSETS: Final = Offsets()


def build(program: Path = PROGRAM) -> None:
    """Compile the generator, unless that was done since it was changed.

    Raises:
        BenchError: It cannot be compiled.
    """
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    program.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-o", str(program), str(SOURCE)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMPILE_SECONDS_MAX, check=False
    )
    if done.returncode:
        raise BenchError(f"the generator was not compiled:\n{done.stderr}")


def http(
    method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """Return an HTTP request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method in {"PUT", "POST"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def write(path: Path, asks: Iterable[Ask]) -> Path:
    """Write requests as the generator reads them."""
    with path.open("wb") as file:
        for ask in asks:
            file.write(RECORD.pack(len(ask.raw), ask.status, ask.size))
            file.write(ask.raw)
    return path


def shuffled(asks: Sequence[Ask]) -> list[Ask]:
    """Return requests in an order of chance, the same in every run."""
    mixed = list(asks)
    random.Random(SEED).shuffle(mixed)  # noqa: S311
    return mixed


def run(way: Way, asks: Path, loop: Loop, *, program: Path = PROGRAM) -> Driven:
    """Send requests for a while.

    Raises:
        BenchError: The generator failed, or an answer was not what it has to be.
    """
    pinned = [] if loop.core is None else ["taskset", "-c", str(loop.core)]
    command = [
        *(*pinned, str(program), str(way.port), way.protocol, str(loop.clients)),
        *(str(-loop.requests or loop.seconds), str(loop.rate), str(OFFSETS.next()), str(asks)),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=FILL_SECONDS_MAX if loop.requests else loop.seconds + GRACE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the generator failed: {done.stderr}")
    driven = Driven(**json.loads(done.stdout))
    if driven.errors:
        raise BenchError(f"{driven.errors} of {driven.requests} went wrong: {driven.complaint}")
    return driven
