"""The application around the faces: health, metrics, request ids, and what goes wrong midway."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from starlette.types import Message

from atoll.core.errors import CorruptDataError, DiskFullError, StoppingError
from atoll.core.model import SYSTEM_NAMESPACE, Batch, Read, Reading, Written
from atoll.http.app import create_app
from atoll.upstream import Upstream
from tests.http.site import Site

pytestmark = pytest.mark.anyio


class Failing:
    """An upstream whose reads and writes of user keys raise what they are told to."""

    def __init__(self, central: Upstream) -> None:
        """Hand on to `central` until there is something to raise."""
        self.read_many = central.read_many
        self.list = central.list
        self.follow = central.follow
        self._central = central
        self.error: Exception | None = None

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        if self.error is not None and request.keys == ("k",):
            raise self.error
        return await self._central.read(request)

    async def write(self, batch: Batch) -> Written:
        """See `Upstream`."""
        if self.error is not None:
            raise self.error
        return await self._central.write(batch)


async def failing(tmp_path: Path, error: Exception) -> Site:
    """Return a site whose next read or write of the key `k` raises `error`."""
    upstreams: list[Failing] = []

    def fail(central: Upstream) -> Upstream:
        """Come between the faces and central."""
        upstreams.append(Failing(central))
        return upstreams[0]

    site = await Site.make(tmp_path, upstream=fail)
    upstreams[0].error = error
    return site


async def test_a_node_says_that_it_is_alive_and_ready(tmp_path: Path) -> None:
    """Without credentials; not ready is 503."""
    ready = [True]
    site = await Site.make(tmp_path, ready=lambda: ready[0])

    alive = await site.ask("GET", "/healthz", as_nobody=True)
    yes = await site.ask("GET", "/readyz", as_nobody=True)
    ready[0] = False
    no = await site.ask("GET", "/readyz", as_nobody=True)

    assert (alive.status, alive.json()) == (200, {"alive": True})
    assert (yes.status, yes.json()) == (200, {"ready": True})
    assert (no.status, no.json()) == (503, {"ready": False})
    assert (await site.ask("HEAD", "/healthz")).body == b""


async def test_requests_are_counted(site: Site) -> None:
    """By face, operation and status, with their bytes; no key and no path becomes a label."""
    await site.put("secret-key", b"12345")
    await site.ask("GET", site.value("secret-key"))
    await site.ask("GET", site.value("nope"))
    await site.ask("GET", "/nope/at-all")

    text = (await site.ask("GET", "/metrics", as_nobody=True)).body.decode()

    def counted(face: str, operation: str, status: int) -> str:
        """Write the line that counts one request."""
        return (
            f'atoll_http_requests_total{{face="{face}",operation="{operation}",status="{status}"}}'
            " 1.0"
        )

    assert counted("rest", "put", 200) in text
    assert counted("rest", "get", 200) in text
    assert counted("rest", "get", 404) in text
    assert counted("admin", "route", 404) in text
    assert 'atoll_http_received_bytes_total{face="rest",operation="put"} 5.0' in text
    assert 'atoll_http_sent_bytes_total{face="rest",operation="list keys"}' not in text
    assert 'atoll_http_request_seconds_count{face="rest",operation="get"} 2.0' in text
    assert "secret-key" not in text
    assert "at-all" not in text


async def test_every_answer_has_an_id_of_its_own(site: Site) -> None:
    """Ours, whatever the client sends under that name."""
    replies = [
        await site.ask(method, path, headers={"atoll-request-id": "mine"})
        for method, path in (("GET", "/healthz"), ("GET", "/nope"), ("PUT", site.value("k")))
    ]

    ids = {reply.headers["atoll-request-id"] for reply in replies}
    assert len(ids) == 3
    assert "mine" not in ids


async def test_the_access_log_has_a_line_for_each_request(site: Site) -> None:
    """With the id that the answer had."""
    app = create_app(replace(site.node, access_log=True, registry=type(site.node.registry)()))
    site.app = app
    with structlog.testing.capture_logs() as lines:
        reply = await site.ask("PUT", site.value("k%2F"), body=b"abc")

    (line,) = lines
    assert line["event"] == "request_answered"
    assert line["request_id"] == reply.headers["atoll-request-id"]
    assert line["path"].endswith("/values/k%2F")
    assert (line["operation"], line["status"], line["received_bytes"]) == ("put", 200, 3)


@pytest.mark.parametrize("face", ["rest", "v1"])
async def test_a_crash_is_500_and_tells_nothing(tmp_path: Path, face: str) -> None:
    """The log has what happened, under the id that the client sees."""
    site = await failing(tmp_path, RuntimeError("the secret is 42"))
    path = site.value("k") if face == "rest" else f"{site.v1}/values/k"

    with structlog.testing.capture_logs() as lines:
        reply = await site.ask("GET", path)

    if face == "rest":
        assert reply.refused == (500, 20500)
    else:
        assert reply.code == (500, "internal")
    assert b"42" not in reply.body
    assert reply.headers["atoll-request-id"] in reply.message
    crash = next(line for line in lines if line["event"] == "request_crashed")
    assert crash["request_id"] == reply.headers["atoll-request-id"]


@pytest.mark.parametrize(
    ("error", "refused", "code"),
    [
        (DiskFullError(), (507, 20507), "disk_full"),
        (StoppingError(), (503, 10001), "stopping"),
        (CorruptDataError(where="page 7"), (500, 20512), "corrupt_data"),
    ],
)
async def test_what_the_node_cannot_do_is_told(
    tmp_path: Path, error: Exception, refused: tuple[int, int], code: str
) -> None:
    """A full disk is 507, a node that stops 503 with Retry-After."""
    site = await failing(tmp_path, error)

    with structlog.testing.capture_logs() as lines:
        put = await site.ask("PUT", site.value("k"), body=b"v")
        in_v1 = await site.ask("PUT", f"{site.v1}/values/k", body=b"v")

    assert put.refused == refused
    assert in_v1.code == (refused[0], code)
    assert ("retry-after" in put.headers) == (refused[0] == 503)
    assert [line["code"] for line in lines] == [code, code]


class InPieces:
    """A large value of three pieces."""

    size_bytes = 3 * 2**20

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        for piece in (b"a", b"b", b"c"):
            yield piece * 2**20


class Torn:
    """A large value whose second piece cannot be read."""

    size_bytes = 3 * 2**20

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield one piece, then fail."""
        yield bytes(2**20)
        raise CorruptDataError(where="chunk 1")


class LargeValues:
    """An upstream whose value under `k` is large, and torn under `t`."""

    def __init__(self, central: Upstream) -> None:
        """Hand on to `central` all but that."""
        self.list = central.list
        self.follow = central.follow
        self.write = central.write
        self._central = central

    async def read(self, request: Read) -> Reading:
        """See `Upstream`."""
        return (await self.read_many(request))[0]

    async def read_many(self, request: Read) -> list[Reading]:
        """See `Upstream`."""
        if request.namespace == SYSTEM_NAMESPACE:
            return [await self._central.read(request)]
        readings: list[Reading] = []
        for key, reading in zip(request.keys, await self._central.read_many(request), strict=True):
            assert reading.entry is not None
            large = Torn() if key == "t" else InPieces()
            readings.append(replace(reading, entry=replace(reading.entry, value=large)))
        return readings


async def test_a_large_value_is_streamed_and_whole(tmp_path: Path) -> None:
    """In both faces and in a bulk read, with its length announced; HEAD streams nothing."""
    site = await Site.make(tmp_path, upstream=LargeValues)
    await site.put("k", b"")
    whole = b"".join(letter * 2**20 for letter in (b"a", b"b", b"c"))

    for path in (site.value("k"), f"{site.v1}/values/k"):
        got = await site.ask("GET", path)
        head = await site.ask("HEAD", path)
        assert got.body == whole
        assert got.pieces == 4
        assert head.headers["content-length"] == str(len(whole))
        assert (head.body, head.pieces) == (b"", 1)
    bulk = await site.ask_json("POST", f"{site.home}/bulk/get", {"keys": ["k"]})
    assert bulk.result == {"values": {"k": whole.decode()}}


async def test_an_answer_that_fails_midway_is_never_finished(tmp_path: Path) -> None:
    """The client sees a cut connection, not a short value."""
    site = await Site.make(tmp_path, upstream=LargeValues)
    await site.put("t", b"")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        """Keep what is answered."""
        sent.append(message)

    async def receive() -> Message:
        """Be gone."""
        return {"type": "http.disconnect"}

    path = site.value("t")
    with pytest.raises(CorruptDataError):
        await site.app(site.scope("GET", path), receive, send)

    assert [message.get("more_body") for message in sent] == [None, True]
    assert (b"content-length", b"%d" % Torn.size_bytes) in sent[0]["headers"]
    head = await site.ask("HEAD", path)
    assert (head.status, head.body) == (200, b"")


async def test_the_lifespan_is_answered(site: Site) -> None:
    """Servers ask before and after."""
    questions: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    waiting = iter(questions)
    answers: list[str] = []

    async def receive() -> Message:
        """Ask the next question."""
        return next(waiting)

    async def send(message: Message) -> None:
        """Keep the answer."""
        answers.append(message["type"])

    await site.app({"type": "lifespan"}, receive, send)

    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
