"""Cloudflare's Python SDK 5, its two clients behind one face, so that one test drives both.

Tests are written for the asynchronous client. The other one is wrapped: its answers are there at
once, and `await`, `async for` and `async with` find them there.
"""

from collections.abc import AsyncIterator, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypedDict, cast

from cloudflare import AsyncCloudflare, Cloudflare

from tests.clients.plain import Access, Namespace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

KINDS: Final = ("sync", "async")
RETRIES_DEFAULT: Final = 2

_WRAPPED: Final = ("cloudflare.resources", "cloudflare._response")


class Place(TypedDict):
    """The arguments that every call needs."""

    account_id: str
    namespace_id: str


def place(namespace: Namespace) -> Place:
    """Return what names a namespace to the SDK."""
    return {"account_id": namespace.access.account_id, "namespace_id": namespace.id}


class _Ready:
    """What a call of the synchronous client returned, in the forms the other one has."""

    def __init__(self, result: object) -> None:
        self._result = result

    def __await__(self) -> Generator[None, None, object]:
        yield from ()
        return _wrap(self._result)

    async def __aiter__(self) -> AsyncIterator[object]:
        for item in cast("Iterable[object]", self._result):
            yield item

    async def __aenter__(self) -> object:
        return _wrap(cast("AbstractContextManager[object]", self._result).__enter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cast("AbstractContextManager[object]", self._result).__exit__(kind, error, trace)


class _Sync:
    """The synchronous client, or a part of it."""

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> object:
        return _wrap(getattr(self._target, name))

    def __call__(self, *arguments: object, **named: object) -> _Ready:
        assert callable(self._target)
        return _Ready(self._target(*arguments, **named))


def _wrap(found: object) -> object:
    return _Sync(found) if callable(found) or type(found).__module__.startswith(_WRAPPED) else found


def connect(
    kind: str,
    url: str,
    *,
    api_token: str | None = None,
    api_email: str | None = None,
    api_key: str | None = None,
    max_retries: int = RETRIES_DEFAULT,
) -> AsyncCloudflare:
    """Return a client of one of the two `KINDS`; whoever makes one closes it."""
    make = Cloudflare if kind == "sync" else AsyncCloudflare
    client = make(
        base_url=url,
        api_token=api_token,
        api_email=api_email,
        api_key=api_key,
        max_retries=max_retries,
    )
    return cast("AsyncCloudflare", client if kind == "async" else _Sync(client))


def connect_to(kind: str, access: Access, *, max_retries: int = RETRIES_DEFAULT) -> AsyncCloudflare:
    """Return a client with the token of `access`."""
    return connect(kind, access.api, api_token=access.token, max_retries=max_retries)
