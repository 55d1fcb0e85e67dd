"""Namespaces as programs have them: of central, of a location, and in process; sync and async."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

import atoll
from atoll.client import AsyncClient, AsyncNamespace, AsyncStream, Client
from tests.support.server import Server, serving

Namespace = Any  # one of two classes, called in one way

WAYS: Final = ("central", "location", "in process")
MANNERS: Final = ("sync", "async")


class Awaited:
    """An async namespace, called as a sync one: each call runs on a loop of the test's."""

    def __init__(self, awaited: object, runner: asyncio.Runner) -> None:
        """Run what `awaited` returns on `runner`."""
        self._awaited = awaited
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method that runs to its end."""
        method = getattr(self._awaited, name)

        def call(*args: object, **options: object) -> object:
            """Call it, and wait."""
            found = self._runner.run(_called(method, args, options))
            return Awaited(found, self._runner) if isinstance(found, AsyncNamespace) else found

        return call


async def _called(method: Any, args: Any, options: Any) -> object:  # noqa: ANN401 - any method
    made = method(*args, **options)
    if hasattr(made, "__anext__"):
        return [one async for one in made]
    found = await made if hasattr(made, "__await__") else made
    return [piece async for piece in found] if isinstance(found, AsyncStream) else found


class Ways:
    """Clients of one `atoll dev`, made when they are asked for and closed at the end."""

    def __init__(self, server: Server) -> None:
        """Serve those of `server`."""
        self.server = server
        self._made: dict[tuple[str, str], Namespace] = {}
        self._stack = ExitStack()

    @property
    def folder(self) -> Path:
        """The location's."""
        return self.server.data / "locations" / "LHR"

    def close(self) -> None:
        """Close all clients."""
        self._stack.close()

    def client(self, way: str, manner: str) -> Client | AsyncClient:
        """Return a client, which the caller closes."""
        running = self.server.running
        connect = atoll.connect if manner == "sync" else atoll.connect_async
        if way == "in process":
            return connect(self.folder)
        url = running.central if way == "central" else running.locations["LHR"]
        return connect(url, token=running.token)

    def namespace(self, way: str, manner: str) -> Namespace:
        """Return the server's namespace."""
        found = self._made.get((way, manner))
        if found is not None:
            return found
        client = self.client(way, manner)
        space: Namespace = client.namespace(self.server.running.namespace_id)
        if isinstance(client, Client):
            self._stack.callback(client.close)
        else:
            runner = self._stack.enter_context(asyncio.Runner())
            self._stack.callback(lambda: runner.run(client.aclose()))
            space = Awaited(space, runner)
        self._made[way, manner] = space
        return space


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Run central and a location whose keys may be written at any time."""
    data = tmp_path_factory.mktemp("python") / "data"
    with serving(data, locations="LHR", limits_preset="open", log_format="json") as server:
        ways = Ways(server)
        try:
            yield ways
        finally:
            ways.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Name where a namespace is asked."""
    return str(request.param)


@pytest.fixture(params=MANNERS)
def manner(request: pytest.FixtureRequest) -> str:
    """Name how it is called."""
    return str(request.param)


@pytest.fixture
def space(ways: Ways, way: str, manner: str) -> Namespace:
    """Return a namespace, each way and manner in its turn."""
    return ways.namespace(way, manner)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Return a key that no other test uses."""
    return f"{request.node.name}/"
