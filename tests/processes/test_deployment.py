"""A real deployment: init, central, backup, restore, rotation, TLS."""

import http.client
import json
import os
import signal
import ssl
import stat
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.server import ATOLL, STOP_S_MAX, environment

RUN_S_MAX = 60
HANDSHAKES_MAX = 100_000
"""Some minutes of looking."""


def atoll(
    data: Path, *args: str, code: int = 0, settings: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command on a data folder; it must end with `code`."""
    done = subprocess.run(
        [ATOLL, *args],
        env=environment(data, **(settings or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr, done.stderr
    return done


def initialised(data: Path) -> dict[str, str]:
    """Make a data folder and return what `init` said."""
    said: dict[str, str] = json.loads(atoll(data, "init", "--json").stdout)
    return said


@contextmanager
def central(data: Path, **settings: str) -> Generator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `atoll central`; yield its URL, once it answers, and the process."""
    process = subprocess.Popen(
        [ATOLL, "central"],
        env=environment(data, **{"port": "0", "access_log": "false", **settings}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield event(process, "central_started")["url"], process
    finally:
        if process.poll() is None:
            process.terminate()
        _, log = process.communicate(timeout=STOP_S_MAX)
    assert process.returncode == 0, log
    assert '"level":"error"' not in log, log


def event(process: "subprocess.Popen[str]", name: str) -> dict[str, Any]:
    """Read the log until an event comes."""
    assert process.stderr is not None
    for line in process.stderr:
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == name:
            return entry
    raise AssertionError(f"{name} did not come; the process ended with {process.wait()}")


def test_init_makes_what_central_serves(tmp_path: Path) -> None:
    """The credentials that it shows are good for everything."""
    data = tmp_path / "data"
    said = initialised(data)
    with central(data) as (url, _):
        given = {"url": url, "token": said["token"]}
        namespace = atoll(tmp_path, "namespace", "create", "first", settings=given).stdout.strip()
        atoll(tmp_path, "key", "put", namespace, "k", "v", settings=given)
        assert atoll(tmp_path, "key", "get", "first", "k", settings=given).stdout == "v"
        accounts = json.loads(atoll(tmp_path, "account", "list", "--json", settings=given).stdout)
        assert [one["id"] for one in accounts] == [said["account_id"]]
        address = urlsplit(url)
        connection = http.client.HTTPConnection(address.netloc, timeout=RUN_S_MAX)
        headers = {"X-Auth-Email": said["email"], "X-Auth-Key": said["key"]}
        connection.request("GET", "/client/v4/accounts", headers=headers)
        assert connection.getresponse().status == 200
        connection.close()

    assert not (data / "credentials.json").exists()
    assert not (data / "dev.json").exists()
    assert Path(said["sealing_key"]) == data / "sealing.key"
    assert stat.S_IMODE((data / "sealing.key").stat().st_mode) == 0o600


def test_init_tells_people_what_to_keep(tmp_path: Path) -> None:
    """Token, global key and sealing key, each with what it is for."""
    data = tmp_path / "data"
    said = atoll(data, "init", "--account", "ACME", "--email", "ann@example.com").stdout

    for needed in ("ACME", "ann@example.com", "atoll_", "sealing.key", "not shown again"):
        assert needed in said
    refused = atoll(data, "init", "--json", code=8)
    assert json.loads(refused.stderr)["error"]["code"] == "store_exists"


def test_saved_credentials_are_found_by_commands(tmp_path: Path) -> None:
    """After `init --save` a command on the folder needs none, once it knows where the server is."""
    data = tmp_path / "data"
    atoll(data, "init", "--save")

    with central(data) as (url, _):
        port = str(urlsplit(url).port)
        assert atoll(data, "namespace", "list", settings={"port": port}).stdout == ""
    assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600


def test_central_serves_nothing_that_was_not_initialised(tmp_path: Path) -> None:
    """An empty folder may be a mistyped one, so none is made there."""
    refused = atoll(tmp_path / "data", "central", "--json", code=8)

    assert json.loads(refused.stderr)["error"]["code"] == "store_not_found"
    assert not (tmp_path / "data").exists()


def test_a_backup_of_a_running_server_is_restored(tmp_path: Path) -> None:
    """With everything up to the moment of the backup, credentials included, and nothing after."""
    data, copy, restored = tmp_path / "data", tmp_path / "copy", tmp_path / "restored"
    said = initialised(data)
    with central(data) as (url, _):
        given = {"url": url, "token": said["token"]}
        atoll(data, "namespace", "create", "ns", settings=given)
        atoll(data, "key", "put", "ns", "before", "1", settings=given)
        made = json.loads(atoll(data, "backup", str(copy), "--json").stdout)
        atoll(data, "key", "put", "ns", "after", "1", settings=given)

    assert made["size"] == copy.stat().st_size
    key = (data / "sealing.key").read_bytes()
    assert key.strip() not in copy.read_bytes()
    assert bytes.fromhex(key.decode().strip()) not in copy.read_bytes()
    missing = atoll(restored, "restore", str(copy), code=8)
    assert "sealing.key" in missing.stderr
    (restored / "sealing.key").write_bytes(os.urandom(32).hex().encode() + b"\n")
    (restored / "sealing.key").chmod(0o600)
    wrong = atoll(restored, "restore", str(copy), code=8)
    assert "does not open" in wrong.stderr
    (restored / "sealing.key").write_bytes(key)
    atoll(restored, "restore", str(copy))
    with central(restored) as (url, _):
        given = {"url": url, "token": said["token"]}
        listed = atoll(restored, "key", "list", "ns", settings=given).stdout
    assert listed == "before\n"
    atoll(restored, "restore", str(copy), code=8)


def test_backups_and_restores_of_nothing_are_refused(tmp_path: Path) -> None:
    """Each says what is missing or in the way."""
    data = tmp_path / "data"
    (tmp_path / "file").write_text("x")

    atoll(data, "backup", str(tmp_path / "copy"), code=8)
    atoll(data, "restore", str(tmp_path / "missing"), code=2)
    atoll(data, "restore", str(tmp_path / "file"), code=8)
    initialised(data)
    atoll(data, "backup", str(tmp_path / "file"), code=2)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("serving", [True, False])
def test_the_sealing_key_is_rotated(tmp_path: Path, *, serving: bool) -> None:
    """Beside a running server or without one: the old key opens nothing that is left."""
    data = tmp_path / "data"
    said = initialised(data)
    old = (data / "sealing.key").read_bytes()
    with central(data) as (url, process):
        given = {"url": url, "token": said["token"]}
        atoll(data, "namespace", "create", "ns", settings=given)
        atoll(data, "key", "put", "ns", "k", "v", "--metadata", '"m"', settings=given)
        if serving:
            busy = atoll(data, "seal", "rotate", code=8)
            assert f"kill -USR1 {process.pid}" in busy.stderr
            process.send_signal(signal.SIGUSR1)
            event(process, "sealing_key_rotated")
            assert event(process, "resealed")["entries"] > 0
            assert atoll(data, "key", "get", "ns", "k", settings=given).stdout == "v"
    if not serving:
        atoll(data, "seal", "rotate")

    new = (data / "sealing.key").read_bytes()
    assert new != old
    for retired in data.glob("sealing.key.retired-*"):
        assert retired.read_bytes() == old
        retired.unlink()
    with central(data) as (url, _):
        given = {"url": url, "token": said["token"]}
        got = json.loads(atoll(data, "key", "get", "ns", "k", "--json", settings=given).stdout)
    assert (got["value"], got["metadata"]) == ("v", "m")


def certificate(folder: Path) -> dict[str, str]:
    """Make a certificate for this machine, and return the settings that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "atoll test")])
    now = datetime.now(UTC)  # noqa: TID251 - TLS looks at the machine's own clock
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return {
        "tls_certificate": str(folder / "cert.pem"),
        "tls_key": str(folder / "key.pem"),
    }


def test_tls_is_served_and_checked(tmp_path: Path) -> None:
    """A command that trusts the certificate gets through, one that does not says so."""
    data = tmp_path / "data"
    said = initialised(data)
    with central(data, host="0.0.0.0", **certificate(tmp_path)) as (url, _):  # noqa: S104 - TLS
        given = {"url": url, "token": said["token"]}
        trusted = {**given, "ca_certificate": str(tmp_path / "cert.pem")}

        assert url.startswith("https://127.0.0.1:")
        atoll(tmp_path, "namespace", "list", settings=trusted)
        refused = atoll(tmp_path, "namespace", "list", code=5, settings=given)
        assert "certificate" in refused.stderr.lower()
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(urlsplit(url).netloc, timeout=RUN_S_MAX).connect()


def test_half_of_tls_is_refused(tmp_path: Path) -> None:
    """A certificate without its key, or the other way round, or what is neither."""
    data = tmp_path / "data"
    initialised(data)
    settings = certificate(tmp_path)
    for name, path in settings.items():
        half = atoll(data, "central", code=2, settings={name: path})
        assert "go together" in half.stderr
    swapped = {"tls_certificate": settings["tls_key"], "tls_key": settings["tls_certificate"]}
    refused = atoll(data, "central", code=2, settings={"port": "0", **swapped})
    assert "tls_certificate" in refused.stderr


def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    """New files are served without a restart; files that cannot be used change nothing."""
    data = tmp_path / "data"
    initialised(data)
    settings = certificate(tmp_path)
    path = Path(settings["tls_certificate"])
    first = path.read_text()
    with central(data, host="0.0.0.0", **settings) as (url, _):  # noqa: S104 - TLS
        at = urlsplit(url)
        assert at.hostname is not None
        assert at.port is not None
        served = (at.hostname, at.port)
        assert ssl.get_server_certificate(served) == first

        renewed_folder = tmp_path / "renewed"
        renewed_folder.mkdir()
        renewed = certificate(renewed_folder)
        Path(renewed["tls_key"]).replace(settings["tls_key"])  # At first only half of the pair.
        for _ in range(50):
            assert ssl.get_server_certificate(served) == first
        Path(renewed["tls_certificate"]).replace(path)
        handshakes = 0
        while ssl.get_server_certificate(served) == first:
            handshakes += 1
            assert handshakes < HANDSHAKES_MAX
        assert ssl.get_server_certificate(served) == path.read_text()
