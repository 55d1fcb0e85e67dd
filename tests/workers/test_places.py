"""Where a Worker's namespaces may be: behind a unix socket, behind TLS, at central itself."""

import itertools
import json
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.plain import access_to, create
from tests.processes.test_deployment import atoll as command
from tests.processes.test_deployment import central, certificate, initialised
from tests.support.server import ATOLL, STOP_S_MAX, Server, environment, log_of
from tests.workers.running import Kv, as_module, running_worker, workerd

NEWER = "wrangler-newest"


@contextmanager
def location_at(server: Server, folder: Path, path: Path, processes: int) -> Generator[None]:
    """Run a location that listens on a unix socket."""
    made = subprocess.check_output(
        [ATOLL, "node", "create", "UDS", "--json"], env=environment(server.data)
    )
    settings = {
        "upstream": server.url,
        "node_credential": json.loads(made)["credential"],
        "processes": str(processes),
        "host": f"unix:{path}",
        "limits_rewrite_interval_ms": "0",
    }
    data = folder / "uds"
    with data.with_name("uds.log").open("wb") as log:
        process = subprocess.Popen(
            [ATOLL, "location", "UDS"],
            env=environment(data, **settings),
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        for _ in itertools.repeat(None):
            assert process.poll() is None, log_of(data)
            if '"location_started"' in log_of(data):
                break
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S_MAX)


@pytest.mark.parametrize("processes", [1, 2])
def test_behind_a_unix_socket(server: Server, tmp_path: Path, processes: int) -> None:
    """Several namespaces behind one socket; one that a dead process left is no hindrance."""
    path = tmp_path / "kv.sock"
    access = access_to(server)
    spaces = {name: create(access, f"{name}{processes}") for name in ("ONE", "TWO")}
    bound = [f"--kv={name}={space.id}" for name, space in spaces.items()]

    for _ in range(2):
        with (
            location_at(server, tmp_path, path, processes),
            running_worker(
                server.data,
                tmp_path,
                as_module(tmp_path),
                *bound,
                f"--location=unix:{path}",
                "--workerd",
                workerd(NEWER),
            ) as worker,
        ):
            assert path.is_socket()
            for name in spaces:
                kv = Kv(worker=worker, binding=name)
                kv.put("k", f"of {name}")
                assert kv.get("k") == f"of {name}"
                assert kv.names() == ["k"]
        assert [space.value("k") for space in spaces.values()] == [b"of ONE", b"of TWO"]


def test_behind_tls_and_at_central(tmp_path: Path) -> None:
    """With an authority of one's own, and with no location at all."""
    data = tmp_path / "central"
    made = initialised(data)
    settings = certificate(tmp_path)
    with central(data, host="0.0.0.0", **settings) as (url, _):  # noqa: S104 - TLS
        given = {
            "url": url,
            "token": made["token"],
            "ca_certificate": settings["tls_certificate"],
        }
        command(data, "namespace", "create", "things", settings=given)
        with running_worker(
            data,
            tmp_path,
            as_module(tmp_path),
            "--kv=KV=things",
            "--workerd",
            workerd(NEWER),
            settings=given,
        ) as worker:
            kv = Kv(worker=worker, binding="KV")
            kv.put("k", "over TLS", metadata=1)
            entry = kv.entry("k")

    assert entry == {"value": "over TLS", "metadata": 1, "cacheStatus": "MISS"}
