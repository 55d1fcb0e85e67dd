"""What is no request is refused in the envelope, on every status, and changes nothing."""

import socket
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.clients.plain import (
    Access,
    Envelope,
    Namespace,
    create,
    exchange,
    form,
    put_form,
    titles,
)

ANSWER_S_MAX = 30.0


def test_paths_that_lead_nowhere_change_nothing(access: Access) -> None:
    """Empty keys, dots, trailing slashes, unknown routes and wrong methods."""
    namespace = create(access, "nowhere")
    namespace.put("k", b"v")
    before = titles(access)
    inside = ["/values/", "/values", "/values/%2E", "/values/%2E%2E", "/values/.", "/values/.."]
    inside += ["/values/%ff", "/values/100%", "/", "/keys/", "/bulk/", "/nope", "/metadata/"]
    paths = [namespace.path + rest for rest in inside]
    paths += [f"{access.namespaces}/", f"{access.namespaces}//{namespace.id}", "/nope", "/", ""]

    answers = [
        (method, path, exchange(access, method, path, body=b"{}"))
        for path in paths
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE")
    ]

    for method, path, answer in answers:
        assert 400 <= answer.status < 500, (method, path, answer)
        assert answer.code >= 1_000, (method, path, answer)
    assert titles(access) == before
    assert namespace.names() == ["k"]
    assert namespace.value("k") == b"v"


FORMS: dict[str, tuple[tuple[str, bytes], ...]] = {
    "no value": (("metadata", b"{}"),),
    "no parts": (),
    "metadata that is no JSON": (("value", b"v"), ("metadata", b"{")),
    "metadata twice the limit": (("value", b"v"), ("metadata", b'"%s"' % (b"x" * 2_048))),
    "metadata that is no text": (("value", b"v"), ("metadata", b"\xff")),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_that_mean_nothing_are_refused(namespace: Namespace, case: str) -> None:
    """A form needs a value, and its metadata is JSON."""
    answer = put_form(namespace, "k", *FORMS[case])

    assert answer.status in {400, 413}
    assert answer.code >= 1_000
    assert namespace.names() == []


@pytest.mark.parametrize("announced", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_refused(namespace: Namespace, announced: str) -> None:
    """It can be neither taken apart nor meant as a value."""
    headers = {
        "Authorization": f"Bearer {namespace.access.token}",
        "Content-Type": announced,
    }

    answer = exchange(namespace.access, "PUT", namespace.at("k"), body=b"v", headers=headers)

    assert answer.status == 400
    assert answer.code >= 1_000
    assert namespace.names() == []


def test_a_form_that_is_cut_short_stores_nothing(namespace: Namespace) -> None:
    """Every body that ends before the form does is refused."""
    body, announced = form(("value", b"v"), ("metadata", b"{}"))
    headers = announced | {"Authorization": f"Bearer {namespace.access.token}"}

    for length in range(len(body) - len(b"--\r\n")):
        answer = exchange(
            namespace.access, "PUT", namespace.at("k"), body=body[:length], headers=headers
        )
        assert answer.status == 400, (length, answer)
        assert answer.code >= 1_000

    assert namespace.names() == []


HEADS = {
    "no request": b"hello\r\n\r\n",
    "a space in the path": b"GET /client/v4/us er HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte beyond ASCII in the path": b"GET /client/v4/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length that is no number": b"PUT /client/v4/user HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "a chunk that is no chunk": (
        b"PUT /client/v4/user HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "a version that is none": b"GET /client/v4/user HTTP/9.9\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_what_is_no_http_is_refused_in_the_envelope_too(access: Access, head: bytes) -> None:
    """The parser's complaints have the form of all others, and the connection is closed."""
    at = urlsplit(access.central)

    with socket.create_connection((at.hostname or "", at.port or 0), ANSWER_S_MAX) as connection:
        connection.sendall(head)
        answered = b"".join(iter(lambda: connection.recv(65_536), b""))

    status, _, rest = answered.partition(b"\r\n")
    envelope = msgspec.json.decode(rest.partition(b"\r\n\r\n")[2], type=Envelope)
    assert status.startswith(b"HTTP/1.1 4")
    assert not envelope.success
    assert envelope.errors[0].code >= 1_000
