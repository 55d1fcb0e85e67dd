"""An origin behind an application: requests are passed on to it, and its answers back."""

from types import TracebackType
from typing import Final, Self

import httpx
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TIMEOUT_S: Final = 30.0

# What one connection says about itself, and is not for the next one.
HOP_BY_HOP: Final = frozenset(
    b"connection host keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)


class Origin:
    """An HTTP server that answers what the application does not."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: Where it is; of this only scheme, host and port count.
        """
        self._url = httpx.URL(url)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S)
        self._client.headers.clear()  # or its own would be added to the visitor's

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def answer(self, request: Request, headers: Headers | None = None) -> Response:
        """Pass a request on, and its answer back; 502 where there is none.

        Args:
            request: What was asked.
            headers: What to send in the place of the request's own headers.
        """
        sent = (request.headers if headers is None else headers).raw
        query: bytes = request.scope["query_string"]
        target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        passed_on = self._client.build_request(
            request.method,
            self._url.copy_with(raw_path=target),
            headers=[(name, value) for name, value in sent if name not in HOP_BY_HOP],
            content=request.stream() if has_body else None,
        )
        try:
            answer = await self._client.send(passed_on, stream=True)
        except httpx.TransportError:
            return PlainTextResponse("The origin cannot be reached", status_code=502)
        response = StreamingResponse(
            answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.lower() not in HOP_BY_HOP
        ]
        return response
