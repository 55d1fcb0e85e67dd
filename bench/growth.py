"""Hot reads at a location that holds ever more keys.

Reading 10^7 keys through would take an hour, so the cache is written while the location is
stopped, by the location's own codec: every record is a copy of one that it fetched itself, under
another key. It is started again with a bound of a day, within which all of them are fresh.
"""

import contextlib
import random
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import lmdb

from atoll.core.model import LargeValue
from atoll.location import codec
from atoll.location.codec import digest_of
from bench import atoll, drive, peers, place, turn
from bench.drive import Ask, Loop
from bench.holders import SERVER_CORE, VALUE, Holder, Spec
from bench.plan import Plan
from bench.process import BenchError
from bench.report import Bar, Chart, Part, Table, Target, mebibytes, shown
from bench.turn import Turn

SIZES: Final = (10**5, 10**6, 10**7)
SIZES_QUICK: Final = (10**4, 10**5)
ASKED_MAX: Final = 400_000
ASKED_MAX_QUICK: Final = 5_000
"""Of more keys, so many are asked for, chosen by chance."""
WARM_CLIENTS: Final = 32
CLIENTS: Final = (1, 32)
SECONDS: Final = 4.0
SECONDS_QUICK: Final = 0.5
CHECKED: Final = 20
GROWTH_MAX: Final = 1.3
RECORD_BYTES: Final = 1000
"""More than a record takes in LMDB, its share of pages included."""
CACHE_BYTES_MIN: Final = 2**26
BATCH: Final = 50_000
SEED: Final = 5
TEMPLATE: Final = "template"
A_DAY: Final = {"ATOLL_BOUND_S": "86400"}

HOW: Final = (
    "One location for each size, holding so many keys with values of 288 bytes; they take turns."
    f" Keys are asked for in an order of chance, at most {ASKED_MAX:,} different ones, after each"
    " was asked for once. The cache is written while the location is stopped, each record a copy"
    " of one that it had fetched itself; that it answers them from the cache is looked at before."
    " What is compared is the median time of a read, over one connection and over 32."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A location that holds so many keys."""

    keys: int
    holder: Holder
    cache_bytes: int


def measure(plan: Plan, folder: Path) -> Part:
    """Fill, then let the sizes take turns.

    Raises:
        BenchError: A key that is held is asked of central, or a request failed.
    """
    peers.need("cc")
    drive.build()
    taken: dict[tuple[int, int], list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        central = stack.enter_context(place.central(folder))
        place.fill(central, [TEMPLATE], VALUE)
        sizes = [
            stack.enter_context(_holding(plan, folder, central, keys))
            for keys in (SIZES_QUICK if plan.quick else SIZES)
        ]
        for number in range(plan.rounds):
            at = number % len(sizes)
            for clients in CLIENTS:
                for size in sizes[at:] + sizes[:at]:
                    plan.await_turn()
                    seconds = SECONDS_QUICK if plan.quick else SECONDS
                    loop = Loop(clients=clients, seconds=seconds)
                    done = turn.warmed(size.holder, size.holder.asks["hot"], loop)
                    taken.setdefault((size.keys, clients), []).append(done)
                    name, median_us = size.holder.name, done.driven.p50_us
                    plan.say(f"round {number + 1}: {name}, {clients}: {median_us:.1f} µs")
        resident = {size.keys: size.holder.memory().resident for size in sizes}
    return _part(sizes, taken, resident)


@contextlib.contextmanager
def _holding(plan: Plan, folder: Path, central: atoll.Atoll, keys: int) -> Generator[Size]:
    name = f"N{keys}"
    bytes_max = max(CACHE_BYTES_MIN, keys * RECORD_BYTES)
    settings = {**A_DAY, "ATOLL_CACHE_BYTES_MAX": str(bytes_max)}
    with place.location(folder, central, name=name, settings=settings) as at:
        at.warm([TEMPLATE])
        cache = at.cache
    begun = time.monotonic()
    size_bytes = copy_records(cache, central.namespace, keys, map_bytes=2 * bytes_max)
    plan.say(f"{keys:,} keys written in {time.monotonic() - begun:.0f} s")
    spec = Spec(folder=folder / name, keys=keys)
    with place.location(folder, central, name=name, settings=settings, core=SERVER_CORE) as at:
        chance = random.Random(SEED)  # noqa: S311  # the same keys in every run
        asked_max = ASKED_MAX_QUICK if plan.quick else ASKED_MAX
        numbers = chance.sample(range(keys), min(keys, asked_max))
        at.see_hits([key_name(number) for number in numbers[:CHECKED]])
        asks = [Ask(raw=at.get(key_name(number)), size=len(VALUE)) for number in numbers]
        path = drive.write(spec.folder / "hot.asks", asks)
        # Once through, so that no turn is about pages that the process touches first.
        drive.run(at.way, path, Loop(clients=WARM_CLIENTS, requests=len(asks)))
        holder = Holder(
            name=f"10^{len(str(keys)) - 1} keys",
            way=at.way,
            processes=[at.process],
            asks={"hot": path},
        )
        yield Size(keys=keys, holder=holder, cache_bytes=size_bytes)


def key_name(number: int) -> str:
    """Return the name of a key."""
    return f"item-{number:08}"


def copy_records(cache: Path, namespace: str, keys: int, *, map_bytes: int) -> int:
    """Put copies of the one record that a stopped location fetched under many keys.

    Args:
        cache: The location's folder of its cache.
        namespace: The keys'.
        keys: How many.
        map_bytes: How large the file may become.

    Returns:
        How large the file is.
    """
    found = sorted(cache.glob("cache-*.mdb"))
    if not found:
        raise BenchError(f"there is no cache in {cache}")
    file = found[-1]
    # In the order of their digests, pages are filled one after the other.
    places = sorted(
        digest_of(namespace, key_name(number)) + number.to_bytes(8, "big") for number in range(keys)
    )
    with lmdb.open(str(file), subdir=False, map_size=map_bytes, max_dbs=4, sync=False) as opened:
        records = opened.open_db(b"records")
        with opened.begin(db=records) as look:
            raw = look.get(digest_of(namespace, TEMPLATE))
        if raw is None:
            raise BenchError("the location does not hold what it was asked for")
        generation = int.from_bytes(raw[:4], "little")
        _, _, record = codec.decode(raw, generation=generation, opened=_no_file)
        for first in range(0, keys, BATCH):
            with opened.begin(db=records, write=True) as change:
                for each in places[first : first + BATCH]:
                    name = key_name(int.from_bytes(each[-8:], "big"))
                    copied = codec.encode(
                        namespace, name, record, generation=generation, large=None
                    )
                    change.put(each[:-8], copied)
    return file.stat().st_blocks * 512


def _no_file(_: object) -> LargeValue:
    raise BenchError("the template is a large value")


def _part(
    sizes: list[Size], taken: dict[tuple[int, int], list[Turn]], resident: dict[int, int]
) -> Part:
    times = {at: [one.driven.p50_us for one in turns] for at, turns in taken.items()}
    first, last = sizes[0], sizes[-1]
    targets = [
        Target(
            what=f"median of a hot read, {last.holder.name} over {first.holder.name},"
            f" {clients} connection{'s' if clients > 1 else ''}",
            measured=median(
                more / few
                for more, few in zip(
                    times[last.keys, clients], times[first.keys, clients], strict=True
                )
            ),
            high=GROWTH_MAX,
        )
        for clients in CLIENTS
    ]
    rows = [
        [
            size.holder.name,
            str(clients),
            shown(times[size.keys, clients]),
            shown([one.driven.per_second for one in taken[size.keys, clients]]),
            *turn.cells(taken[size.keys, clients])[1:],
            mebibytes(size.cache_bytes),
            mebibytes(resident[size.keys]),
        ]
        for clients in CLIENTS
        for size in sizes
    ]
    headings = ["", "connections", "p50 µs", "requests/s", *turn.HEADINGS[1:]]
    return Part(
        name="growth",
        title=f"Hot reads, {first.holder.name} to {last.holder.name}",
        how=HOW,
        targets=targets,
        tables=[
            Table(
                title="Medians over the rounds; smallest to largest in parentheses",
                headings=[*headings, "cache on disk", "resident, map included"],
                rows=rows,
            )
        ],
        charts=[
            Chart(
                title="Median of a hot read by the number of keys, 32 connections",
                unit="µs, less is better",
                bars=[Bar.of(f"atoll, {s.holder.name}", times[s.keys, 32]) for s in sizes],
            )
        ],
        rounds={
            f"{keys} keys, {clients}": [asdict(one) for one in turns]
            for (keys, clients), turns in taken.items()
        },
    )
