"""`/v1/nodes`: the credentials of locations, looked after at central.

GET    /v1/nodes           who has one
POST   /v1/nodes           {"name": "LHR"}: make one; this answer alone carries it
DELETE /v1/nodes/{name}    revoke it
"""

from typing import Final

import msgspec

from atoll.core.errors import BodyInvalidError, MethodNotAllowedError, RouteNotFoundError
from atoll.core.limits import MIB
from atoll.core.location_errors import CentralOnlyError
from atoll.http.body import Bodies
from atoll.http.exchange import Answer, Request, json_answer, read_object
from atoll.http.node import Node
from atoll.http.values import principal_of
from atoll.principal import EVERY_ACCOUNT, Permission

NODES_PREFIX: Final = b"/v1/nodes"
BODY_BYTES_MAX: Final = MIB

_encode = msgspec.json.Encoder().encode


class V1Nodes:
    """Handlers; all of them need administration of every account."""

    def __init__(self, node: Node, bodies: Bodies) -> None:
        """Serve `node`."""
        self._node = node
        self._bodies = bodies

    async def answer(self, request: Request) -> Answer:
        """Do what the request asks.

        Raises:
            CentralOnlyError: This is a location.
            RouteNotFoundError: There is no such path.
            MethodNotAllowedError: The path is not for this method.
        """
        nodes = self._node.nodes
        if nodes is None:
            raise CentralOnlyError(location=self._node.name)
        rest = request.path.removeprefix(NODES_PREFIX)
        name = rest[1:].decode("latin-1")
        if rest[:1] not in {b"", b"/"} or (rest and not name):
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        allowed = ("DELETE",) if name else ("GET", "POST")
        if request.method not in allowed:
            raise MethodNotAllowedError(method=request.method, allowed=allowed)
        request.operation = f"{request.method.lower()} nodes"
        principal = await principal_of(self._node, request)
        principal.require(Permission.ADMIN, account=EVERY_ACCOUNT)
        match request.method:
            case "GET":
                found = await nodes.list()
                told = [{"name": one.name, "created_us": one.created_us} for one in found]
                return json_answer(_encode({"nodes": told}))
            case "POST":
                name = await self._name(request)
                return json_answer(_encode({"name": name, "credential": await nodes.create(name)}))
            case _:
                await nodes.revoke(name)
                return json_answer(_encode({"name": name, "revoked": True}))

    async def _name(self, request: Request) -> str:
        async with self._bodies.whole(request, bytes_max=BODY_BYTES_MAX) as raw:
            name = read_object(raw).get("name")
        if not isinstance(name, str):
            raise BodyInvalidError(detail="the body needs a `name`, the location's")
        return name
