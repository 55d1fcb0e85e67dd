"""Workers for all tests of a session: in either form, on an older runtime and on a newer one."""

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.clients.plain import Access, access_to, create
from tests.support.server import Server, serving
from tests.workers.running import (
    Kind,
    Kv,
    as_module,
    as_service_worker,
    running_worker,
    workerd,
)

NAMESPACES: Final = 128
"""One for each test."""

NEWER: Final = "wrangler-newest"
OLDER: Final = "wrangler-4.86"
KINDS: Final = {
    "module": (NEWER, True),
    "service-worker": (NEWER, False),
    "module-older": (OLDER, True),
}


runs: Final = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an Atoll with a location, in which keys may be written at any rate."""
    data = tmp_path_factory.mktemp("workers") / "data"
    with serving(data, locations="LHR", limits_rewrite_interval_ms="0") as server:
        yield server


@pytest.fixture(scope="session")
def access(server: Server) -> Access:
    """Return the credentials of its owner."""
    return access_to(server)


@pytest.fixture(scope="session", params=KINDS)
def kind(
    request: pytest.FixtureRequest,
    server: Server,
    access: Access,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kind]:
    """Run each kind of Worker in turn."""
    name: str = request.param
    release, is_module = KINDS[name]
    folder = tmp_path_factory.mktemp(name)
    # When tests are dealt out to processes by file, a kind comes back with each file.
    run = next(runs)
    bindings = {f"NS{n}": create(access, f"{name} {run} {n}").id for n in range(NAMESPACES)}
    script = as_module(folder) if is_module else as_service_worker(folder, [*bindings])
    bound = itertools.chain.from_iterable(("--kv", f"{k}={v}") for k, v in bindings.items())
    with running_worker(
        server.data, folder, script, *bound, "--workerd", workerd(release)
    ) as worker:
        yield Kind(is_newer=release == NEWER, worker=worker, unused=iter(bindings))


@pytest.fixture
def kv(kind: Kind) -> Kv:
    """Return a binding to an empty namespace."""
    return Kv(worker=kind.worker, binding=next(kind.unused))
