"""Real Workers on real workerd, started as a user starts them, and called by a test."""

import base64
import contextlib
import http.client
import json
import re
import signal
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from tests.clients import installed
from tests.support.pipes import has_come
from tests.support.server import ATOLL, environment

START_S_MAX: Final = 60.0
ANSWER_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0
CORE: Final = (Path(__file__).parent / "scripts" / "core.js").read_text()

Json = Any  # what a test picks apart


class RunningWorker:
    """A running `atoll worker run`."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        """See `running_worker`."""
        self.process = process
        self.url = url

    def fetch(
        self,
        path: str = "/",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send the Worker a request; return the status and the body of its answer."""
        connection = http.client.HTTPConnection(
            self.url.removeprefix("http://"), timeout=ANSWER_S_MAX
        )
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def stop(self) -> tuple[int, str]:
        """End it as Ctrl-C does; return its exit code and what else it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=STOP_S_MAX)
        return self.process.returncode, rest


@contextmanager
def running_worker(
    data: Path,
    folder: Path,
    *arguments: str | Path,
    log: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Generator[RunningWorker]:
    """Run a Worker for the length of a `with`.

    Args:
        data: The data folder of a running `atoll dev`.
        folder: The current folder.
        *arguments: What stands behind `atoll worker run`.
        log: Where its standard error goes; by default beside the data.
        settings: As in `environment`.
    """
    log = log or data.with_name(f"{data.name}.worker.log")
    with log.open("ab") as complaints:
        process = subprocess.Popen(
            [ATOLL, "worker", "run", "--port", "0", *arguments],
            cwd=folder,
            env=environment(data, **(settings or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
    worker = RunningWorker(process, "")
    try:
        worker.url = _url(process, log)
        yield worker
    finally:
        worker.stop()


def _url(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    ready = has_come(process.stdout, within_s=START_S_MAX)
    said = process.stdout.readline() if ready else ""
    found = re.search(r"http://\S+?(?=,)", said)
    assert found is not None, said + log.read_text()
    return found[0]


class KvError(Exception):
    """What a Worker caught."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Kv:
    """A binding of a Worker that runs `core.js`."""

    worker: RunningWorker
    binding: str

    def __call__(self, method: str, *args: Json) -> Json:
        """Call a method as the Worker does.

        Raises:
            KvError: It threw.
        """
        asked = {"binding": self.binding, "method": method, "args": args}
        status, body = self.worker.fetch(body=json.dumps(asked).encode())
        assert status == 200, body
        told = json.loads(body)
        if "error" in told:
            raise KvError(told["error"], told["message"])
        return _read(told["result"])

    def get(self, key: Json, *options: Json) -> Json:
        """Read a value, or several."""
        return self("get", key, *options)

    def entry(self, key: Json, *options: Json) -> Json:
        """Read a value with its metadata, or several."""
        return self("getWithMetadata", key, *options)

    def put(self, key: str, value: Json, **options: Json) -> None:
        """Store a value."""
        self("put", key, value, options)

    def delete(self, key: str) -> None:
        """Delete a key."""
        self("delete", key)

    def page(self, **options: Json) -> Json:
        """Read a page of keys."""
        return self("list", options)

    def names(self, **options: Json) -> list[str]:
        """Read the names in a page."""
        return [row["name"] for row in self.page(**options)["keys"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One Worker, and its bindings that no test has had yet."""

    is_newer: bool
    worker: RunningWorker
    unused: Iterator[str]


UNDEFINED: Final = {"$undefined": True}


def raw(value: bytes) -> Json:
    """Give bytes, as an ArrayBuffer."""
    return {"$bytes": base64.b64encode(value).decode()}


def view(value: bytes) -> Json:
    """Give bytes as a view of a larger buffer."""
    return {"$view": base64.b64encode(b"<" + value + b">").decode()}


def stream(*pieces: bytes, known: bool) -> Json:
    """Give bytes as a stream, whose length is announced or not."""
    return {"$known" if known else "$unknown": [base64.b64encode(one).decode() for one in pieces]}


def filled(size_bytes: int, *, known: bool) -> Json:
    """Give a stream of so many bytes."""
    return {"$filled": size_bytes, "known": known}


def failing(size_bytes: int) -> Json:
    """Give a stream that fails after so many bytes."""
    return {"$failing": size_bytes}


def _read(told: object) -> Json:
    if isinstance(told, list):
        return [_read(value) for value in cast("list[object]", told)]
    if not isinstance(told, dict):
        return told
    members = cast("dict[str, Any]", told)
    match members:
        case {"$bytes": text} | {"$stream": text}:
            return base64.b64decode(text)
        case {"$map": rows}:
            return {key: _read(value) for key, value in rows}
        case {"$undefined": _}:
            return UNDEFINED
        case _:
            return {name: _read(value) for name, value in members.items()}


def as_module(folder: Path) -> Path:
    """Write the script as a module."""
    path = folder / "worker.mjs"
    path.write_text(f"{CORE}\nexport default {{ fetch: (request, env) => answer(request, env) }}\n")
    return path


def as_service_worker(folder: Path, bindings: Sequence[str]) -> Path:
    """Write the script as they were in 2019, with bindings that are globals."""
    path = folder / "worker.js"
    named = ", ".join(bindings)
    path.write_text(
        f"{CORE}\naddEventListener('fetch', event => {{"
        f" event.respondWith(answer(event.request, {{ {named} }})) }})\n"
    )
    return path


def workerd(release: str) -> Path:
    """Return the workerd that came with a release of wrangler."""
    return installed.workerd(release)
