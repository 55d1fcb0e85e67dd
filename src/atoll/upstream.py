"""`Upstream`: everything that can be read through.

Central implements it over a store, a location over a cache and another upstream, the peer client
over HTTP. Faces turn requests into calls on one of these and know nothing else of the node.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from atoll.core.model import Batch, ListQuery, Page, Read, Reading, Written
from atoll.core.session import Downward, Hello, Upward


class Upstream(Protocol):
    """Five verbs. Requests were checked by `core.rules` before they come here.

    Any of them may raise `UnavailableError` when it cannot be done now, or `StoreError`.
    """

    async def read(self, request: Read) -> Reading:
        """Return what is known of the one key in `request`.

        Raises:
            NotArrivedError: Nothing at or after `request.at_least` is to be had.
        """
        ...

    async def read_many(self, request: Read) -> Sequence[Reading]:
        """Return what is known of each key in `request`, in its order; no snapshot.

        Raises:
            NotArrivedError: As in `read`.
        """
        ...

    async def write(self, batch: Batch) -> Written:
        """Apply a batch, durably, before returning.

        Raises:
            ConditionFailedError: A condition did not hold; nothing was applied.
            RewriteTooSoonError: A key was written a moment ago; nothing was applied.
            DeadlinePassedError: It came too late; nothing was applied.
            OutcomeForgottenError: Its identity is below what its sender called resolved.
            IdempotencyKeyReusedError: Its identity was used for another request.
            DiskFullError: There is no room; nothing was applied.
        """
        ...

    async def list(self, query: ListQuery) -> Page:
        """Return one page of live keys.

        Raises:
            NotArrivedError: As in `read`.
        """
        ...

    def follow(self, hello: Hello, upward: AsyncIterator[Upward]) -> AsyncIterator[Downward]:
        """Open a session: changes of what is subscribed, in order, until either side ends it."""
        ...
