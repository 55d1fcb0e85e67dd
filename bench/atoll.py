"""Atoll itself, started as its users start it, with data of its own."""

import contextlib
import http.client
import json
import os
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.baseline import Baseline
from bench.load import Shape
from bench.peers import Server
from bench.process import BenchError, Cores, Process

PROGRAM: Final = Path(sys.executable).with_name("atoll")
HTTP_SECONDS_MAX: Final = 300.0

QUIET: Final = {"ATOLL_ACCESS_LOG": "false"}
"""As the peers are started: they keep no access log either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Atoll:
    """A running Atoll and the way into its first namespace."""

    process: Process
    data: Path
    url: str
    token: str
    account: str
    namespace: str

    def namespace_path(self, namespace: str | None = None) -> str:
        """Return where the resources of a namespace, usually the first, are in REST."""
        return f"{self._namespaces}/{namespace or self.namespace}"

    @property
    def _namespaces(self) -> str:
        return f"/client/v4/accounts/{self.account}/storage/kv/namespaces"

    def connect(self) -> "Client":
        """Open a keep-alive connection."""
        return Client(self.url, self.token)

    def create_namespace(self, title: str) -> str:
        """Make a namespace and return its id."""
        body = json.dumps({"title": title}).encode()
        with contextlib.closing(self.connect()) as client:
            return str(
                json.loads(client.request("POST", self._namespaces, body=body))["result"]["id"]
            )

    def count(self) -> int:
        """Return how many pairs the namespace holds."""
        with contextlib.closing(self.connect()) as client:
            path = f"/v1/namespaces/{self.namespace}/count"
            return int(json.loads(client.request("GET", path))["count"])


class Client:
    """One connection, with the token."""

    def __init__(self, url: str, token: str) -> None:
        at = urlsplit(url)
        assert at.hostname is not None
        self._connection = http.client.HTTPConnection(
            at.hostname, at.port, timeout=HTTP_SECONDS_MAX
        )
        self._headers = {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, *, body: bytes | None = None) -> bytes:
        """Ask, and return the body of the answer.

        Raises:
            BenchError: There is no answer, or it is not 200.
        """
        try:
            self._connection.request(method, path, body=body, headers=self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{method} {path} was not answered: {error!r}") from error
        if answer.status != http.client.OK:
            raise BenchError(f"{method} {path} was answered {answer.status}: {content[:500]!r}")
        return content

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def environment(server: Atoll) -> dict[str, str]:
    """Return the environment in which commands talk to a server."""
    return {**os.environ, "ATOLL_DATA": str(server.data)}


@contextlib.contextmanager
def running(
    data: Path,
    *,
    core: Cores = None,
    settings: Mapping[str, str] | None = None,
    locations: str = "none",
    program: Path = PROGRAM,
) -> Generator[Atoll]:
    """Run `atoll dev` on a data folder, new or filled before, until the block ends.

    Args:
        data: The folder.
        core: The cores it may use.
        settings: As environment variables.
        locations: Those beside central.
        program: Which Atoll.
    """
    data.mkdir(exist_ok=True)
    told = data / "dev.json"
    process = Process(
        [str(program), "dev", "--locations", locations],
        log=data.parent / f"{data.name}.log",
        core=core,
        env={"ATOLL_DATA": str(data), "ATOLL_PORT": "0", **(settings or {})},
    )
    try:
        process.wait_until(told.exists)
        dev: dict[str, Any] = json.loads(told.read_text())
        yield Atoll(
            process=process,
            data=data,
            url=dev["central"],
            token=dev["token"],
            account=dev["account_id"],
            namespace=dev["namespace_id"],
        )
    finally:
        process.stop()


@contextlib.contextmanager
def serving_puts(
    folder: Path, *, value: str, core: Cores, baseline: Baseline | None = None
) -> Generator[Server]:
    """Run Atoll as one of the servers that take puts."""
    program = PROGRAM if baseline is None else baseline.program
    with running(folder / "data", core=core, settings=QUIET, program=program) as server:
        yield Server(
            name="atoll" if baseline is None else f"atoll at {baseline.commit}",
            url=server.url,
            processes=[server.process],
            put=Shape(
                method="PUT",
                path=f"{server.namespace_path()}/values/{{key}}",
                body=value,
                headers={"Authorization": f"Bearer {server.token}"},
            ),
            count=server.count,
        )
