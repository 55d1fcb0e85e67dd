"""Listening: what every node that answers HTTP needs, whatever stands behind it.

What is opened here is closed here, in the opposite order, whatever happened in between.
"""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import os
import resource
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
import uvicorn
import uvloop

from atoll.clock import SystemClock
from atoll.config import Config
from atoll.core.errors import ConfigError
from atoll.http.app import App
from atoll.http.connection import Connection

UNIX: Final = "unix:"
"""What the address of a unix socket begins with."""

SPOOL_NAME: Final = "spool"
FOLDER_MODE: Final = 0o700
FILES_KEPT: Final = 256
"""Open files besides connections: the database's, and bodies that wait."""

CERTIFICATE_LOOK_S: Final = 1.0
"""How often it is looked whether the files of the certificate have changed."""

UPKEEP_RETRY_S: Final = 10.0
"""After a round of upkeep that failed, as on a full disk."""

GARBAGE_THRESHOLDS: Final = (50_000, 20, 20)
"""How many new objects before Python looks for cycles among them. A bulk makes tens of thousands
that live until its commit; by default they would be searched dozens of times, in vain."""

log = structlog.stdlib.get_logger()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Work beside the requests that never ends."""

    name: str
    work: Callable[[], Coroutine[Any, Any, None]]
    is_vital: bool = False
    """Whether the process ends when this fails: whoever supervises it starts it anew."""


class Server(uvicorn.Server):
    """uvicorn, with signals and readiness in our hands."""

    announce: Callable[[], None]

    @property
    def ready(self) -> bool:
        """Whether requests are answered, and will be for a while."""
        return self.started and not self.should_exit

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `listen_to_signals`: uvicorn's way would end us before our turn."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets=sockets)
        self.announce()


async def serve_app(
    config: Config,
    make: Callable[[Callable[[], bool]], App],
    *,
    announce: Callable[[str], None],
    clock: SystemClock,
    upkeep: Sequence[Upkeep] = (),
    listener: socket.socket | None = None,
    on_signal: Callable[[signal.Signals], None] | None = None,
) -> None:
    """Answer requests until a signal says to stop, then finish what was begun.

    A second signal ends what has not finished.

    Args:
        config: Where to listen, and how.
        make: Makes the application, given what says whether it is ready.
        announce: Told the URL once everything answers.
        clock: What upkeep waits by.
        upkeep: What is done beside the requests.
        listener: A socket that is bound already; by default one is bound as `config` says.
        on_signal: Told of SIGUSR1.

    Raises:
        ConfigError: The address is taken, or may not be listened on.
    """
    own = listener is None
    if own:
        require_safe(config)
    listener = listener or bound(config)
    try:
        prepared = _uvicorn(config, make(lambda: server.ready))
        server = Server(prepared)
        server.announce = lambda: announce(url_of(config, listener))
        listen_to_signals(server, on_signal)
        gc.freeze()  # What is here by now stays, and need not be looked at again.
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        works = [*upkeep, *_certificates(config, prepared, clock)]

        def stop() -> None:
            server.should_exit = True

        async with kept_up(works, clock, on_failure=stop):
            await server.serve(sockets=[listener])
    finally:
        if own:
            listener.close()


async def serve_beside(
    config: Config, make: Callable[[Callable[[], bool]], App], listener: socket.socket
) -> None:
    """Answer on another socket of the same process, until cancelled: `serve_app` has the signals.

    Args:
        config: How connections are bounded.
        make: Makes the application, given what says whether it is ready.
        listener: Where to listen; the caller closes it.
    """
    server = Server(_uvicorn(config, make(lambda: server.ready)))
    server.announce = lambda: None
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait({serving})


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` on the event loop that servers use.

    Raises:
        ConfigError: Python was told to leave out assertions.
    """
    if not __debug__:
        main.close()
        raise ConfigError(
            name="PYTHONOPTIMIZE",
            given="-O",
            rule="Atoll keeps its assertions on: they stop a bug before it reaches the disk. Start"
            " Python without -O and without PYTHONOPTIMIZE.",
            origin="interpreter",
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


# Where to listen.


def require_safe(config: Config) -> None:
    """Refuse to listen where others could read along, unless told to in so many words.

    Raises:
        ConfigError: The address lies beyond loopback, and there is neither TLS nor permission.
    """
    if (config.tls_certificate is None) != (config.tls_key is None):
        given = config.tls_certificate or config.tls_key
        name = "tls_certificate" if config.tls_key is None else "tls_key"
        raise ConfigError(
            name=name,
            given=str(given),
            rule="tls_certificate and tls_key go together; give both",
            origin="in effect",
        )
    if config.tls_certificate is None and not config.allow_plaintext and not _is_loopback(config):
        raise ConfigError(
            name="host",
            given=config.host,
            rule="beyond loopback, requests and the credentials in them would cross the network"
            " readable. Set tls_certificate and tls_key, put a TLS proxy in front, or set"
            " allow_plaintext = true if the network itself is safe.",
            origin="in effect",
        )


def _is_loopback(config: Config) -> bool:
    if config.host == "localhost" or config.host.startswith(UNIX):
        return True
    try:
        return ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        return False


def url_of(config: Config, listener: socket.socket) -> str:
    """Return the URL at which a listener is reached from this machine."""
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{listener.getsockname()}"
    scheme = "http" if config.tls_certificate is None else "https"
    port: int = listener.getsockname()[1]
    return f"{scheme}://{_in_url(config.host)}:{port}"


def _in_url(host: str) -> str:
    """Write the address as a URL for people on this machine has it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"[{host}]" if ":" in host else host


def bound(config: Config) -> socket.socket:
    """Bind the address; uvicorn listens on it once the application is ready.

    Raises:
        ConfigError: The address is taken, or there is none like it.
    """
    if config.host.startswith(UNIX):
        return _bound_to_path(Path(config.host.removeprefix(UNIX)))
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigError(
            name="port" if taken else "host",
            given=str(config.port) if taken else config.host,
            rule=f"something else listens on port {config.port} of {config.host}. Stop it, or"
            " choose another port: ATOLL_PORT=0 takes a free one."
            if taken
            else f"cannot listen there: {error.strerror or error}",
            origin="in effect",
        ) from error
    return listener


def _bound_to_path(path: Path) -> socket.socket:
    """Bind a unix socket. One that nobody listens on any more was left by a process that died."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _is_listened_on(path):
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigError(
            name="host",
            given=f"{UNIX}{path}",
            rule=f"cannot listen there: {error.strerror or error}",
            origin="in effect",
        ) from error
    return listener


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def _uvicorn(config: Config, app: App) -> uvicorn.Config:
    prepared = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=config.backlog,
        limit_concurrency=_places(config.connections_max) + 1,
        timeout_keep_alive=config.keep_alive_s,
        timeout_graceful_shutdown=config.stop_s,
        ssl_certfile=config.tls_certificate,
        ssl_keyfile=config.tls_key,
    )
    try:
        prepared.load()
    except OSError as error:  # A file that is missing, or that OpenSSL cannot use.
        raise ConfigError(
            name="tls_certificate",
            given=str(config.tls_certificate),
            rule=f"the certificate and its key ({config.tls_key}) cannot be used: {error}",
            origin="in effect",
        ) from error
    return prepared


def _certificates(config: Config, prepared: uvicorn.Config, clock: SystemClock) -> Sequence[Upkeep]:
    """Return the work of taking up certificates that were renewed, if there is TLS."""
    context, certificate, key = prepared.ssl, config.tls_certificate, config.tls_key
    if context is None or certificate is None or key is None:
        return ()
    paths = (certificate, key)

    async def look_forever() -> None:
        loaded = _changed(paths)
        while True:
            await clock.sleep(CERTIFICATE_LOOK_S)
            found = _changed(paths)
            if found != loaded and _reloaded(context, *paths):
                loaded = found

    return (Upkeep(name="certificates", work=look_forever),)


def _changed(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Return what tells one state of the files from another; `None` for one that is missing."""
    found: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_ino))
    return found


def _reloaded(context: ssl.SSLContext, certificate: Path, key: Path) -> bool:
    """Take up a renewed certificate for new connections; if it cannot be used, keep the old one."""
    try:
        # In a context of its own first: a pair that does not fit would leave ours with half of it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        context.load_cert_chain(certificate, key)
    except OSError as error:
        log.warning("certificate_not_reloaded", path=str(certificate), reason=str(error))
        return False
    log.info("certificate_reloaded", path=str(certificate))
    return True


def empty_spool(folder: Path, name: str = SPOOL_NAME) -> Path:
    """Make the folder in which large bodies wait; what killed processes left there goes."""
    for left in folder.glob(f"{name.partition('-')[0]}*"):
        process = left.name.partition("-")[2]
        if not (process.isdecimal() and _is_alive(int(process))):
            shutil.rmtree(left, ignore_errors=True)
    spool = folder / name
    spool.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return spool


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _places(connections_max: int) -> int:
    """Ask the system for as many open files as the connections need; return how many we get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + FILES_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections_max
    places = max(1, soft - FILES_KEPT)
    log.warning("connections_limited", connections_max=places, open_files_max=soft)
    return places


def listen_to_signals(
    server: uvicorn.Server, on_signal: Callable[[signal.Signals], None] | None
) -> None:
    """Stop on SIGINT, SIGTERM and SIGHUP, at once on a second one; pass SIGUSR1 on.

    The handlers stay until the loop ends: a Ctrl-C more must not cut a store's closing short.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup sets it.
            loop.add_signal_handler(number, stop)
    if on_signal is not None:
        loop.add_signal_handler(signal.SIGUSR1, on_signal, signal.SIGUSR1)


@asynccontextmanager
async def kept_up(
    works: Sequence[Upkeep], clock: SystemClock, *, on_failure: Callable[[], None]
) -> AsyncGenerator[None]:
    """Do work beside the block, for as long as the block lasts.

    Args:
        works: The work.
        clock: What is waited by before failed work is begun again.
        on_failure: Called when vital work has failed; then it is not begun again, and the error
            is raised at the end of the block.
    """
    tasks = [asyncio.create_task(_kept_up(one, clock)) for one in works]
    for task in tasks:
        task.add_done_callback(lambda ended: None if ended.cancelled() else on_failure())
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _kept_up(upkeep: Upkeep, clock: SystemClock) -> None:
    """Do work that never ends. A bug in it is reported, and unless it is vital it is begun anew."""
    while True:
        try:
            await upkeep.work()
        except Exception:
            log.exception("upkeep_crashed", work=upkeep.name)
            if upkeep.is_vital:
                raise
        await clock.sleep(UPKEEP_RETRY_S)
