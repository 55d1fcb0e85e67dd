"""A location over its folder and its upstream.

With one process, that process is keeper and reader in one. With more, the keeper is a process
of its own, and readers share the port; `supervisor` starts them all, and again when they die. The
keeper listens on a unix socket in the folder, for readers and the Python programs of this machine.

    locations/NAME/
      keeper.lock        held by the keeper
      keeper.sock        where readers and programs ask it
      location.json      what programs need to know of it
      cache/             what is held; may be thrown away
      journal            what central has not acknowledged
      readers/           what readers read lately, and counted
      usage/             what was counted of requests and not delivered yet
      node.credential    what the location shows its upstream, if no setting says
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry

from atoll.accounts import Accounts
from atoll.clock import SystemClock
from atoll.config import Config
from atoll.core.errors import ConfigError, UnauthenticatedError
from atoll.http.app import App, Node, create_app
from atoll.http.inside import KeeperInside, ReaderInside
from atoll.http.location_metrics import KeeperMetrics
from atoll.http.metrics import Readers
from atoll.http.node import Inside
from atoll.http.peer import Everybody
from atoll.location.file_journal import FileJournal
from atoll.location.folder import KeeperLock, boot_id
from atoll.location.keeper import Keeper, KeeperSettings
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.lmdb_sight import LmdbSight
from atoll.location.mapping import ReaderMapping
from atoll.location.published import Published, publish
from atoll.location.quick import KeeperQuick, Near, Quick
from atoll.location.reader import Reader
from atoll.location.sockets import socket_path
from atoll.nodes import Nodes
from atoll.peer.client import PeerClient
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.registry import check_name
from atoll.serve.collecting import READER, collecting, telling
from atoll.serve.counting import counting, delivering, preparing
from atoll.serve.server import (
    FOLDER_MODE,
    Upkeep,
    bound,
    empty_spool,
    require_safe,
    serve_app,
    serve_beside,
    url_of,
)
from atoll.serve.supervisor import ALIVE_S, Role, Supervisor, sign_of_life
from atoll.upstream import Upstream
from atoll.usage.meter import Meter

OWNER_ONLY: Final = 0o600

FOLDER_NAME: Final = "locations"
CACHE_NAME: Final = "cache"
JOURNAL_NAME: Final = "journal"
READERS_NAME: Final = "readers"
SOCKET_NAME: Final = "keeper.sock"
CREDENTIAL_NAME: Final = "node.credential"
CREDENTIAL_BYTES_MAX: Final = 1024

LABEL_BYTES: Final = 4
"""What tells the journals of one location apart."""
SOCKET_BACKLOG: Final = 1024
MS_PER_S: Final = 1000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a location is, and what it is told."""

    name: str
    config: Config

    @property
    def folder(self) -> Path:
        """The location's own."""
        return self.config.data / FOLDER_NAME / self.name

    @property
    def socket_path(self) -> Path:
        """Where its keeper listens for readers."""
        return socket_path(self.folder, SOCKET_NAME)

    def credential(self) -> str | None:
        """Return what it shows its upstream, if it was given anything.

        Raises:
            ConfigError: The file cannot be read.
        """
        if self.config.node_credential is not None:
            return self.config.node_credential
        path = self.folder / CREDENTIAL_NAME
        try:
            with path.open() as file:
                return file.read(CREDENTIAL_BYTES_MAX).strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                name="node_credential",
                given=str(path),
                rule=f"it cannot be read: {error}",
                origin="location's folder",
            ) from error


def keep_credential(site: Site, credential: str) -> None:
    """Write down what a location shows its upstream, for its owner alone to read."""
    path = site.folder / CREDENTIAL_NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(file, "w") as writing:
        writing.write(credential + "\n")
    fresh.replace(path)


async def credential_of(config: Config, nodes: Nodes, name: str) -> str:
    """Return the credential that stands in a location's folder, if it still holds; or a new one.

    Args:
        config: Where the folder is.
        nodes: Central's.
        name: The location's.
    """
    kept = await asyncio.to_thread(Site(name=name, config=config).credential)
    if kept is not None:
        try:
            if await nodes.admit(f"Bearer {kept}") == name:
                return kept
        except UnauthenticatedError:
            pass  # The store may be another one by now.
    return await nodes.create(name)


def site_of(config: Config, name: str) -> Site:
    """Return the site of a location, its folder made.

    Raises:
        ConfigError: The name will not do, or there is no upstream.
    """
    check_name(name)
    upstream = config.upstream
    parts = urlsplit(upstream or "")
    if upstream is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            name="upstream",
            given=str(upstream),
            rule="a location reads through central or another location: give its URL, such as"
            " --upstream https://central.example:8780",
            origin="in effect",
        )
    site = Site(name=name, config=config)
    site.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    return site


# The keeper.


@asynccontextmanager
async def kept(site: Site) -> AsyncGenerator[Keeper]:
    """Keep a location for as long as the block lasts; `Keeper.run` is the caller's to run.

    Raises:
        LocationInUseError: Another process keeps it.
    """
    config = site.config
    boot = boot_id()
    lock = KeeperLock(site.folder)
    try:
        publish(site.folder, Published(name=site.name, age_ms_max=round(config.bound_s * MS_PER_S)))
        cache = LmdbCache(
            site.folder / CACHE_NAME, boot=boot, size_bytes_max=config.cache_bytes_max
        )
        try:
            journal = FileJournal(
                site.folder / JOURNAL_NAME, size_bytes_max=config.journal_bytes_max
            )
            if not journal.state.label:
                label = os.urandom(LABEL_BYTES).hex()
                await journal.update(lambda state: replace(state, label=label))
            upstream = _upstream(site)
            keeper: Keeper | None = None
            try:
                keeper = Keeper(
                    site.name,
                    upstream,
                    cache=cache,
                    journal=journal,
                    clock=SystemClock(),
                    boot=boot,
                    limits=config.limits,
                    upstream_name=config.upstream or "",
                    settings=KeeperSettings(age_ms_max=round(config.bound_s * MS_PER_S)),
                )
                yield keeper
            finally:
                if keeper is not None:
                    keeper.close()
                await upstream.close()
                journal.close()
        finally:
            cache.close()
    finally:
        lock.close()


def _upstream(site: Site) -> PeerClient:
    assert site.config.upstream is not None
    return PeerClient(
        site.config.upstream,
        credential=site.credential(),
        ca=site.config.ca_certificate,
        spool_dir=site.folder,
    )


# Serving.


class CentralTime(SystemClock):
    """This machine's clocks, with central's time in the place of its own wall clock.

    Expirations are told and judged by it, so a machine whose clock is wrong does no harm.
    """

    def __init__(self, central_us: Callable[[], int | None]) -> None:
        """Ask `central_us`; before central was heard there is only the wall clock."""
        self._central_us = central_us

    def now_us(self) -> int:
        """See `Clock`."""
        known_us = self._central_us()
        return super().now_us() if known_us is None else known_us


class Unguarded(Accounts):
    """Asks nobody for credentials: the permissions of the folder say who may connect."""

    async def authenticate(
        self, *, authorization: str | None, email: str | None = None, key: str | None = None
    ) -> Principal:
        """Return who may read and write every namespace, and administer none."""
        del authorization, email, key
        return Principal(id="in-process", account=EVERY_ACCOUNT, permission=Permission.WRITE)


def _app(
    site: Site,
    upstream: Upstream,
    central_us: Callable[[], int | None],
    inside: Inside,
    *,
    meter: Meter,
    ready: Callable[[], bool],
    spool_dir: Path,
    near: Near,
    registry: CollectorRegistry | None = None,
) -> App:
    """Make what answers users, and the locations below."""
    config = site.config
    clock = CentralTime(central_us)
    return create_app(
        Node(
            upstream=upstream,
            accounts=Accounts(
                upstream,
                limits=config.limits,
                clock=clock,
                random_bytes=os.urandom,
                central_us=central_us,
                grace_s=config.credential_grace_s,
            ),
            limits=config.limits,
            clock=clock,
            name=site.name,
            spool_dir=spool_dir,
            ready=ready,
            near=near,
            timer_us=SystemClock().now_us,
            peers=Nodes(
                upstream,
                clock=clock,
                random_bytes=os.urandom,
                grace_s=config.credential_grace_s,
            ),
            meter=meter,
            registry=registry or CollectorRegistry(),
            inside=inside,
            access_log=config.access_log,
        )
    )


def _private_app(
    site: Site,
    keeper: Keeper,
    readers: Readers,
    meter: Meter,
    *,
    ready: Callable[[], bool],
    spool_dir: Path,
) -> App:
    """Make what answers the location's own readers, and programs on this machine."""
    config = site.config
    registry = CollectorRegistry()
    KeeperMetrics(keeper, registry)
    clock = CentralTime(keeper.knowledge.time.central_us)
    return create_app(
        Node(
            upstream=keeper,
            accounts=Unguarded(keeper, limits=config.limits, clock=clock, random_bytes=os.urandom),
            limits=config.limits,
            clock=clock,
            name=site.name,
            spool_dir=spool_dir,
            ready=ready,
            peers=Everybody(),
            registry=registry,
            inside=KeeperInside(keeper, registry),
            readers=readers,
            is_private=True,
            meter=meter,
            access_log=False,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one process of a location with several is, as its supervisor told it."""

    alive_fd: int
    """Where it shows that it lives."""
    listen_fd: int | None = None
    """The socket that readers share."""


async def serve_alone(
    site: Site, announce: Callable[[str], None], part: Part | None = None
) -> None:
    """Be the whole location, keeper and reader in one, until a signal says to stop.

    Args:
        site: The location.
        announce: Told the URL once everything answers.
        part: What a supervisor said, if there is one.
    """
    listener = None if part is None else socket.socket(fileno=part.listen_fd)
    spool_dir = _spool(site)

    def answering(url: str) -> None:
        if part is not None:
            sign_of_life(part.alive_fd)
        announce(url)

    async with kept(site) as keeper, counting(site.folder) as meter:
        registry = CollectorRegistry()
        KeeperMetrics(keeper, registry)
        inside = KeeperInside(keeper, registry)
        central_us = keeper.knowledge.time.central_us
        near = _near_keeper(site, keeper)
        counted: dict[str, bytes] = {}
        with _private_socket(site) as private:
            await serve_app(
                site.config,
                lambda ready: _app(
                    site,
                    keeper,
                    central_us,
                    inside,
                    meter=meter,
                    ready=ready,
                    spool_dir=spool_dir,
                    near=near,
                    registry=registry,
                ),
                announce=answering,
                clock=SystemClock(),
                upkeep=(
                    Upkeep(name="keeper", work=keeper.run, is_vital=True),
                    collecting(site.folder / READERS_NAME, keeper, counted),
                    Upkeep(
                        name="private",
                        work=lambda: serve_beside(
                            _private_config(site),
                            lambda ready: _private_app(
                                site,
                                keeper,
                                lambda: counted,
                                meter,
                                ready=ready,
                                spool_dir=spool_dir,
                            ),
                            private,
                        ),
                        is_vital=True,
                    ),
                    await delivering(site.folder, site.name, keeper.write, config=site.config),
                    preparing(meter, SystemClock()),
                    *(() if part is None else (_living(part),)),
                ),
                listener=listener,
            )


def _near_keeper(site: Site, keeper: Keeper) -> KeeperQuick:
    cache = keeper.knowledge.cache
    assert isinstance(cache, LmdbCache)
    return KeeperQuick(
        keeper.knowledge,
        cache,
        age_ms_max=round(site.config.bound_s * MS_PER_S),
        count=keeper.counts.note,
    )


async def serve_keeper(site: Site, part: Part) -> None:
    """Be the location's keeper, on its unix socket."""
    counted: dict[str, bytes] = {}
    async with kept(site) as keeper, counting(site.folder) as meter:
        with _private_socket(site) as listener:
            await serve_app(
                _private_config(site),
                lambda ready: _private_app(
                    site, keeper, lambda: counted, meter, ready=ready, spool_dir=_spool(site)
                ),
                announce=lambda _: sign_of_life(part.alive_fd),
                clock=SystemClock(),
                upkeep=(
                    Upkeep(name="keeper", work=keeper.run, is_vital=True),
                    collecting(site.folder / READERS_NAME, keeper, counted),
                    await delivering(site.folder, site.name, keeper.write, config=site.config),
                    preparing(meter, SystemClock()),
                    _living(part),
                ),
                listener=listener,
            )


@contextmanager
def _private_socket(site: Site) -> Generator[socket.socket]:
    """Listen where readers and programs ask the keeper, for as long as the block lasts."""
    path = site.socket_path
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)  # A killed keeper left it; the lock says that it is ours.
        listener.bind(str(path))
        listener.listen(SOCKET_BACKLOG)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _private_config(site: Site) -> Config:
    return replace(site.config, tls_certificate=None, tls_key=None)


def _spool(site: Site) -> Path:
    return empty_spool(site.folder, f"spool-{os.getpid()}")


async def serve_reader(site: Site, part: Part, name: str) -> None:
    """Be one of the location's readers, on the socket that they share; `name` says which."""
    keeper = PeerClient("http://keeper", socket_path=site.socket_path, spool_dir=site.folder)
    mapping = ReaderMapping(site.folder / READERS_NAME)
    sight = LmdbSight(site.folder / CACHE_NAME)
    age_ms_max = round(site.config.bound_s * MS_PER_S)
    reader = Reader(
        site.name,
        keeper,
        sight,
        clock=SystemClock(),
        boot=boot_id(),
        age_ms_max=age_ms_max,
        mapping=mapping,
    )
    near = Quick(reader.lookup, sight, mapping, age_ms_max=age_ms_max)
    listener = socket.socket(fileno=part.listen_fd)
    apps: list[App] = []

    def make(ready: Callable[[], bool], meter: Meter) -> App:
        inside = ReaderInside(keeper)
        apps.append(
            _app(
                site,
                reader,
                reader.central_us,
                inside,
                meter=meter,
                ready=ready,
                spool_dir=_spool(site),
                near=near,
            )
        )
        return apps[-1]

    try:
        async with counting(site.folder) as meter:
            await serve_app(
                site.config,
                lambda ready: make(ready, meter),
                announce=lambda _: sign_of_life(part.alive_fd),
                clock=SystemClock(),
                upkeep=(
                    _living(part),
                    telling(site.folder / READERS_NAME, name, lambda: apps[0].metrics),
                    preparing(meter, SystemClock()),
                ),
                listener=listener,
            )
    finally:
        listener.close()
        mapping.close()
        await keeper.close()


async def supervise(site: Site, arguments: Sequence[str], announce: Callable[[str], None]) -> None:
    """Run the location in several processes until a signal says to stop; SIGHUP replaces them.

    Args:
        site: The location.
        arguments: The command line that starts it, to which a process's part is added.
        announce: Told the URL once everything answers.
    """
    config = site.config
    require_safe(config)
    with bound(config) as listener:
        listener.listen(config.backlog)
        roles = [
            Role(name="keeper", arguments=(*arguments, "--part", "keeper"), is_single=True),
            *(
                Role(
                    name=f"{READER}-{number}",
                    arguments=(*arguments, "--part", f"{READER}-{number}"),
                    listener=listener,
                )
                for number in range(1, config.processes + 1)
            ),
        ]
        supervisor = Supervisor(roles, clock=SystemClock(), stop_s=config.stop_s)
        reloading: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.create_task(supervisor.reload())
            reloading.add(task)
            task.add_done_callback(reloading.discard)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        loop.add_signal_handler(signal.SIGHUP, reload)
        await supervisor.run(lambda: announce(url_of(config, listener)))


def _living(part: Part) -> Upkeep:
    """Return the work of showing that this process lives, which ends it with its supervisor."""

    async def show_forever() -> None:
        clock = SystemClock()
        while True:
            await clock.sleep(ALIVE_S)
            sign_of_life(part.alive_fd)

    return Upkeep(name="alive", work=show_forever, is_vital=True)
