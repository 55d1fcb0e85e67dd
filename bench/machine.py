"""Where it was measured, and on which commit."""

import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Final

import apsw

from bench.process import TICKS_PER_SECOND

ROOT: Final = Path(__file__).parents[1]
SYNC_ROUNDS: Final = 200
BLOCK: Final = bytes(4096)
CALM_SECONDS: Final = 1.0
CALM_CORES: Final = 0.15
"""So little of the machine in use for so long counts as calm."""
IDLE: Final = (3, 4)
"""Which of the numbers of /proc/stat are time spent on nothing, or on waiting for a disk."""


def commit() -> str:
    """Return the short hash of what is checked out, marked if the package differs from it."""
    head = _git("rev-parse", "--short", "HEAD")
    return f"{head}-changed" if _git("status", "--porcelain", "--", "src") else head


def facts(folder: Path) -> dict[str, str]:
    """Describe the machine.

    Args:
        folder: On the file system that the servers will use.
    """
    return {
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, file system {_file_system(folder)}",
        "one synchronised append of 4 KiB": f"{_sync_us(folder):.0f} µs (median)",
        "python": f"{platform.python_version()}, SQLite {apsw.sqlite_lib_version()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def busy_seconds() -> float:
    """Return the processor time that this machine has spent so far, whoever asked for it."""
    cpu = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    # user, nice, system, idle, waiting, interrupts, soft interrupts; guests are counted in user.
    return sum(int(ticks) for n, ticks in enumerate(cpu[:7]) if n not in IDLE) / TICKS_PER_SECOND


def wait_for_calm(seconds_max: float) -> None:
    """Return once hardly anybody else computes here, or when it has taken long enough."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(CALM_SECONDS)
        if busy_seconds() - before < CALM_CORES * CALM_SECONDS:
            return


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or ("unknown" if arguments[0] == "rev-parse" else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _file_system(folder: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, at, kind, *_ = line.split()
        if folder.is_relative_to(at) and len(at) > len(best[0]):
            best = (at, kind)
    return best[1]


def _sync_us(folder: Path) -> float:
    took: list[int] = []
    path = folder / "sync"
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNC_ROUNDS):
            begun = time.perf_counter_ns()
            file.write(BLOCK)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter_ns() - begun)
    path.unlink()
    return median(took) / 1000
