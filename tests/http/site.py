"""A node in memory behind its application, and a client that sends exactly what it is told.

HTTP libraries mend what they send: they encode, fold and complete. The client here speaks ASGI,
so a test can ask for `a/../b` or break off in the middle of a body.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive

from atoll.accounts import Account, Accounts, Namespace
from atoll.central import Central, CentralSettings
from atoll.core.limits import Limits
from atoll.http.analytics import Analytics
from atoll.http.app import App, Node, create_app
from atoll.http.body import SpoolFile
from atoll.http.usage_metrics import UsageMetrics
from atoll.metering import Metering
from atoll.nodes import Nodes
from atoll.oversight import Oversight
from atoll.principal import Permission
from atoll.store.memory import MemoryStore
from atoll.upstream import Upstream
from atoll.usage.collector import Collector, Courier
from atoll.usage.meter import Meter
from tests.support.clock import ManualClock
from tests.support.rng import seeded_bytes

EMAIL: Final = "ann@example.com"
BOUNDARY: Final = "----xyz"

Json = Any  # what a test picks apart, without a type for every answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the application answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    pieces: int = 1
    """In how many pieces the body came."""

    def json(self) -> Json:
        """Return the body decoded."""
        return json.loads(self.body)

    @property
    def result(self) -> Json:
        """The result in a successful envelope."""
        assert self.status == 200, self.body
        envelope = self.json()
        assert envelope["success"] is True
        assert envelope["errors"] == []
        assert envelope["messages"] == []
        return envelope["result"]

    @property
    def refused(self) -> tuple[int, int]:
        """The status and the number of a refusal, whose envelope is complete."""
        assert self.headers["content-type"] == "application/json"
        envelope = self.json()
        assert envelope["result"] is None
        assert envelope["success"] is False
        assert envelope["messages"] == []
        (error,) = envelope["errors"]
        assert error["code"] >= 1000
        assert error["message"]
        return self.status, error["code"]

    @property
    def message(self) -> str:
        """The message of a refusal, in either form."""
        answer = self.json()
        text: str = (answer["error"] if "error" in answer else answer["errors"][0])["message"]
        return text

    @property
    def code(self) -> tuple[int, str]:
        """The status and the code of a refusal of `/v1`."""
        return self.status, self.json()["error"]["code"]


@dataclass(slots=True, kw_only=True)
class Site:
    """A node with one account, a namespace in it, and credentials that may do everything."""

    app: App
    node: Node
    clock: ManualClock
    accounts: Accounts
    account: Account
    namespace: Namespace
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Sent with every request."""

    @classmethod
    async def make(
        cls,
        spool_dir: Path,
        *,
        limits: Limits | None = None,
        upstream: Callable[[Upstream], Upstream] = lambda central: central,
        open_spool: Callable[[], SpoolFile] | None = None,
        ready: Callable[[], bool] = lambda: True,
        settings: CentralSettings | None = None,
        metered: bool = True,
    ) -> Self:
        """Start one.

        Args:
            spool_dir: Where large bodies wait.
            limits: The limits in force, by default those of today.
            upstream: Puts something between the faces and central.
            open_spool: Opens what large bodies wait in.
            ready: What `/readyz` says.
            settings: Central's.
            metered: Whether it counts, in a folder beside the bodies.
        """
        limits = limits or Limits()
        clock = ManualClock()
        store = MemoryStore(incarnation=7)
        central = Central(store, clock=clock, limits=limits, settings=settings)
        accounts = Accounts(central, limits=limits, clock=clock, random_bytes=seeded_bytes())
        account = await accounts.create_account("first")
        namespace = await accounts.create_namespace(account.id, "things")
        _, secret = await accounts.create_token(account.id, name="t", permission=Permission.ADMIN)
        courier = meter = None
        if metered:
            collector, meter = await asyncio.to_thread(_counting, spool_dir / "usage")
            courier = Courier(collector, central.write)
        metering = Metering(
            central,
            accounts,
            clock=clock,
            stored=lambda name: store.usage(name, now_us=clock.now_us()),
            courier=courier,
        )
        registry = CollectorRegistry()
        UsageMetrics(metering, registry)
        node = Node(
            upstream=upstream(central),
            registry=registry,
            accounts=accounts,
            limits=limits,
            clock=clock,
            name="central",
            spool_dir=spool_dir,
            ready=ready,
            oversight=Oversight(central),
            nodes=Nodes(central, clock=clock, random_bytes=seeded_bytes()),
            metering=metering,
            analytics=Analytics(metering, accounts),
            meter=meter,
            access_log=False,
        )
        return cls(
            app=create_app(node, open_spool=open_spool),
            node=node,
            clock=clock,
            accounts=accounts,
            account=account,
            namespace=namespace,
            headers={"authorization": f"Bearer {secret}"},
        )

    # Where things are.

    @property
    def namespaces(self) -> str:
        """The path of the account's namespaces."""
        return f"/client/v4/accounts/{self.account.id}/storage/kv/namespaces"

    @property
    def home(self) -> str:
        """The path of the namespace."""
        return f"{self.namespaces}/{self.namespace.id}"

    @property
    def v1(self) -> str:
        """The path of the namespace in `/v1`."""
        return f"/v1/namespaces/{self.namespace.id}"

    def value(self, key: str) -> str:
        """Return the path of a key's value, which must need no encoding."""
        return f"{self.home}/values/{key}"

    def metadata(self, key: str) -> str:
        """Return the path of a key's metadata, which must need no encoding."""
        return f"{self.home}/metadata/{key}"

    # Asking.

    async def ask(
        self,
        method: str,
        path: str | bytes,
        *,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        as_nobody: bool = False,
        cut: bool = False,
    ) -> Reply:
        """Send a request as it is.

        Args:
            method: The method.
            path: The path, as it would stand in the request line; what follows `?` is the query.
            body: The body, or the pieces that it arrives in.
            headers: What to send besides the site's own.
            as_nobody: Whether to leave the site's own headers out.
            cut: Whether the connection ends before the body does.
        """
        if self.node.meter is not None:
            # A server does so beside its requests, whose clock does not leap.
            await asyncio.to_thread(self.node.meter.prepare)
        pieces = [body] if isinstance(body, bytes) else list(body)
        return await call(
            self.app,
            self.scope(method, path, headers=headers, as_nobody=as_nobody),
            _arriving(pieces, cut=cut),
        )

    def scope(
        self,
        method: str,
        path: str | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        as_nobody: bool = False,
    ) -> dict[str, Any]:
        """Return what a server tells the application before the body."""
        raw_path, _, query = (path.encode() if isinstance(path, str) else path).partition(b"?")
        sent = {**({} if as_nobody else self.headers), **(headers or {})}
        return {
            "type": "http",
            "method": method,
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
        }

    async def ask_json(self, method: str, path: str, body: object, **headers: str) -> Reply:
        """Send a request with a JSON body."""
        return await self.ask(method, path, body=json.dumps(body).encode(), headers=headers)

    async def ask_form(self, method: str, path: str, *parts: tuple[str, bytes]) -> Reply:
        """Send a request with a multipart form: a part is its disposition and its content."""
        return await self.ask(
            method,
            path,
            body=form(*parts),
            headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
        )

    async def put(self, key: str, value: bytes, query: str = "", **headers: str) -> Reply:
        """Store a value that must succeed."""
        reply = await self.ask("PUT", self.value(key) + query, body=value, headers=headers)
        assert reply.status == 200, reply.body
        return reply

    async def get(self, key: str) -> bytes | None:
        """Read a value, `None` when the key is missing."""
        reply = await self.ask("GET", self.value(key))
        if reply.status == 404:
            return None
        assert reply.status == 200, reply.body
        return reply.body

    async def keys(self) -> list[str]:
        """Return the names of all keys, of which there must be few."""
        return [row["name"] for row in (await self.ask("GET", f"{self.home}/keys")).result]


def _counting(folder: Path) -> tuple[Collector, Meter]:
    """Make what counts, where files may be touched."""
    collector = Collector(folder, node="central", random_bytes=seeded_bytes())
    return collector, Meter(collector.counts)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Write a multipart form."""
    written = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for disposition, content in parts
    )
    return written + f"--{BOUNDARY}--\r\n".encode()


def _arriving(pieces: list[bytes], *, cut: bool) -> Receive:
    """Return what an application receives a body by."""
    last = len(pieces) - 1
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": cut or i < last}
        for i, piece in enumerate(pieces)
    ]
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Message:
        """Hand over the next message."""
        return next(waiting)

    return receive


async def call(app: App, scope: dict[str, Any], receive: Receive) -> Reply:
    """Run the application on one request and gather its answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        """Keep what is answered."""
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return Reply(status=0, headers={}, body=b"")
    start, *bodies = sent
    assert bodies, "the answer has no end"
    assert not bodies[-1].get("more_body", False), "the answer has no end"
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    body = b"".join(message["body"] for message in bodies)
    endless = headers.get("content-type") == "text/event-stream"
    if scope["method"] != "HEAD" and start["status"] != 304 and not endless:
        assert int(headers["content-length"]) == len(body)
    return Reply(status=start["status"], headers=headers, body=body, pieces=len(bodies))


async def unchanged(site: Site) -> bool:
    """Whether the site is as it began, but for the key `kept`."""
    titles = [row["title"] for row in (await site.ask("GET", site.namespaces)).result]
    return titles == ["things"] and await site.keys() == ["kept"]
