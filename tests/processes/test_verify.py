"""Real processes held to the promises while they are killed, stopped, cut off and restarted."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from atoll.cli.api import opened_client
from atoll.clock import SystemClock
from atoll.core.model import CENTRAL_NAME
from atoll.verify.client import Place
from atoll.verify.report import Report
from atoll.verify.run import Options, Verifier, incarnation_of
from tests.support.deployment import Deployment, Site, deployed, kill, until
from tests.support.server import ATOLL, environment, serving

PREFIX: Final = "atoll-verify/test/"
ANSWER_S_MAX: Final = 3.0
MET: Final = 6
"""How many answers of its kind a fault must meet."""

FAULTS: Final = {
    *("cut", "cut above", "slow", "reset", "tier killed", "back with a journal"),
    *(f"{what} {how}" for what in ("keeper", "reader", "central") for how in ("killed", "stopped")),
}

pytestmark = pytest.mark.timeout(170)


class Faults:
    """Does to a deployment what machines and networks do, each until enough answers met it."""

    def __init__(self, deployment: Deployment, verifier: Verifier) -> None:
        self._deployment = deployment
        self._verifier = verifier
        self.met: dict[str, int] = {}

    def _count(self, place: str, kind: str) -> int:
        return self._verifier.measures[place].counts[kind]

    async def meet(self, fault: str, place: str, **kinds: int) -> None:
        """Wait until a place has given so many more answers of each kind."""
        before = {kind: self._count(place, kind) for kind in kinds}

        def enough() -> bool:
            return all(
                self._count(place, kind) >= before[kind] + more for kind, more in kinds.items()
            )

        await until(enough, f"{fault} at {place} did not meet {kinds}, {self._verifier.measures}")
        self.met[fault] = self.met.get(fault, 0) + sum(kinds.values())

    async def run(self) -> None:
        """Do all of it, one after the other."""
        sites = self._deployment.sites
        await self.meet("nothing", "SIN", answered=MET)
        await self._cut(sites["IAD"], below="SIN")
        await self._cut(sites["LHR"])
        await self._slow(sites["LHR"])
        await self._reset(sites["IAD"])
        await self._parts(sites["LHR"])
        await self._central_killed()
        await self._central_stopped()
        await self._tier_killed(sites["IAD"], below="SIN")
        await self._journal_killed(sites["IAD"])

    async def _cut(self, site: Site, *, below: str | None = None) -> None:
        """Let nothing through, and say so to nobody."""
        site.link.sever()
        meeting = [self.meet("cut", site.name, stale=MET, **{"writes journaled": 1})]
        if below is not None:
            meeting.append(self.meet("cut above", below, stale=MET))
        await asyncio.gather(*meeting)
        site.link.heal()
        await self.meet("healed", site.name, miss=MET, hit=MET)

    async def _slow(self, site: Site) -> None:
        """Let everything take its time."""
        site.link.rtt_ms = 120.0
        await self.meet("slow", site.name, miss=MET, hit=MET)
        site.link.rtt_ms = 0.0

    async def _reset(self, site: Site) -> None:
        """Break all connections, again and again."""
        for _ in range(4):
            site.link.sever()
            site.link.heal()
            await self.meet("reset", site.name, answered=MET)

    async def _parts(self, site: Site) -> None:
        """Kill and stop processes of a location that has several."""
        for part in ("keeper", "reader"):
            kill(await site.part(part), signal.SIGKILL)
            await self.meet(f"{part} killed", site.name, answered=MET, hit=MET)
        for part in ("keeper", "reader"):
            pid = await site.part(part)
            kill(pid, signal.SIGSTOP)
            await self.meet(f"{part} stopped", site.name, answered=MET)
            kill(pid, signal.SIGCONT)
            await self.meet("continued", site.name, answered=MET)

    async def _central_killed(self) -> None:
        await self._deployment.kill_central()
        await asyncio.gather(
            *(self.meet("central killed", name, stale=MET, journaled=1) for name in ("LHR", "SIN"))
        )
        await self._deployment.restart_central()
        await self.meet("central back", CENTRAL_NAME, answered=MET)
        await self.meet("central back", "LHR", miss=3)

    async def _central_stopped(self) -> None:
        process = self._deployment.server.process
        process.send_signal(signal.SIGSTOP)
        await self.meet("central stopped", "LHR", stale=MET)
        process.send_signal(signal.SIGCONT)
        await self.meet("central back", CENTRAL_NAME, answered=MET)

    async def _tier_killed(self, site: Site, *, below: str) -> None:
        await site.killed()
        await self.meet("tier killed", below, stale=MET)
        site.start()
        await site.answers()
        await self.meet("tier back", below, miss=MET)

    async def _journal_killed(self, site: Site) -> None:
        """Kill a location that is cut off and has journaled; it comes back with its journal."""
        site.link.sever()
        await self.meet("cut", site.name, journaled=1, **{"writes journaled": 1})
        await site.killed()
        site.start()
        await site.answers()
        await self.meet("back with a journal", site.name, journaled=1)
        site.link.heal()
        await self.meet("healed", site.name, miss=MET)


@asynccontextmanager
async def verifying(deployment: Deployment, *, seed: int) -> AsyncGenerator[Verifier]:
    """Make one that asks everybody."""
    running = deployment.server.running
    urls = {CENTRAL_NAME: running.central}
    urls |= {site.name: site.url for site in deployment.sites.values()}
    async with AsyncExitStack() as stack:
        places: dict[str, Place] = {}
        for name, url in urls.items():
            client = opened_client(url, timeout_s=ANSWER_S_MAX, ca_certificate=None)
            await stack.enter_async_context(client)
            places[name] = Place(name, client, token=running.token, namespace=running.namespace_id)
        yield Verifier(
            places,
            namespace=running.namespace_id,
            incarnation=await incarnation_of(places[CENTRAL_NAME], PREFIX),
            options=Options(
                prefix=PREFIX, seconds=None, rate=160.0, keys=24, ttl_s=2, settle_s=40.0
            ),
            clock=SystemClock(),
            random=Random(seed),  # noqa: S311 - a test
        )


async def verified(folder: Path, *, seed: int) -> tuple[Report, dict[str, int], list[str]]:
    """Run a deployment through all faults, and return what verify found."""
    async with deployed(folder) as deployment, verifying(deployment, seed=seed) as verifier:
        faults = Faults(deployment, verifier)
        working = asyncio.create_task(verifier.run())
        failing = asyncio.create_task(faults.run())
        await asyncio.wait({working, failing}, return_when=asyncio.FIRST_COMPLETED)
        verifier.stop()
        report = await working
        await failing
    return report, faults.met, deployment.errors


async def test_no_promise_is_broken_under_faults(tmp_path: Path) -> None:
    """Whatever is done to processes and ways, no answer breaks a promise, and nothing is lost."""
    report, met, errors = await verified(tmp_path, seed=1)

    assert [str(violation) for violation in report.violations] == [], report.text()
    assert errors == []
    assert report.undelivered == 0
    assert report.unsettled == ()
    counts = report.counts
    floors = {
        "reads": 3000,
        "reads: journaled": 30,
        "reads: stale": 100,
        "reads: missing": 200,
        "reads: expired": 5,
        "reads: at least a position": 100,
        "reads: at least a journal's place": 5,
        "reads: refused": 50,
        "reads: after healing": 20,
        "writes: at central": 60,
        "writes: journaled": 8,
    }
    seldom = {name: counts[name] for name, floor in floors.items() if counts[name] < floor}
    assert seldom == {}, report.text()
    assert met.keys() >= FAULTS


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    """It uses what `atoll dev` left, deletes its keys, and keeps a file for Prometheus."""
    data, exported = tmp_path / "data", tmp_path / "verify.prom"
    with serving(data, locations="LHR") as server:
        command = [str(ATOLL), "verify", "--seconds", "3", "--keys", "3", "--json"]
        done = subprocess.run(
            [*command, "--metrics", str(exported), "--settle", "10"],
            env=environment(data),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        listed = subprocess.check_output(
            [ATOLL, "key", "list", server.running.namespace_id, "--json"],
            env=environment(data),
            text=True,
        )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == 0
    assert found["reads"] > 100
    assert set(found["places"]) == {"central", "LHR"}
    assert found["places"]["LHR"]["lag"]["count"] > 0
    assert json.loads(listed) == []
    text = exported.read_text()
    assert f"atoll_verify_reads_checked_total {found['reads']}.0" in text
    assert 'atoll_verify_lag_seconds_count{place="LHR"}' in text


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["verify"], "NAMESPACE"),
        (["verify", "0" * 32, "--location", "LHR"], "--location LHR="),
        (["verify", "0" * 32, "--location", "central=http://127.0.0.1:1"], "central"),
    ],
)
def test_wrong_ways_to_start_are_explained(tmp_path: Path, args: list[str], word: str) -> None:
    """With what to do instead."""
    refused = subprocess.run(
        [ATOLL, *args],
        env=environment(tmp_path / "data", token="t"),  # noqa: S106 - of nobody
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert refused.returncode == 2, refused
    assert word in refused.stderr
