"""A stand-in for what examples fetch: an origin that says what it was asked, and other sites."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""A picture of one white pixel."""

BLACK_GIF: Final = GIF.replace(b"\xff\xff\xff", b"\x01\x01\x01")

STRINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {"title": "The <b>Times</b>", "intro": "All the news", "outro": "Good night"},
    "de": {"title": "Die Zeit & mehr", "intro": ""},
}
"""All strings of a project; one is empty on purpose, and one is missing."""

FILES: Final[Mapping[str, tuple[str, bytes]]] = {
    "/white.gif": ("image/gif", GIF),
    "/black.gif?size=1&x=%2F": ("image/gif", BLACK_GIF),
    "/page.html": ("text/html", b"<script>alert(1)</script>"),
    "/projects/site/strings.json": ("application/json", json.dumps(STRINGS).encode()),
}
MOVED: Final = "/moved.gif"
GONE: Final = "/projects/gone/strings.json"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer one request, whatever its method."""
        size_bytes = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(size_bytes).decode()
        if self.path == MOVED:
            self._send(302, "text/plain", b"", {"Location": "/white.gif"})
        elif self.path == GONE:
            self._send(404, "application/json", b"{}", {})
        elif self.path in FILES:
            self._send(200, *FILES[self.path], {})
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            # `self.path` would have lost a slash where it begins with two.
            path = self.requestline.split()[1]
            told = {"method": self.command, "path": path, "headers": headers, "body": body}
            self._send(203, "application/json", json.dumps(told).encode(), {"X-Origin": "yes"})

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - their names in the base

    def _send(self, status: int, kind: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base
        """Say nothing."""


@contextmanager
def internet() -> Generator[str]:
    """Serve the stand-in for the length of a `with`; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
