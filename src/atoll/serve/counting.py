"""Counting on a node: where the files are, and who looks after them."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from atoll.clock import Clock, SystemClock
from atoll.config import Config
from atoll.core.errors import ConfigError, ParameterInvalidError
from atoll.serve.server import Upkeep
from atoll.usage.collector import COUNTS_NAME, USAGE_NAME, Collector, Courier, Write
from atoll.usage.meter import Meter
from atoll.usage.prices import FILE_BYTES_MAX, PriceBook, decode_books


@asynccontextmanager
async def counting(folder: Path) -> AsyncGenerator[Meter]:
    """Count in the usage folder of a node for as long as the block lasts.

    Args:
        folder: The node's own.
    """
    meter = await asyncio.to_thread(Meter, folder / USAGE_NAME / COUNTS_NAME)
    try:
        yield meter
    finally:
        meter.close()


async def courier_of(folder: Path, node: str, write: Write) -> Courier:
    """Return what delivers a node's counts. One process of the node has it.

    Args:
        folder: The node's own.
        node: Its name.
        write: Reaches central, or is central's.
    """
    collector = await asyncio.to_thread(
        lambda: Collector(folder / USAGE_NAME, node=node, random_bytes=os.urandom)
    )
    return Courier(collector, write)


async def delivering(folder: Path, node: str, write: Write, *, config: Config) -> Upkeep:
    """Return the work of delivering to central what a node counts; see `courier_of`."""
    courier = await courier_of(folder, node, write)
    clock = SystemClock()
    return Upkeep(
        name="deliver", work=lambda: courier.deliver_forever(clock, config.usage_interval_s)
    )


def preparing(meter: Meter, clock: Clock) -> Upkeep:
    """Return the work of having a file ready to count in."""
    return Upkeep(name="count", work=lambda: meter.prepare_forever(clock))


def books_of(config: Config) -> tuple[PriceBook, ...]:
    """Return the operator's own price lists.

    Raises:
        ConfigError: The file cannot be read, or holds none.
    """
    path = config.prices
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            return decode_books(file.read(FILE_BYTES_MAX))
    except (OSError, ParameterInvalidError) as error:
        raise ConfigError(
            name="prices", given=str(path), rule=str(error), origin="in effect"
        ) from error
