"""The server's end of a connection, where it is not uvicorn's own.

What cannot be parsed as HTTP never becomes a request, so no face sees it. It is answered here, in
the envelope, which is what most clients read.
"""

import re
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll.http.rest_form import REFUSALS, envelope

_CODE: Final = "invalid_request"
_DELETE: Final = b"\x7f"

_METADATA: Final = re.compile(rb"(?mi)^cf-kv-metadata:[^\r\n]*")
_END_OF_HEAD: Final = b"\r\n\r\n"


class WireProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol; give it to `uvicorn.Config` as `http`."""

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no request, and close."""
        refusal = REFUSALS[_CODE]
        hint = " Percent-encode every byte of a path that is not printable ASCII."
        body = envelope(refusal.number, msg + hint)
        # Of an answer to a binding a Worker is shown nothing but the status line.
        line = b"HTTP/1.1 %d Bad Request: %b" % (refusal.status, msg.encode("ascii", "replace"))
        self.transport.write(
            b"%b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (line, len(body), body)
        )
        self.transport.close()


def legal(data: bytes) -> bytes:
    """Escape the one character that JSON has raw and HTTP forbids, where a Worker's metadata is.

    workerd sends metadata as JavaScript writes it, and the parser would refuse the request.

    Args:
        data: The beginning of a request; nothing behind its head is changed.
    """
    if _DELETE not in data:
        return data
    head, end, rest = data.partition(_END_OF_HEAD)
    escaped = _METADATA.sub(lambda found: found[0].replace(_DELETE, b"\\u007f"), head)
    return escaped + end + rest
