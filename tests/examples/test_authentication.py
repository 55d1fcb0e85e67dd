"""User authentication."""

import hashlib
from collections.abc import Iterator

import pytest

from tests.examples.running import Answer, App, Site, until

BOUND_S = 2
SETTINGS = ("--bound", str(BOUND_S), "--stale", "refuse", "--journal", "refuse")


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run the example, with a bound that a test can wait for."""
    with site.running(
        form,
        "authentication",
        "API_KEYS",
        variables=lambda _: {"ORIGIN": site.internet},
        settings=SETTINGS,
    ) as app:
        yield app


def digest(key: str) -> str:
    """Return the name under which a key is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def issue(app: App, key: str, user: str) -> None:
    """Give out a key."""
    app.spaces["API_KEYS"].put(digest(key), user.encode())


def revoke(app: App, key: str) -> None:
    """Take it back."""
    app.spaces["API_KEYS"].delete([digest(key)])


def ask(app: App, key: str | None, **headers: str) -> Answer:
    """Ask with a key."""
    bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
    return app.fetch("/page?x=1", headers={**bearer, **headers})


@pytest.mark.parametrize(
    ("user", "told"), [("ada", "ada"), ("Zoë & co", "Zo%C3%AB%20%26%20co"), ("", "")]
)
def test_a_key_lets_its_user_through(app: App, user: str, told: str) -> None:
    """The origin is told who it is, whatever the caller claims, and never sees the key."""
    key = f"key of {user}".encode().hex()
    issue(app, key, user)

    answer = ask(app, key, **{"X-User": "root"})

    assert (answer.status, answer.json["path"]) == (203, "/page?x=1")
    assert answer.json["headers"]["x-user"] == told
    assert "authorization" not in answer.json["headers"]


@pytest.mark.parametrize("key", [None, "", "unknown", "a b", "null"])
def test_all_others_stay_outside(app: App, key: str | None) -> None:
    """Told how to come in."""
    answer = ask(app, key)

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.text == "An API key is needed"


def test_a_digest_is_no_key(app: App) -> None:
    """Who reads the namespace cannot come in with what stands there."""
    issue(app, "secret", "ada")

    assert ask(app, "secret").status == 203
    assert ask(app, digest("secret")).status == 401


def test_a_key_that_comes_and_goes(app: App) -> None:
    """Given out, revoked and given out again, each time heard of without a restart."""
    assert ask(app, "coming").status == 401
    issue(app, "coming", "ada")
    until(lambda: ask(app, "coming").status, lambda status: status == 203)

    revoke(app, "coming")

    until(lambda: ask(app, "coming").status, lambda status: status == 401)
    assert ask(app, "coming").status == 401


def test_revoked_while_the_location_is_cut_off(site: Site, app: App) -> None:
    """It cannot hear of it, so past the bound it accepts no key at all; then it hears."""
    issue(app, "doomed", "ada")
    issue(app, "lasting", "bob")
    assert [ask(app, key).status for key in ("doomed", "lasting")] == [203, 203]
    site.command("dev", "cut", "LHR")
    try:
        revoke(app, "doomed")
        until(lambda: ask(app, "doomed").status, lambda status: status != 203)
        refused = ask(app, "doomed")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        until(lambda: ask(app, "lasting").status, lambda status: status == 503)
        assert ask(app, "never-seen").status == 503
    finally:
        site.command("dev", "heal", "LHR")

    until(lambda: ask(app, "lasting").status, lambda status: status == 203)
    assert ask(app, "doomed").status == 401
