"""Who tells of a location from the inside: its keeper, and for its readers the keeper by a socket.

Entries of the journal are shown a page at a time, by their numbers, so that what comes and goes in
between neither hides nor repeats an entry.
"""

import base64
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from atoll.core.errors import UnavailableError
from atoll.core.location_errors import JournalEntryNotFoundError, UnreachableError
from atoll.core.model import Mutation
from atoll.core.version import micros_of
from atoll.http.exchange import Answer, Request, json_answer
from atoll.http.v1_locations import status_shown
from atoll.location.journal import Journaled, Refused
from atoll.location.keeper import Keeper
from atoll.peer.client import PeerClient

ENTRIES_MAX: Final = 1000
SEQUENCE_MAX: Final = 10**9 - 1
KEYS_SHOWN_MAX: Final = 10
"""How many keys of an entry are listed; it says how many there are."""
EXPORT_BYTES_MAX: Final = 8 * 2**20
"""A page of an export ends behind the entry that exceeds this."""
ESCAPED_FACTOR: Final = 2
NDJSON: Final = b"application/x-ndjson"

_encode = msgspec.json.Encoder().encode


class _Line(msgspec.Struct, omit_defaults=True):
    """A mutation that was refused: a member of a bulk write, and what became of it."""

    key: str
    namespace: str
    sequence: int
    version: str
    code: str
    reason: str
    value: str | None = None
    base64: bool = False
    deleted: bool = False
    expiration: int | None = None
    metadata: msgspec.Raw | None = None


class KeeperInside:
    """See `Inside`: the keeper itself."""

    def __init__(self, keeper: Keeper, registry: CollectorRegistry) -> None:
        """Tell of `keeper`, and what is counted in `registry`."""
        self._keeper = keeper
        self._journal = keeper.knowledge.journal
        self._registry = registry

    async def status(self, request: Request) -> Answer:
        """See `Inside`."""
        del request  # It says nothing more.
        keeper = self._keeper
        body = {
            "name": keeper.name,
            "connected": keeper.session.connected,
            "upstream_open": keeper.link_open,
            "status": status_shown(keeper.telling.status()),
        }
        return json_answer(_encode(body))

    async def journal(self, request: Request) -> Answer:
        """See `Inside`."""
        after = request.whole_number("after", default=0, low=0, high=SEQUENCE_MAX)
        limit = request.whole_number("limit", default=ENTRIES_MAX, low=1, high=ENTRIES_MAX)
        found = list(islice(self._entries(after), limit + 1))
        body: dict[str, object] = {
            "entries": [_listed(entry, refused) for entry, refused in found[:limit]],
            "list_complete": len(found) <= limit,
        }
        return json_answer(_encode(body))

    def _entries(self, after: int) -> Iterator[tuple[Journaled, Refused | None]]:
        """Yield the entries behind a number, by number."""
        both: list[tuple[Journaled, Refused | None]] = [
            *((one.entry, one) for one in self._journal.refused),
            *((entry, None) for entry in self._journal.entries),
        ]
        both.sort(key=lambda pair: pair[0].sequence)
        return (pair for pair in both if pair[0].sequence > after)

    async def refused(self, request: Request) -> Answer:
        """See `Inside`."""
        after = request.whole_number("after", default=0, low=0, high=SEQUENCE_MAX)
        lines: list[bytes] = []
        size_bytes = 0
        for refused in self._journal.refused:
            if refused.entry.sequence <= after or size_bytes > EXPORT_BYTES_MAX:
                continue
            for mutation in refused.entry.mutations:
                lines.append(_encode(_line(refused, mutation)) + b"\n")
                size_bytes += len(lines[-1])
        body = b"".join(lines)
        headers = [(b"content-type", NDJSON), (b"content-length", b"%d" % len(body))]
        return Answer(headers=headers, body=body)

    async def discard(self, request: Request) -> Answer:
        """See `Inside`.

        Raises:
            JournalEntryNotFoundError: There is none of this number.
        """
        text = request.key.decode("latin-1")
        sequence = int(text) if text.isascii() and text.isdigit() else -1
        if all(one.entry.sequence != sequence for one in self._journal.refused):
            raise JournalEntryNotFoundError(sequence=sequence)
        await self._journal.discard(sequence)
        return json_answer(_encode({"sequence": sequence, "discarded": True}))

    async def metrics(self) -> bytes:
        """See `Inside`."""
        return generate_latest(self._registry)


class ReaderInside:
    """See `Inside`: a reader, which passes requests on to its keeper as they are."""

    def __init__(self, keeper: PeerClient) -> None:
        """Ask `keeper`, on its private socket."""
        self._keeper = keeper

    async def status(self, request: Request) -> Answer:
        """See `Inside`."""
        return await self._passed(request)

    async def journal(self, request: Request) -> Answer:
        """See `Inside`."""
        return await self._passed(request)

    async def refused(self, request: Request) -> Answer:
        """See `Inside`."""
        return await self._passed(request)

    async def discard(self, request: Request) -> Answer:
        """See `Inside`."""
        return await self._passed(request)

    async def metrics(self) -> bytes:
        """See `Inside`."""
        _, _, body = await self._asked("GET", b"/metrics")
        return body

    async def _passed(self, request: Request) -> Answer:
        query = b"?" + request.query_string if request.query_string else b""
        # The keeper's answer has a body's length; to HEAD the body is left out here.
        method = "GET" if request.method == "HEAD" else request.method
        status, kind, body = await self._asked(method, request.path + query)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        return Answer(status=status, headers=headers, body=body)

    async def _asked(self, method: str, target: bytes) -> tuple[int, bytes, bytes]:
        try:
            return await self._keeper.plain(method, target)
        except UnreachableError as error:
            raise UnavailableError("the keeper of this location is being started anew") from error


def _listed(entry: Journaled, refused: Refused | None) -> dict[str, object]:
    shown: dict[str, object] = {
        "sequence": entry.sequence,
        "state": "waiting" if refused is None else "refused",
        "namespace": entry.namespace,
        "keys": [mutation.key for mutation in entry.mutations[:KEYS_SHOWN_MAX]],
        "mutations": len(entry.mutations),
        "stamped_us": micros_of(entry.first_stamp),
        "size_bytes": entry.size_bytes,
    }
    return shown if refused is None else {**shown, "code": refused.code, "reason": refused.reason}


def _line(refused: Refused, mutation: Mutation) -> _Line:
    line = _Line(
        key=mutation.key,
        namespace=refused.entry.namespace,
        sequence=refused.entry.sequence,
        version=str(mutation.stamp),
        code=refused.code,
        reason=refused.reason,
        expiration=mutation.expiration,
        metadata=None if mutation.metadata is None else msgspec.Raw(mutation.metadata),
    )
    if mutation.value is None:
        line.deleted = True
        return line
    text = _short_text(mutation.value)
    line.base64 = text is None
    line.value = base64.b64encode(mutation.value).decode() if text is None else text
    return line


def _short_text(value: bytes) -> str | None:
    """Return a value as text, unless it is none, or one that JSON would make long with escapes."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if len(_encode(text)) <= ESCAPED_FACTOR * len(value) + len('""') else None
