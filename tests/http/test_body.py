"""Large bodies: spooled while they arrive, in memory by turns, discarded where they exceed."""

import asyncio
import errno
import tempfile
from pathlib import Path
from typing import IO

import pytest
import structlog
from starlette.types import Message

from atoll.core.limits import MIB, Limits
from atoll.http.body import MemoryBudget, SpoolFile
from tests.http.site import Reply, Site, call

pytestmark = pytest.mark.anyio

PIECE = 64 * 1024


def pieces(size_bytes: int) -> list[bytes]:
    """Cut a body of distinct pieces as a server hands it over."""
    whole = b"".join(i.to_bytes(8, "big") for i in range(-(-size_bytes // 8)))[:size_bytes]
    return [whole[i : i + PIECE] for i in range(0, size_bytes, PIECE)]


@pytest.mark.parametrize("size_bytes", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 7, 25 * MIB])
async def test_a_body_of_any_size_arrives_whole(site: Site, size_bytes: int) -> None:
    """By itself and in a form, with or without an announced length."""
    body = pieces(size_bytes) or [b""]
    whole = b"".join(body)

    put = await site.ask("PUT", site.value("k"), body=body)

    assert put.result is None
    assert await site.get("k") == whole
    in_form = await site.ask_form("PUT", site.value("f"), ('name="value"', whole))
    assert in_form.result is None
    assert await site.get("f") == whole


async def test_every_spool_is_closed(tmp_path: Path) -> None:
    """After success, after a refusal, and after a cut."""
    opened: list[IO[bytes]] = []

    def open_spool() -> SpoolFile:
        """Open a file and remember it."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by whoever has it
        opened.append(file)
        return file

    limits = Limits(value_bytes_max=3 * MIB)
    site = await Site.make(tmp_path, limits=limits, open_spool=open_spool)
    statuses = [
        (await site.ask("PUT", site.value("k"), body=pieces(size_bytes), cut=cut)).status
        for size_bytes, cut in ((2 * MIB, False), (4 * MIB, False), (2 * MIB, True))
    ]

    assert statuses == [200, 413, 0]
    assert len(opened) == 3
    assert all(file.closed for file in opened)


class Counted:
    """A body that counts how much of it was taken."""

    def __init__(self, size_bytes: int) -> None:
        self.left = size_bytes

    async def receive(self) -> Message:
        """Hand over the next piece."""
        piece = bytes(min(PIECE, self.left))
        self.left -= len(piece)
        return {"type": "http.request", "body": piece, "more_body": self.left > 0}


async def send_large(site: Site, path: str, size_bytes: int, **headers: str) -> tuple[Reply, int]:
    """Send a body, and return the answer and how much of the body was not taken."""
    body = Counted(size_bytes)
    reply = await call(site.app, site.scope("PUT", path, headers=headers), body.receive)
    return reply, body.left


@pytest.mark.parametrize("announced", [True, False])
async def test_what_exceeds_is_read_on_up_to_a_second_bound(
    tmp_path: Path,
    announced: bool,  # noqa: FBT001
) -> None:
    """So that the client sees the answer; behind that bound the connection ends with it."""
    limits = Limits(value_bytes_max=MIB, bulk_write_bytes_max=MIB, discard_bytes_max=4 * MIB)
    site = await Site.make(tmp_path, limits=limits)
    for path in (site.value("k"), f"{site.home}/bulk"):
        for size_bytes, ends in ((3 * MIB, False), (9 * MIB, True)):
            length = {"content-length": str(size_bytes)} if announced else {}

            reply, left = await send_large(site, path, size_bytes, **length)

            assert reply.refused == (413, 10024)
            assert (reply.headers.get("connection") == "close") == ends
            assert (left > 0) == ends
            assert size_bytes - left <= 4 * MIB + 2 * PIECE
    assert await site.keys() == []


async def test_who_asks_before_sending_is_answered_at_once(tmp_path: Path) -> None:
    """With `Expect: 100-continue` nothing has been sent, so there is nothing to wait for."""
    site = await Site.make(tmp_path, limits=Limits(value_bytes_max=MIB))
    size_bytes = 3 * MIB

    headers = {"content-length": str(size_bytes), "expect": "100-continue"}
    reply, left = await send_large(site, site.value("k"), size_bytes, **headers)

    assert reply.refused == (413, 10024)
    assert left == size_bytes


class FullDisk:
    """A temporary file on a disk that has room for only so much; what does not fit is not kept."""

    room_bytes = MIB

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by whoever has it

    def write(self, data: memoryview) -> int:
        """Take what there is room for; fail where there is none."""
        if not FullDisk.room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), FullDisk.room_bytes)
        FullDisk.room_bytes -= taken
        return self._file.write(data[:taken])

    def seek(self, offset: int) -> int:
        """See `SpoolFile`."""
        return self._file.seek(offset)

    def read(self) -> bytes:
        """See `SpoolFile`."""
        return self._file.read()

    def close(self) -> None:
        """See `SpoolFile`."""
        self._file.close()


async def test_a_disk_that_is_full_while_spooling_is_507(tmp_path: Path) -> None:
    """Nothing is stored, what was there stays, and with room again it works."""
    site = await Site.make(tmp_path, open_spool=FullDisk)
    await site.put("k", b"kept")
    FullDisk.room_bytes = 2 * MIB + 1
    body = pieces(5 * MIB)

    refused = await site.ask("PUT", site.value("k"), body=body)
    in_form = await site.ask_form("PUT", site.value("k"), ('name="value"', b"".join(body)))
    kept = await site.get("k")
    FullDisk.room_bytes = 100 * MIB
    again = await site.ask("PUT", site.value("k"), body=body)

    assert refused.refused == in_form.refused == (507, 20507)
    assert kept == b"kept"
    assert again.status == 200
    assert await site.get("k") == b"".join(body)


async def test_a_disk_that_fails_is_not_called_full(tmp_path: Path) -> None:
    """Any other failure of the spool is ours, and told as 500."""

    def broken() -> FullDisk:
        """Fail."""
        raise OSError(errno.EIO, "Input/output error")

    site = await Site.make(tmp_path, open_spool=broken)

    with structlog.testing.capture_logs() as lines:
        reply = await site.ask("PUT", site.value("k"), body=pieces(3 * MIB))

    assert reply.refused == (500, 20500)
    assert [line["event"] for line in lines] == ["request_crashed"]


async def test_large_bodies_take_turns_in_memory() -> None:
    """First come, first served; one that exceeds everything is let in alone."""
    budget = MemoryBudget(100)
    order: list[str] = []

    async def take(name: str, size_bytes: int) -> None:
        """Wait for a turn and write down that it came."""
        await budget.acquire(size_bytes)
        order.append(name)

    await take("a", 60)
    tasks = [
        asyncio.create_task(take(name, size))
        for name, size in (("b", 50), ("c", 10), ("d", 500), ("e", 100))
    ]
    await settled()
    assert order == ["a"]  # c would fit, but b came first
    budget.release(60)
    await settled()
    assert order == ["a", "b", "c"]
    budget.release(50)
    budget.release(10)
    await settled()
    assert order == ["a", "b", "c", "d"]
    budget.release(500)
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "d", "e"]


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)  # noqa: TID251 - gives way, and waits for nothing


async def test_large_bodies_at_once_are_all_stored(site: Site) -> None:
    """More of them than memory is set aside for."""
    body = pieces(20 * MIB)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(site.ask("PUT", site.value(f"k{i}"), body=body)) for i in range(16)
        ]

    assert {task.result().status for task in tasks} == {200}
    assert len(await site.keys()) == 16
