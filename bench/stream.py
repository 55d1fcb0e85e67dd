"""One gigabyte through `atoll import` and back through `atoll export`, watching memory."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

from bench import atoll
from bench.plan import Plan
from bench.process import BenchError, Memory, MemoryWatch, Process, ended_cpu_seconds
from bench.report import Part, Table, Target, mebibytes

BYTES: Final = 10**9
BYTES_QUICK: Final = 10**8
VALUE_BYTES: Final = (288, 16_384, 2**20)
"""A third of the bytes is in values of each size."""
SEED: Final = 20_260
COMMAND_SECONDS_MAX: Final = 1200.0
GROWTH_MAX: Final = 1.15
MEGABYTE: Final = 10**6
SHOWN_SAMPLES: Final = 10

HOW: Final = (
    "A file of wrangler's bulk objects, one a line, a third of its bytes in values of"
    f" {VALUE_BYTES[0]} bytes, of {VALUE_BYTES[1] // 1024} KiB and of 1 MiB each, goes in through"
    " `atoll import` and comes out through `atoll export`; the two files are compared pair by"
    " pair. Resident memory is sampled five times a second, mapped files included. It is flat if"
    f" its peak in the second half of the run is at most {GROWTH_MAX:g} times that in the first."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One direction."""

    seconds: float
    cpu_server: float
    cpu_command: float
    server: Sequence[Memory]
    command: Sequence[Memory]


def measure(plan: Plan, folder: Path) -> Part:
    """Import, export, compare.

    Raises:
        BenchError: What came out is not what went in, or a command failed.
    """
    size_bytes = BYTES_QUICK if plan.quick else BYTES
    there, back = folder / "there.ndjson", folder / "back.ndjson"
    pairs = write_pairs(there, size_bytes)
    plan.say(f"wrote {pairs:,} pairs, {there.stat().st_size / MEGABYTE:,.0f} MB")
    legs: dict[str, Leg] = {}
    with atoll.running(folder / "data") as server:
        for name, file in (("import", there), ("export", back)):
            legs[name] = _leg(server, name, file)
            rate = size_bytes / MEGABYTE / legs[name].seconds
            plan.say(f"{name}: {legs[name].seconds:.1f} s, {rate:.1f} MB/s")
    compare(there, back)
    plan.say("what came out is what went in")
    return _part(legs, pairs=pairs, size_bytes=size_bytes)


def _leg(server: atoll.Atoll, name: str, file: Path) -> Leg:
    cpu_before, ended_before = server.process.cpu_seconds(), ended_cpu_seconds()
    begun = time.perf_counter()
    command = Process(
        [str(atoll.PROGRAM), name, server.namespace, str(file)],
        log=file.with_suffix(".log"),
        env={"ATOLL_DATA": str(server.data)},
    )
    watch = MemoryWatch({"server": server.process, "command": command})
    try:
        with watch.watching():
            command.wait(seconds_max=COMMAND_SECONDS_MAX)
            seconds = time.perf_counter() - begun
    finally:
        command.stop()
    return Leg(
        seconds=seconds,
        cpu_server=server.process.cpu_seconds() - cpu_before,
        cpu_command=ended_cpu_seconds() - ended_before,
        server=watch.samples["server"],
        command=watch.samples["command"],
    )


def write_pairs(path: Path, size_bytes: int) -> int:
    """Write pairs in the order of their keys until a file is as large as wanted.

    Returns:
        How many pairs there are.
    """
    source = random.Random(SEED)  # noqa: S311  # the same bytes in every run
    share = dict.fromkeys(VALUE_BYTES, 0)
    written = pairs = 0
    with path.open("w") as file:
        while written < size_bytes:
            # Whichever size is behind is next, so that every stretch of the file is alike.
            size = min(VALUE_BYTES, key=lambda each: share[each])
            share[size] += size
            value = source.randbytes(size // 2).hex()
            written += file.write(f'{{"key":"pair/{pairs:010}","value":"{value}"}}\n')
            pairs += 1
    return pairs


def compare(there: Path, back: Path) -> None:
    """See that two files hold the same pairs in the same order.

    Raises:
        BenchError: They do not.
    """
    for number, (given, got) in enumerate(zip_longest(_pairs(there), _pairs(back)), start=1):
        if given != got:
            raise BenchError(f"pair {number} of the export is not what was imported")


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    with path.open() as file:
        for line in file:
            pair: dict[str, str] = json.loads(line)
            yield pair["key"], pair["value"]


def growth(samples: Sequence[Memory]) -> float:
    """Return the peak in the second half of a run over that in the first."""
    half = len(samples) // 2
    if not half:
        raise BenchError("the run was too short to sample its memory")
    peaks = [max(memory.resident for memory in part) for part in (samples[:half], samples[half:])]
    return peaks[1] / peaks[0]


def _part(legs: Mapping[str, Leg], *, pairs: int, size_bytes: int) -> Part:
    megabytes = size_bytes / MEGABYTE
    watched = [
        (f"{name}, {who}", samples)
        for name, leg in legs.items()
        for who, samples in (("server", leg.server), ("command", leg.command))
    ]
    return Part(
        name="stream",
        title=f"{megabytes:,.0f} MB imported and exported ({pairs:,} pairs)",
        how=HOW,
        targets=[
            Target(what=f"{label}: growth of memory", measured=growth(samples), high=GROWTH_MAX)
            for label, samples in watched
        ],
        tables=[
            Table(
                title="Speed and cost",
                headings=["", "seconds", "MB/s", "pairs/s", "server CPU s", "command CPU s"],
                rows=[
                    [
                        name,
                        f"{leg.seconds:.1f}",
                        f"{megabytes / leg.seconds:.1f}",
                        f"{pairs / leg.seconds:,.0f}",
                        f"{leg.cpu_server:.1f}",
                        f"{leg.cpu_command:.1f}",
                    ]
                    for name, leg in legs.items()
                ],
            ),
            Table(
                title="Resident memory at each tenth of the run, and its peak",
                headings=["", *(f"{10 * (n + 1)} %" for n in range(SHOWN_SAMPLES)), "peak"],
                rows=[
                    [label, *map(mebibytes, tenths(samples)), mebibytes(highest(samples))]
                    for label, samples in watched
                ],
            ),
        ],
        rounds={
            label: [{"resident": memory.resident, "own": memory.own} for memory in samples]
            for label, samples in watched
        },
    )


def tenths(samples: Sequence[Memory]) -> list[int]:
    """Return the resident memory at ten moments of a run, the last at its end."""
    last = len(samples) - 1
    return [samples[last * (n + 1) // SHOWN_SAMPLES].resident for n in range(SHOWN_SAMPLES)]


def highest(samples: Sequence[Memory]) -> int:
    """Return the largest resident memory of a run."""
    return max(memory.resident for memory in samples)
