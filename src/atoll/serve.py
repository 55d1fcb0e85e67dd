"""The composition root: chooses the implementations, puts a node together, and serves it.

What is opened here is closed here, in the opposite order, whatever happened in between.
"""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog
import uvicorn
import uvloop
from structlog.tracebacks import ExceptionDictTransformer

from atoll.accounts import Accounts
from atoll.central import Central, CentralSettings
from atoll.clock import SystemClock
from atoll.config import Config
from atoll.core.errors import ConfigError, StoreError, StoreNotFoundError
from atoll.http.app import Node, create_app
from atoll.http.connection import Connection
from atoll.store import sqlite
from atoll.store.sqlite import SqliteStore
from atoll.store.sqlite.backup import Progress
from atoll.store.sqlite.opening import KEY_NAME
from atoll.store.sqlite.schema import DATABASE_NAME

CENTRAL_NAME: Final = "central"
SPOOL_NAME: Final = "spool"
FOLDER_MODE: Final = 0o700
FILES_KEPT: Final = 256
"""Open files besides connections: the database's, and bodies that wait."""

RESEAL_PAUSE_S: Final = 0.01
"""Between two rounds, for the requests that wait."""
UPKEEP_RETRY_S: Final = 10.0
"""After a round of upkeep that failed, as on a full disk."""

GARBAGE_THRESHOLDS: Final = (50_000, 20, 20)
"""How many new objects before Python looks for cycles among them. A bulk makes tens of thousands
that live until its commit; by default they would be searched dozens of times, in vain."""

log = structlog.stdlib.get_logger()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Central on an open data folder."""

    config: Config
    clock: SystemClock
    store: SqliteStore
    central: Central
    accounts: Accounts


@asynccontextmanager
async def opened(config: Config, *, create: bool) -> AsyncGenerator[Opened]:
    """Open the data folder for as long as the block lasts. One process at a time can.

    Args:
        config: The settings.
        create: Whether to make a store where there is none.

    Raises:
        StoreNotFoundError: There is none, and `create` is false.
        StoreInUseError: Another process has it open.
        SealingKeyMissingError: The store's key is not where it should be.
        SealingKeyWrongError: The key is another store's.
        SchemaTooNewError: A later release wrote it.
    """
    clock = SystemClock()
    if create:
        config.data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    elif not (config.data / DATABASE_NAME).is_file():
        raise StoreNotFoundError(path=str(config.data))
    store = await SqliteStore.open(
        config.data, clock=clock, random_bytes=os.urandom, key_path=config.sealing_key
    )
    try:
        central = Central(
            store,
            clock=clock,
            limits=config.limits,
            settings=CentralSettings(
                sweep_interval_s=config.sweep_interval_s,
                outcomes_kept_s=config.outcomes_kept_s,
                log_rows_max=config.feed_rows_max,
            ),
        )
        accounts = Accounts(central, limits=config.limits, clock=clock, random_bytes=os.urandom)
        yield Opened(config=config, clock=clock, store=store, central=central, accounts=accounts)
    finally:
        await store.close()


def sealing_key_of(config: Config) -> Path:
    """Return the file of the sealing key."""
    return config.sealing_key or config.data / KEY_NAME


def back_up(config: Config, target: Path, *, progress: Progress) -> sqlite.Backup:
    """Copy the store, which a server may be using, to one new file.

    Raises:
        StoreNotFoundError: There is none; see `sqlite.back_up` for the other errors.
    """
    if not (config.data / DATABASE_NAME).is_file():
        raise StoreNotFoundError(path=str(config.data))
    return sqlite.back_up(config.data, target, progress=progress)


def restore(config: Config, backup: Path, *, progress: Progress) -> None:
    """Put a backup back in the data folder; see `sqlite.restore` for its errors."""
    sqlite.restore(backup, config.data, progress=progress, key_path=config.sealing_key)


async def serve(node: Opened, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal says to stop, then finish what was begun.

    A second one ends what has not finished. SIGUSR1 rotates the sealing key.

    Args:
        node: What to serve.
        announce: Told the URL once everything answers.

    Raises:
        ConfigError: The address is taken, or may not be listened on.
    """
    config = node.config
    require_safe(config)
    listener = _listener(config)
    try:
        port: int = listener.getsockname()[1]
        scheme = "http" if config.tls_certificate is None else "https"
        server = _Server(_uvicorn(node, ready=lambda: server.ready))
        server.announce = lambda: announce(f"{scheme}://{_in_url(config.host)}:{port}")
        rotate = asyncio.Event()
        _listen_to_signals(server, rotate)
        gc.freeze()  # What is here by now stays, and need not be looked at again.
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        upkeep = [
            asyncio.create_task(_kept_up("sweep", node.central.sweep_forever, node.clock)),
            asyncio.create_task(_kept_up("seal", lambda: _seal_forever(node, rotate), node.clock)),
        ]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in upkeep:
                task.cancel()
            await asyncio.gather(*upkeep, return_exceptions=True)
    finally:
        listener.close()


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


# Listening.


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
    if config.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    """Write the address as a URL for people on this machine has it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"[{host}]" if ":" in host else host


def _listener(config: Config) -> socket.socket:
    """Bind the address; uvicorn listens on it once the application is ready."""
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


def _uvicorn(node: Opened, *, ready: Callable[[], bool]) -> uvicorn.Config:
    config = node.config
    app = create_app(
        Node(
            upstream=node.central,
            accounts=node.accounts,
            limits=config.limits,
            clock=node.clock,
            name=CENTRAL_NAME,
            spool_dir=_empty_spool(config.data),
            ready=ready,
            access_log=config.access_log,
        )
    )
    made = uvicorn.Config(
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
        made.load()
    except OSError as error:  # A file that is missing, or that OpenSSL cannot use.
        raise ConfigError(
            name="tls_certificate",
            given=str(config.tls_certificate),
            rule=f"the certificate and its key ({config.tls_key}) cannot be used: {error}",
            origin="in effect",
        ) from error
    return made


def _empty_spool(data: Path) -> Path:
    """Make the folder in which large bodies wait; what a killed process left there goes."""
    spool = data / SPOOL_NAME
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(mode=FOLDER_MODE)
    return spool


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


class _Server(uvicorn.Server):
    """uvicorn, with signals and readiness in our hands."""

    announce: Callable[[], None]

    @property
    def ready(self) -> bool:
        """Whether requests are answered, and will be for a while."""
        return self.started and not self.should_exit

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `_listen_to_signals`: uvicorn's way would end us before our turn."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets=sockets)
        self.announce()


def _listen_to_signals(server: uvicorn.Server, rotate: asyncio.Event) -> None:
    """Stop on SIGINT, SIGTERM and SIGHUP, at once on a second one; rotate the key on SIGUSR1.

    The handlers stay until the loop ends: a Ctrl-C more must not cut the store's closing short.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup sets it.
            loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGUSR1, rotate.set)


async def _kept_up(
    name: str, work: Callable[[], Coroutine[Any, Any, None]], clock: SystemClock
) -> None:
    """Do work that never ends. A bug in it is reported, and costs nobody the service."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("upkeep_crashed", work=name)
        await clock.sleep(UPKEEP_RETRY_S)


async def _seal_forever(node: Opened, rotate: asyncio.Event) -> None:
    """Rotate the sealing key when told to; seal anew, beside all else, what earlier keys sealed."""
    while True:
        try:
            if rotate.is_set():
                rotate.clear()
                await node.store.rotate()
                log.info("sealing_key_rotated", path=str(sealing_key_of(node.config)))
            resealed = await node.store.reseal()
            if not resealed.complete:
                await node.clock.sleep(RESEAL_PAUSE_S)
                continue
            if resealed.done:
                log.info("resealed", entries=resealed.done)
            await rotate.wait()
        except StoreError as error:
            log.warning("reseal_failed", code=error.code, reason=str(error))
            await node.clock.sleep(UPKEEP_RETRY_S)


# The log.


def configure_log(config: Config) -> None:
    """Send every event, ours and uvicorn's, to standard error in the form that was asked for."""
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    as_json = config.log_format == "json" or (
        config.log_format == "auto" and not sys.stderr.isatty()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        # Without the values of local variables: some are secrets, some are other people's data.
        traceback = ExceptionDictTransformer(show_locals=False)
        shared += [
            structlog.processors.ExceptionRenderer(traceback),
            structlog.processors.JSONRenderer(_line),
        ]
        structlog.configure(
            processors=shared,
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        )
    else:
        plain = structlog.dev.plain_traceback
        colours = sys.stderr.isatty()
        shared += [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
        structlog.configure(
            processors=shared,
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        )
    # uvicorn tells of its own start and stop; so do we, so that only its complaints are left.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Forwarded()], force=True)


def _line(event: dict[str, object], **_: object) -> bytes:
    """Write an event with what people look for first in front."""
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return msgspec.json.encode({**first, **event}, enc_hook=repr)


class _Forwarded(logging.Handler):
    """Passes on what libraries log, as one of our events."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        log.log(
            record.levelno,
            "library_logged",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )
