"""Central over a data folder: opened, served, looked after.

What is opened here is closed here, in the opposite order, whatever happened in between.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from atoll.accounts import Accounts
from atoll.central import Central, CentralSettings
from atoll.clock import SystemClock
from atoll.config import Config
from atoll.core.errors import StoreError, StoreNotFoundError
from atoll.core.model import CENTRAL_NAME
from atoll.http.app import App, Node, create_app
from atoll.http.dashboard.sessions import Console, Sessions
from atoll.http.location_metrics import CentralMetrics
from atoll.http.usage_metrics import UsageMetrics
from atoll.metering import Metering
from atoll.nodes import Nodes
from atoll.oversight import Oversight
from atoll.serve.counting import books_of, counting, courier_of, preparing
from atoll.serve.server import FOLDER_MODE, UPKEEP_RETRY_S, Upkeep, empty_spool, serve_app
from atoll.store import sqlite
from atoll.store.sqlite import SqliteStore
from atoll.store.sqlite.backup import Progress
from atoll.store.sqlite.opening import KEY_NAME
from atoll.store.sqlite.schema import DATABASE_NAME

RESEAL_PAUSE_S: Final = 0.01
"""Between two rounds, for the requests that wait."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Central on an open data folder."""

    config: Config
    clock: SystemClock
    store: SqliteStore
    central: Central
    accounts: Accounts
    nodes: Nodes
    sessions: Sessions
    """Who is signed in to the dashboard."""


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
        nodes = Nodes(central, clock=clock, random_bytes=os.urandom)
        sessions = Sessions(clock, os.urandom)
        yield Opened(
            config=config,
            clock=clock,
            store=store,
            central=central,
            accounts=accounts,
            nodes=nodes,
            sessions=sessions,
        )
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


async def serve(
    node: Opened, announce: Callable[[str], None], *, beside: Sequence[Upkeep] = ()
) -> None:
    """Answer requests until a signal says to stop; see `serve_app`. SIGUSR1 rotates the key.

    Args:
        node: What to serve.
        announce: Told the URL once everything answers.
        beside: What else is done meanwhile.
    """
    config = node.config
    rotate = asyncio.Event()
    books = await asyncio.to_thread(books_of, config)
    metering = Metering(
        node.central,
        node.accounts,
        clock=node.clock,
        stored=lambda name: node.store.usage(name, now_us=node.central.now_us()),
        books=books,
        courier=await courier_of(config.data, CENTRAL_NAME, node.central.write),
    )
    # It takes a good part of a second, which commands that never serve should not wait for.
    queries = await asyncio.to_thread(import_module, "atoll.http.analytics")
    oversight = Oversight(node.central)
    registry = CollectorRegistry()
    CentralMetrics(oversight, node.clock, registry)
    UsageMetrics(metering, registry)

    def make(ready: Callable[[], bool]) -> App:
        return create_app(
            Node(
                upstream=node.central,
                accounts=node.accounts,
                limits=config.limits,
                clock=node.clock,
                name=CENTRAL_NAME,
                spool_dir=empty_spool(config.data),
                ready=ready,
                peers=node.nodes,
                nodes=node.nodes,
                metering=metering,
                analytics=queries.Analytics(metering, node.accounts),
                meter=meter,
                oversight=oversight,
                console=Console(
                    sessions=node.sessions,
                    stored=lambda name: node.store.usage(name, now_us=node.central.now_us()),
                    secure=config.tls_certificate is not None,
                ),
                registry=registry,
                access_log=config.access_log,
            )
        )

    async with counting(config.data) as meter:
        await serve_app(
            config,
            make,
            announce=announce,
            clock=node.clock,
            upkeep=(
                Upkeep(name="sweep", work=node.central.sweep_forever),
                Upkeep(name="seal", work=lambda: _seal_forever(node, rotate)),
                Upkeep(name="metering", work=lambda: metering.run(config.usage_interval_s)),
                preparing(meter, node.clock),
                *beside,
            ),
            on_signal=lambda _: rotate.set(),
        )


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
