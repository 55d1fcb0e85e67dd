"""Asking a node over `/v1`, on connections that are kept: central, a location, a keeper's socket.

What could not be sent is `UnreachableError(sent=False)`. A read that got no answer is tried once
more; a write is not, and whoever made it is told `OutcomeUnknownError`.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from atoll.client import told
from atoll.client.told import Sum
from atoll.client.values import Asked, Page, Written, cache_control
from atoll.core import rules
from atoll.core.errors import ParameterInvalidError
from atoll.core.limits import Limits
from atoll.core.location_errors import OutcomeUnknownError, UnreachableError
from atoll.core.model import Reading
from atoll.location.sockets import socket_path

CONNECT_S: Final = 5.0
IDLE_S: Final = 30.0
"""How long an idle connection is kept: less than servers keep theirs."""
CONNECTIONS_MAX: Final = 64
PIECE_BYTES_MAX: Final = 2**18
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SOCKET_NAME: Final = "keeper.sock"
STATUS_NOT_FOUND: Final = 404

_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no authority: for connections without TLS."""

_CEILING: Final = Limits()
"""For keys, whose limit can be set lower but not higher; the node judges the rest."""

_ABANDONED: Final[list[httpx.AsyncClient]] = []
"""Clients of a process that forked us, or of a loop that has ended: not ours to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a client's requests go."""

    url: str
    token: str | None = None
    ca: Path | None = None
    timeout_s: float
    folder: Path | None = None
    """The location's, where that is on this machine."""
    socket: Path | None = None
    """Its keeper's, if it was given."""

    @classmethod
    def of(cls, where: str | Path, *, token: str | None, ca: Path | None, timeout_s: float) -> Self:
        """Read what `connect` is given.

        Raises:
            ParameterInvalidError: It is no URL and no path, or a path came with a token.
        """
        if isinstance(where, str):
            parts = urlsplit(where)
            if parts.scheme in {"http", "https"} and parts.hostname:
                return cls(url=where.rstrip("/"), token=token, ca=ca, timeout_s=timeout_s)
            if "://" in where or not where:
                rule = "Give a URL that begins with http:// or https://, or a path."
                raise ParameterInvalidError(name="where", given=where, rule=rule)
        path = Path(where)
        if token is not None:
            rule = "A location is read in process by who may open its folder: give no token."
            raise ParameterInvalidError(name="token", given="(set)", rule=rule)
        socket = path if path.suffix == Path(SOCKET_NAME).suffix else None
        folder = path if socket is None else path.parent
        return cls(url="http://keeper", timeout_s=timeout_s, socket=socket, folder=folder)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.url if self.folder is None else str(self.socket or self.folder)

    def opened(self) -> "Opened":
        """Return what a connection needs; it reads files."""
        if self.folder is not None:
            # The socket is in the folder, unless the path would be too long for one.
            path = self.socket or socket_path(self.folder, SOCKET_NAME)
            return Opened(socket=path, trusted=_NOBODY)
        if urlsplit(self.url).scheme == "http":
            # Loading the authorities that the system trusts would be for nothing.
            return Opened(socket=None, trusted=_NOBODY)
        return Opened(socket=None, trusted=ssl.create_default_context(cafile=self.ca))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a connection needs."""

    socket: Path | None
    trusted: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    content: bytes | AsyncIterable[bytes] | None = None
    is_read: bool = False
    """Whether it changes nothing, whatever its method."""
    silence_s_max: float | None = None
    """How long nothing may come, where that is longer than usual."""

    @property
    def reads(self) -> bool:
        """Whether it can be sent again."""
        return self.is_read or self.method == "GET"


class Body:
    """A value that is still arriving. See `LargeValue`; it can be read once."""

    def __init__(self, response: httpx.Response, name: str) -> None:
        """Read from `response`, of the node called `name`."""
        self._response = response
        self._name = name

    @property
    def size_bytes(self) -> int:
        """See `LargeValue`."""
        return int(self._response.headers["content-length"])

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `LargeValue`.

        Raises:
            UnreachableError: The rest did not come.
        """
        try:
            async for chunk in self._response.aiter_raw(PIECE_BYTES_MAX):
                yield chunk
        except httpx.HTTPError as error:
            raise unreachable(self._name, error, sent=True) from error
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of the rest."""
        await self._response.aclose()


class Wire:
    """One node, asked over `/v1`."""

    def __init__(self, target: Target) -> None:
        """Ask `target`; nothing is connected before the first call."""
        self._target = target
        self._client: httpx.AsyncClient | None = None
        self._belongs: tuple[int, object] | None = None
        self._opened: Opened | None = None
        self._headers = {} if target.token is None else {"authorization": f"Bearer {target.token}"}

    @property
    def name(self) -> str:
        """What people call the node."""
        return self._target.name

    async def aclose(self) -> None:
        """Close connections. The next call opens new ones."""
        client, self._client, self._opened = self._client, None, None
        if client is None:
            return
        if self._belongs == (os.getpid(), asyncio.get_running_loop()):
            await client.aclose()
        else:
            _ABANDONED.append(client)

    # Reading.

    async def read(self, namespace: str, key: str, wanted: Asked, *, stream: bool) -> Reading:
        """Read one key.

        Args:
            namespace: The id.
            key: The key.
            wanted: What the caller accepts.
            stream: Whether the value is left to be read in pieces; it is a `Body` then.

        Raises:
            AtollError: What the node met, or `UnreachableError`.
        """
        path = _value_path(namespace, key)
        response = await self._send(_Request("GET", path, headers=_bounds(wanted)))
        if response.is_success and stream:
            return told.reading_of(response, key, Body(response, self._target.name))
        await self._finish(response)
        if response.is_success:
            return told.reading_of(response, key, response.content)
        if response.status_code == STATUS_NOT_FOUND and told.is_missing(response):
            return told.reading_of(response, key, None)
        raise told.refusal_of(response)

    async def read_many(
        self, namespace: str, keys: Sequence[str], wanted: Asked
    ) -> dict[str, Reading]:
        """Read several keys; what is said of their age is true of the oldest.

        Raises:
            AtollError: What the node met, or `UnreachableError`.
        """
        for key in keys:
            rules.check_key(_CEILING, key)
        path = f"/v1/namespaces/{quote(namespace, safe='')}/get"
        body = msgspec.json.encode({"keys": keys})
        request = _Request("POST", path, headers=_bounds(wanted), content=body, is_read=True)
        return told.readings_of(await self._whole(request), keys)

    async def list(self, namespace: str, params: Mapping[str, str], at_least: str | None) -> Page:
        """Return one page of a listing.

        Raises:
            AtollError: What the node met, or `UnreachableError`.
        """
        return told.page_of(await self._ask_keys(namespace, "keys", params, at_least))

    async def count(self, namespace: str, params: Mapping[str, str], at_least: str | None) -> Sum:
        """Count keys, as far as one call goes.

        Raises:
            AtollError: What the node met, or `UnreachableError`.
        """
        return told.sum_of(await self._ask_keys(namespace, "count", params, at_least))

    async def _ask_keys(
        self, namespace: str, what: str, params: Mapping[str, str], at_least: str | None
    ) -> httpx.Response:
        headers = {} if at_least is None else {"atoll-at-least": at_least}
        path = f"/v1/namespaces/{quote(namespace, safe='')}/{what}"
        return await self._whole(_Request("GET", path, params=params, headers=headers))

    async def stream(
        self, path: str, params: Mapping[str, str], *, silence_s_max: float
    ) -> httpx.Response:
        """Begin to read an answer that has no end; the caller closes it.

        Raises:
            AtollError: What the node met, or `UnreachableError`.
        """
        response = await self._send(
            _Request("GET", path, params=params, silence_s_max=silence_s_max)
        )
        if response.is_success:
            return response
        await self._finish(response)
        raise told.refusal_of(response)

    # Writing.

    async def put(
        self,
        namespace: str,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Written:
        """Store a value.

        Raises:
            OutcomeUnknownError: No answer came: it may have been applied or not.
            AtollError: What the node met, or `UnreachableError`: nothing was written.
        """
        path = _value_path(namespace, key)
        # Bytes of any kind: without this they would be taken for a form.
        headers = {"content-type": "application/octet-stream", **headers}
        return told.written_of(
            await self._whole(_Request("PUT", path, params=params, headers=headers, content=body))
        )

    async def delete(self, namespace: str, key: str, *, headers: Mapping[str, str]) -> Written:
        """Delete a key; see `put` for the errors."""
        path = _value_path(namespace, key)
        return told.written_of(await self._whole(_Request("DELETE", path, headers=headers)))

    async def delete_prefix(self, namespace: str, prefix: str) -> Sum:
        """Delete keys by prefix, as far as one call goes; see `put` for the errors."""
        path = f"/v1/namespaces/{quote(namespace, safe='')}/delete"
        body = msgspec.json.encode({"prefix": prefix})
        return told.sum_of(await self._whole(_Request("POST", path, content=body)))

    # One request.

    async def _whole(self, request: _Request) -> httpx.Response:
        response = await self._send(request)
        await self._finish(response, reads=request.reads)
        if not response.is_success:
            raise told.refusal_of(response)
        return response

    async def _finish(self, response: httpx.Response, *, reads: bool = True) -> None:
        """Read the rest of an answer.

        Raises:
            UnreachableError: It did not come, of a read.
            OutcomeUnknownError: It did not come, of a write.
        """
        try:
            await response.aread()
        except httpx.HTTPError as error:
            if not reads:
                raise OutcomeUnknownError from error
            raise unreachable(self._target.name, error, sent=True) from error

    async def _send(self, asked: _Request) -> httpx.Response:
        """Send a request and return its answer's head.

        Raises:
            UnreachableError: Nothing was sent, or no answer to a read came.
            OutcomeUnknownError: No answer to a write came.
        """
        client = await self._ready()
        request = client.build_request(
            asked.method,
            asked.path,
            params=asked.params,
            headers=asked.headers,
            content=asked.content,
            timeout=self._timeout(asked.silence_s_max),
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise unreachable(self._target.name, error, sent=False) from error
        except httpx.HTTPError as error:
            if not asked.reads:
                raise OutcomeUnknownError from error
            if not isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
                raise unreachable(self._target.name, error, sent=True) from error
        # An idle connection that the other end had closed is no answer.
        try:
            return await client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise unreachable(self._target.name, error, sent=True) from error

    async def _ready(self) -> httpx.AsyncClient:
        """Return a client of this process and this loop, which share no connection with others."""
        if self._opened is None:
            self._opened = await asyncio.to_thread(self._target.opened)
        belongs = (os.getpid(), asyncio.get_running_loop())
        if self._client is not None and self._belongs == belongs:
            return self._client
        if self._client is not None:
            _ABANDONED.append(self._client)
        self._client, self._belongs = self._made(self._opened), belongs
        return self._client

    def _timeout(self, silence_s_max: float | None) -> httpx.Timeout:
        timeout_s = self._target.timeout_s
        return httpx.Timeout(
            timeout_s, connect=min(timeout_s, CONNECT_S), read=silence_s_max or timeout_s
        )

    def _made(self, opened: Opened) -> httpx.AsyncClient:
        target = self._target
        limits = httpx.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S,
        )
        transport = None
        if opened.socket is not None:
            transport = httpx.AsyncHTTPTransport(
                uds=str(opened.socket), limits=limits, verify=opened.trusted
            )
        return httpx.AsyncClient(
            base_url=target.url,
            headers=self._headers,
            limits=limits,
            transport=transport,
            verify=opened.trusted,
            # A proxy that the environment names is for the outside, not for this machine.
            trust_env=target.folder is None and urlsplit(target.url).hostname not in LOOPBACK,
        )


def _bounds(wanted: Asked) -> dict[str, str]:
    headers = {} if wanted.at_least is None else {"atoll-at-least": str(wanted.at_least)}
    said = cache_control(wanted)
    if said is not None:
        headers["cache-control"] = said
    return headers


def _value_path(namespace: str, key: str) -> str:
    rules.check_key(_CEILING, key)
    return f"/v1/namespaces/{quote(namespace, safe='')}/values/{quote(key, safe='')}"


def unreachable(name: str, error: Exception, *, sent: bool) -> UnreachableError:
    """Say which node did not answer, and how far the request got."""
    made = UnreachableError(sent=sent)
    reason = str(error) or type(error).__name__
    made.args = (
        f"{name} did not answer: {reason}"
        if sent
        else f"cannot reach {name}: {reason}; nothing was sent",
    )
    return made
