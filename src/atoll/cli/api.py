"""The server's REST and `/v1` interfaces, as commands use them."""

import ssl
import string
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from atoll.cli.target import Target
from atoll.core.errors import RemoteError, UnauthenticatedError, UnavailableError

REST: Final = "/client/v4"
CONNECT_S: Final = 5.0
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
CONNECTIONS_MAX: Final = 16
PAGE_ITEMS: Final = 1000
PAGES_MAX: Final = 1000
ANSWER_TEXT_MAX: Final = 300
NAMESPACE_ID_DIGITS: Final = 32

Json = dict[str, Any]
Document = TypeVar("Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said: the envelope's result, or the document of `/v1`."""

    result: Any
    info: Json
    headers: httpx.Headers


def key_path(key: str) -> str:
    """Write a key for a URL: every byte escaped that a client or server could fold or split."""
    # "." and ".." are no keys, but it is for the server to say so: unescaped they name a folder.
    return key.replace(".", "%2E") if key in {".", ".."} else quote(key, safe="")


class Api:
    """Sends requests and turns answers into results or errors."""

    def __init__(self, client: httpx.AsyncClient, target: Target) -> None:
        """Talk to `target` over `client`; see `connected`."""
        self._client = client
        self.target = target
        self._account_id = target.account_id

    # Requests.

    async def rest(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - httpx's
        """Call REST v4 below `/client/v4`."""
        return self._answer(await self._send(method, REST + path, **options))

    async def kv(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - httpx's
        """Call REST v4 below an account's namespaces."""
        account = await self.account_id()
        return await self.rest(
            method, f"/accounts/{account}/storage/kv/namespaces{path}", **options
        )

    async def v1(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - httpx's
        """Call `/v1` below its namespaces."""
        return self._answer(await self._send(method, f"/v1/namespaces/{path}", **options))

    async def deployment(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401
        """Call what `/v1` has beside namespaces."""
        return self._answer(await self._send(method, f"/v1{path}", **options))

    async def document(self, path: str, params: dict[str, str], kind: type[Document]) -> Document:
        """Get a document of a known type, which is faster to read than any.

        Raises:
            RemoteError: The server refused.
        """
        response = await self._send("GET", path, params=params)
        if response.is_error:
            raise self._refusal(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._not_ours(response) from error

    async def lines(self, path: str, params: dict[str, str]) -> list[tuple[bytes, Json]]:
        """Get lines of JSON, each as it came and decoded.

        Raises:
            RemoteError: The server refused.
        """
        response = await self._send("GET", path, params=params)
        if response.is_error:
            raise self._refusal(response)
        try:
            return [(line, msgspec.json.decode(line)) for line in response.content.splitlines()]
        except msgspec.MsgspecError as error:
            raise self._not_ours(response) from error

    @asynccontextmanager
    async def value(self, namespace: str, key: str) -> AsyncGenerator[httpx.Response]:
        """Open a value to read it piece by piece.

        Raises:
            RemoteError: There is none, or the server refused.
        """
        path = f"/v1/namespaces/{namespace}/values/{key_path(key)}"
        async with self.stream(path) as response:
            yield response

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        read_s_max: float | None = None,
    ) -> AsyncGenerator[httpx.Response]:
        """Open an answer to read it piece by piece.

        Args:
            path: Where it is.
            params: The query.
            read_s_max: How long to wait for a piece; by default as for any answer.

        Raises:
            RemoteError: The server refused.
        """
        request = self._client.build_request("GET", path, params=params, headers=self._headers())
        if read_s_max is not None:
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": read_s_max}
        try:
            response = await self._client.send(request, stream=True)
            try:
                if response.is_error:
                    await response.aread()
                    raise self._refusal(response)
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        headers: Mapping[str, str] = options.pop("headers", None) or {}
        try:
            response = await self._client.request(
                method, path, headers={**self._headers(), **headers}, **options
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        # The body has been read. Its stream refers back to the response, and the cycle would hold
        # page after page of an export until the collector comes by.
        response.stream = httpx.ByteStream(b"")
        return response

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.require_token()}"}

    def require_token(self) -> str:
        """Return who asks.

        Raises:
            UnauthenticatedError: Nobody said.
        """
        token = self.target.token
        if token is None:
            raise UnauthenticatedError(
                detail=f"there is no token for {self.target.url}. Pass --token, set ATOLL_TOKEN, or"
                " name the data folder of a running `atoll dev` with --data.",
                missing=True,
            )
        return token

    # Answers.

    def _answer(self, response: httpx.Response) -> Answer:
        if response.is_error:
            raise self._refusal(response)
        try:
            document: Any = msgspec.json.decode(response.content)
        except msgspec.MsgspecError as error:
            raise self._not_ours(response) from error
        if not isinstance(document, dict):
            raise self._not_ours(response)
        envelope = cast("Json", document)
        if "success" not in envelope:
            return Answer(result=envelope, info={}, headers=response.headers)
        return Answer(
            result=envelope["result"],
            info=envelope.get("result_info") or {},
            headers=response.headers,
        )

    def _refusal(self, response: httpx.Response) -> RemoteError:
        """Read an error from the envelope of REST or the document of `/v1`."""
        try:
            document = msgspec.json.decode(response.content, type=_Refusal)
        except msgspec.MsgspecError:
            return self._not_ours(response)
        first = document.error or (document.errors[0] if document.errors else None)
        if first is None:
            return self._not_ours(response)
        message = first.message
        if response.status_code in {401, 403}:
            message += f" (the token is from: {self.target.token_from})"
        return RemoteError(
            status=response.status_code, remote_code=str(first.code), message=message
        )

    def _not_ours(self, response: httpx.Response) -> RemoteError:
        text = response.text[:ANSWER_TEXT_MAX].strip()
        return RemoteError(
            status=response.status_code if response.is_error else 502,
            remote_code="not_atoll",
            message=f"{response.url} answered {response.status_code} with what no Atoll server"
            f" says: {text!r}. Is {self.target.url} ({self.target.url_from}) the right URL?",
        )

    def _unreachable(self, error: httpx.HTTPError) -> UnavailableError:
        """Say how far the request got."""
        server = f"{self.target.url} ({self.target.url_from})"
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return UnavailableError(
                f"cannot reach {server}: {reason}. Is the server running? `atoll dev` starts one"
                " here; --url and ATOLL_URL name another."
            )
        if isinstance(error, httpx.TimeoutException):
            return UnavailableError(
                f"{server} did not answer in time. What was asked may have been done all the same;"
                " ATOLL_TIMEOUT_S allows more seconds."
            )
        return UnavailableError(
            f"{server} broke off: {reason}. It may have stopped, or refused a request far above its"
            " limits. What was asked may have been done all the same."
        )

    # Names.

    async def account_id(self) -> str:
        """Return the account to work in: the one given, else the only one there is.

        Raises:
            RemoteError: The token reaches none, or several.
        """
        if self._account_id is None:
            accounts = (await self.rest("GET", "/accounts", params={"per_page": 50})).result
            if len(accounts) != 1:
                names = ", ".join(f"{one['id']} ({one['name']})" for one in accounts)
                raise RemoteError(
                    status=400,
                    remote_code="account_needed",
                    message=f"the token reaches {len(accounts)} accounts: {names or 'none'}."
                    " Choose with --account or ATOLL_ACCOUNT_ID.",
                )
            self._account_id = str(accounts[0]["id"])
        return self._account_id

    async def items(self, path: str, **params: str) -> AsyncIterator[Json]:
        """Yield everything that a paged listing below `/client/v4` holds."""
        for page in range(1, PAGES_MAX + 1):
            where = {**params, "per_page": PAGE_ITEMS, "page": page}
            answer = await self.rest("GET", path, params=where)
            for item in answer.result:
                yield item
            if len(answer.result) < PAGE_ITEMS:
                return

    async def namespaces(self) -> AsyncIterator[Json]:
        """Yield the account's namespaces by title."""
        path = f"/accounts/{await self.account_id()}/storage/kv/namespaces"
        async for namespace in self.items(path, order="title", direction="asc"):
            yield namespace

    async def namespace_id(self, named: str) -> str:
        """Return the id of a namespace that is named by its id or its title.

        Raises:
            RemoteError: The account has none with this title.
        """
        if len(named) == NAMESPACE_ID_DIGITS and not named.strip(string.hexdigits):
            return named.lower()
        async for namespace in self.namespaces():
            if namespace["title"] == named:
                return str(namespace["id"])
        raise RemoteError(
            status=404,
            remote_code="namespace_not_found",
            message=f"there is no namespace with the title {named!r} in account"
            f" {await self.account_id()}. `atoll namespace list` shows those there are.",
        )


class _Fault(msgspec.Struct, frozen=True):
    code: int | str
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault | None = None
    errors: tuple[_Fault, ...] = ()


@asynccontextmanager
async def connected(
    target: Target,
    *,
    timeout_s: float,
    ca_certificate: Path | None,
    socket_path: Path | None = None,
) -> AsyncGenerator[Api]:
    """Open a client for as long as a command runs; see `opened_client`."""
    async with opened_client(
        target.url,
        timeout_s=timeout_s,
        ca_certificate=ca_certificate,
        socket_path=socket_path,
    ) as client:
        yield Api(client, target)


def opened_client(
    url: str,
    *,
    timeout_s: float,
    ca_certificate: Path | None,
    socket_path: Path | None = None,
) -> httpx.AsyncClient:
    """Make a client of one node.

    Args:
        url: Where requests go.
        timeout_s: How long to wait for an answer, or for a piece of one.
        ca_certificate: The authority to trust, in PEM; `None` for those that the system trusts.
        socket_path: A unix socket to connect to instead.
    """
    address = httpx.URL(url)
    verify: ssl.SSLContext | bool = True
    if address.scheme == "http":
        # Loading the authorities that the system trusts takes longer than most commands.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif ca_certificate is not None:
        verify = ssl.create_default_context(cafile=ca_certificate)
    return httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S)),
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        # A proxy that the environment names is for the outside, not for this machine.
        trust_env=address.host not in LOOPBACK,
        verify=verify,
        transport=None
        if socket_path is None
        else httpx.AsyncHTTPTransport(uds=str(socket_path), verify=verify),
    )
