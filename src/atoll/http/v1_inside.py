"""What a location tells of itself, at the location: how it is, and what is in its journal.

GET    /v1/status                           how it is
GET    /v1/journal                          what waits to be delivered, and what was refused
GET    /v1/journal/refused                  what was refused, whole, one JSON object a line
DELETE /v1/journal/refused/{sequence}       let go of a refused entry

The keeper answers, on its private socket whoever may open that; a reader lets its keeper answer,
after it has seen to it that who asks may know.
"""

from typing import Final

from atoll.core.errors import MethodNotAllowedError, RouteNotFoundError
from atoll.core.location_errors import LocationOnlyError
from atoll.http.exchange import Answer, Request
from atoll.http.node import Node
from atoll.http.values import principal_of
from atoll.principal import EVERY_ACCOUNT, Permission

STATUS_PATH: Final = b"/v1/status"
JOURNAL_PATH: Final = b"/v1/journal"
REFUSED_PATH: Final = b"/v1/journal/refused"


def is_inside(path: bytes) -> bool:
    """Whether a path is one of these, or would be if it existed."""
    return path in {STATUS_PATH, JOURNAL_PATH} or path.startswith(JOURNAL_PATH + b"/")


class V1Inside:
    """Handlers; all of them need administration of every account, but for the private socket."""

    def __init__(self, node: Node) -> None:
        """Serve `node`."""
        self._node = node

    async def answer(self, request: Request) -> Answer:
        """Do what the request asks.

        Raises:
            LocationOnlyError: This is central.
            RouteNotFoundError: There is no such path.
            MethodNotAllowedError: The path is not for this method.
        """
        allowed, operation = _route(request)
        if request.method not in allowed:
            raise MethodNotAllowedError(method=request.method, allowed=allowed)
        inside = self._node.inside
        if inside is None:
            raise LocationOnlyError
        request.operation = operation
        if not self._node.is_private:
            principal = await principal_of(self._node, request)
            principal.require(Permission.ADMIN, account=EVERY_ACCOUNT)
        match operation:
            case "status":
                return await inside.status(request)
            case "list journal":
                return await inside.journal(request)
            case "export journal":
                return await inside.refused(request)
            case _:
                return await inside.discard(request)


def _route(request: Request) -> tuple[tuple[str, ...], str]:
    """Return the methods of a path, and what it is for."""
    match request.path:
        case b"/v1/status":
            return ("GET", "HEAD"), "status"
        case b"/v1/journal":
            return ("GET", "HEAD"), "list journal"
        case b"/v1/journal/refused":
            return ("GET", "HEAD"), "export journal"
        case _:
            pass
    head, _, request.key = request.path.rpartition(b"/")
    if head != REFUSED_PATH or not request.key:
        raise RouteNotFoundError(path=request.path.decode("latin-1"))
    return ("DELETE",), "discard journal entry"
