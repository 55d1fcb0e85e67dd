"""What all examples share: one Atoll with a location, and a stand-in for the internet."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.examples.internet import internet
from tests.examples.running import FORMS, Site
from tests.support.browser import browsing
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a browser."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a window of a visitor who was never here. What goes wrong in a page fails the test."""
    faults: list[str] = []
    with browser.new_context() as visitor:
        page = visitor.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
    assert faults == []
