"""The load generator: wrk, on a core of its own."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.process import BenchError

SCRIPT: Final = Path(__file__).with_suffix(".lua")
GRACE_SECONDS: Final = 30.0
RESULT: Final = "RESULT "


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What requests look like; `{key}` in path and body stands for a fresh key."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a server answered for a while."""

    requests: int
    duration_us: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
    errors: int

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return self.requests / (self.duration_us / 1e6)


def run(
    shape: Shape, *, url: str, key_prefix: str, clients: int, seconds: int, core: int | None
) -> Load:
    """Keep `clients` connections busy for a while.

    Raises:
        BenchError: wrk failed, or a request did.
    """
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    headers = [f"{name}: {value}" for name, value in shape.headers.items()]
    command = [
        *(*pinned, "wrk", "--threads", "1", "--connections", str(clients)),
        *("--duration", f"{seconds}s", "--timeout", "10s", "--script", str(SCRIPT), url, "--"),
        *(shape.method, shape.path, shape.body, key_prefix, *headers),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not found:
        raise BenchError(f"wrk failed:\n{done.stdout}{done.stderr}")
    load = Load(**json.loads(found[0].removeprefix(RESULT)))
    if load.errors or not load.requests:
        raise BenchError(f"{load.errors} of {load.requests} requests to {url} failed")
    return load
