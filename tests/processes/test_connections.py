"""What one connection may take from the others."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from atoll.http.connection import HEAD_BYTES_MAX
from tests.support.server import Server, serving

WAIT_S_MAX = 30
CONNECTIONS_MAX = 8
ATTEMPTS_MAX = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server with few places."""
    folder = tmp_path_factory.mktemp("connections")
    with serving(folder / "data", connections_max=str(CONNECTIONS_MAX)) as running:
        yield running


def connect(server: Server) -> socket.socket:
    """Open a connection."""
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=WAIT_S_MAX)


def everything(wire: socket.socket) -> bytes:
    """Read until the other side closes."""
    said = b""
    try:
        while piece := wire.recv(65_536):
            said += piece
    except ConnectionResetError:
        pass  # It closed before it had read all that we sent.
    return said


def answer(wire: socket.socket, header: str = "X-Nothing: much") -> bytes:
    """Ask on an open connection and return the answer."""
    wire.sendall(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
    return read_answer(wire)


def wait_for_a_place(server: Server) -> bytes:
    """Connect until there is a place, and return what is answered there."""
    said = b""
    for _ in range(ATTEMPTS_MAX):
        with connect(server) as wire, suppress(OSError):  # Refused, it closes while we send.
            said = answer(wire)
        if said.startswith(b"HTTP/1.1 200 "):
            break
    return said


def read_answer(wire: socket.socket) -> bytes:
    """Read one answer, which ends with a brace."""
    said = b""
    while b"}" not in said:
        piece = wire.recv(65_536)
        assert piece, said
        said += piece
    return said


@pytest.mark.parametrize("headers", [b"X-One: " + b"x" * 1000, b"X: y\r\n" * 200])
def test_an_endless_head_is_cut_off(server: Server, headers: bytes) -> None:
    """In one header or in many: it is refused long before it fills the memory."""
    with connect(server) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers)
        sent = 0
        try:
            while sent < 64 * HEAD_BYTES_MAX:
                sent += wire.send(headers)
        except OSError:
            pass  # The other side has closed.
        said = everything(wire)

    assert sent < 64 * HEAD_BYTES_MAX
    assert not said or said.startswith(b"HTTP/1.1 431 "), said


def test_a_large_head_within_the_bound_is_read(server: Server) -> None:
    """The longest key, escaped, and as many headers as proxies like to add."""
    with connect(server) as wire:
        filler = "X-Filler: " + "x" * (HEAD_BYTES_MAX // 2)

        assert answer(wire, filler).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_comes_byte_by_byte_is_read(server: Server) -> None:
    """Slow is not endless, and many requests on one connection do not add up."""
    with connect(server) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n":
            wire.sendall(bytes([byte]))
        assert b"alive" in read_answer(wire)
        filler = "X-Filler: " + "x" * 1000
        for _ in range(2 * HEAD_BYTES_MAX // 1000):
            assert b"alive" in answer(wire, filler)


def test_one_connection_too_many_is_told_so(server: Server) -> None:
    """In the envelope, with when to try again; the others are served on, and a place gets free."""
    held = [connect(server) for _ in range(CONNECTIONS_MAX)]
    try:
        assert all(b"alive" in answer(wire) for wire in held)
        with connect(server) as surplus:
            said = everything(surplus)
        head, _, body = said.partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head
        assert json.loads(body)["success"] is False
        assert all(b"alive" in answer(wire) for wire in held)
        held.pop().close()
        assert b"alive" in wait_for_a_place(server)
    finally:
        for wire in held:
            wire.close()
