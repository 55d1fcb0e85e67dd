"""Servers that hold the same keys, each with the requests that read them.

Whoever holds a key answers with its value alone and has nothing else to do: no access log, no
limit of requests on a connection, one process or worker on one core.
"""

import base64
import contextlib
import json
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import atoll, drive, peers, place
from bench.baseline import Baseline
from bench.drive import MISSING, OK, Ask, Way, http
from bench.plan import Plan
from bench.process import BenchError, Cores, Memory, Process, free_port, listening

VALUE_BYTES: Final = 288
VALUE: Final = ("0123456789abcdef" * (VALUE_BYTES // 16))[:VALUE_BYTES]
SERVER_CORE: Final = 1
FILL_CLIENTS: Final = 32
MIXED_EVERY: Final = 100
"""In the mixed load one request of so many is a put."""
ETCD_TXN_PUTS: Final = 100
BATCH: Final = 1000
SOCKET_SECONDS_MAX: Final = 60.0
MINIFLARE_KEYS_MAX: Final = 10_000
"""It takes half a minute to be given ten thousand; fewer keys are no disadvantage."""

ATOLL: Final = "atoll"
HOT: Final = "hot"
MISS: Final = "missing"
MIXED: Final = "mixed"
REWRITE_AT_ONCE: Final = {"ATOLL_LIMITS_REWRITE_INTERVAL_MS": "0"}
"""The mixed load puts a key again as soon as its turn comes."""

MINIFLARE: Final = Path(__file__).with_name("miniflare.mjs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A server that holds keys and is up."""

    name: str
    way: Way
    processes: Sequence[Process]
    asks: Mapping[str, Path]
    """For each kind of load a file of requests."""

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes used so far."""
        return sum(process.cpu_seconds() for process in self.processes)

    def memory(self) -> Memory:
        """Return what its processes hold together."""
        return Memory.together([process.memory() for process in self.processes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is to be held, and where the server may run."""

    folder: Path
    """The server's own."""
    keys: int
    core: Cores = SERVER_CORE
    baseline: Baseline | None = None
    """The other state of Atoll that is to run, if it is another."""

    @property
    def program(self) -> Path:
        """Which Atoll."""
        return atoll.PROGRAM if self.baseline is None else self.baseline.program

    def named(self, name: str) -> str:
        """Return what a server of Atoll's is called."""
        return name if self.baseline is None else f"{name} at {self.baseline.commit}"

    @property
    def names(self) -> list[str]:
        """The keys that are there."""
        return [f"item-{n:08}" for n in range(self.keys)]

    @property
    def missing(self) -> list[str]:
        """The keys that are not."""
        return [f"none-{n:08}" for n in range(self.keys)]

    def write(self, kind: str, asks: Sequence[Ask]) -> Path:
        """Write requests in an order of chance."""
        return drive.write(self.folder / f"{kind}.asks", drive.shuffled(asks))

    def reads(
        self, get: Callable[[str], bytes], *, size: int = VALUE_BYTES, missing: int = MISSING
    ) -> dict[str, Path]:
        """Write the requests that read, hot and missing."""
        return {
            HOT: self.write(HOT, [Ask(raw=get(key), size=size) for key in self.names]),
            MISS: self.write(MISS, [Ask(raw=get(key), status=missing) for key in self.missing]),
        }

    def mixed(self, get: Callable[[str], bytes], put: Callable[[str], bytes]) -> dict[str, Path]:
        """Write the requests of the mixed load."""
        asks = [
            Ask(raw=put(key) if n % MIXED_EVERY == 0 else get(key))
            for n, key in enumerate(self.names)
        ]
        return {MIXED: self.write(MIXED, asks)}


Start = Callable[[Spec], AbstractContextManager[Holder]]


@contextlib.contextmanager
def _atoll(spec: Spec, *, name: str, processes: int) -> Generator[Holder]:
    with (
        place.central(spec.folder, settings=REWRITE_AT_ONCE, program=spec.program) as central,
        place.location(
            spec.folder,
            central,
            core=spec.core,
            processes=processes,
            settings=REWRITE_AT_ONCE,
            program=spec.program,
        ) as at,
    ):
        place.fill(central, spec.names, VALUE)
        at.warm(spec.names)
        at.warm(spec.missing)
        yield Holder(
            name=spec.named(name),
            way=at.way,
            processes=[at.process],
            asks={
                **spec.reads(at.get),
                **spec.mixed(at.get, lambda key: at.put(key, VALUE.encode())),
            },
        )


def atoll_one(spec: Spec) -> AbstractContextManager[Holder]:
    """Run a location of one process."""
    return _atoll(spec, name="atoll", processes=1)


def atoll_two(spec: Spec) -> AbstractContextManager[Holder]:
    """Run a location of two processes, which share both cores with the generator."""
    return _atoll(spec, name="atoll, two processes", processes=2)


@contextlib.contextmanager
def nginx(spec: Spec) -> Generator[Holder]:
    """Run nginx over a folder of files, as people tune it for that: it holds all of them open."""
    few = replace(spec, keys=min(spec.keys, peers.open_files_max()))
    files = spec.folder / "files"
    files.mkdir()
    for key in few.names:
        (files / key).write_text(VALUE)
    with peers.nginx(spec.folder, files, core=spec.core, files_max=few.keys) as server:
        yield Holder(
            name="nginx",
            way=server.way,
            processes=server.processes,
            asks=few.reads(lambda key: http("GET", f"/{key}")),
        )


@contextlib.contextmanager
def webdis(spec: Spec) -> Generator[Holder]:
    """Run webdis over Redis."""
    with peers.webdis(spec.folder, value=VALUE, core=spec.core) as server:
        fill_redis(server.backend_port, spec.names)

        def get(key: str) -> bytes:
            return http("GET", f"/GET/{key}.txt")

        def put(key: str) -> bytes:
            return http("PUT", f"/SET/{key}", body=VALUE.encode())

        yield Holder(
            name="webdis",
            way=server.way,
            processes=server.processes,
            asks={**spec.reads(get), **spec.mixed(get, put)},
        )


def fill_redis(port: int, keys: Sequence[str]) -> None:
    """Put the value under keys, many at a time."""
    with socket.create_connection(("127.0.0.1", port), SOCKET_SECONDS_MAX) as connection:
        reading = connection.makefile("rb")
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            connection.sendall(b"".join(f"SET {key} {VALUE}\r\n".encode() for key in batch))
            for key in batch:
                if reading.readline() != b"+OK\r\n":
                    raise BenchError(f"Redis did not take {key}")


@contextlib.contextmanager
def etcd(spec: Spec) -> Generator[Holder]:
    """Run etcd alone, reached through its HTTP gateway; a missing key is an empty answer."""
    with peers.etcd(spec.folder, value=VALUE, core=spec.core) as server:
        fill_etcd(server.url, spec.names)

        def post(path: str, **fields: str) -> bytes:
            return http(
                "POST",
                f"/v3/kv/{path}",
                headers={"Content-Type": "application/json"},
                body=json.dumps(fields).encode(),
            )

        def get(key: str) -> bytes:
            return post("range", key=_base64(key))

        def put(key: str) -> bytes:
            return post("put", key=_base64(key), value=_base64(VALUE))

        yield Holder(
            name="etcd",
            way=server.way,
            processes=server.processes,
            asks={
                **spec.reads(get, size=drive.ANY_SIZE, missing=OK),
                **spec.mixed(get, put),
            },
        )


def fill_etcd(url: str, keys: Sequence[str]) -> None:
    """Put the value under keys, many in each transaction."""
    value = _base64(VALUE)
    for first in range(0, len(keys), ETCD_TXN_PUTS):
        puts = [
            {"requestPut": {"key": _base64(key), "value": value}}
            for key in keys[first : first + ETCD_TXN_PUTS]
        ]
        peers.ask(f"{url}/v3/kv/txn", body={"success": puts})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def memcached(spec: Spec) -> Generator[Holder]:
    """Run memcached, which speaks no HTTP: it is asked in its own text protocol."""
    peers.need("memcached")
    port = free_port()
    command = [
        *("memcached", "--listen", "127.0.0.1", "--port", str(port), "--udp-port", "0"),
        *("--threads", "1", "--memory-limit", "1024", "--user", "root"),
    ]
    process = Process(command, log=spec.folder / "memcached.log", core=spec.core)
    try:
        process.wait_until(lambda: listening(port))
        with socket.create_connection(("127.0.0.1", port), SOCKET_SECONDS_MAX) as connection:
            reading = connection.makefile("rb")
            for key in spec.names:
                connection.sendall(f"set {key} 0 0 {VALUE_BYTES}\r\n{VALUE}\r\n".encode())
                if reading.readline() != b"STORED\r\n":
                    raise BenchError(f"memcached did not take {key}")
        yield Holder(
            name="memcached, its own protocol",
            way=Way(port=port, protocol="memcached"),
            processes=[process],
            asks=spec.reads(lambda key: f"get {key}\r\n".encode()),
        )
    finally:
        process.stop()


@contextlib.contextmanager
def nats(spec: Spec) -> Generator[Holder]:
    """Run NATS with a key-value bucket, which is a stream: asked in its own protocol, directly."""
    peers.need("nats-server")
    port = free_port()
    command = [
        *("nats-server", "--addr", "127.0.0.1", "--port", str(port), "--jetstream"),
        *("--store_dir", str(spec.folder / "jetstream")),
    ]
    process = Process(command, log=spec.folder / "nats.log", core=spec.core)
    try:
        process.wait_until(lambda: listening(port))
        _fill_nats(port, spec.names)
        yield Holder(
            name="NATS KV, its own protocol",
            way=Way(port=port, protocol="nats"),
            processes=[process],
            asks=spec.reads(
                lambda key: f"PUB $JS.API.DIRECT.GET.KV_bench.$KV.bench.{key}".encode()
            ),
        )
    finally:
        process.stop()


class Nats:
    """A connection to NATS, on which one asks and is answered in turn."""

    def __init__(self, port: int) -> None:
        """Connect, and listen for answers."""
        self._connection = socket.create_connection(("127.0.0.1", port), SOCKET_SECONDS_MAX)
        self._reading = self._connection.makefile("rb")
        self._reading.readline()
        self._connection.sendall(b'CONNECT {"verbose":false}\r\nSUB _IN.fill 1\r\n')

    def ask(self, subject_and_content: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        """Publish, and return the answers; how they are paired is not looked at.

        Raises:
            BenchError: NATS complains.
        """
        self._connection.sendall(
            b"".join(
                f"PUB {subject} _IN.fill {len(content)}\r\n{content}\r\n".encode()
                for subject, content in subject_and_content
            )
        )
        answers: list[dict[str, object]] = []
        while len(answers) < len(subject_and_content):
            words = self._reading.readline().split()
            if words[:1] == [b"PING"]:
                self._connection.sendall(b"PONG\r\n")
            elif words[:1] == [b"MSG"]:
                answers.append(json.loads(self._reading.read(int(words[-1]) + 2)))
            else:
                raise BenchError(f"NATS says {words!r}")
        if any("error" in answer for answer in answers):
            raise BenchError(f"NATS did not take what it was given: {answers[0]}")
        return answers

    def close(self) -> None:
        """Hang up."""
        self._reading.close()
        self._connection.close()


BUCKET: Final = {
    "name": "KV_bench",
    "subjects": ["$KV.bench.>"],
    "max_msgs_per_subject": 1,
    "allow_direct": True,
    "allow_rollup_hdrs": True,
    "deny_delete": True,
    "discard": "new",
    "storage": "file",
    "num_replicas": 1,
}
"""The stream that a key-value bucket of NATS is, as its clients make it."""


def _fill_nats(port: int, keys: Sequence[str]) -> None:
    with contextlib.closing(Nats(port)) as connection:
        connection.ask([("$JS.API.STREAM.CREATE.KV_bench", json.dumps(BUCKET))])
        for first in range(0, len(keys), BATCH):
            connection.ask([(f"$KV.bench.{key}", VALUE) for key in keys[first : first + BATCH]])


@contextlib.contextmanager
def miniflare(spec: Spec) -> Generator[Holder]:
    """Run miniflare with a Worker that reads Workers KV."""
    few = replace(spec, keys=min(spec.keys, MINIFLARE_KEYS_MAX))
    port = free_port()
    process = peers.node(
        MINIFLARE,
        {"port": port, "folder": str(spec.folder), "keys": few.names, "value": VALUE},
        folder=spec.folder,
        core=spec.core,
    )
    try:
        process.wait_until((spec.folder / "ready").exists)
        yield Holder(
            name="miniflare",
            way=Way(port=port),
            processes=[process],
            asks=few.reads(lambda key: http("GET", f"/{key}")),
        )
    finally:
        process.stop()


def start(
    stack: contextlib.ExitStack, plan: Plan, folder: Path, names: Mapping[str, Start], *, keys: int
) -> list[Holder]:
    """Start and fill those servers that the plan wants, and beside Atoll's its other state."""
    holders: list[Holder] = []
    for name, begin in names.items():
        if plan.wants_server(name):
            own = folder / name
            own.mkdir(parents=True)
            core = None if begin is atoll_two else SERVER_CORE
            plan.say(f"starting {name}")
            spec = Spec(folder=own, keys=keys, core=core)
            holders.append(stack.enter_context(begin(spec)))
            if plan.against is not None and name.startswith(ATOLL):
                other = replace(spec, folder=own / plan.against.commit, baseline=plan.against)
                other.folder.mkdir()
                holders.append(stack.enter_context(begin(other)))
    return holders


ALL: Final[Mapping[str, Start]] = {
    "atoll": atoll_one,
    "atoll-2": atoll_two,
    "nginx": nginx,
    "webdis": webdis,
    "etcd": etcd,
    "memcached": memcached,
    "nats": nats,
    "miniflare": miniflare,
}
