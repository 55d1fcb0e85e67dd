"""A location of several processes: an outage, a full disk, a reader that stands still."""

import asyncio
import re
import resource
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from atoll.cli.api import opened_client
from atoll.core.errors import AtollError, RemoteError
from atoll.core.model import CENTRAL_NAME, CacheStatus, Reading
from atoll.verify.client import Asked, Place
from tests.support.deployment import LOOKS_MAX, Deployment, deployed, until

ROOT: Final = Path(__file__).parents[2]
KEYS: Final = 3
ATTEMPTS_MAX: Final = 6
DISK_FULL: Final = (507, "disk_full")
YOUNG_MS: Final = 2000
YOUNG_READS: Final = 1000
"""So many, one after the other, take longer than a second: an echo has come."""
READERS: Final = 40
"""How many wait for each key."""
OTHER_FETCHES_MAX: Final = 8
"""Of the token, the namespace and its settings, which are keys as well."""

pytestmark = [pytest.mark.timeout(110)]


@asynccontextmanager
async def places(deployment: Deployment) -> AsyncGenerator[tuple[Place, Place]]:
    """Yield central and LHR."""
    running = deployment.server.running
    site = deployment.sites["LHR"]
    async with (
        opened_client(running.central, timeout_s=20, ca_certificate=None) as one,
        opened_client(site.url, timeout_s=20, ca_certificate=None) as other,
    ):
        given = {"token": running.token, "namespace": running.namespace_id}
        yield Place(CENTRAL_NAME, one, **given), Place("LHR", other, **given)


async def read_until(place: Place, key: str, value: bytes) -> list[Reading]:
    """Read a key until it is so; return all answers."""
    readings: list[Reading] = []
    for _ in range(20 * LOOKS_MAX):
        readings.append(await place.read(key, Asked()))
        entry = readings[-1].entry
        if entry is not None and entry.value == value:
            return readings
    raise AssertionError(readings[-1])


async def arrived(place: Place, key: str, value: bytes) -> None:
    """Wait until a key that may never have been there is so."""
    for _ in range(20 * LOOKS_MAX):
        try:
            await read_until(place, key, value)
        except AtollError:
            continue
        return
    raise AssertionError(key)


def _fetches(url: str) -> int:
    """Return how many reads of nodes central has answered."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own
        text = answer.read().decode()
    rows = re.findall(r"atoll_http_requests_total\{(.*?)\} ([0-9.]+)", text)
    return sum(
        int(float(count))
        for labels, count in rows
        if 'face="peer"' in labels and 'operation="read' in labels
    )


async def test_after_an_outage_each_key_is_fetched_once(tmp_path: Path) -> None:
    """Nobody is refused meanwhile, and however many wait for a key, one asks for it."""
    async with (
        deployed(tmp_path, ("LHR",), bound_s="1") as deployment,
        places(deployment) as (central, near),
    ):
        site = deployment.sites["LHR"]
        keys = [f"outage-{number}" for number in range(KEYS)]
        for key in keys:
            await central.write(key, b"before", expiration=None)
            await arrived(near, key, b"before")

        site.link.sever()
        for key in keys:
            await until_stale(near, key)
            await central.write(key, b"after", expiration=None)
        before = await asyncio.to_thread(_fetches, deployment.server.url)
        waiting = [
            asyncio.create_task(read_until(near, key, b"after"))
            for key in keys
            for _ in range(READERS)
        ]
        await asyncio.wait(waiting, timeout=1.0)
        site.link.heal()
        readings = await asyncio.gather(*waiting)
        fetches = await asyncio.to_thread(_fetches, deployment.server.url) - before

    assert len(readings) == KEYS * READERS
    assert sum(reading.stale for one in readings for reading in one) >= KEYS * READERS
    assert fetches <= KEYS + OTHER_FETCHES_MAX
    assert deployment.errors == []


async def until_stale(place: Place, key: str) -> None:
    """Read a key until it is past its bound; it is answered all the while."""
    for _ in range(20 * LOOKS_MAX):
        if (await place.read(key, Asked())).stale:
            return
    raise AssertionError(key)


async def vouched(place: Place, key: str) -> None:
    """Wait until the feed vouches for a key: it is young, and nobody had to be asked."""
    young = 0
    for _ in range(20 * LOOKS_MAX):
        reading = await place.read(key, Asked())
        young += reading.cache is CacheStatus.HIT and (reading.age_ms or 0) <= YOUNG_MS
        if young == YOUNG_READS:
            return
    raise AssertionError(key)


async def test_a_full_disk_refuses_writes_and_nothing_else(tmp_path: Path) -> None:
    """What the journal has no room for is 507, what is held is answered, and room helps."""
    async with deployed(tmp_path, ("LHR",)) as deployment, places(deployment) as (central, near):
        site = deployment.sites["LHR"]
        await central.write("held", b"held", expiration=None)
        await arrived(near, "held", b"held")
        await vouched(near, "held")
        site.link.sever()
        first = await near.write("first", b"1" * 100, expiration=None)
        keeper = await site.part("keeper")
        journal = next(site.folder.glob("locations/LHR/journal*"))
        size_bytes = journal.stat().st_size
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, (size_bytes + 10, resource.RLIM_INFINITY))
        refusals: list[tuple[int, str]] = []
        while len(refusals) < ATTEMPTS_MAX and DISK_FULL not in refusals:
            with pytest.raises(RemoteError) as refused:
                await near.write("second", b"2" * 100, expiration=None)
            refusals.append((refused.value.status, refused.value.remote_code))
        held = [await near.read("held", Asked()) for _ in range(20)]
        shown = await near.read("first", Asked())
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, unlimited)
        third = await near.write("third", b"3" * 100, expiration=None)
        site.link.heal()
        await arrived(central, "first", b"1" * 100)
        await arrived(central, "third", b"3" * 100)
        second = await central.read("second", Asked())
        alive = await site.part("keeper")

    assert first.journaled
    assert third.journaled
    # A write that was sent before central was known to be out of reach may have been applied.
    assert set(refusals) <= {DISK_FULL, (503, "outcome_unknown")}
    assert refusals[-1] == DISK_FULL
    assert {reading.entry.value for reading in held if reading.entry is not None} == {b"held"}
    assert shown.journaled
    assert second.entry is None
    assert alive == keeper


def looking(folder: Path, name: str) -> "subprocess.Popen[str]":
    """Start a process that begins a read of a cache file."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.location_child", "look", str(folder), name],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_a_reader_that_stands_still_in_a_read_stops_nobody(tmp_path: Path) -> None:
    """It pins pages until the map is full; the keeper begins a new file, and readers follow."""
    async with (
        deployed(tmp_path, ("LHR",), cache_bytes_max=str(2**20)) as deployment,
        places(deployment) as (central, near),
    ):
        site = deployment.sites["LHR"]
        folder = site.folder / "locations" / "LHR"
        await central.write("k0", b"0", expiration=None)
        await arrived(near, "k0", b"0")
        (first,) = (folder / "cache").glob("cache-*.mdb")
        child = looking(folder, first.name)
        try:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == "looking\n"
            child.send_signal(signal.SIGSTOP)
            number = 0
            while first.exists():
                number += 1
                assert number < LOOKS_MAX, "the keeper goes on in a file that is full"
                value = b"%d " % number * 2000
                await central.write(f"k{number}", value, expiration=None)
                await arrived(near, f"k{number}", value)
            for one in range(max(1, number - 5), number + 1):
                await read_until(near, f"k{one}", b"%d " % one * 2000)
            await central.write("k-last", b"last", expiration=None)
            await arrived(near, "k-last", b"last")
        finally:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                assert stream is not None
                stream.close()

    assert number > 10
    await until(lambda: deployment.errors == [], "no error is logged")
