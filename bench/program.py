"""The program that `programs` starts: it reads keys one way and writes down how that went."""

import asyncio
import json
import random
import resource
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import lmdb

from bench.process import KIB, BenchError

SEED: Final = 13
WARM_READS: Final = 2000
SAMPLED: Final = 8
"""The time of one read of so many is kept."""
PERCENT: Final = 100
MAP_BYTES: Final = 2**30

Read = Callable[[str], str | bytes | None]


def main() -> None:
    """Read as the first file says, and write the second."""
    told: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    way: str = told["way"]
    prefix = "none" if "missing" in way else "item"
    keys = [f"{prefix}-{n:08}" for n in range(told["keys"])]
    random.Random(SEED).shuffle(keys)  # noqa: S311
    expected = None if prefix == "none" else told["value"]
    if "asyncio" in way:
        result = asyncio.run(_measure_async(told, keys, expected))
    else:
        result = _measure(_opened(way, told), keys, expected, seconds=told["seconds"])
    Path(sys.argv[2]).write_text(json.dumps(result))


def _opened(way: str, told: dict[str, Any]) -> Read:
    match way.partition(",")[0], way:
        case "redis", _:
            return _redis(told["redis_port"])
        case "sqlite", _:
            return _sqlite(Path(told["scratch"]) / "plain.sqlite", told)
        case "lmdb", _:
            return _lmdb(Path(told["scratch"]) / "plain.lmdb", told)
        case _, "atoll, over HTTP":
            return _atoll(told["url"], told, token=told["token"])
        case _:
            return _atoll(told["folder"], told, token=None)


def _connect(name: str) -> Any:  # noqa: ANN401  # an earlier state of Atoll has no such thing
    import atoll  # noqa: PLC0415  # only the ways that are Atoll's

    found = getattr(atoll, name, None)
    if found is None:
        raise BenchError(f"this Atoll has no atoll.{name}")
    return found


def _atoll(where: str, told: dict[str, Any], *, token: str | None) -> Read:
    get: Read = _connect("connect")(where, token=token).namespace(told["namespace"]).get
    return get


def _redis(port: int) -> Read:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reading = connection.makefile("rb")

    def read(key: str) -> bytes | None:
        connection.sendall(f"GET {key}\r\n".encode())
        size = int(reading.readline()[1:])
        return None if size < 0 else reading.read(size + 2)[:-2]

    return read


def _sqlite(path: Path, told: dict[str, Any]) -> Read:
    fresh = not path.exists()
    database = sqlite3.connect(path)
    if fresh:
        database.execute("CREATE TABLE pairs (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        rows = ((f"item-{n:08}", told["value"]) for n in range(told["keys"]))
        with database:
            database.executemany("INSERT INTO pairs VALUES (?, ?)", rows)

    def read(key: str) -> str | None:
        row = database.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    return read


def _lmdb(path: Path, told: dict[str, Any]) -> Read:
    fresh = not path.exists()
    opened = lmdb.open(str(path), subdir=False, map_size=MAP_BYTES, sync=False)
    if fresh:
        value = told["value"].encode()
        with opened.begin(write=True) as change:
            for n in range(told["keys"]):
                change.put(f"item-{n:08}".encode(), value)

    def read(key: str) -> bytes | None:
        with opened.begin() as look:
            return look.get(key.encode())

    return read


def _check(found: str | bytes | None, expected: str | None, key: str) -> None:
    text = found.decode() if isinstance(found, bytes) else found
    if text != expected:
        raise BenchError(f"{key} is {text!r}")


def _measure(
    read: Read, keys: list[str], expected: str | None, *, seconds: float
) -> dict[str, object]:
    for key in keys[:WARM_READS]:
        _check(read(key), expected, key)
    took: list[int] = []
    used = time.process_time()
    begun = time.perf_counter()
    reads = 0
    # Between two looks at the clock there are SAMPLED reads, of which the first is timed.
    while time.perf_counter() < begun + seconds:
        key = keys[reads % len(keys)]
        at = time.perf_counter_ns()
        read(key)
        took.append(time.perf_counter_ns() - at)
        for n in range(reads + 1, reads + SAMPLED):
            read(keys[n % len(keys)])
        reads += SAMPLED
    return _result(reads, time.perf_counter() - begun, time.process_time() - used, took)


async def _measure_async(
    told: dict[str, Any], keys: list[str], expected: str | None
) -> dict[str, object]:
    async with _connect("connect_async")(told["folder"]) as client:
        read: Callable[[str], Awaitable[str | None]] = client.namespace(told["namespace"]).get
        for key in keys[:WARM_READS]:
            _check(await read(key), expected, key)
        took: list[int] = []
        used = time.process_time()
        begun = time.perf_counter()
        reads = 0
        while time.perf_counter() < begun + told["seconds"]:
            key = keys[reads % len(keys)]
            at = time.perf_counter_ns()
            await read(key)
            took.append(time.perf_counter_ns() - at)
            for n in range(reads + 1, reads + SAMPLED):
                await read(keys[n % len(keys)])
            reads += SAMPLED
        return _result(reads, time.perf_counter() - begun, time.process_time() - used, took)


def _result(reads: int, seconds: float, used: float, took: list[int]) -> dict[str, object]:
    parts = quantiles(took, n=PERCENT)
    return {
        "reads": reads,
        "seconds": seconds,
        "p50_us": parts[PERCENT // 2 - 1] / 1000,
        "p99_us": parts[-1] / 1000,
        "cpu_us": used / reads * 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB,
    }


if __name__ == "__main__":
    main()
