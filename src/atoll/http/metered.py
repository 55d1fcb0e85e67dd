"""What requests of users come to: noted where a face asks its node, whichever face it is.

`Metered` is the node as the faces see it. It refuses what a quota has stopped, and notes what was
read and written for the request that is being answered; the application counts that before it
sends the answer, so that whatever was acknowledged has been counted. What nodes ask each other
does not come this way: a read is counted where it was answered, a write where it was accepted.
"""

from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from typing import Final

from atoll.accounts import Accounts, Namespace
from atoll.clock import Clock
from atoll.core.model import Batch, ListQuery, Page, Read, Reading, Written
from atoll.core.session import Downward, Hello, Upward
from atoll.upstream import Upstream
from atoll.usage.counts import Kind, Operation, kind_of
from atoll.usage.meter import Row
from atoll.usage.quotas import require_within


class Tally:
    """What one request came to."""

    __slots__ = ("deletes", "lists", "namespace", "puts", "readings")

    def __init__(self) -> None:
        self.namespace: Namespace | None = None
        self.readings: list[Reading] = []
        self.puts = 0
        self.deletes = 0
        self.lists = 0

    def count(self, row: Row, *, elapsed_us: int, received: int, sent: int) -> None:
        """Count it: each key is an operation, and so is a listing.

        Args:
            row: Where.
            elapsed_us: How long it took.
            received: Bytes of the request's body.
            sent: Bytes of the answer's body.
        """
        readings = self.readings
        if len(readings) == 1 and not received:
            (reading,) = readings
            kind = kind_of(reading)
            if reading.age_ms is not None:
                row.count_read(kind, sent=sent, elapsed_us=elapsed_us, age_ms=reading.age_ms)
                return
        for reading in readings:
            row.count_keys(kind_of(reading), 1)
            if reading.age_ms is not None:
                row.count_age(reading.age_ms)
        # What deletes by prefix lists on its way is not asked for by anybody.
        listed = 0 if self.deletes else min(self.lists, 1)
        row.count_keys(Kind.WRITE, self.puts)
        row.count_keys(Kind.DELETE, self.deletes)
        row.count_keys(Kind.LIST, listed)
        main = (
            (Kind.MISS_FOUND, len(readings)),
            (Kind.WRITE, self.puts),
            (Kind.DELETE, self.deletes),
            (Kind.LIST, listed),
        )
        for kind, keys in main:
            if keys:
                row.count_request(kind, received=received, sent=sent, elapsed_us=elapsed_us)
                return


TALLY: Final[ContextVar[Tally | None]] = ContextVar("tally", default=None)
"""That of the request which is being answered."""


class Metered:
    """See `Upstream`."""

    def __init__(self, upstream: Upstream, accounts: Accounts, clock: Clock) -> None:
        """Ask `upstream`.

        Args:
            upstream: The node.
            accounts: Whose namespaces are, and what is stopped in them.
            clock: Central time.
        """
        self._upstream = upstream
        self._accounts = accounts
        self._clock = clock

    async def _admit(self, namespace: str, *operations: Operation) -> Tally:
        """Refuse what is stopped, and return where to note what is done."""
        tally = TALLY.get() or Tally()
        # The face has just looked it up.
        found = self._accounts.known(namespace) or await self._accounts.namespace(namespace)
        tally.namespace = found
        if found.stops:
            now_s = self._clock.now_us() // 1_000_000
            require_within(found.stops, operations, now_s=now_s)
        return tally

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        tally = await self._admit(request.namespace, Operation.READ)
        reading = await self._upstream.read(request)
        tally.readings.append(reading)
        return reading

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`."""
        tally = await self._admit(request.namespace, Operation.READ)
        readings = await self._upstream.read_many(request)
        tally.readings += readings
        return readings

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        deletes = sum(mutation.value is None for mutation in batch.mutations)
        puts = len(batch.mutations) - deletes
        wanted = (Operation.WRITE,) if puts else ()
        tally = await self._admit(
            batch.namespace, *wanted, *((Operation.DELETE,) if deletes else ())
        )
        written = await self._upstream.write(batch)
        tally.puts += puts
        tally.deletes += deletes
        return written

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`."""
        tally = await self._admit(query.namespace, Operation.LIST)
        page = await self._upstream.list(query)
        tally.lists += 1
        return page

    def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        return self._upstream.follow(hello, upward)
