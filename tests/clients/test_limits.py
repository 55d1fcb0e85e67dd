"""The limits over a socket: what is just allowed is stored whole, what is not changes nothing."""

import http.client
import socket
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.clients.plain import (
    BASE,
    Answer,
    Envelope,
    Namespace,
    access_to,
    exchange,
    put_form,
    succeed,
)
from tests.support import memory
from tests.support.server import Server

VALUE_BYTES_MAX = 25 * 2**20
MIB = 2**20
PIECES_MAX = 1_000


def send(namespace: Namespace, method: str, path: str, body: object) -> Answer:
    """Send JSON to something in a namespace."""
    raw = msgspec.json.encode(body)
    return exchange(namespace.access, method, f"{namespace.path}/{path}", body=raw)


def test_the_largest_value(namespace: Namespace) -> None:
    """25 MiB are stored, alone and in a form; a byte more is refused, alone and in a form."""
    largest = b"\xff" * VALUE_BYTES_MAX

    alone = exchange(namespace.access, "PUT", namespace.at("alone"), body=largest)
    formed = put_form(namespace, "formed", ("value", largest), ("metadata", b"[1]"))
    alone_more = exchange(namespace.access, "PUT", namespace.at("alone+"), body=largest + b"x")
    formed_more = put_form(namespace, "formed+", ("value", largest + b"x"))

    assert (alone.status, formed.status) == (200, 200)
    assert (alone_more.status, alone_more.code) == (413, 10024)
    assert (formed_more.status, formed_more.code) == (413, 10024)
    assert namespace.names() == ["alone", "formed"]
    assert namespace.value("alone") == namespace.value("formed") == largest


@pytest.mark.parametrize("text", ['"%s"', ' "%s"\n'], ids=["compact", "with spaces"])
def test_the_largest_metadata(namespace: Namespace, text: str) -> None:
    """1,024 bytes without the spaces between; in bulk too."""
    largest = "é" * 511  # and two quotes
    raw = (text % largest).encode()

    fits = put_form(namespace, "fits", ("metadata", raw), ("value", b"v"))
    more = put_form(namespace, "more", ("metadata", raw.replace(b'"', b'"x', 1)), ("value", b""))
    pairs = [{"key": "bulk", "value": "v", "metadata": largest + "x"}]
    bulk = send(namespace, "PUT", "bulk", pairs)

    assert fits.status == 200
    assert more.status == 413
    assert bulk.status == 400
    assert "bulk" in bulk.envelope.errors[0].message
    assert namespace.names() == ["fits"]
    assert namespace.metadata("fits") == largest


def test_the_longest_bulk(namespace: Namespace) -> None:
    """10,000 pairs are stored and deleted in one request; 10,001 are not."""
    pairs = [{"key": f"k{n:05}", "value": str(n)} for n in range(10_001)]
    keys = [pair["key"] for pair in pairs]

    more = send(namespace, "PUT", "bulk", pairs)
    after_more = namespace.names()
    written = succeed(
        namespace.access, "PUT", f"{namespace.path}/bulk", body=msgspec.json.encode(pairs[:-1])
    )
    after_write = namespace.names()
    delete_more = send(namespace, "POST", "bulk/delete", keys)
    after_refusal = namespace.names()
    deleted = send(namespace, "DELETE", "bulk", keys[:-1])

    assert (more.status, more.code, after_more) == (400, 10012, [])
    assert written.result == {"successful_key_count": 10_000, "unsuccessful_keys": []}
    assert (delete_more.status, delete_more.code) == (400, 10012)
    assert after_write == after_refusal == keys[:-1]
    assert deleted.status == 200
    assert namespace.names() == []


def test_the_longest_bulk_read(namespace: Namespace) -> None:
    """A hundred keys at most, and at least one."""
    asked = {n: {"keys": [f"k{i}" for i in range(n)]} for n in (0, 1, 100, 101)}

    answers = {n: send(namespace, "POST", "bulk/get", body) for n, body in asked.items()}

    assert {n: answer.status for n, answer in answers.items()} == {
        0: 400,
        1: 200,
        100: 200,
        101: 400,
    }
    assert answers[0].code == answers[101].code == 10029
    assert answers[100].envelope.result == {"values": dict.fromkeys(asked[100]["keys"])}


@pytest.mark.parametrize("limit", ["9", "0", "-1", "1001", "x", "1e3", "10.5"])
def test_pages_of_other_lengths_are_refused(namespace: Namespace, limit: str) -> None:
    """Ten to a thousand keys."""
    answer = exchange(namespace.access, "GET", f"{namespace.path}/keys?limit={limit}")

    assert (answer.status, answer.code) == (400, 10028)


def test_pages_are_as_long_as_was_asked(namespace: Namespace) -> None:
    """Ten, a thousand, and a thousand where nothing was asked."""
    namespace.bulk([{"key": f"k{n:04}", "value": ""} for n in range(1_001)])

    lengths: list[int] = []
    for query in ("?limit=10", "?limit=1000", "?limit=10.0", ""):
        page = exchange(namespace.access, "GET", f"{namespace.path}/keys{query}").envelope
        assert page.result_info is not None
        assert page.result_info.cursor
        lengths.append(page.result_info.count)

    assert lengths == [10, 1_000, 10, 1_000]


def test_a_body_without_announced_length(namespace: Namespace) -> None:
    """Chunks are put together, whatever their sizes."""
    at = urlsplit(namespace.access.central)
    pieces = [bytes([n % 256]) * (n * 97 % 5_000 + 1) for n in range(PIECES_MAX)]
    connection = http.client.HTTPConnection(at.hostname or "", at.port)
    headers = {"Authorization": f"Bearer {namespace.access.token}"}

    connection.request(
        "PUT", BASE + namespace.at("k"), body=iter(pieces), headers=headers, encode_chunked=True
    )
    status = connection.getresponse().status
    connection.close()

    assert status == 200
    assert namespace.value("k") == b"".join(pieces)


def test_a_body_that_ends_early_stores_nothing(namespace: Namespace) -> None:
    """The connection closes before the length that was announced, and there is no new value."""
    namespace.put("k", b"old")
    at = urlsplit(namespace.access.central)
    head = (
        f"PUT {BASE}{namespace.at('k')} HTTP/1.1\r\nHost: {at.netloc}\r\n"
        f"Authorization: Bearer {namespace.access.token}\r\nContent-Length: 100\r\n\r\n"
    )

    with socket.create_connection((at.hostname or "", at.port or 0)) as connection:
        connection.sendall(head.encode() + b"half of it")
        connection.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert b" 200 " not in answered[:20]
    assert namespace.value("k") == b"old"


def test_a_connection_outlives_a_body_that_was_too_large(namespace: Namespace) -> None:
    """The rest of the body is read on and thrown away, and the next request is understood."""
    at = urlsplit(namespace.access.central)
    connection = http.client.HTTPConnection(at.hostname or "", at.port)
    headers = {"Authorization": f"Bearer {namespace.access.token}"}
    path = BASE + namespace.at("k")

    connection.request("PUT", path, body=bytes(VALUE_BYTES_MAX + 1), headers=headers)
    refused = connection.getresponse()
    refusal = msgspec.json.decode(refused.read(), type=Envelope)
    connection.request("PUT", path, body=b"v", headers=headers)
    accepted = connection.getresponse()
    accepted.read()
    connection.close()

    assert (refused.status, refusal.errors[0].code) == (413, 10024)
    assert accepted.status == 200
    assert namespace.value("k") == b"v"


def test_a_bulk_that_is_too_large_is_held_by_nobody(server_alone: Server) -> None:
    """A body of 300 MB is refused with the envelope, and the server's memory never held it."""
    access = access_to(server_alone)
    namespace = Namespace(access=access, id=access.namespace_id)
    at = urlsplit(access.central)
    connection = http.client.HTTPConnection(at.hostname or "", at.port)
    headers = {"Authorization": f"Bearer {access.token}"}

    connection.request(
        "PUT",
        f"{BASE}{namespace.path}/bulk",
        body=(b"[" * MIB for _ in range(300)),
        headers=headers,
        encode_chunked=True,
    )
    response = connection.getresponse()
    refusal = msgspec.json.decode(response.read(), type=Envelope)
    connection.close()
    names = namespace.names()
    peak_bytes = memory.of_running(server_alone.process.pid)

    assert (response.status, refusal.success) == (413, False)
    assert names == []
    assert peak_bytes < 250 * MIB
