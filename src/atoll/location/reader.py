"""A reader: what a server process of a location answers by itself, and what it asks the keeper.

It sees the keeper's cache and judges by the same function as the keeper. What it cannot answer, and
everything that is not a read, goes to the keeper. When that cannot be reached, what is held is
answered by age, as the keeper does when its own upstream cannot be reached.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from atoll.clock import Clock
from atoll.core.location_errors import CutOffError, OutcomeUnknownError, UnreachableError
from atoll.core.model import Batch, ListQuery, Page, Read, Reading, Written
from atoll.core.session import Downward, Hello, Upward
from atoll.location.lookup import Lookup, Sight
from atoll.location.mapping import ReaderMapping
from atoll.upstream import Upstream


class Reader:
    """See `Upstream`."""

    def __init__(
        self,
        name: str,
        keeper: Upstream,
        sight: Sight,
        *,
        clock: Clock,
        boot: str,
        age_ms_max: int = 60_000,
        refresh_at: float = 0.75,
        mapping: ReaderMapping | None = None,
    ) -> None:
        """Answer from what `sight` shows, and else ask `keeper`.

        Args:
            name: The location's.
            keeper: The location's keeper, in this process or in another.
            sight: Its cache.
            clock: This machine's clocks.
            boot: Names the boot of the machine.
            age_ms_max: The bound of a read that states none.
            refresh_at: As in the keeper's settings: what is older than this part of its bound is
                the keeper's to refresh.
            mapping: Where answers are counted that the keeper does not see.
        """
        self._keeper = keeper
        self.lookup = Lookup(
            name,
            sight,
            clock=clock,
            boot=boot,
            age_ms_max=age_ms_max,
            refresh_at=refresh_at,
            mapping=mapping,
        )

    def central_us(self) -> int | None:
        """Return central time as the keeper knows it, `None` if nobody here has heard it."""
        return self.lookup.central_us()

    async def read(self, request: Read) -> Reading:
        """See `Upstream`.

        Raises:
            CutOffError: The keeper cannot be asked, and nothing held is good enough.
            NotArrivedError: Nothing at or after the required position is to be had.
        """
        demand = self.lookup.demand(request, request.keys[0], self.lookup.elapsed_ms())
        reading = self.lookup.answer(demand)
        if reading is not None:
            return reading
        try:
            return await self._keeper.read(request)
        except UnreachableError:
            return self.lookup.final(demand)

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """See `Upstream`.

        Raises:
            CutOffError: As in `read`.
            NotArrivedError: As in `read`.
        """
        asked_ms = self.lookup.elapsed_ms()
        demands = [self.lookup.demand(request, key, asked_ms) for key in request.keys]
        readings = [self.lookup.answer(demand) for demand in demands]
        missing = [at for at, reading in enumerate(readings) if reading is None]
        if missing:
            keys = tuple(request.keys[at] for at in missing)
            try:
                asked = await self._keeper.read_many(replace(request, keys=keys))
            except UnreachableError:
                asked = [self.lookup.final(demands[at]) for at in missing]
            for at, reading in zip(missing, asked, strict=True):
                readings[at] = reading
        return [reading for reading in readings if reading is not None]

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`.

        Raises:
            CutOffError: The keeper cannot be reached, and nothing was sent to it.
            OutcomeUnknownError: It did not answer.
        """
        try:
            return await self._keeper.write(batch)
        except UnreachableError as error:
            if error.sent:
                raise OutcomeUnknownError from error
            raise CutOffError(detail="the keeper of this location is being started anew") from error

    async def list(self, query: ListQuery) -> Page:
        """See `Upstream`.

        Raises:
            CutOffError: The keeper cannot be asked: a list is never partial.
        """
        try:
            return await self._keeper.list(query)
        except UnreachableError as error:
            raise CutOffError(detail="only central can list keys") from error

    def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """See `Upstream`."""
        return self._keeper.follow(hello, upward)
