"""The bench's own parts: its generator tells right answers from wrong ones, its reports hold."""

import asyncio
import json
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from bench import drive, report
from bench.drive import Ask, Driven, Loop, Way
from bench.process import BenchError
from bench.report import Bar, Chart, Part, Table, Target

KEYS = 20
LARGE = 200_000
PATHS = {
    "/value": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nvalue",
    "/none": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nval\r\n2\r\nue\r\n0\r\n\r\n",
    "/large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE,
}
MEMCACHED = {"there": b"VALUE there 0 5\r\nvalue\r\nEND\r\n", "none": b"END\r\n"}

generator = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="the generator takes Linux and a C compiler",
)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        words = line.decode().split()
        if words[0] == "get":
            writer.write(MEMCACHED[words[1]])
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(PATHS[words[1]])
        await writer.drain()
    writer.close()


@asynccontextmanager
async def _serving() -> AsyncGenerator[int]:
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _driven(folder: Path, asks: list[Ask], loop: Loop, way: str = "http") -> Driven:
    """Let the generator send these requests to a server of ours."""
    drive.build(folder / "drive")
    async with _serving() as port:
        to = Way(port=port, protocol="memcached" if way == "memcached" else "http")
        path = drive.write(folder / "asks", asks)
        return await asyncio.to_thread(drive.run, to, path, loop, program=folder / "drive")


def _get(path: str, **expected: int) -> Ask:
    return Ask(raw=drive.http("GET", path), **expected)


@generator
async def test_it_counts_every_answer_and_byte(tmp_path: Path) -> None:
    """Lengths, chunks, long bodies and missing keys are all answers."""
    asks = [
        _get("/value", size=5),
        _get("/none", status=404, size=0),
        _get("/chunks", size=5),
        _get("/large", size=LARGE),
    ]

    driven = await _driven(tmp_path, asks, Loop(clients=3, requests=4 * KEYS, core=None))

    assert driven.requests == 4 * KEYS
    assert driven.body_bytes == KEYS * (LARGE + 10)


@generator
async def test_it_reads_what_memcached_says(tmp_path: Path) -> None:
    """A value and a missing key are told apart."""
    asks = [Ask(raw=b"get there\r\n", size=5), Ask(raw=b"get none\r\n", status=404)]

    driven = await _driven(
        tmp_path, asks, Loop(clients=2, requests=2 * KEYS, core=None), "memcached"
    )

    assert driven.body_bytes == KEYS * 5


@generator
@pytest.mark.parametrize(
    "asked", [_get("/value", size=6), _get("/none"), _get("/value", status=404)]
)
async def test_a_wrong_answer_is_an_error(tmp_path: Path, asked: Ask) -> None:
    """Another size or status than expected ends the measurement."""
    with pytest.raises(BenchError, match="wrong answer"):
        await _driven(tmp_path, [asked], Loop(clients=1, requests=1, core=None))


@generator
async def test_an_open_loop_sends_what_was_due(tmp_path: Path) -> None:
    """However the server keeps up, all that was due was either sent or is told as not sent."""
    loop = Loop(clients=2, seconds=0.5, rate=200, core=None)

    driven = await _driven(tmp_path, [_get("/value", size=5)], loop)

    assert driven.requests + driven.unsent == pytest.approx(100, abs=1)


PART = Part(
    name="one",
    title="One",
    how="So.",
    targets=[Target(what="share", measured=0.5, low=0.75), Target(what="time", measured=1, high=2)],
    tables=[Table(title="Table", headings=["server", "rate"], rows=[["atoll", "1"]])],
    charts=[Chart(title="Rates <>", unit="a second", bars=[Bar.of("atoll", [1.0, 3.0, 2.0])])],
)


def test_results_of_two_parts_are_kept_together(tmp_path: Path) -> None:
    """A later part is added to the files, in all three forms."""
    at = tmp_path / "results"

    report.save(at, {"commit": "first"}, PART)
    report.save(at, {"commit": "second"}, replace(PART, name="two", title="Two"))

    held = json.loads(at.with_suffix(".json").read_text())["parts"]
    text = at.with_suffix(".md").read_text()
    assert [held[name]["machine"]["commit"] for name in ("one", "two")] == ["first", "second"]
    assert "## One" in text
    assert "## Two" in text
    assert "| share | 0.5 | at least 0.75 | not met |" in text
    assert "| time | 1 | at most 2 | met |" in text
    drawn = ET.fromstring(at.with_suffix(".svg").read_text())  # noqa: S314 - written just now
    assert "Rates <>: a second" in [node.text for node in drawn.iter()]
