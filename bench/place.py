"""A location of Atoll's, started as its users start it, that holds keys."""

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench import atoll, drive
from bench.drive import ANY_STATUS, GENERATOR_CORE, Ask, Loop, Way, http
from bench.process import BenchError, Cores, Process, free_port

COMMAND_SECONDS_MAX: Final = 60.0
BULK_PAIRS: Final = 10_000
GET_KEYS: Final = 100
WARM_CLIENTS: Final = 32
CHECKED: Final = 50
"""Of so many keys it is seen that the location answers by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running location under a running central."""

    central: atoll.Atoll
    process: Process
    data: Path
    name: str
    port: int

    @property
    def way(self) -> Way:
        """Where it is asked."""
        return Way(port=self.port)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cache(self) -> Path:
        """Where what it holds is."""
        return self.data / "locations" / self.name / "cache"

    @property
    def path(self) -> str:
        """The way into the namespace."""
        return f"/v1/namespaces/{self.central.namespace}"

    def get(self, key: str) -> bytes:
        """Return the request that reads a key."""
        return http("GET", f"{self.path}/values/{key}", headers=self.headers)

    def put(self, key: str, value: bytes) -> bytes:
        """Return the request that writes a key."""
        return http("PUT", f"{self.path}/values/{key}", headers=self.headers, body=value)

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request has."""
        return {"Authorization": f"Bearer {self.central.token}"}

    def warm(self, keys: Sequence[str]) -> None:
        """Read keys once, so that the location holds them, and see that it does.

        Raises:
            BenchError: See `see_hits`.
        """
        try:
            self._read_many(keys)
        except BenchError:
            # Earlier states of Atoll read one by one.
            asks = [Ask(raw=self.get(key), status=ANY_STATUS) for key in keys]
            path = drive.write(self.data / "warm.asks", asks)
            drive.run(self.way, path, Loop(clients=WARM_CLIENTS, requests=len(keys)))
        self.see_hits(keys[:: max(1, len(keys) // CHECKED)])

    def _read_many(self, keys: Sequence[str]) -> None:
        with contextlib.closing(atoll.Client(self.url, self.central.token)) as client:
            for first in range(0, len(keys), GET_KEYS):
                body = json.dumps({"keys": keys[first : first + GET_KEYS]}).encode()
                client.request("POST", f"{self.path}/get", body=body)

    def see_hits(self, keys: Sequence[str]) -> None:
        """See that the location answers by itself.

        Raises:
            BenchError: It does not.
        """
        for key in keys:
            status = self._cache_status(key)
            if "; hit" not in status:
                raise BenchError(f"{self.name} says {status!r} of {key}, which it was given")

    def _cache_status(self, key: str) -> str:
        request = urllib.request.Request(
            f"{self.url}{self.path}/values/{key}", headers=dict(self.headers)
        )
        try:
            with urllib.request.urlopen(request, timeout=COMMAND_SECONDS_MAX) as answer:
                return str(answer.headers["cache-status"])
        except urllib.error.HTTPError as error:
            return str(error.headers["cache-status"])


def fill(central: atoll.Atoll, keys: Iterable[str], value: str) -> None:
    """Put one value under many keys at central, in bulk."""
    with contextlib.closing(central.connect()) as client:
        pairs: list[dict[str, str]] = []
        for key in keys:
            pairs.append({"key": key, "value": value})
            if len(pairs) == BULK_PAIRS:
                _bulk(central, client, pairs)
                pairs = []
        if pairs:
            _bulk(central, client, pairs)


def _bulk(central: atoll.Atoll, client: atoll.Client, pairs: Sequence[Mapping[str, str]]) -> None:
    body = msgspec.json.encode(pairs)
    client.request("PUT", f"{central.namespace_path()}/bulk", body=body)


@contextlib.contextmanager
def central(
    folder: Path,
    *,
    core: Cores = GENERATOR_CORE,
    settings: Mapping[str, str] | None = None,
    program: Path = atoll.PROGRAM,
) -> Generator[atoll.Atoll]:
    """Run the central of a location. It has next to nothing to do: the generator's core will do."""
    with atoll.running(
        folder / "central",
        core=core,
        settings={**atoll.QUIET, **(settings or {})},
        program=program,
    ) as running:
        yield running


@contextlib.contextmanager
def location(
    folder: Path,
    over: atoll.Atoll,
    *,
    name: str = "BEN",
    core: Cores = None,
    processes: int = 1,
    settings: Mapping[str, str] | None = None,
    program: Path = atoll.PROGRAM,
) -> Generator[Place]:
    """Run a location until the block ends.

    Args:
        folder: Where its folder is to be, or is.
        over: Its central.
        name: The location's.
        core: The cores that it may use.
        processes: How many answer requests.
        settings: As environment variables.
        program: Which Atoll.
    """
    data, port = folder / name, free_port()
    data.mkdir(exist_ok=True)
    process = Process(
        [str(program), "location", "start", name, "--processes", str(processes)],
        log=folder / f"{name}-{port}.log",
        core=core,
        env={
            **atoll.QUIET,
            "ATOLL_DATA": str(data),
            "ATOLL_PORT": str(port),
            "ATOLL_UPSTREAM": over.url,
            "ATOLL_NODE_CREDENTIAL": _credential(over, name, program),
            "ATOLL_LOG_FORMAT": "json",
            **(settings or {}),
        },
    )
    try:
        # Not /readyz: one of several processes may answer it while others start.
        process.wait_until(lambda: "location_started" in process.output())
        yield Place(central=over, process=process, data=data, name=name, port=port)
    finally:
        process.stop()


def _credential(over: atoll.Atoll, name: str, program: Path) -> str:
    """Make what a location shows its central."""
    done = subprocess.run(
        [str(program), "node", "create", name, "--json"],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
        env=atoll.environment(over),
    )
    if done.returncode:
        raise BenchError(f"no credential for {name}: {done.stderr}")
    return str(json.loads(done.stdout)["credential"])
