"""`atoll dev`: started, stopped and started again, by people and by scripts."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.support.server import ATOLL, Server, environment, serving, started

STOP_S_MAX = 5
RUN_S_MAX = 60


def ask(server: Server, path: str, *, method: str = "GET", body: bytes | None = None) -> bytes:
    """Send a request with the server's token and return the body of the answer."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=RUN_S_MAX)
    try:
        headers = {"Authorization": f"Bearer {server.running.token}"}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        return answer.read()
    finally:
        connection.close()


def run_dev(data: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `atoll dev` where it must end by itself."""
    return subprocess.run(
        [ATOLL, "dev"],
        env=environment(data, **{"port": "0", **settings}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def mode_of(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_prints_what_to_try(tmp_path: Path) -> None:
    """URL, token and three commands stand on the screen, and work when they are copied."""
    data = tmp_path / "data"
    with subprocess.Popen(
        [ATOLL, "dev"],
        env=environment(data, port="0", log_level="warning"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "key get my-namespace greeting" in line:
                break
        dev = json.loads((data / "dev.json").read_text())
        curl, _, get = "".join(said).partition("wrangler and atoll itself:\n\n")[2].split("\n\n")
        stored = subprocess.run(["/bin/sh", "-c", curl], capture_output=True, check=False)
        got = subprocess.run(["/bin/sh", "-c", get], capture_output=True, check=False)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=RUN_S_MAX)

    text = "".join(said)
    assert process.returncode == 0, complaints
    for needed in (dev["central"], dev["token"], dev["account_id"], dev["namespace_id"]):
        assert text.count(needed) >= 2, needed
    assert "curl -X PUT" in text
    assert "npx wrangler kv key get --remote" in text
    assert f"key get my-namespace greeting --data {data}" in text
    assert json.loads(stored.stdout)["success"] is True
    assert got.stdout == b"hello, world"
    assert "Traceback" not in complaints


def test_dev_json_is_there_while_it_runs_and_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds what clients need, nobody else can read it, and it goes with the server."""
    with serving(tmp_path / "data") as server:
        path = server.data / "dev.json"
        said = json.loads(path.read_text())

        assert set(said) == {
            "account_id",
            "token",
            "email",
            "key",
            "namespace_id",
            "central",
            "locations",
        }
        assert said["locations"] == {}
        assert mode_of(path) == 0o600
        assert mode_of(server.data / "credentials.json") == 0o600
        assert mode_of(server.data) == 0o700
        assert json.loads(ask(server, "/readyz")) == {"ready": True}

    assert not path.exists()
    assert (server.data / "credentials.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_and_soon(tmp_path: Path, number: signal.Signals) -> None:
    """With a connection open and idle, it ends within seconds and says success."""
    server = started(tmp_path / "data")
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=RUN_S_MAX)
    connection.request("GET", "/healthz")
    connection.getresponse().read()

    server.process.send_signal(number)
    code = server.process.wait(STOP_S_MAX)
    server.stop()
    connection.close()

    assert code == 0


def test_starting_again_finds_everything_as_it_was(tmp_path: Path) -> None:
    """Credentials and values outlive a stop, and also a kill."""
    data = tmp_path / "data"
    with serving(data) as server:
        first = server.running
        path = f"/v1/namespaces/{first.namespace_id}/values/greeting"
        ask(server, path, method="PUT", body=b"hello")

    with serving(data) as server:
        second = server.running
        assert ask(server, path) == b"hello"
        server.stop(signal.SIGKILL)
    assert (data / "dev.json").exists()

    with serving(data) as server:
        third = server.running
        assert ask(server, path) == b"hello"

    # Where it listens is another port, and the link to the dashboard another one.
    elsewhere = {"central": first.central, "dashboard": first.dashboard}
    assert msgspec.structs.replace(second, **elsewhere) == first
    assert msgspec.structs.replace(third, **elsewhere) == first


def test_a_second_start_says_that_the_data_is_in_use(tmp_path: Path) -> None:
    """It names the process that has the folder, and leaves that one undisturbed."""
    with serving(tmp_path / "data") as server:
        second = run_dev(server.data)

        assert second.returncode == 8
        assert "in use by process" in second.stderr
        assert str(server.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert (server.data / "dev.json").exists()
        assert json.loads(ask(server, "/healthz")) == {"alive": True}


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Who has to choose another port is told which one, and how to choose."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        refused = run_dev(tmp_path / "data", port=str(port))

    assert refused.returncode == 2
    assert f"port {port}" in refused.stderr
    assert "ATOLL_PORT=0" in refused.stderr
    assert not (tmp_path / "data" / "dev.json").exists()


def test_beyond_loopback_takes_tls_or_permission(tmp_path: Path) -> None:
    """Listening where others could read along is refused before anything is made."""
    refused = run_dev(tmp_path / "data", host="0.0.0.0")  # noqa: S104 - refused, that is the test

    assert refused.returncode == 2
    assert "allow_plaintext" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_it_does_not_run_without_assertions(tmp_path: Path) -> None:
    """Assertions stop a bug before it reaches the disk, so they stay on."""
    refused = subprocess.run(
        [ATOLL, "dev"],
        env={**environment(tmp_path / "other"), "PYTHONOPTIMIZE": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )

    assert refused.returncode == 2
    assert "assertions" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_lost_credentials_are_replaced_and_the_data_stays(tmp_path: Path) -> None:
    """Without its credentials file the folder gets new ones, for the same account and data."""
    data = tmp_path / "data"
    with serving(data) as server:
        first = server.running
        path = f"/v1/namespaces/{first.namespace_id}/values/greeting"
        ask(server, path, method="PUT", body=b"hello")
    (data / "credentials.json").unlink()

    with serving(data) as server:
        assert server.running.token != first.token
        assert server.running.account_id == first.account_id
        assert server.running.namespace_id == first.namespace_id
        assert ask(server, path) == b"hello"


def test_a_request_that_has_begun_is_finished(tmp_path: Path) -> None:
    """A body that is still arriving when the signal comes is stored and answered."""
    data = tmp_path / "data"
    server = started(data)
    address = urlsplit(server.url)
    path = f"/v1/namespaces/{server.running.namespace_id}/values/late"
    with socket.create_connection((address.hostname, address.port), timeout=RUN_S_MAX) as wire:
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {server.running.token}\r\nContent-Length: 10\r\n\r\n"
        )
        wire.sendall(head.encode() + b"01234")
        ask(server, "/healthz")  # By now the first request has been taken up.
        server.process.send_signal(signal.SIGTERM)
        wire.sendall(b"56789")
        answer = wire.recv(65_536)
    code = server.stop()

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert code == 0
    with serving(data) as again:
        assert ask(again, path) == b"0123456789"


def test_leftovers_of_killed_uploads_are_swept_away(tmp_path: Path) -> None:
    """What waited in the spool when the process was killed is gone after the next start."""
    data = tmp_path / "data"
    with serving(data):
        pass
    (data / "spool" / "atoll-body-left").write_bytes(os.urandom(1000))

    with serving(data):
        assert list((data / "spool").iterdir()) == []
