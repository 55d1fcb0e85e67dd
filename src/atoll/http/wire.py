"""The server's end of a connection, where it is not uvicorn's own.

What cannot be parsed as HTTP never becomes a request, so no face sees it. It is answered here, in
the envelope, which is what most clients read.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll.http.rest_form import REFUSALS, envelope

_CODE: Final = "invalid_request"


class WireProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol; give it to `uvicorn.Config` as `http`."""

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no request, and close."""
        refusal = REFUSALS[_CODE]
        hint = " Percent-encode every byte of a path that is not printable ASCII."
        body = envelope(refusal.number, msg + hint)
        self.transport.write(
            b"HTTP/1.1 %d Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (refusal.status, len(body), body)
        )
        self.transport.close()
