"""Pages of a thousand keys from any place of a namespace: central, a location, etcd's gateway."""

import base64
import contextlib
import json
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench import drive, peers, place, turn
from bench.drive import ANY_SIZE, Ask, Loop, http
from bench.holders import VALUE, Holder, Spec, Start, fill_etcd, start
from bench.plan import Plan
from bench.report import Bar, Chart, Part, Table, mebibytes, shown
from bench.turn import Turn

KEYS: Final = 100_000
KEYS_QUICK: Final = 5_000
PAGE_KEYS: Final = 1000
PAGES: Final = 500
CLIENTS: Final = (1, 8)
SECONDS: Final = 3.0
SECONDS_QUICK: Final = 0.5
SEED: Final = 3
LIST: Final = "list"

HOW: Final = (
    f"Pages of {PAGE_KEYS:,} keys without values, each from behind a key chosen by chance, in a"
    " closed loop over keep-alive connections; the generator has one core, the servers the other."
    " Atoll's rows have version and size, and come through /v1; a location passes the question on"
    " to central, and both are on the one core then. etcd answers with versions, in base64. Redis"
    " has no ordered listing. How pages behave over sizes and among deleted keys is another part."
)


@contextlib.contextmanager
def _central(spec: Spec) -> Generator[Holder]:
    with place.central(spec.folder, core=spec.core, program=spec.program) as central:
        place.fill(central, spec.names, VALUE)
        path = f"/v1/namespaces/{central.namespace}/keys"
        headers = {"Authorization": f"Bearer {central.token}"}
        port = drive.Way(port=int(central.url.rpartition(":")[2]))
        yield Holder(
            name=spec.named("atoll, central"),
            way=port,
            processes=[central.process],
            asks=_asks(spec, lambda key: _page(path, key, headers)),
        )


@contextlib.contextmanager
def _location(spec: Spec) -> Generator[Holder]:
    with (
        place.central(spec.folder, core=spec.core, program=spec.program) as central,
        place.location(spec.folder, central, core=spec.core, program=spec.program) as at,
    ):
        place.fill(central, spec.names, VALUE)
        path = f"{at.path}/keys"
        yield Holder(
            name=spec.named("atoll, location"),
            way=at.way,
            processes=[central.process, at.process],
            asks=_asks(spec, lambda key: _page(path, key, at.headers)),
        )


def _page(path: str, key: str, headers: Mapping[str, str]) -> bytes:
    return http("GET", f"{path}?limit={PAGE_KEYS}&start_after={key}", headers=headers)


@contextlib.contextmanager
def _etcd(spec: Spec) -> Generator[Holder]:
    with peers.etcd(spec.folder, value=VALUE, core=spec.core) as server:
        fill_etcd(server.url, spec.names)

        def page(key: str) -> bytes:
            body = {
                "key": base64.b64encode(f"{key}\0".encode()).decode(),
                "range_end": base64.b64encode(b"j").decode(),
                "limit": PAGE_KEYS,
                "keys_only": True,
            }
            return http("POST", "/v3/kv/range", body=json.dumps(body).encode())

        yield Holder(
            name="etcd",
            way=server.way,
            processes=server.processes,
            asks=_asks(spec, page),
        )


def _asks(spec: Spec, page: Callable[[str], bytes]) -> dict[str, Path]:
    chance = random.Random(SEED)  # noqa: S311  # the same pages in every run
    firsts = [chance.randrange(spec.keys - PAGE_KEYS) for _ in range(PAGES)]
    names = spec.names
    return {LIST: spec.write(LIST, [Ask(raw=page(names[n]), size=ANY_SIZE) for n in firsts])}


SERVERS: Final[Mapping[str, Start]] = {
    "atoll-central": _central,
    "atoll": _location,
    "etcd": _etcd,
}


def measure(plan: Plan, folder: Path) -> Part:
    """Let the servers take turns.

    Raises:
        BenchError: A request was not answered as it has to be.
    """
    peers.need("cc", "etcd")
    drive.build()
    taken: dict[tuple[str, int], list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        keys = KEYS_QUICK if plan.quick else KEYS
        holders = start(stack, plan, folder, SERVERS, keys=keys)
        for number in range(plan.rounds):
            at = number % len(holders)
            for clients in CLIENTS:
                for holder in holders[at:] + holders[:at]:
                    plan.await_turn()
                    loop = Loop(clients=clients, seconds=SECONDS_QUICK if plan.quick else SECONDS)
                    done = turn.warmed(holder, holder.asks[LIST], loop)
                    taken.setdefault((holder.name, clients), []).append(done)
                    plan.say(f"{holder.name}, {clients}: {done.driven.per_second:,.0f} pages/s")
        peaks = {holder.name: holder.memory().peak for holder in holders}
    return _part(taken, peaks, keys=keys)


def _part(
    taken: Mapping[tuple[str, int], list[Turn]], peaks: Mapping[str, int], *, keys: int
) -> Part:
    rates = {at: [one.driven.per_second for one in turns] for at, turns in taken.items()}
    rows = [
        [
            name,
            str(clients),
            shown(rates[name, clients]),
            *turn.cells(turns),
            mebibytes(peaks[name]),
        ]
        for (name, clients), turns in sorted(taken.items(), key=lambda item: item[0][1])
    ]
    return Part(
        name="lists",
        title=f"Pages of {PAGE_KEYS:,} of {keys:,} keys",
        how=HOW,
        targets=[],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=["server", "connections", "pages/s", *turn.HEADINGS, "peak memory"],
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title=f"Pages of {PAGE_KEYS:,} keys, {CLIENTS[-1]} connections",
                unit="pages/s",
                bars=[Bar.of(name, r) for (name, n), r in rates.items() if n == CLIENTS[-1]],
            )
        ],
        rounds={
            f"{name}, {clients}": [asdict(one) for one in turns]
            for (name, clients), turns in taken.items()
        },
    )
