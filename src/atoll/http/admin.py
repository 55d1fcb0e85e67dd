"""What operators and their tools ask a node: is it alive, is it ready, what has it counted."""

from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from atoll.core.errors import MethodNotAllowedError, RouteNotFoundError
from atoll.http.exchange import Answer, Request, json_answer
from atoll.http.node import Node
from atoll.http.openapi import document
from atoll.http.rest_form import refuse

Route = tuple[str, Callable[[], Awaitable[Answer]]]

_READY: Final = b'{"ready":true}'
_NOTRoute = tuple[str, Callable[[], Awaitable[Answer]]]

_NOT_READY: Final = b'{"ready":false}'
_ALIVE: Final = b'{"alive":true}'


class Admin:
    """See `Face`. None of it needs credentials, and none of it tells whose data is here."""

    name = "admin"

    def __init__(self, node: Node) -> None:
        """Serve `node`."""
        self._node = node
        self._document = document(node.limits)
        self._routes: dict[bytes, Route] = {
            b"/healthz": ("healthz", self._healthz),
            b"/readyz": ("readyz", self._readyz),
            b"/metrics": ("metrics", self._metrics),
            b"/openapi.json": ("openapi", self._openapi),
        }

    async def answer(self, request: Request) -> Answer:
        """See `Face`.

        Raises:
            RouteNotFoundError: As there, like the others.
            MethodNotAllowedError: The path is not for this method.
        """
        route = self._routes.get(request.path)
        if route is None:
            raise RouteNotFoundError(path=request.path.decode("latin-1"))
        if request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowedError(method=request.method, allowed=("GET", "HEAD"))
        request.operation, run = route
        return await run()

    def refuse(self, request: Request, error: Exception) -> Answer:
        """See `Face`. Paths of no face are refused here, in the form that most clients read."""
        return refuse(request, error)

    async def _healthz(self) -> Answer:
        return json_answer(_ALIVE)

    async def _readyz(self) -> Answer:
        return json_answer(_READY) if self._node.ready() else json_answer(_NOT_READY, status=503)

    async def _metrics(self) -> Answer:
        inside = self._node.inside
        # One process of a location answers for all, whichever of them was asked.
        body = generate_latest(self._node.registry) if inside is None else await inside.metrics()
        headers = [
            (b"content-type", CONTENT_TYPE_LATEST.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        return Answer(headers=headers, body=body)

    async def _openapi(self) -> Answer:
        return json_answer(self._document)
