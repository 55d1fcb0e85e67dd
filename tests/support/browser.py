"""A real browser: the machine's Chromium, driven by Playwright."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
"""What systems call it on the PATH."""

MAC: Final = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


@contextmanager
def browsing() -> Generator[Browser]:
    """Run a browser for the length of a `with`; skip the test where the machine has none.

    While it runs, no other event loop can run on this thread: end it with the module.
    """
    found = next(filter(None, map(shutil.which, (*NAMES, MAC))), None)
    if found is None:
        pytest.skip("no browser: install Chromium (Debian: apt-get install chromium)")
    # Its sandbox needs rights that containers and root do not have. It sees our own pages only.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
