"""What operators see of real processes: a tier, several processes of a location, cuts and kills."""

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from tests.processes.test_locations import (
    ASKED_MAX,
    REQUEST_S_MAX,
    atoll,
    location,
    part,
    user_of,
)
from tests.support.server import ATOLL, Server, environment, serving

READS = 40
TEST_S_MAX = 240
"""Each command takes a second where the machine is busy."""
HOWS = ("hits", "misses", "stale", "negative")

Seen = TypeVar("Seen")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run central and two locations."""
    with serving(tmp_path_factory.mktemp("dev") / "data", locations="LHR,SIN") as server:
        yield server


def told(data: Path, *args: str) -> Any:  # noqa: ANN401 - each test knows what it asked for
    """Return what a command prints with `--json`."""
    return json.loads(atoll(data, *args, "--json"))


def until(look: Callable[[], Seen], good: Callable[[Seen], bool]) -> Seen:
    """Look until what is seen is good; a look takes a command's time, or a request's."""
    seen = look()
    for _ in range(ASKED_MAX):
        if good(seen):
            return seen
        seen = look()
    raise AssertionError(seen)


def located(dev: Server) -> dict[str, Any]:
    """Return the locations by name."""
    return {one["name"]: one for one in told(dev.data, "status")}


def metrics(url: str) -> dict[str, str]:
    """Return what a node measures."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=REQUEST_S_MAX)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return dict(line.rsplit(" ", 1) for line in lines)


def counted(values: dict[str, str]) -> int:
    """Return how many reads of a location were counted."""
    reads = (value for name, value in values.items() if "_reads_total{" in name)
    return sum(int(float(value)) for value in reads)


@pytest.mark.timeout(TEST_S_MAX)
def test_a_tier_is_seen_whole(dev: Server, tmp_path: Path) -> None:
    """Central hears of a location behind another one; counts outlive the readers that made them."""
    user, running, folder = user_of(dev), dev.running, tmp_path / "par"
    credential = told(dev.data, "node", "create", "PAR")["credential"]
    user.put(running.central, "seen", b"1")
    with location(
        folder, upstream=running.locations["LHR"], credential=credential, processes=2
    ) as (url, process):
        found = until(lambda: located(dev), lambda seen: seen.get("PAR", {}).get("connected"))
        before = counted(metrics(url))
        answers = 0
        for _ in range(READS):
            answers += user.get(url, "seen").status == 200
        for _ in range(2):
            reader = part(process, "reader")
            os.kill(reader, signal.SIGKILL)
            until(lambda: user.get(url, "none").status, lambda status: status == 404)
            while part(process, "reader") == reader:
                pass
        # What else was read is a key that is missing, however often it took until readers were up.
        after = until(
            lambda: metrics(url),
            lambda seen: reads(seen, "hit") + reads(seen, "miss") - before >= READS,
        )
        own = until(
            lambda: metrics(url),
            lambda seen: any(
                'operation="get"' in name and 'process="reader-' in name for name in seen
            ),
        )
        place = told(dev.data, "where", running.namespace_id, "seen")
        holding = {one["name"]: one for one in place["locations"]}
        shown = atoll(dev.data, "where", running.namespace_id, "seen")
        status = told(folder, "status", "--url", url, "--token", running.token)
        scrapes = {metrics(url)['atoll_location_cache_bytes_max{location="PAR"}'] for _ in "1234"}

    assert answers == READS
    assert any('process="keeper"' in name for name in own)
    assert found["PAR"]["status"]["via"] == ["LHR"]
    assert found["LHR"]["status"]["via"] == []
    assert after['atoll_location_connected{location="PAR"}'] == "1.0"
    assert place["central"]["holds"] == "value"
    assert {name: one["holds"] for name, one in holding.items()} == {
        "LHR": "value",
        "PAR": "value",
        "SIN": "nothing",
    }
    assert holding["PAR"]["current"]
    assert holding["PAR"]["version"] in shown
    assert status[0]["name"] == "PAR"
    assert len(scrapes) == 1


def reads(values: dict[str, str], how: str) -> int:
    """Return how many reads of PAR were answered like this."""
    return int(float(values[f'atoll_location_reads_total{{how="{how}",location="PAR"}}']))


@pytest.mark.timeout(TEST_S_MAX)
def test_a_forgotten_location_s_journal_is_kept(dev: Server, tmp_path: Path) -> None:
    """What was refused outlives the keeper, is exported, and goes only when it is discarded."""
    user, running, folder = user_of(dev), dev.running, tmp_path / "rio"
    credential = told(dev.data, "node", "create", "PAR")["credential"]
    sin = running.locations["SIN"]
    with location(folder, upstream=sin, credential=credential, processes=2) as (url, process):
        assert user.put(url, "kept", b"before").status == 200
        until(lambda: located(dev), lambda seen: seen.get("PAR", {}).get("connected"))
        atoll(dev.data, "dev", "cut", "SIN")
        assert user.put(url, "kept", b"refused").status == 202
        assert user.put(url, "kept2", b"\xff").status == 202
        waiting = told(folder, "journal", "list", "--at", "PAR")
        here = atoll(folder, "journal", "list", "--url", url, "--token", running.token)
        forgotten = told(dev.data, "location", "forget", "PAR")
        atoll(dev.data, "dev", "heal", "SIN")
        refused = until(
            lambda: told(folder, "journal", "list", "--at", "PAR"),
            lambda seen: [one["state"] for one in seen] == ["refused", "refused"],
        )
        seen = until(lambda: located(dev), lambda seen: seen["PAR"]["status"]["journal_refused"])
        os.kill(part(process, "keeper"), signal.SIGKILL)
        target = tmp_path / "refused.ndjson"
        until(
            lambda: atoll_code(folder, "journal", "export", str(target), "--at", "PAR"),
            lambda code: code == 0,
        )
        lines = [json.loads(line) for line in target.read_text().splitlines()]
        again = told(folder, "journal", "list", "--at", "PAR")
        atoll(folder, "journal", "discard", "--at", "PAR", code=2)
        atoll(folder, "journal", "discard", "1000", "--at", "PAR", code=3)
        discarded = told(folder, "journal", "discard", "--all", "--at", "PAR")
        left = told(folder, "journal", "list", "--at", "PAR")
    listed = told(dev.data, "location", "list")
    atoll(dev.data, "location", "forget", "never", code=3)

    assert [one["keys"] for one in waiting] == [["kept"], ["kept2"]]
    assert {one["state"] for one in waiting} == {"waiting"}
    assert "waiting" in here
    assert forgotten == {"name": "PAR", "forgotten": True}
    assert {one["code"] for one in refused} == {"location_forgotten"}
    assert seen["PAR"]["forgotten"]
    assert [(line["key"], line["value"]) for line in lines] == [
        ("kept", "refused"),
        ("kept2", "/w=="),
    ]
    assert again == refused
    assert discarded == {"discarded": [1, 2]}
    assert left == []
    assert [one["name"] for one in listed if one["forgotten"]] == ["PAR"]
    assert user.get(running.central, "kept").body == b"before"


def atoll_code(data: Path, *args: str) -> int:
    """Run a command and return how it ended."""
    try:
        atoll(data, *args)
    except AssertionError:
        return 1
    return 0


def test_status_is_watched(dev: Server) -> None:
    """Line by line into a pipe, until it is interrupted."""
    process = subprocess.Popen(
        [ATOLL, "status", "--watch", "--json"],
        env=environment(dev.data),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    looks = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    code = process.wait(REQUEST_S_MAX)
    process.stdout.close()

    assert [{one["name"] for one in look} >= {"LHR", "SIN"} for look in looks] == [True, True]
    assert code == 130
