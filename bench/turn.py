"""One server's turn: how it answered for a while, what that cost it, who else computed."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import drive, machine
from bench.drive import Driven, Loop
from bench.holders import Holder
from bench.process import ended_cpu_seconds
from bench.report import shown

WARM_PART: Final = 0.2
"""How long a warm-up is, as a part of what it warms for."""
HEADINGS: Final = ("p50 ms", "p99 ms", "server CPU µs", "generator busy", "cores busy otherwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One server's turn in one round."""

    driven: Driven
    cpu_us: float
    """Processor time of the server per request, in microseconds."""
    others: float
    """How many cores were busy with something else meanwhile: with much of it, do not quote."""


def take(holder: Holder, asks: Path, loop: Loop) -> Turn:
    """Send requests for a while and see what they cost.

    Raises:
        BenchError: One was not answered as it has to be.
    """
    before, ended, busy = holder.cpu_seconds(), ended_cpu_seconds(), machine.busy_seconds()
    driven = drive.run(holder.way, asks, loop)
    used = holder.cpu_seconds() - before
    others = machine.busy_seconds() - busy - used - (ended_cpu_seconds() - ended)
    return Turn(
        driven=driven,
        cpu_us=used / driven.requests * 1e6,
        others=max(0.0, others / (driven.duration_us / 1e6)),
    )


def warmed(holder: Holder, asks: Path, loop: Loop) -> Turn:
    """Take a turn behind a short one that does not count."""
    short = Loop(clients=loop.clients, seconds=loop.seconds * WARM_PART, rate=loop.rate)
    drive.run(holder.way, asks, short)
    return take(holder, asks, loop)


def by_cpu(ours: list[Turn], theirs: list[Turn]) -> str:
    """Return how many requests of ours cost what one of theirs does, were cores all that counts."""
    return shown([their.cpu_us / our.cpu_us for our, their in zip(ours, theirs, strict=True)])


def cells(turns: list[Turn]) -> list[str]:
    """Return what stands under `HEADINGS`."""
    return [
        f"{median([turn.driven.p50_us for turn in turns]) / 1000:.3f}",
        f"{median([turn.driven.p99_us for turn in turns]) / 1000:.3f}",
        shown([turn.cpu_us for turn in turns]),
        f"{median([turn.driven.generator_busy for turn in turns]):.2f}",
        f"{median([turn.others for turn in turns]):.2f}",
    ]
