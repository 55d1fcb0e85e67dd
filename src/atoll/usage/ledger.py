"""The ledger: what all nodes counted, added up at central, and what was stored, hour by hour.

Everything is an entry of the usage namespace, changed in transactions like any other:

    batch/<node>/<label>/<number>                what a node delivered, until it is added up
    hour/<hour>/<account>/<namespace>/<node>     counts by face, kept for `HOURS_KEPT_S`
    day/<day>/<account>/<namespace>/<node>       the same, added up by day, kept for `DAYS_KEPT_S`
    stored/<day>/<account>/<namespace>           bytes and keys, by hour of the day
    sampled/<day>                                the hours of the day in which storage was sampled

A batch is added up and removed in one transaction, so it counts once. Hours and days are those of
UTC, numbered since the Unix epoch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, TypeVar

import msgspec

from atoll.clock import Clock
from atoll.core.model import (
    USAGE_NAMESPACE,
    Batch,
    Include,
    Listed,
    ListQuery,
    Mutation,
    Presence,
    Read,
)
from atoll.store.protocol import Usage
from atoll.upstream import Upstream
from atoll.usage.collector import BATCH_PREFIX, Delivery
from atoll.usage.counts import HOURS_PER_DAY, Counts, hour_of, merged, operations_in
from atoll.usage.prices import Meter
from atoll.usage.statement import Used, day_number, days_in

FOLD_BATCHES_MAX: Final = 64
"""How many batches are added up in one transaction."""
FOLD_ROUNDS_MAX: Final = 1000
PAGE_KEYS: Final = 1000
PAGE_BYTES_MAX: Final = 8 * 2**20
SAMPLE_NAMESPACES_MAX: Final = 256
"""How many namespaces' samples are written in one transaction."""

S_PER_HOUR: Final = 3600
HOURS_KEPT_S: Final = 40 * HOURS_PER_DAY * S_PER_HOUR
DAYS_KEPT_S: Final = 800 * HOURS_PER_DAY * S_PER_HOUR

TOTALS_MAX: Final = 20_000
DAYS_REMEMBERED_MAX: Final = 10_000
LOOK_BACK_DAYS: Final = 31
"""How far back a sample is looked for that still holds, had central not run for so long."""

NUMBER_DIGITS: Final = 8
"""Of hours and days in keys, so that they sort."""

Faces = dict[str, dict[int, int]]
Sample = tuple[int, int]
"""Bytes and keys."""
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A namespace, and whose it is."""

    account: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one face of one node counted of a namespace in an hour, or in a day."""

    at: int
    """The hour or the day."""
    account: str
    namespace: str
    node: str
    face: str
    counts: dict[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a namespace held in an hour."""

    hour: int
    namespace: str
    bytes: int
    keys: int


class Ledger:
    """Adds up, samples and answers. There is one, at central."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        clock: Clock,
        owned: Callable[[], Awaitable[Sequence[Owned]]],
        stored: Callable[[str], Awaitable[Usage]],
    ) -> None:
        """Keep entries through `upstream`.

        Args:
            upstream: Central.
            clock: Central time.
            owned: Returns all namespaces.
            stored: Returns what a namespace holds now.
        """
        self._upstream = upstream
        self._clock = clock
        self._owned = owned
        self._stored = stored
        self._folding = asyncio.Lock()
        self._sampling = asyncio.Lock()
        self._days: dict[tuple[str, int], dict[str, Mapping[Meter, int]]] = {}
        self.totals: dict[tuple[str, str, str, str], dict[int, int]] = {}
        """What was added up since this process began, by account, namespace, node and face."""

    def now_hour(self) -> int:
        """Return the hour that it is."""
        return hour_of(self._clock.now_us())

    # Adding up.

    async def settle(self) -> None:
        """Add up what was delivered by now."""
        async with self._folding:
            for _ in range(FOLD_ROUNDS_MAX):
                page = await self._upstream.list(
                    ListQuery(
                        namespace=USAGE_NAMESPACE,
                        prefix=BATCH_PREFIX,
                        limit=FOLD_BATCHES_MAX,
                        include=Include.VALUES,
                        values_bytes_max=PAGE_BYTES_MAX,
                    )
                )
                if not page.items:
                    return
                await self._fold(page.items)
                if page.after is None:
                    return

    async def _fold(self, items: Sequence[Listed]) -> None:
        """Add some batches up, and remove them."""
        added: dict[tuple[str, str, str, str, str], list[dict[int, int]]] = {}
        sums: dict[tuple[str, str, str, str], list[dict[int, int]]] = {}
        mutations: list[Mutation] = []
        for item in items:
            delivery = msgspec.msgpack.decode(await self._value(item), type=Delivery)
            node = delivery.node
            for row in delivery.rows:
                of = (row.account, row.namespace, node, row.face)
                sums.setdefault(of, []).append(row.counts)
                for when in (
                    f"hour/{row.hour:0{NUMBER_DIGITS}d}",
                    f"day/{row.hour // HOURS_PER_DAY:0{NUMBER_DIGITS}d}",
                ):
                    added.setdefault((when, *of), []).append(row.counts)
            mutations.append(Mutation(key=item.key, value=None, condition=item.version))
        fresh: dict[str, Faces] = {}
        for (when, account, namespace, node, face), rows in added.items():
            faces = fresh.setdefault(f"{when}/{account}/{namespace}/{node}", {})
            faces[face] = merged(rows)
        mutations += await self._added(fresh)
        await self._upstream.write(Batch(namespace=USAGE_NAMESPACE, mutations=mutations))
        for when, account, *_ in added:
            kind, number = when.split("/")
            if kind == "day":
                self._days.pop((account, int(number)), None)
        if len(self.totals) + len(sums) > TOTALS_MAX:
            self.totals.clear()  # To who reads counters, as if this process had begun anew.
        for of, rows in sums.items():
            self.totals[of] = merged((self.totals.get(of, {}), *rows))

    async def _value(self, item: Listed) -> bytes:
        """Return a batch; a listing leaves out what is large."""
        if item.value is not None:
            return item.value
        asked = Read(namespace=USAGE_NAMESPACE, keys=(item.key,), age_ms_max=0)
        entry = (await self._upstream.read(asked)).entry
        assert entry is not None
        assert entry.value is not None
        value = entry.value
        if isinstance(value, bytes):
            return value
        return b"".join([piece async for piece in value.chunks()])

    async def _added(self, fresh: dict[str, Faces]) -> list[Mutation]:
        """Return the entries that hold what they held and `fresh` too."""
        keys = tuple(fresh)
        asked = Read(namespace=USAGE_NAMESPACE, keys=keys, age_ms_max=0)
        readings = await self._upstream.read_many(asked) if keys else ()
        mutations: list[Mutation] = []
        for key, reading in zip(keys, readings, strict=True):
            entry = reading.entry
            faces = fresh[key]
            if entry is not None:
                assert isinstance(entry.value, bytes)
                for face, counts in msgspec.msgpack.decode(entry.value, type=Faces).items():
                    faces[face] = merged((faces.get(face, {}), counts))
            kind, number, _ = key.split("/", 2)
            begin_s = int(number) * S_PER_HOUR * (1 if kind == "hour" else HOURS_PER_DAY)
            mutations.append(
                Mutation(
                    key=key,
                    value=msgspec.msgpack.encode(faces),
                    expiration=begin_s + (HOURS_KEPT_S if kind == "hour" else DAYS_KEPT_S),
                    condition=Presence.ABSENT if entry is None else entry.version,
                )
            )
        return mutations

    # Sampling.

    async def sample(self) -> None:
        """Note what every namespace holds, once in each hour."""
        async with self._sampling:
            await self._sample(self.now_hour())

    async def _sample(self, hour: int) -> None:
        day = hour // HOURS_PER_DAY
        marker = f"sampled/{day:0{NUMBER_DIGITS}d}"
        hours = await self._decoded(marker, list[int]) or []
        if hour in hours:
            return
        found = {
            f"stored/{day:0{NUMBER_DIGITS}d}/{one.account}/{one.namespace}": one.namespace
            for one in await self._owned()
        }
        keys = list(found)
        expiration = day * HOURS_PER_DAY * S_PER_HOUR + DAYS_KEPT_S
        for start in range(0, len(keys), SAMPLE_NAMESPACES_MAX):
            mutations: list[Mutation] = []
            for key in keys[start : start + SAMPLE_NAMESPACES_MAX]:
                held = await self._stored(found[key])
                samples = await self._decoded(key, dict[int, Sample]) or {}
                samples[hour % HOURS_PER_DAY] = (held.bytes, held.keys)
                value = msgspec.msgpack.encode(samples)
                mutations.append(Mutation(key=key, value=value, expiration=expiration))
            await self._upstream.write(Batch(namespace=USAGE_NAMESPACE, mutations=mutations))
        value = msgspec.msgpack.encode([*hours, hour])
        mark = Mutation(key=marker, value=value, expiration=expiration)
        await self._upstream.write(Batch(namespace=USAGE_NAMESPACE, mutations=(mark,)))

    async def _decoded(self, key: str, kind: type[Kept]) -> Kept | None:
        asked = Read(namespace=USAGE_NAMESPACE, keys=(key,), age_ms_max=0)
        entry = (await self._upstream.read(asked)).entry
        if entry is None:
            return None
        assert isinstance(entry.value, bytes)
        return msgspec.msgpack.decode(entry.value, type=kind)

    # Answering.

    async def by_day(
        self, account: str, days: Iterable[int], *, namespace: str | None = None
    ) -> list[Counted]:
        """Return what was counted on some days."""
        return await self._counted("day", account, days, namespace)

    async def operations(self, account: str, day: int) -> Mapping[str, Mapping[Meter, int]]:
        """Return how many operations were counted on a day, by namespace; remembered."""
        known = self._days.get((account, day))
        if known is not None:
            return known
        async with self._folding:  # What is read here must not be remembered past a fold.
            rows: dict[str, list[dict[int, int]]] = {}
            for one in await self.by_day(account, (day,)):
                rows.setdefault(one.namespace, []).append(one.counts)
            found = {namespace: meters_in(merged(of)) for namespace, of in rows.items()}
            if len(self._days) >= DAYS_REMEMBERED_MAX:
                self._days.clear()
            self._days[account, day] = found
        return found

    async def by_hour(
        self, account: str, hours: Iterable[int], *, namespace: str | None = None
    ) -> list[Counted]:
        """Return what was counted in some hours."""
        return await self._counted("hour", account, hours, namespace)

    async def _counted(
        self, kind: str, account: str, numbers: Iterable[int], namespace: str | None
    ) -> list[Counted]:
        found: list[Counted] = []
        for number in numbers:
            prefix = f"{kind}/{number:0{NUMBER_DIGITS}d}/{account}/"
            for item in await self._listed(prefix + (f"{namespace}/" if namespace else "")):
                of, node = item.key.removeprefix(prefix).split("/", 1)
                assert item.value is not None
                faces = msgspec.msgpack.decode(item.value, type=Faces)
                found += (
                    Counted(
                        at=number,
                        account=account,
                        namespace=of,
                        node=node,
                        face=face,
                        counts=counts,
                    )
                    for face, counts in faces.items()
                )
        return found

    async def stored(
        self, account: str, days: Iterable[int], *, namespace: str | None = None
    ) -> list[Stored]:
        """Return what was stored in each hour of some consecutive days, up to now.

        In an hour without a sample central did not run, and what had been stored was still there.
        """
        found: list[Stored] = []
        last: dict[str, Sample] = {}
        now = self.now_hour()
        wanted = sorted(days)
        before = await self._sampled_before(wanted[0]) if wanted else ()
        for day in (*before, *wanted):
            sampled = set(await self._decoded(f"sampled/{day:0{NUMBER_DIGITS}d}", list[int]) or ())
            prefix = f"stored/{day:0{NUMBER_DIGITS}d}/{account}/"
            samples = {
                item.key.removeprefix(prefix): msgspec.msgpack.decode(
                    item.value or b"", type=dict[int, Sample]
                )
                for item in await self._listed(prefix + (namespace or ""))
            }
            for hour in range(day * HOURS_PER_DAY, (day + 1) * HOURS_PER_DAY):
                if hour > now:
                    break
                if hour in sampled:
                    at = hour % HOURS_PER_DAY
                    last = {of: by_hour[at] for of, by_hour in samples.items() if at in by_hour}
                if day not in before:
                    found += (
                        Stored(hour=hour, namespace=of, bytes=size, keys=keys)
                        for of, (size, keys) in last.items()
                    )
        return found

    async def _sampled_before(self, day: int) -> Sequence[int]:
        """Return the last day before another in which there are samples, not too far back."""
        for earlier in range(day - 1, day - 1 - LOOK_BACK_DAYS, -1):
            if await self._decoded(f"sampled/{earlier:0{NUMBER_DIGITS}d}", list[int]):
                return (earlier,)
        return ()

    async def used(self, account: str, month: date, *, namespace: str | None = None) -> Used:
        """Return what a statement of a month is made of."""
        first = day_number(month)
        days = range(first, first + days_in(month))
        rows: dict[int, list[dict[int, int]]] = {}
        for counted in await self.by_day(account, days, namespace=namespace):
            rows.setdefault(counted.at - first + 1, []).append(counted.counts)
        operations = {day: meters_in(merged(of)) for day, of in rows.items()}
        by_hour: dict[int, int] = {}
        for one in await self.stored(account, days, namespace=namespace):
            by_hour[one.hour] = by_hour.get(one.hour, 0) + one.bytes
        return Used(operations=operations, stored_bytes=[by_hour[hour] for hour in sorted(by_hour)])

    async def _listed(self, prefix: str) -> list[Listed]:
        """Return all entries under a prefix."""
        items: list[Listed] = []
        after: str | None = None
        while True:
            page = await self._upstream.list(
                ListQuery(
                    namespace=USAGE_NAMESPACE,
                    prefix=prefix,
                    after=after,
                    limit=PAGE_KEYS,
                    include=Include.VALUES,
                    values_bytes_max=PAGE_BYTES_MAX,
                )
            )
            items.extend(page.items)
            after = page.after
            if after is None:
                return items


def meters_in(counts: Counts) -> Mapping[Meter, int]:
    """Return how many operations are counted, by what they are charged as."""
    return {Meter(operation.value): n for operation, n in operations_in(counts).items()}
