"""One node of a deployment as `/v1` shows it, in the words of the checkers."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import httpx
import msgspec

from atoll.core.errors import AtollError, RemoteError, UnavailableError
from atoll.core.model import (
    CacheStatus,
    Entry,
    JournalToken,
    Outcome,
    OutcomeKind,
    Position,
    Reading,
    Written,
    parse_at_least,
)
from atoll.core.version import Version

MS_PER_S: Final = 1000
NOWHERE: Final = Position(incarnation=0, sequence=0)
"""Where an answer out of a journal is true."""


class _Fault(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault


class Settings(msgspec.Struct, frozen=True):
    """What a namespace allows locations."""

    stale: str
    bound_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a read demands."""

    bound_ms: int | None = None
    max_stale: bool = False
    at_least: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Say it in the request."""
        said: dict[str, str] = {}
        if self.bound_ms is not None:
            said["Cache-Control"] = (
                "no-cache" if self.bound_ms == 0 else f"max-age={self.bound_ms // MS_PER_S}"
            )
            if self.max_stale:
                said["Cache-Control"] += ", max-stale"
        if self.at_least is not None:
            said["Atoll-At-Least"] = self.at_least
        return said


class Place:
    """A node that is asked."""

    def __init__(self, name: str, client: httpx.AsyncClient, *, token: str, namespace: str) -> None:
        """Ask over `client`, whose base is the node's URL.

        Args:
            name: What the node is called in the report.
            client: Sends the requests.
            token: Who asks.
            namespace: Where the keys are.
        """
        self.name = name
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}
        self._path = f"/v1/namespaces/{namespace}"

    async def read(self, key: str, asked: Asked) -> Reading:
        """Read a key.

        Raises:
            UnavailableError: There is no answer.
            RemoteError: The answer is a refusal.
        """
        response = await self._send("GET", self._path_of(key), headers=asked.headers)
        missing = response.status_code == HTTPStatus.NOT_FOUND
        if missing and "atoll-position" in response.headers:
            return _reading(key, response)
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response)
        return _reading(key, response)

    async def write(self, key: str, value: bytes | None, *, expiration: int | None) -> Written:
        """Write a key, or delete it; see `read` for what it raises."""
        params = {} if expiration is None else {"expiration": str(expiration)}
        response = await self._send(
            "DELETE" if value is None else "PUT", self._path_of(key), content=value, params=params
        )
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            raise _refusal(response)
        try:
            version = Version(int(response.headers["etag"].strip('"')))
            place = parse_at_least(response.headers["atoll-position"])
        except (AtollError, KeyError, ValueError) as error:
            raise _not_ours(response) from error
        token = place if isinstance(place, JournalToken) else None
        return Written(
            outcomes=(Outcome(kind=OutcomeKind.APPLIED, version=version),),
            position=NOWHERE if isinstance(place, JournalToken) else place,
            token=token,
        )

    async def settings(self) -> Settings:
        """Return what the namespace allows; see `read` for what it raises."""
        response = await self._send("GET", f"{self._path}/settings")
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content, type=Settings)
        except msgspec.MsgspecError as error:
            raise _not_ours(response) from error

    async def delete_all(self, prefix: str) -> None:
        """Delete every key that begins so; see `read` for what it raises."""
        response = await self._send("POST", f"{self._path}/delete", json={"prefix": prefix})
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response)

    def _path_of(self, key: str) -> str:
        return f"{self._path}/values/{quote(key, safe='')}"

    async def _send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        params: dict[str, str] | None = None,
        json: object = None,
    ) -> httpx.Response:
        try:
            return await self._client.request(
                method,
                path,
                headers={**self._headers, **(headers or {})},
                content=content,
                params=params or None,
                json=json,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.name}: {error!r}") from error


def _reading(key: str, response: httpx.Response) -> Reading:
    headers = response.headers
    try:
        place = parse_at_least(headers["atoll-position"])
        entry = None
        if response.status_code == HTTPStatus.OK:
            expiration = headers.get("atoll-expiration")
            entry = Entry(
                key=key,
                version=Version(int(headers["etag"].strip('"'))),
                value=response.content,
                expiration=None if expiration is None else int(expiration),
            )
        age = headers.get("age")
        status = headers.get("cache-status", "")
        return Reading(
            entry=entry,
            position=NOWHERE if isinstance(place, JournalToken) else place,
            token=place if isinstance(place, JournalToken) else None,
            age_ms=None if age is None else int(age) * MS_PER_S,
            stale="atoll-stale" in headers,
            order_unknown="atoll-order-unknown" in headers,
            cache=_cache_status(status),
            node=status.partition(";")[0].strip().strip('"'),
        )
    except (AtollError, KeyError, ValueError) as error:
        raise _not_ours(response) from error


def _cache_status(text: str) -> CacheStatus:
    if "detail=stale" in text:
        return CacheStatus.STALE
    if "detail=negative" in text:
        return CacheStatus.NEGATIVE
    return CacheStatus.HIT if "hit" in text else CacheStatus.MISS


def _refusal(response: httpx.Response) -> RemoteError:
    try:
        fault = msgspec.json.decode(response.content, type=_Refusal).error
    except msgspec.MsgspecError:
        return _not_ours(response)
    return RemoteError(
        status=response.status_code,
        remote_code=fault.code,
        message=f"{fault.code}: {fault.message}",
    )


def _not_ours(response: httpx.Response) -> RemoteError:
    return RemoteError(
        status=response.status_code if response.is_error else HTTPStatus.BAD_GATEWAY,
        remote_code="not_atoll",
        message=f"{response.url} answered {response.status_code} with what no Atoll node says",
    )
