"""What the tests with real clients share: servers, namespaces in them, and the clients."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cloudflare import AsyncCloudflare

from tests.clients.crowd import Crowd, crowds
from tests.clients.plain import Access, Namespace, access_to, create
from tests.clients.sdk import KINDS, connect_to
from tests.clients.sdk4 import OlderSdk
from tests.clients.wrangler import RELEASES, Wrangler
from tests.support.server import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an Atoll with the limits of today."""
    with serving(tmp_path_factory.mktemp("today") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def access(server: Server) -> Access:
    """Return the credentials of that Atoll's owner."""
    return access_to(server)


@pytest.fixture(scope="session")
def access_2019(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Run an Atoll with the limits of 2019."""
    with serving(tmp_path_factory.mktemp("2019") / "data", limits_preset="2019") as server:
        yield access_to(server)


@pytest.fixture(scope="session")
def access_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Run an Atoll that limits neither namespaces nor, below a second, expirations."""
    with serving(tmp_path_factory.mktemp("open") / "data", limits_preset="open") as server:
        yield access_to(server)


@pytest.fixture
def server_alone(tmp_path: Path) -> Iterator[Server]:
    """Run an Atoll for one test, which may stop it."""
    with serving(tmp_path / "data") as server:
        yield server


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Count, so that no two namespaces of a session share a title."""
    return itertools.count()


@pytest.fixture
def namespace(access: Access, numbers: Iterator[int]) -> Namespace:
    """Make a namespace for one test."""
    return create(access, f"test-{next(numbers)}")


@pytest.fixture(scope="session")
def crowd(access_open: Access) -> Crowd:
    """Return a function from a number to an account of that many namespaces."""
    return crowds(access_open)


@pytest.fixture(scope="session", params=RELEASES)
def wrangler(
    request: pytest.FixtureRequest, access: Access, tmp_path_factory: pytest.TempPathFactory
) -> Wrangler:
    """Return each release of wrangler in turn."""
    release: str = request.param
    return Wrangler(release, home=tmp_path_factory.mktemp(release), access=access)


@pytest.fixture(params=KINDS)
def sdk_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of each of the SDK's clients in turn, without the user's own settings."""
    for name in ("API_TOKEN", "API_KEY", "EMAIL", "API_USER_SERVICE_KEY", "BASE_URL"):
        monkeypatch.delenv(f"CLOUDFLARE_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    kind: str = request.param
    return kind


@pytest.fixture
async def sdk(sdk_kind: str, access: Access) -> AsyncIterator[AsyncCloudflare]:
    """Return each of the SDK's clients in turn, as the owner of the account."""
    client = connect_to(sdk_kind, access)
    yield client
    await client.close()


@pytest.fixture(scope="session")
def older_sdk(access: Access) -> Iterator[OlderSdk]:
    """Return Cloudflare's SDK 4, as the owner of the account."""
    with OlderSdk(access) as sdk:
        yield sdk
