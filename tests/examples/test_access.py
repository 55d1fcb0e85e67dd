"""Configuration and access."""

import json
from collections.abc import Iterator

import pytest

from tests.examples.running import App, Site, until

REPORTER = "203.0.113.9"
OTHER = "198.51.100.7"
RULES: list[dict[str, object]] = [
    {"path": "/public/"},
    {"path": "/reports", "callers": [REPORTER]},
    {"path": "/closed", "callers": []},
]


@pytest.fixture(scope="module")
def running(site: Site, form: str) -> Iterator[App]:
    """Run the example, without rules."""
    with site.running(
        form, "access", "CONFIG", variables=lambda _: {"ORIGIN": site.internet}
    ) as app:
        assert app.fetch("/public/").status == 503
        yield app


@pytest.fixture(scope="module")
def app(running: App) -> App:
    """Give it rules, while it runs."""
    running.spaces["CONFIG"].put("rules", json.dumps(RULES).encode())
    until(lambda: running.fetch("/public/").status, lambda status: status == 203)
    return running


def status(app: App, path: str, caller: str | None) -> int:
    """Ask for a path as a caller; return the status."""
    return app.fetch(path, headers={} if caller is None else {"CF-Connecting-IP": caller}).status


@pytest.mark.parametrize("caller", [REPORTER, OTHER, None])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/public/", 203),
        ("/public/a/b?c=%2F..", 203),
        ("/public", 403),
        ("/reports-old", 403),
        ("/closed", 403),
        ("/closed/a", 403),
        ("/", 403),
        ("/PUBLIC/", 403),
    ],
)
def test_paths(app: App, path: str, expected: int, caller: str | None) -> None:
    """A rule is for a path and what is below it; all else is refused, whoever asks."""
    assert status(app, path, caller) == expected


@pytest.mark.parametrize("path", ["/reports", "/reports/", "/reports/2026", "/%72eports"])
def test_callers(app: App, path: str) -> None:
    """A rule with callers is for them alone."""
    assert [status(app, path, caller) for caller in (REPORTER, OTHER, None)] == [203, 403, 403]


@pytest.mark.parametrize(
    "path",
    [
        "/public/../reports",
        "/public/%2e%2e/reports",
        "/public/..%2Freports",
        "/public/..%5Creports",
        "/public/%252e%252e/reports",
        "/public/./../reports",
        "/public/..",
    ],
)
def test_no_way_around(app: App, path: str) -> None:
    """A path that another reader would read as a way to what is closed is not passed on."""
    assert status(app, path, OTHER) in {400, 403}


def test_rules_change_while_it_runs(app: App) -> None:
    """To none at all, which is not the same as rules that are missing, and to others."""
    rules = app.spaces["CONFIG"]
    rules.put("rules", json.dumps([]).encode())
    until(lambda: status(app, "/public/", OTHER), lambda told: told == 403)

    rules.put("rules", json.dumps([{"path": "/"}]).encode())
    until(lambda: status(app, "/anything", OTHER), lambda told: told == 203)
    assert status(app, "/", None) == 203

    rules.delete(["rules"])
    until(lambda: status(app, "/anything", OTHER), lambda told: told == 503)
