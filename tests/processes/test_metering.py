"""Counts of real processes: acknowledged <= counted <= sent, whatever is killed or cut off."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.processes.test_deployment import atoll, event, initialised
from tests.processes.test_locations import ASKED_MAX, REQUEST_S_MAX, location, part
from tests.support.server import ATOLL, STOP_S_MAX, environment, log_of

INTERVAL: Final = {"usage_interval_s": "0.05"}
KINDS: Final = ("read", "write", "delete", "list")
METHODS: Final = {"read": "GET", "write": "PUT", "delete": "DELETE", "list": "GET"}
OPERATIONS: Final = 60
"""Between two faults."""


class Deployment:
    """A central that may be killed and started anew at the same address, and who asks it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.token = initialised(data)["token"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self.start()
        self.given = {"url": self.url, "token": self.token}
        atoll(data, "namespace", "create", "things", settings=self.given)
        rows = json.loads(atoll(data, "namespace", "list", "--json", settings=self.given).stdout)
        self.namespace: str = rows[0]["id"]
        told = atoll(data, "node", "create", "PAR", "--json", settings=self.given).stdout
        self.credential: str = json.loads(told)["credential"]
        told = atoll(data, "account", "list", "--json", settings=self.given).stdout
        self.account: str = json.loads(told)[0]["id"]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()

    def start(self) -> "subprocess.Popen[str]":
        """Start central and wait until it answers."""
        process = subprocess.Popen(
            [ATOLL, "central"],
            env=environment(self.data, port=str(self.port), access_log="false", **INTERVAL),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        event(process, "central_started")
        return process

    def end(self, number: signal.Signals) -> None:
        """End central with a signal."""
        self.process.send_signal(number)
        self.process.communicate(timeout=STOP_S_MAX)

    def request(self, url: str, method: str, path: str, body: bytes | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask a node; `None` if nobody answered, or could not."""
        at = urlsplit(url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=REQUEST_S_MAX)
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        done = response.status in {200, 202, 404}
        return (content or b"{}") if done else None

    def do(self, kind: str, url: str, key: str) -> None:
        """Do an operation once, and note whether that was acknowledged."""
        home = f"/v1/namespaces/{self.namespace}"
        path = f"{home}/keys" if kind == "list" else f"{home}/values/{key}"
        self.sent[kind] += 1
        body = b"value" if kind == "write" else None
        if self.request(url, METHODS[kind], path, body) is not None:
            self.acknowledged[kind] += 1

    def counted(self) -> Counter[str]:
        """Return what the statement says."""
        path = f"/v1/usage?account={self.account}&namespace={self.namespace}"
        for _ in range(ASKED_MAX):
            told = self.request(self.url, "GET", path)
            if told is not None:
                lines = {line["name"]: line["quantity"] for line in json.loads(told)["lines"]}
                return Counter({kind: int(lines[f"{kind}s"]) for kind in KINDS})
        raise AssertionError("there is no statement")

    def await_counts(self) -> Counter[str]:
        """Wait until everything that was acknowledged has been counted."""
        counted = self.counted()
        for _ in range(ASKED_MAX):
            if counted >= self.acknowledged:
                return counted
            counted = self.counted()
        raise AssertionError(f"{self.acknowledged} were acknowledged, {counted} counted")


@contextmanager
def deployed(data: Path) -> Generator[Deployment]:
    """Run a central for as long as the block lasts."""
    deployment = Deployment(data)
    try:
        yield deployment
    finally:
        deployment.end(signal.SIGTERM)


def test_without_faults_what_is_sent_is_what_is_counted(tmp_path: Path) -> None:
    """At central and at a location of several processes; also after all began anew."""
    rng = random.Random(1)  # noqa: S311 - a seeded generator is the point
    par = tmp_path / "par"
    with deployed(tmp_path / "central") as here:
        arguments = {"upstream": here.url, "credential": here.credential, **INTERVAL}
        with location(par, processes=2, **arguments) as (url, _):
            for n in range(4 * OPERATIONS):
                here.do(rng.choice(KINDS), rng.choice((url, here.url)), f"k{n}")
            counted = here.await_counts()
        here.end(signal.SIGTERM)
        here.process = here.start()
        with location(par, processes=1, **arguments) as (url, _):
            here.do("read", url, "k0")
            again = here.await_counts()

    assert here.acknowledged == here.sent
    assert counted == here.sent - Counter(read=1)
    assert again == here.sent


def test_kills_neither_lose_counts_nor_double_them(tmp_path: Path) -> None:
    """Of readers, the keeper and central, in the middle of what they do."""
    rng = random.Random(2)  # noqa: S311 - a seeded generator is the point
    par = tmp_path / "par"
    with deployed(tmp_path / "central") as here:
        with location(
            par, upstream=here.url, credential=here.credential, processes=2, **INTERVAL
        ) as (url, process):
            for victim in ("reader", "keeper", "central", "reader", "central", "keeper"):
                for n in range(OPERATIONS):
                    here.do(rng.choice(KINDS), rng.choice((url, here.url)), f"{victim}{n}")
                if victim == "central":
                    here.end(signal.SIGKILL)
                    for n in range(OPERATIONS // 10):  # An outage: they wait at the location.
                        here.do(rng.choice(("read", "write")), url, f"out{n}")
                    here.process = here.start()
                else:
                    with suppress(ProcessLookupError):
                        os.kill(part(process, victim), signal.SIGKILL)
            here.await_counts()
        assert "counts_refused" not in log_of(par)
        with location(par, upstream=here.url, credential=here.credential, processes=1, **INTERVAL):
            counted = here.await_counts()

    assert here.acknowledged <= counted <= here.sent
    assert min(here.acknowledged.values()) >= OPERATIONS // 2
