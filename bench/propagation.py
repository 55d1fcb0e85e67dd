"""How long a change takes to be seen at the other locations, in bare round trips and one fsync.

Central and three locations run as `atoll dev` starts them. A value is put at one location and asked
for at the others until they show it. The yardstick is the least that any design can do: the same
bytes sent over loopback and back, once, and one synchronised append of them.
"""

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from bench import atoll
from bench.plan import Plan
from bench.process import BenchError
from bench.report import Part, Table, Target, shown

LOCATIONS: Final = ("LHR", "IAD", "SIN")
VALUE_BYTES: Final = 288
CHANGES: Final = 400
CHANGES_QUICK: Final = 60
BARE_ROUNDS: Final = 400
RATIO_MAX: Final = 10.0
SECONDS_MAX: Final = 1.0
LOOK_SECONDS: Final = 0.0002
LOOK_SECONDS_MAX: Final = 30.0
MS: Final = 1000

HOW: Final = (
    "A value is put at a location, each in turn; once that is acknowledged the two others are asked"
    " for it on keep-alive connections, again and again, until they show it. Counted is the time"
    " from before the put was sent until the slower of the two has shown it. The bare time is that"
    " of one loopback round"
    f" trip of the same {VALUE_BYTES} bytes between two processes, and one synchronised append of"
    " them. Who looks computes as well, on the same cores as everybody else."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change, in seconds from before it was sent."""

    acknowledged: float
    seen: float
    """By the slower of the other locations."""


class _Reader:
    """A keep-alive connection to one node."""

    def __init__(self, url: str, server: atoll.Atoll) -> None:
        at = urlsplit(url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30.0)
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._path = f"/v1/namespaces/{server.namespace}/values/"
        self._headers = {"Authorization": f"Bearer {server.token}"}

    def get(self, key: str) -> bytes:
        """Read a key, whatever the answer is."""
        return self._ask("GET", key, None)[1]

    def put(self, key: str, value: bytes) -> None:
        """Write a key.

        Raises:
            BenchError: It was not acknowledged by central.
        """
        status, body = self._ask("PUT", key, value)
        if status != http.client.OK:
            raise BenchError(f"a put was answered {status}: {body[:200]!r}")

    def _ask(self, method: str, key: str, value: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, self._path + key, body=value, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def await_value(self, key: str, value: bytes) -> float:
        """Read a key until it is `value`; return when that was.

        Raises:
            BenchError: It never is.
        """
        deadline = time.perf_counter() + LOOK_SECONDS_MAX
        while time.perf_counter() < deadline:
            if self.get(key) == value:
                return time.perf_counter()
            time.sleep(LOOK_SECONDS)
        raise BenchError(f"{key} did not arrive in {LOOK_SECONDS_MAX} s")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def measure(plan: Plan, folder: Path) -> Part:
    """Put at each location in turn, and look at the others.

    Raises:
        BenchError: A change did not arrive.
    """
    count = CHANGES_QUICK if plan.quick else CHANGES
    changes: list[list[Change]] = []
    bare: list[float] = []
    direct: list[float] = []
    with atoll.running(
        folder / "data", settings=atoll.QUIET, locations=",".join(LOCATIONS)
    ) as server:
        urls: dict[str, str] = json.loads((server.data / "dev.json").read_text())["locations"]
        with contextlib.ExitStack() as stack:
            readers = {name: _Reader(url, server) for name, url in urls.items()}
            central = _Reader(server.url, server)
            for reader in (central, *readers.values()):
                stack.callback(reader.close)
            pool = stack.enter_context(ThreadPoolExecutor(len(readers)))
            _changes(readers, pool, name="warm", count=2 * len(readers))
            for number in range(plan.rounds):
                plan.await_turn()
                bare.append(bare_seconds(folder))
                direct.append(_direct_seconds(central, name=f"c{number}", count=count))
                changes.append(_changes(readers, pool, name=f"r{number}", count=count))
                plan.say(
                    f"round {number + 1}: seen after"
                    f" {median(one.seen for one in changes[-1]) * MS:.2f} ms,"
                    f" bare {bare[-1] * MS:.2f} ms"
                )
    return _part(changes, bare, direct)


def _changes(
    readers: dict[str, _Reader], pool: ThreadPoolExecutor, *, name: str, count: int
) -> list[Change]:
    """Make changes, each of a key of its own that everybody has asked for before."""
    found: list[Change] = []
    names = list(readers)
    for number in range(count):
        key, value = f"{name}-{number}", f"{name} {number} ".encode().ljust(VALUE_BYTES, b"x")
        writer = readers[names[number % len(names)]]
        others = [reader for reader in readers.values() if reader is not writer]
        for reader in readers.values():
            reader.get(key)
        begun = time.perf_counter()
        writer.put(key, value)
        acknowledged = time.perf_counter() - begun
        # Only now: who looks while the put is under way takes the processor from it.
        looking = [pool.submit(reader.await_value, key, value) for reader in others]
        seen = max(look.result() for look in looking) - begun
        found.append(Change(acknowledged=acknowledged, seen=seen))
    return found


def _direct_seconds(central: _Reader, *, name: str, count: int) -> float:
    """Return the median of puts at central itself: a part of what a put at a location takes."""
    took: list[float] = []
    for number in range(count):
        begun = time.perf_counter()
        central.put(f"{name}-{number}", bytes(VALUE_BYTES))
        took.append(time.perf_counter() - begun)
    return median(took)


def bare_seconds(folder: Path) -> float:
    """Return the median of a loopback round trip of as many bytes, and one synchronised append."""
    block = bytes(VALUE_BYTES)
    took: list[float] = []
    path = folder / "bare"
    with (
        _echoing() as port,
        path.open("wb", buffering=0) as file,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(BARE_ROUNDS):
            begun = time.perf_counter()
            connection.sendall(block)
            _receive(connection)
            file.write(block)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    path.unlink()
    return median(took)


def _receive(connection: socket.socket) -> bool:
    """Receive one block; say whether there was one."""
    left = VALUE_BYTES
    while left:
        piece = connection.recv(left)
        if not piece:
            return False
        left -= len(piece)
    return True


@contextlib.contextmanager
def _echoing() -> Generator[int]:
    """Send back what comes, block by block, in a process of its own; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        child = os.fork()
        if child == 0:
            try:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while _receive(connection):
                    connection.sendall(bytes(VALUE_BYTES))
            finally:
                os._exit(0)
        try:
            yield port
        finally:
            os.waitpid(child, 0)


def _part(
    changes: Sequence[Sequence[Change]], bare: Sequence[float], direct: Sequence[float]
) -> Part:
    seen = [median(one.seen for one in round_) for round_ in changes]
    acknowledged = [median(one.acknowledged for one in round_) for round_ in changes]
    ratios = [one / floor for one, floor in zip(seen, bare, strict=True)]
    every = sorted(one.seen for round_ in changes for one in round_)
    return Part(
        name="propagation",
        title=f"{VALUE_BYTES} bytes put, until two other locations show them ({len(every)} times)",
        how=HOW,
        targets=[
            Target(
                what="a change seen elsewhere / bare round trip and fsync",
                measured=median(ratios),
                high=RATIO_MAX,
            ),
            Target(what="the slowest change, in seconds", measured=every[-1], high=SECONDS_MAX),
        ],
        tables=[
            Table(
                title="Medians of the rounds, in milliseconds",
                headings=["", "ms"],
                rows=[
                    ["bare round trip and fsync", shown([MS * one for one in bare])],
                    ["acknowledged by central, put there", shown([MS * one for one in direct])],
                    ["acknowledged by the location", shown([MS * one for one in acknowledged])],
                    ["seen at both others", shown([MS * one for one in seen])],
                    ["99th percentile of all", f"{MS * every[len(every) * 99 // 100]:.3g}"],
                    ["slowest of all", f"{MS * every[-1]:.3g}"],
                ],
            )
        ],
        rounds={
            "seen": [[one.seen for one in round_] for round_ in changes],
            "bare": list(bare),
            "direct": list(direct),
        },
    )
