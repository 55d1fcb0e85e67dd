"""The errors of locations and of feeds, a part of the tree in `core.errors`.

Most are kinds of `UnavailableError`: what cannot be done now may be done later. A location that was
forgotten stays so, and its journal is set aside; one that another process keeps is not opened at
all; what is asked of the wrong node, or is not there, stays so too; and what a request wants only
if it is held may not be held.
"""

from pathlib import Path

from atoll.core.errors import AtollError, NotFoundError, StoreError, UnavailableError


class UnreachableError(UnavailableError):
    """The upstream did not answer."""

    code = "unreachable"

    def __init__(self, *, sent: bool) -> None:
        self.sent = sent
        """Whether the request may have reached it."""
        super().__init__(
            "the node that this one reads through did not answer"
            if sent
            else "the node that this one reads through cannot be reached; nothing was sent to it"
        )


class NotAdmittedError(UnreachableError):
    """The upstream does not take this node's calls: its credential, or its protocol, is refused."""

    code = "not_admitted"

    def __init__(self, *, reason: str) -> None:
        super().__init__(sent=False)
        self.reason = reason
        self.args = (f"the node that this one reads through does not admit it: {reason}",)


class CutOffError(UnavailableError):
    """Central cannot be asked, and what is held here is no answer to this request."""

    code = "cut_off"

    def __init__(self, *, detail: str, sent: bool = False) -> None:
        self.detail = detail
        self.sent = sent
        """Whether the request may have reached central all the same."""
        super().__init__(f"this location cannot reach central now: {detail}")


class NotHeldError(AtollError):
    """A location does not hold what a request wants only if it is held."""

    code = "not_held"

    def __init__(self) -> None:
        super().__init__(
            "this location holds nothing that answers the request, which says only-if-cached: leave"
            " that out to have it fetched"
        )


class OutcomeUnknownError(UnavailableError):
    """A write that is never journaled was sent, and no answer came."""

    code = "outcome_unknown"

    def __init__(self) -> None:
        super().__init__(
            "central did not answer in time, so the write may have been applied or not. Read the"
            " key before you write again, or repeat the request under its Idempotency-Key."
        )


class CentralOnlyError(AtollError):
    """A location was asked for what only central offers."""

    code = "central_only"

    def __init__(self, *, location: str) -> None:
        self.location = location
        super().__init__(
            f"this is the location {location}: it answers /v1 for keys. REST v4 and all"
            " administration are central's; send this request there."
        )


class LocationOnlyError(AtollError):
    """Central was asked for what only a location has."""

    code = "location_only"

    def __init__(self) -> None:
        super().__init__(
            "this is central, which keeps no journal: send this request to a location's own URL"
        )


class LocationNotFoundError(NotFoundError):
    """No location of this name is registered."""

    code = "location_not_found"

    def __init__(self, *, name: str) -> None:
        self.name = name
        super().__init__(f"no location {name!r} is registered")


class JournalEntryNotFoundError(NotFoundError):
    """The location keeps no refused entry of this number."""

    code = "journal_entry_not_found"

    def __init__(self, *, sequence: int) -> None:
        self.sequence = sequence
        super().__init__(f"no refused entry {sequence} is kept in this location's journal")


class JournalFullError(UnavailableError):
    """The location's journal has no room; the write was not taken."""

    code = "journal_full"

    def __init__(self, *, size_bytes_max: int) -> None:
        self.size_bytes_max = size_bytes_max
        super().__init__(
            "central cannot be reached and this location's journal is full"
            f" ({size_bytes_max} bytes); the write was not taken"
        )


class FeedStartedOverError(UnavailableError):
    """The feed of a node began anew while it was followed; what came in between was not told."""

    code = "feed_started_over"

    def __init__(self) -> None:
        super().__init__(
            "the feed began anew here: it was followed too slowly, or this node lost its own place."
            " Go on from the last position that you have; what was missed is told, if anybody"
            " remembers it"
        )


class TooManyWatchesError(UnavailableError):
    """As many watches are open at this process as it allows."""

    code = "too_many_watches"

    def __init__(self, *, count_max: int) -> None:
        self.count_max = count_max
        super().__init__(f"{count_max} watches are open here, as many as may be")


class LocationUnknownError(UnavailableError):
    """A journal came from a location that is not registered; it registers and sends again."""

    code = "location_unknown"

    def __init__(self, *, location: str) -> None:
        self.location = location
        super().__init__(f"location {location!r} is not registered here")


class LocationForgottenError(AtollError):
    """A journal came from a location that was forgotten; nothing of it is applied."""

    code = "location_forgotten"

    def __init__(self, *, location: str) -> None:
        self.location = location
        super().__init__(
            f"location {location!r} was forgotten: what its journal still holds is not applied,"
            " because deletions that are newer may have been removed since"
        )


class LocationInUseError(StoreError):
    """Another process keeps this location."""

    code = "location_in_use"

    def __init__(self, *, folder: Path, pid: int | None) -> None:
        self.folder = folder
        self.pid = pid
        """The other's, `None` if it has not said yet."""
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"the location in {folder} is kept by {who}; end that one first")
