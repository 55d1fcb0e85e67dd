"""Locations as processes: written at one place, read at others, cut off, killed, replaced."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.processes.test_deployment import atoll as command
from tests.processes.test_deployment import central, certificate, initialised
from tests.support.server import ATOLL, STOP_S_MAX, Server, environment, log_of, serving

ASKED_MAX = 20_000
"""How often a test asks whether something has come about; each time takes about a millisecond."""
LISTED_MAX = 2_000
"""The same for lists of processes, which take ten."""
REQUEST_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:  # noqa: ANN401 - each test knows what it asked for
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with a token, and a namespace."""

    token: str
    namespace: str

    def ask(
        self, url: str, method: str, key: str, *, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Ask a node about a key over `/v1`."""
        at = urlsplit(url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=REQUEST_S_MAX)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method,
                f"/v1/namespaces/{self.namespace}/values/{key}",
                body=body,
                headers={"Authorization": f"Bearer {self.token}", **named},
            )
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        shown = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, shown)

    def get(self, url: str, key: str, **headers: str) -> Answer:
        """Read a key."""
        return self.ask(url, "GET", key, body=None, **headers)

    def put(self, url: str, key: str, value: bytes, **headers: str) -> Answer:
        """Write a key."""
        return self.ask(url, "PUT", key, body=value, **headers)

    def await_value(self, url: str, key: str, value: bytes) -> Answer:
        """Read a key until it is `value`."""
        answer = self.get(url, key)
        for _ in range(ASKED_MAX):
            if answer.body == value:
                return answer
            answer = self.get(url, key)
        raise AssertionError(f"{url} never answered {value!r} but {answer}")


def user_of(server: Server) -> User:
    """Return the owner of an `atoll dev`."""
    return User(token=server.running.token, namespace=server.running.namespace_id)


def atoll(data: Path, *args: str, code: int = 0) -> str:
    """Run a command beside a server, and return what it printed."""
    done = subprocess.run(
        [ATOLL, *args],
        env=environment(data),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REQUEST_S_MAX,
        check=False,
    )
    assert done.returncode == code, done
    return done.stdout


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run central and three locations."""
    with serving(tmp_path_factory.mktemp("dev") / "data", locations="LHR,IAD,SIN") as server:
        yield server


def test_a_write_appears_at_three_locations(dev: Server) -> None:
    """From wherever it comes, whether the key was there before or not."""
    user, running = user_of(dev), dev.running
    assert list(running.locations) == ["LHR", "IAD", "SIN"]

    user.put(running.central, "first", b"1")
    for url in running.locations.values():
        assert user.await_value(url, "first", b"1").status == 200
    user.put(running.locations["LHR"], "first2", b"2")
    for url in (running.central, *running.locations.values()):
        user.await_value(url, "first2", b"2")


def test_a_location_that_is_cut_off_goes_on_and_converges(dev: Server) -> None:
    """It answers what it holds, takes writes into its journal, and delivers them once healed."""
    user, running = user_of(dev), dev.running
    singapore = running.locations["SIN"]
    user.put(running.central, "cut", b"before")
    user.await_value(singapore, "cut", b"before")

    said = json.loads(atoll(dev.data, "dev", "cut", "SIN", "--json"))
    during = user.get(singapore, "cut")
    journaled = user.put(singapore, "cut", b"written in Singapore")
    shown = user.get(singapore, "cut")
    never_seen = user.get(singapore, "never seen".replace(" ", "-"))
    demanded = user.get(singapore, "cut", Cache_Control="no-cache", Atoll_At_Least="j-SIN-9")
    elsewhere = user.get(running.central, "cut")
    atoll(dev.data, "dev", "heal", "SIN")
    for url in (running.central, *running.locations.values()):
        user.await_value(url, "cut", b"written in Singapore")
    after = user.get(singapore, "cut")
    for _ in range(ASKED_MAX):  # Central has it a moment before the outcome is known there.
        if "atoll-journaled" not in after.headers:
            break
        after = user.get(singapore, "cut")

    assert {"name": "SIN", "rtt_ms": 0.0, "cut": True} in said
    assert during.body == b"before"
    assert (journaled.status, journaled.json["journaled"]) == (202, True)
    assert journaled.headers["atoll-position"].startswith("j-SIN~")
    assert shown.body == b"written in Singapore"
    assert shown.headers["atoll-journaled"] == "?1"
    assert never_seen.status == 503
    assert demanded.status == 503
    assert elsewhere.body == b"before"
    assert after.headers["etag"] == journaled.headers["etag"]
    assert "atoll-journaled" not in after.headers


def test_what_cannot_be_ordered_is_said(dev: Server) -> None:
    """A location that is not there, a round trip that is none."""
    atoll(dev.data, "dev", "cut", "LAX", code=2)
    atoll(dev.data, "dev", "rtt", "SIN", "-1", code=2)
    atoll(dev.data, "dev", "rtt", "SIN", "40")
    said = json.loads(atoll(dev.data, "dev", "rtt", "SIN", "0", "--json"))
    assert {"name": "SIN", "rtt_ms": 0.0, "cut": False} in said


def test_administration_is_central_s(dev: Server) -> None:
    """A location says so, in each face's own form."""
    user, running = user_of(dev), dev.running
    at = urlsplit(running.locations["LHR"])
    for path in ("/client/v4/accounts", "/v1/nodes"):
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=REQUEST_S_MAX)
        connection.request("GET", path, headers={"Authorization": f"Bearer {user.token}"})
        response = connection.getresponse()
        refused = response.read()
        connection.close()
        assert response.status == 421
        assert b"central" in refused


def children_of(process: int) -> list[tuple[int, str]]:
    """Return the processes that a process started, and how."""
    shown = subprocess.check_output(["/bin/ps", "-ww", "-eo", "pid=,ppid=,args="], text=True)
    rows = (line.split(None, 2) for line in shown.splitlines())
    return [(int(pid), args) for pid, parent, args in rows if int(parent) == process]


@contextmanager
def location(
    folder: Path, *, upstream: str, credential: str, processes: int, **more: str
) -> Generator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run `atoll location PAR`; yield its URL and its first process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "upstream": upstream,
        "node_credential": credential,
        "processes": str(processes),
        "port": str(port),
        "access_log": "false",
        **more,
    }
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [ATOLL, "location", "PAR"],
            env=environment(folder, **settings),
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        for _ in itertools.repeat(None):
            assert process.poll() is None, log_of(folder)
            if '"location_started"' in log_of(folder) and _answers(port):
                break
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S_MAX)
    assert [line for line in log_of(folder).splitlines() if '"level":"error"' in line] == []


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def part(process: "subprocess.Popen[bytes]", name: str) -> int:
    """Return a process of a location, once it is there."""
    for _ in range(LISTED_MAX):
        for pid, args in children_of(process.pid):
            if f"--part {name}" in args:
                return pid
    raise AssertionError(f"there is no {name}")


@pytest.fixture(scope="module")
def paris(dev: Server) -> str:
    """Make a credential for another location."""
    return str(json.loads(atoll(dev.data, "node", "create", "PAR", "--json"))["credential"])


def test_several_processes_are_one_location(dev: Server, paris: str, tmp_path: Path) -> None:
    """They share what is held; killed ones are replaced, and meanwhile the others go on."""
    user, running = user_of(dev), dev.running
    user.put(running.central, "several", b"1")
    with location(tmp_path / "par", upstream=running.central, credential=paris, processes=2) as (
        url,
        process,
    ):
        user.await_value(url, "several", b"1")
        keeper = part(process, "keeper")

        os.kill(keeper, signal.SIGKILL)
        without_keeper = user.get(url, "several")
        again = part(process, "keeper")
        user.put(running.central, "several2", b"2")
        user.await_value(url, "several2", b"2")
        for _ in range(2):
            os.kill(part(process, "reader"), signal.SIGKILL)
            assert user.get(url, "several2").body == b"2"
        written = user.put(url, "several3", b"3")
        read = [user.get(url, "several3").body for _ in range(20)]
        process.send_signal(signal.SIGHUP)
        while part(process, "keeper") == again or '"processes_replaced"' not in log_of(
            tmp_path / "par"
        ):
            assert user.get(url, "several2").body == b"2"

    assert without_keeper.body == b"1"
    assert again != keeper
    assert written.status == 200
    assert read == [b"3"] * 20


def test_what_was_journaled_survives_a_kill(dev: Server, paris: str, tmp_path: Path) -> None:
    """Acknowledged by a location that then dies, it reaches central all the same."""
    user, running = user_of(dev), dev.running
    folder = tmp_path / "par"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with location(folder, upstream=running.central, credential=paris, processes=1) as (
            url,
            process,
        ):
            assert user.put(url, "kept", b"0").status == 200
            user.await_value(url, "kept", b"0")
            process.kill()
            process.wait()
        with location(folder, upstream=nowhere, credential=paris, processes=1) as (url, process):
            journaled = user.put(url, "kept2", b"journaled")
            process.kill()
            process.wait()
        with location(folder, upstream=nowhere, credential=paris, processes=1) as (url, _):
            shown = user.get(url, "kept2")
    with location(folder, upstream=running.central, credential=paris, processes=1):
        user.await_value(running.central, "kept2", b"journaled")

    assert (journaled.status, journaled.json["journaled"]) == (202, True)
    assert (shown.status, shown.body) == (200, b"journaled")


def test_a_revoked_node_is_shut_out(dev: Server, paris: str, tmp_path: Path) -> None:
    """It goes on with what it holds, as if it were cut off, and says why in its log."""
    user, running = user_of(dev), dev.running
    user.put(running.central, "revoked", b"1")
    with location(tmp_path / "par", upstream=running.central, credential=paris, processes=1) as (
        url,
        _,
    ):
        user.await_value(url, "revoked", b"1")
        assert "PAR" in atoll(dev.data, "node", "list")
        atoll(dev.data, "node", "revoke", "PAR")
        user.put(running.central, "revoked2", b"2")

        assert user.get(url, "revoked").body == b"1"
        assert user.get(url, "revoked2").status in {401, 503}
    atoll(dev.data, "node", "revoke", "PAR", code=3)


def test_nodes_speak_tls_to_each_other(tmp_path: Path) -> None:
    """A location that trusts central's certificate reads through it; another stays cut off."""
    data = tmp_path / "central"
    made = initialised(data)
    settings = certificate(tmp_path)
    trusted = {"ca_certificate": settings["tls_certificate"]}
    with central(data, host="0.0.0.0", **settings) as (url, _):  # noqa: S104 - TLS
        given = {"url": url, "token": made["token"], **trusted}
        command(data, "namespace", "create", "things", settings=given)
        rows = json.loads(command(data, "namespace", "list", "--json", settings=given).stdout)
        user = User(token=made["token"], namespace=rows[0]["id"])
        told = command(data, "node", "create", "PAR", "--json", settings=given).stdout
        credential = json.loads(told)["credential"]
        with location(
            tmp_path / "par", upstream=url, credential=credential, processes=1, **trusted
        ) as (near, _):
            assert user.put(near, "k", b"over TLS").status == 200
            assert user.get(near, "k").body == b"over TLS"
        with location(tmp_path / "other", upstream=url, credential=credential, processes=1) as (
            near,
            _,
        ):
            assert user.get(near, "k").status == 503


def test_a_second_start_is_refused(dev: Server, tmp_path: Path) -> None:
    """Two keepers would spoil what they keep; the error names the first one's process."""
    folder = tmp_path / "par"
    with location(
        folder, upstream=dev.running.central, credential="atollnode_PAR_0", processes=1
    ) as (_, process):
        refused = subprocess.run(
            [ATOLL, "location", "PAR", "--upstream", dev.running.central, "--port", "0"],
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=REQUEST_S_MAX,
            check=False,
        )

    assert refused.returncode != 0
    assert f"process {process.pid}" in refused.stderr


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["location", "PAR"], "--upstream"),
        (["location", "PAR", "--upstream", "central"], "--upstream"),
        (["location", "central", "--upstream", "http://127.0.0.1:1"], "central"),
        (["location", "a/b", "--upstream", "http://127.0.0.1:1"], "letters"),
        (["dev", "--locations", "LHR,LHR"], "twice"),
        (["dev", "--locations", "LHR", "--rtt", "SIN=3"], "milliseconds"),
        (["dev", "--locations", "LHR", "--rtt", "fast"], "milliseconds"),
    ],
)
def test_wrong_ways_to_start_are_explained(tmp_path: Path, args: list[str], word: str) -> None:
    """With what to do instead."""
    refused = subprocess.run(
        [ATOLL, *args],
        env=environment(tmp_path / "data"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REQUEST_S_MAX,
        check=False,
    )

    assert refused.returncode == 2
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr
