"""`/v1/locations`: how the locations are, and what each holds of a key. Central knows.

GET    /v1/locations                           all that are registered
DELETE /v1/locations/{name}                    forget one that never comes back
GET    /v1/namespaces/{id}/where/{key}         what everybody holds of a key
"""

from typing import Final

import msgspec

from atoll.core import rules
from atoll.core.errors import MethodNotAllowedError, RouteNotFoundError
from atoll.core.location_errors import CentralOnlyError
from atoll.core.model import Reading
from atoll.core.session import Held, Status
from atoll.core.version import Version
from atoll.http.exchange import Answer, Request, decode_key, json_answer
from atoll.http.node import Node
from atoll.http.values import principal_of
from atoll.oversight import Located, Oversight
from atoll.principal import EVERY_ACCOUNT, Permission

LOCATIONS_PREFIX: Final = b"/v1/locations"

_encode = msgspec.json.Encoder().encode


class V1Locations:
    """Handlers. Those under the prefix need administration of every account."""

    def __init__(self, node: Node) -> None:
        """Serve `node`."""
        self._node = node

    def _oversight(self) -> Oversight:
        oversight = self._node.oversight
        if oversight is None:
            raise CentralOnlyError(location=self._node.name)
        return oversight

    async def answer(self, request: Request) -> Answer:
        """Do what the request asks.

        Raises:
            CentralOnlyError: This is a location.
            RouteNotFoundError: There is no such path.
            MethodNotAllowedError: The path is not for this method.
        """
        oversight = self._oversight()
        rest = request.path.removeprefix(LOCATIONS_PREFIX)
        name = rest[1:].decode("latin-1")
        if rest[:1] not in {b"", b"/"} or (rest and not name):
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        allowed = ("DELETE",) if name else ("GET", "HEAD")
        if request.method not in allowed:
            raise MethodNotAllowedError(method=request.method, allowed=allowed)
        request.operation = "forget location" if name else "list locations"
        principal = await principal_of(self._node, request)
        principal.require(Permission.ADMIN, account=EVERY_ACCOUNT)
        if name:
            await oversight.forget(name)
            return json_answer(_encode({"name": name, "forgotten": True}))
        return json_answer(
            _encode({"locations": [_shown(one) for one in await oversight.locations()]})
        )

    async def where(self, request: Request) -> Answer:
        """Tell what everybody holds of the key that `request` names; who asks may read it."""
        oversight = self._oversight()
        key = decode_key(request.key)
        rules.check_key(self._node.limits, key)
        found = await oversight.where(request.namespace, key)
        current = _version(found.central)
        return json_answer(
            _encode(
                {
                    "key": key,
                    "central": {
                        "holds": "missing" if found.central.entry is None else "value",
                        "version": _text(current),
                        "position": str(found.central.position),
                    },
                    "locations": [_held(name, one, current) for name, one in found.locations],
                }
            )
        )


def status_shown(status: Status) -> dict[str, object]:
    """Return a status as JSON shows it."""
    shown = msgspec.to_builtins(status)
    del shown["location"]
    return {**shown, "position": str(status.position)}


def _shown(located: Located) -> dict[str, object]:
    said = located.said
    return {
        "name": located.registered.name,
        "node": located.registered.node,
        "forgotten": located.registered.forgotten,
        "connected": located.is_connected,
        "silent_ms": located.silent_ms,
        "behind": None if said is None else said.behind,
        "journal_empty_us": located.journal_empty_us,
        "holds_up_sweeping": located.holds_up_sweeping,
        "status": None if said is None else status_shown(said.status),
    }


def _version(reading: Reading) -> Version | None:
    return reading.buried if reading.entry is None else reading.entry.version


def _text(version: int | None) -> str | None:
    return None if version is None else str(version)


def _held(name: str, held: Held | None, current: Version | None) -> dict[str, object]:
    """Return what one location holds, beside the version that is current at central."""
    if held is None:
        return {"name": name, "holds": "no answer"}
    shown: dict[str, object] = {"name": name, "journaled": _text(held.pinned)}
    if held.position is None:
        return {**shown, "holds": "nothing"}
    return {
        **shown,
        "holds": "missing" if held.missing else "value",
        "version": _text(held.version),
        "current": held.version == current,
        "position": str(held.position),
        "age_ms": held.age_ms,
        "stale": held.stale,
    }
