"""The applications in `examples/`, started as a user starts them, and asked by a test."""

import contextlib
import http.client
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from atoll.clock import SystemClock
from tests.clients.plain import Access, Namespace, access_to, create
from tests.support.server import ATOLL, Server, environment
from tests.tidy.sources import ROOT
from tests.workers.running import running_worker, workerd

EXAMPLES: Final = ROOT / "examples"
UVICORN: Final = Path(sys.executable).with_name("uvicorn")
WORKER: Final = "worker"
PYTHON: Final = "python"
FORMS: Final = (WORKER, PYTHON)

ANSWER_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0
COME_S_MAX: Final = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - what a test picks apart
        """The body, as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A running example, and the namespaces it was given, by their bindings."""

    url: str
    spaces: Mapping[str, Namespace]

    def fetch(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; the path goes out as it is, and no redirect is followed."""
        at = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(at, timeout=ANSWER_S_MAX)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=named, body=answer.read())


class Site:
    """One Atoll with a location, and one stand-in for the internet, for all examples."""

    def __init__(self, server: Server, internet: str, folder: Path) -> None:
        """Start examples against these.

        Args:
            server: The Atoll.
            internet: The URL of the stand-in.
            folder: Where logs go.
        """
        self.server = server
        self.access: Access = access_to(server)
        self.internet = internet
        self._folder = folder
        self._numbers = itertools.count()

    @property
    def location(self) -> str:
        """The location's URL."""
        return self.server.running.locations["LHR"]

    def command(self, *arguments: str) -> str:
        """Run a command of `atoll`; return what it printed."""
        ran = subprocess.run(
            [ATOLL, *arguments],
            env=environment(self.server.data),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @contextmanager
    def running(
        self,
        form: str,
        example: str,
        *bindings: str,
        variables: Callable[[Mapping[str, Namespace]], Mapping[str, str]] | None = None,
        settings: Sequence[str] = (),
    ) -> Generator[App]:
        """Run an example for the length of a `with`, on namespaces of its own.

        Args:
            form: The Worker, or the application in Python.
            example: The name of its folder.
            *bindings: Names that it has for its namespaces.
            variables: What else it is told, when its namespaces are known.
            settings: Of its namespaces, as `atoll namespace settings` takes them.
        """
        number = next(self._numbers)
        spaces = {name: create(self.access, f"{example} {name} {number}") for name in bindings}
        for space in spaces.values():
            if settings:
                self.command("namespace", "settings", space.id, *settings)
        told: Mapping[str, str] = {} if variables is None else variables(spaces)
        run = self._worker if form == WORKER else self._python
        with run(example, {name: space.id for name, space in spaces.items()}, told) as url:
            yield App(url=url, spaces=spaces)

    @contextmanager
    def _worker(
        self, example: str, ids: Mapping[str, str], told: Mapping[str, str]
    ) -> Generator[str]:
        script = next((EXAMPLES / example).glob("worker.*js"))
        log = self._folder / f"{example}.worker.log"
        with running_worker(
            self.server.data,
            EXAMPLES / example,
            script.name,
            *(f"--kv={name}={id_}" for name, id_ in ids.items()),
            *(f"--env={name}={value}" for name, value in told.items()),
            "--workerd",
            workerd("wrangler-newest"),
            log=log,
        ) as worker:
            yield worker.url
        assert log.read_text() == ""

    @contextmanager
    def _python(
        self, example: str, ids: Mapping[str, str], told: Mapping[str, str]
    ) -> Generator[str]:
        needed = {
            "ATOLL_URL": self.location,
            "ATOLL_TOKEN": self.access.token,
            "NO_PROXY": "127.0.0.1",
        }
        process = subprocess.Popen(
            [UVICORN, f"examples.{example}.app:app", "--port", "0", "--no-access-log"],
            cwd=ROOT,
            env={**environment(self.server.data), **needed, **ids, **told},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield _url(process)
        finally:
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate(timeout=STOP_S_MAX)
        assert "ERROR" not in rest, rest


def _url(process: "subprocess.Popen[str]") -> str:
    """Read what uvicorn logs until it says where it answers; the test's own timeout bounds this."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        found = re.search(r"running on (http://\S+)", line)
        if found is not None:
            return found[1]
    raise AssertionError(said)


def until(ask: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Ask until the answer is as wanted: what was written elsewhere takes a moment to arrive."""
    clock = SystemClock()
    end_ms = clock.elapsed_ms() + COME_S_MAX * 1000
    while True:
        told = ask()
        if wanted(told):
            return told
        assert clock.elapsed_ms() < end_ms, told
