"""What nodes answer over `/v1`, as a program reads it back: nothing is lost on the way."""

import json
from typing import Any

import httpx
import pytest

from atoll.client import told
from atoll.client.memory import KEYS_MAX, Memory
from atoll.client.wire import Target
from atoll.core import errors, location_errors
from atoll.core.errors import AtollError, ParameterInvalidError, RemoteError
from atoll.core.model import CacheStatus, JournalToken, Position, Reading
from atoll.http.exchange import Answer, Request
from atoll.http.shown import headers_of_reading
from atoll.http.v1 import V1

ERRORS: list[AtollError] = [
    errors.KeyTooLongError(size_bytes=600, size_bytes_max=512),
    errors.ValueTooLargeError(size_bytes=2**40, size_bytes_max=2**20),
    errors.UnauthenticatedError(detail="Authentication error: this token has expired"),
    errors.UnauthenticatedError(detail="Missing Authorization header", missing=True),
    errors.NamespaceNotFoundError(),
    errors.ForbiddenError(),
    errors.ConditionFailedError(key="k", version_current=2**60),
    errors.ConditionFailedError(key="k", version_current=None),
    errors.RewriteTooSoonError(key="k", retry_after_ms=7, interval_ms=1000),
    errors.NotArrivedError(required="a", held="b"),
    errors.BulkInvalidError(index=3, key="k", cause="a reason"),
    errors.MethodNotAllowedError(method="PATCH", allowed=("GET", "PUT")),
    errors.DiskFullError(),
    location_errors.CutOffError(detail="a detail", sent=True),
    location_errors.OutcomeUnknownError(),
    location_errors.JournalFullError(size_bytes_max=5),
    location_errors.NotAdmittedError(reason="a reason"),
]


def answered(answer: Answer) -> httpx.Response:
    """Return an answer of a node as a client receives it."""
    assert isinstance(answer.body, bytes)
    request = httpx.Request("GET", "http://node/")
    return httpx.Response(
        answer.status, headers=answer.headers, content=answer.body, request=request
    )


def refused(error: Exception) -> httpx.Response:
    """Return what `/v1` answers with."""
    face = V1.__new__(V1)  # It refuses without a node behind it.
    request = Request.__new__(Request)
    request.id = "1"
    return answered(face.refuse(request, error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_is_the_same_one_here(error: AtollError) -> None:
    """Its class, its sentence, and its facts as far as they are text or numbers."""
    here = told.refusal_of(refused(error))

    assert type(here) is type(error)
    assert str(here) == str(error)
    plain = {name: fact for name, fact in vars(error).items() if not isinstance(fact, tuple)}
    assert {name: vars(here)[name] for name in plain} == plain


def test_what_is_no_error_of_ours_says_what_came() -> None:
    """An unknown code, an internal error, the envelope of REST, and a page of something else."""
    crashed = told.refusal_of(refused(ValueError("secret")))
    assert isinstance(crashed, RemoteError)
    assert (crashed.status, crashed.remote_code) == (500, "internal")
    assert "secret" not in str(crashed)
    for body, code in [
        (b'{"error": {"code": "new_one", "message": "m"}}', "new_one"),
        (b'{"errors": [{"code": 20431, "message": "m"}]}', "20431"),
        (b"<html>", "not_atoll"),
        (b"{}", "not_atoll"),
    ]:
        error = told.refusal_of(answered(Answer(status=418, body=body)))
        assert isinstance(error, RemoteError)
        assert (error.status, error.remote_code) == (418, code)


@pytest.mark.parametrize("node", ["LHR", "central", 'a "b" \\c', "ÄÖ"])
@pytest.mark.parametrize("cache", list(CacheStatus))
def test_a_reading_is_the_same_one_here(node: str, cache: CacheStatus) -> None:
    """Who answered and how, the position or the place in a journal, the age and the marks."""
    position = Position(incarnation=7, sequence=9)
    for token in (None, JournalToken(location="LHR~1", sequence=3)):
        for age_ms in (None, 0, 5000):
            reading = Reading(
                entry=None,
                position=position if token is None else told.NOWHERE,
                age_ms=age_ms,
                stale=cache is CacheStatus.STALE,
                order_unknown=age_ms is None,
                token=token,
                cache=CacheStatus.MISS if node == "central" else cache,
                node=node,
            )
            response = answered(Answer(headers=headers_of_reading(reading, age_ms_max=60_000)))

            assert told.reading_of(response, "k", None) == reading


@pytest.mark.parametrize("missing", ["atoll-position", "cache-status", "age", "etag"])
def test_an_answer_that_lacks_something_is_none(missing: str) -> None:
    """It says that no Atoll node answered."""
    headers = {
        "atoll-position": "0000000000000007-9",
        "cache-status": "LHR; hit",
        "age": "1",
        "etag": '"5"',
    }
    del headers[missing]
    request = httpx.Request("GET", "http://node/")
    response = httpx.Response(200, headers=headers, content=b"v", request=request)

    with pytest.raises(RemoteError) as error:
        told.reading_of(response, "k", b"v")
    assert error.value.remote_code == "not_atoll"


def test_lists_and_sums_that_are_none_are_refused() -> None:
    """Whatever they are instead."""
    response = answered(Answer(body=json.dumps({"keys": [{"name": 1}]}).encode()))
    readers: list[Any] = [told.page_of, told.sum_of, told.written_of]
    for read in readers:
        with pytest.raises(RemoteError):
            read(response)


# Where a client asks.


@pytest.mark.parametrize("where", ["", "ftp://host", "unix://x", "http://"])
def test_what_is_no_place_is_refused(where: str) -> None:
    """A URL of another kind, or nothing."""
    with pytest.raises(ParameterInvalidError):
        Target.of(where, token=None, ca=None, timeout_s=1)


def test_a_folder_takes_no_token() -> None:
    """Whoever may open it needs none, and who gives one expects it to matter."""
    with pytest.raises(ParameterInvalidError) as refused_token:
        Target.of("/folder", token="secret", ca=None, timeout_s=1)  # noqa: S106 - to be refused
    assert "secret" not in str(refused_token.value)


# What a session presents.


def test_a_session_presents_the_last_write_of_a_key() -> None:
    """Of each key its own, and the latest of all for lists; what is forgotten counts for all."""
    memory = Memory()
    first, later = "0000000000000007-5", "0000000000000007-9"
    memory.wrote("n", "a", later)
    memory.wrote("n", "b", first)
    assert str(memory.of_key("n", "a")) == later
    assert str(memory.of_key("n", "b")) == first
    assert memory.of_key("n", "c") is None
    assert str(memory.of_all) == later

    memory.wrote("n", "a", "j-LHR~1-3")
    assert str(memory.of_key("n", "a")) == "j-LHR~1-3"
    for number in range(KEYS_MAX):
        memory.wrote("n", str(number), first)
    assert str(memory.of_key("n", "a")) == "j-LHR~1-3"
    assert memory.of_key("n", "c") is not None
    memory.wrote_many(later)
    assert str(memory.of_key("n", "d")) == later
