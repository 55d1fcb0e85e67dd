"""What all examples share: one Atoll with a location, and a stand-in for the internet."""

from collections.abc import Iterator

import pytest

from tests.examples.internet import internet
from tests.examples.running import FORMS, Site
from tests.support.server import serving


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run an Atoll with the limits that everybody has."""
    folder = tmp_path_factory.mktemp("examples")
    with serving(folder / "data", locations="LHR") as server, internet() as url:
        yield Site(server, url, folder)


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Name each form of an example in its turn."""
    return str(request.param)
