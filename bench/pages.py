"""Pages of a listing, out of ever more keys, much of them deleted.

One server for each size, with two namespaces of that size: in one every tenth key was deleted,
in the other nine of ten. The sweeper is told to keep away, so the deleted are still there as
tombstones. A page in the middle of anything is reached by a cursor, so all cursors are collected
once (which also warms the caches) and then asked for in an order of chance, in turns.
"""

import contextlib
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench import atoll, load, peers
from bench.load import Shape
from bench.plan import Plan
from bench.process import BenchError
from bench.report import Part, Table, Target, mebibytes, shown

SIZES: Final = (10**5, 10**6, 10**7)
SIZES_QUICK: Final = (10**4, 10**5)
DELETED_TENTHS: Final = (1, 9)
PAGE_KEYS: Final = 1000
BULK_KEYS: Final = 10_000
VALUE: Final = "0123456789abcdef" * 2
SECONDS: Final = 3
SECONDS_QUICK: Final = 1
SPREAD_MAX: Final = 4 / 3
SEED: Final = 7

KEEP_EVERYTHING: Final = {"ATOLL_SWEEP_INTERVAL_S": "3600", "ATOLL_FEED_ROWS_MAX": "1000000000"}
"""So that tombstones are still there when pages are asked for, and nothing is tidied meanwhile."""

HOW: Final = (
    f"Pages of {PAGE_KEYS:,} keys over REST, one after the other on one connection, at cursors"
    " chosen by chance among all of the namespace's, after all of it was listed once. What was"
    " deleted had been written before and is still there as tombstones. Sizes count the deleted:"
    " of 10^7 keys, nine tenths deleted, 10^6 are listed. Namespaces take turns; what is compared"
    " is the median page."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A namespace, ready to be listed."""

    keys: int
    deleted_tenths: int
    server: atoll.Atoll
    paths: Path
    """A file of paths, each that of a page."""
    walk_us: float
    """What a page took when all of them were asked for in order, once."""

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"10^{len(str(self.keys)) - 1} keys, {self.deleted_tenths}/10 deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One namespace's turn in one round."""

    load: load.Load
    cpu_us: float
    """Processor time of the server per page, in microseconds."""


def measure(plan: Plan, folder: Path) -> Part:
    """Fill, delete, list.

    Raises:
        BenchError: A listing is not what was written and not deleted.
    """
    peers.need("wrk")
    taken: dict[str, list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        listings: list[Listing] = []
        for keys in SIZES_QUICK if plan.quick else SIZES:
            listings += _prepare(stack, plan, folder / f"data-{keys}", keys)
        for number in range(plan.rounds):
            at = number % len(listings)
            for listing in listings[at:] + listings[:at]:
                plan.await_turn()
                turn = _ask(listing, seconds=SECONDS_QUICK if plan.quick else SECONDS)
                taken.setdefault(listing.name, []).append(turn)
                plan.say(f"round {number + 1}: {listing.name}: {turn.load.p50_us / 1000:.2f} ms")
        peaks = {listing.name: listing.server.process.memory().peak for listing in listings}
    return _part(listings, taken, peaks)


def key_name(number: int) -> str:
    """Return the name of a key; the numbers' order is the keys' order."""
    return f"user/{number:08}/profile"


def _prepare(stack: contextlib.ExitStack, plan: Plan, data: Path, keys: int) -> Iterator[Listing]:
    server = stack.enter_context(atoll.running(data, settings=KEEP_EVERYTHING))
    for tenths in DELETED_TENTHS:
        path = server.namespace_path(server.create_namespace(f"{tenths} tenths deleted"))
        begun = time.monotonic()
        _put(server, path, keys)
        put_by = time.monotonic()
        gone = _delete(server, path, keys, tenths)
        plan.say(
            f"{keys:,} keys written in {put_by - begun:.0f} s,"
            f" {gone:,} deleted in {time.monotonic() - put_by:.0f} s"
        )
        paths = data.with_name(f"{data.name}-{tenths}.paths")
        walk_us = _walk(server, path, paths, expected=keys - gone)
        yield Listing(keys=keys, deleted_tenths=tenths, server=server, paths=paths, walk_us=walk_us)


def _put(server: atoll.Atoll, path: str, keys: int) -> None:
    with contextlib.closing(server.connect()) as client:
        for numbers in _stretches(keys):
            pairs = [{"key": key_name(number), "value": VALUE} for number in numbers]
            client.request("PUT", f"{path}/bulk", body=msgspec.json.encode(pairs))


def _stretches(keys: int) -> Iterator[range]:
    for first in range(0, keys, BULK_KEYS):
        yield range(first, min(first + BULK_KEYS, keys))


def _delete(server: atoll.Atoll, path: str, keys: int, tenths: int) -> int:
    chance = random.Random(SEED)  # noqa: S311  # the same keys in every run
    count = 0
    with contextlib.closing(server.connect()) as client:
        for numbers in _stretches(keys):
            gone = [key_name(n) for n in numbers if chance.random() * 10 < tenths]
            client.request("POST", f"{path}/bulk/delete", body=msgspec.json.encode(gone))
            count += len(gone)
    return count


def _walk(server: atoll.Atoll, path: str, paths: Path, *, expected: int) -> float:
    """List everything once, write down the pages' paths, return what a page took."""
    pages: list[str] = []
    count = 0
    page = f"{path}/keys?limit={PAGE_KEYS}"
    begun = time.perf_counter()
    with contextlib.closing(server.connect()) as client:
        while page:
            pages.append(page)
            info = json.loads(client.request("GET", page))["result_info"]
            count += info["count"]
            page = (
                f"{path}/keys?limit={PAGE_KEYS}&cursor={info['cursor']}" if info["cursor"] else ""
            )
            if len(pages) > expected:
                raise BenchError("the listing does not end")
    took_us = (time.perf_counter() - begun) / len(pages) * 1e6
    if count != expected:
        raise BenchError(f"{count} keys were listed where {expected} are")
    # The last page is shorter than the others.
    asked = pages[:-1] or pages
    random.Random(SEED).shuffle(asked)  # noqa: S311
    paths.write_text("\n".join(asked) + "\n")
    return took_us


def _ask(listing: Listing, *, seconds: int) -> Turn:
    shape = Shape(
        method="GET",
        path=f"@{listing.paths}",
        headers={"Authorization": f"Bearer {listing.server.token}"},
    )
    before = listing.server.process.cpu_seconds()
    done = load.run(
        shape, url=listing.server.url, key_prefix="", clients=1, seconds=seconds, core=None
    )
    used = listing.server.process.cpu_seconds() - before
    return Turn(load=done, cpu_us=used / done.requests * 1e6)


def _part(
    listings: Sequence[Listing],
    taken: Mapping[str, Sequence[Turn]],
    peaks: Mapping[str, int],
) -> Part:
    costs = {name: [turn.load.p50_us / 1000 for turn in turns] for name, turns in taken.items()}
    used = {name: [turn.cpu_us / 1000 for turn in turns] for name, turns in taken.items()}
    rows = [
        [
            listing.name,
            shown(costs[listing.name]),
            f"{median([1000 / turn.load.per_second for turn in taken[listing.name]]):.2f}",
            f"{median([turn.load.p99_us for turn in taken[listing.name]]) / 1000:.2f}",
            shown(used[listing.name]),
            f"{listing.walk_us / 1000:.2f}",
            mebibytes(peaks[listing.name]),
        ]
        for listing in listings
    ]
    return Part(
        name="pages",
        title=f"Pages of {PAGE_KEYS:,} keys",
        how=HOW,
        targets=[
            Target(
                what=f"a page's {what}, the dearest namespace over the cheapest",
                measured=_spread(of_each),
                high=SPREAD_MAX,
            )
            for what, of_each in (("server CPU", used), ("median time", costs))
        ],
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=[
                    *("namespace", "p50 ms a page", "mean ms", "p99 ms", "server CPU ms"),
                    *("in order, once: ms", "server peak"),
                ],
                rows=rows,
            )
        ],
        rounds={name: [asdict(turn) for turn in turns] for name, turns in taken.items()},
    )


def _spread(of_each: Mapping[str, Sequence[float]]) -> float:
    """Return the largest median over the smallest."""
    middles = [median(values) for values in of_each.values()]
    return max(middles) / min(middles)
