"""Watching real processes: across nodes, over restarts, and without holding anybody up."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.processes.test_locations import User, atoll, location, paris, part, user_of
from tests.support.pipes import has_come
from tests.support.server import ATOLL, START_S_MAX, STOP_S_MAX, Server, environment, serving

__all__ = ["paris"]

ALLOWED_S = "600"
"""How long a server may take to stop: far longer than any test waits for it."""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run central and a location."""
    folder = tmp_path_factory.mktemp("dev") / "data"
    with serving(folder, locations="LHR", stop_s=ALLOWED_S) as server:
        yield server


class Watching:
    """A command that watches, and prints what it sees as JSON."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """See `watching`."""
        self._process = process
        self._pending = b""

    def _line(self) -> bytes:
        """Return the next line. What is waited for must not wait in a buffer of Python's."""
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            assert has_come(self._process.stdout, within_s=START_S_MAX), "nothing came"
            piece = os.read(self._process.stdout.fileno(), 65_536)
            assert piece, "the command has ended"
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def next(self) -> dict[str, Any]:
        """Return the next event but for those that only say how far it is."""
        while True:
            event: dict[str, Any] = json.loads(self._line())
            if event["event"] != "position":
                return event

    def until(self, key: str) -> dict[str, Any]:
        """Return the next event about a key, others before it left out."""
        event = self.next()
        while event.get("key") != key:
            event = self.next()
        return event


@contextmanager
def watching(data: Path, url: str, user: User, *args: str) -> Generator[Watching]:
    """Run `atoll watch` until interrupted, which it takes quietly."""
    process = subprocess.Popen(
        [ATOLL, "watch", user.namespace, "--json", *args],
        env=environment(data, url=url, token=user.token),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Watching(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=STOP_S_MAX)
        assert (process.returncode, said) == (130, b"")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_location_tells_what_central_was_told(dev: Server) -> None:
    """A put at central is seen at a location, of a key that nobody has read there."""
    user, running = user_of(dev), dev.running
    with watching(dev.data, running.locations["LHR"], user, "--values") as watch:
        present = watch.next()
        put = user.put(running.central, "seen", b"1", Atoll_Metadata='{"by":"me"}')
        told = watch.until("seen")
        deleted = user.ask(running.central, "DELETE", "seen-too")
        gone = watch.until("seen-too")
    with watching(dev.data, running.central, user, "--since", present["position"]) as watch:
        again = [watch.until("seen"), watch.next(), watch.next()]

    assert present["event"] == "present"
    assert told == {
        "event": "put",
        "position": put.headers["atoll-position"],
        "key": "seen",
        "version": put.json["version"],
        "metadata": {"by": "me"},
        "value_omitted": True,
    }
    assert gone["event"] == "delete"
    assert gone["version"] == deleted.json["version"]
    assert [event["event"] for event in again] == ["put", "delete", "present"]


def test_readers_tell_what_their_keeper_is_told(dev: Server, paris: str, tmp_path: Path) -> None:
    """Through whichever process, and after the keeper was killed the watch goes on by itself."""
    user, running = user_of(dev), dev.running
    with (
        location(tmp_path / "par", upstream=running.central, credential=paris, processes=2) as (
            url,
            process,
        ),
        watching(dev.data, url, user) as watch,
        watching(dev.data, url, user) as other,
    ):
        for one in (watch, other):
            assert one.next()["event"] == "present"
        user.put(running.central, "through-readers", b"1")
        for one in (watch, other):
            assert one.until("through-readers")["event"] == "put"
        os.kill(part(process, "keeper"), signal.SIGKILL)
        assert watch.next()["event"] == "present"
        user.put(running.central, "after-the-keeper", b"1")
        assert watch.until("after-the-keeper")["event"] == "put"


def test_it_goes_on_over_a_restart_of_the_server(tmp_path: Path) -> None:
    """Open watches do not hold a server up, and what is written before they are back is told."""
    data = tmp_path / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with ExitStack() as stack:
        with serving(data, port=port, stop_s=ALLOWED_S) as server:
            user, url = user_of(server), server.url
            watch = stack.enter_context(watching(data, url, user))
            assert watch.next()["event"] == "present"
            user.put(url, "before", b"1")
            before = watch.until("before")
        with serving(data, port=port, stop_s=ALLOWED_S):
            user.put(url, "meanwhile", b"2")
            meanwhile = watch.next()
            present = watch.next()

    assert before["event"] == "put"
    assert (meanwhile["event"], meanwhile["key"]) == ("put", "meanwhile")
    assert present["event"] == "present"


def test_who_takes_nothing_holds_nobody_up(tmp_path: Path) -> None:
    """A watcher that reads nothing does not keep a server from stopping."""
    data = tmp_path / "data"
    with socket.socket() as deaf, serving(data, stop_s=ALLOWED_S) as server:
        user = user_of(server)
        at = urlsplit(server.url)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((at.hostname, at.port))
        deaf.sendall(
            f"GET /v1/namespaces/{user.namespace}/watch?include=values HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {user.token}\r\n\r\n".encode()
        )
        assert deaf.recv(12) == b"HTTP/1.1 200"
        pairs = [{"key": f"k{i}", "value": "x" * 16_000} for i in range(1000)]
        (tmp_path / "pairs.json").write_text(json.dumps(pairs))
        atoll(data, "bulk", "put", user.namespace, str(tmp_path / "pairs.json"))

        assert server.stop() == 0
