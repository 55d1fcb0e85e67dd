"""Step functions."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clients.plain import Namespace
from tests.examples.running import Answer, App, Site

AT_ONCE = 8


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run the example, with a token that reaches its namespace alone."""

    def variables(spaces: Mapping[str, Namespace]) -> dict[str, str]:
        jobs = spaces["JOBS"].id
        scope = ("--namespace", jobs, "--permission", "write")
        token = site.command("token", "create", f"steps of {jobs}", *scope).strip()
        return {"ATOLL_URL": site.location, "ATOLL_TOKEN": token, "JOBS": jobs}

    with site.running(form, "steps", "JOBS", variables=variables) as app:
        yield app


def run(app: App, job: str, step: int, amount: int | str) -> Answer:
    """Run a step."""
    return app.fetch(f"/{job}/{step}", "POST", body=str(amount).encode())


def test_steps_pass_their_state_on(app: App) -> None:
    """One after the other, at once: no step waits for another one's second. Zero is a total."""
    told = [run(app, "adding", n, amount) for n, amount in enumerate((5, -5, 0, 12), start=1)]

    assert [answer.status for answer in told] == [201] * 4
    assert [answer.json["total"] for answer in told] == [5, 0, 0, 12]
    assert app.spaces["JOBS"].names(prefix="adding") == [f"adding/{n}" for n in range(1, 5)]


def test_a_step_that_runs_twice_counts_once(app: App) -> None:
    """Also when it comes late, with another amount: the first run is what counts."""
    run(app, "twice", 1, 5)
    run(app, "twice", 2, 10)

    again = run(app, "twice", 1, 500)

    assert (again.status, again.json) == (200, {"step": 1, "total": 5})
    assert run(app, "twice", 3, 1).json == {"step": 3, "total": 16}
    assert run(app, "twice", 2, 10).json == {"step": 2, "total": 15}
    assert stored(app, "twice", 1) == {"step": 1, "total": 5}


def test_of_many_at_once_one_counts(app: App) -> None:
    """And all are told what counted."""
    run(app, "racing", 1, 0)

    def one_more(amount: int) -> Answer:
        return run(app, "racing", 2, amount)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(one_more, range(1, AT_ONCE + 1)))

    assert Counter(answer.status for answer in told) == {201: 1, 200: AT_ONCE - 1}
    (winner,) = [answer.json for answer in told if answer.status == 201]
    assert [answer.json for answer in told] == [winner] * AT_ONCE
    assert stored(app, "racing", 2) == winner


def stored(app: App, job: str, step: int) -> object:
    """Return what central has."""
    value = app.spaces["JOBS"].value(f"{job}/{step}")
    assert value is not None
    return json.loads(value)


def test_a_step_waits_for_the_one_before(app: App) -> None:
    """409, and nothing is written."""
    answer = run(app, "early", 2, 1)

    assert (answer.status, answer.text) == (409, "Step 1 comes first")
    assert app.spaces["JOBS"].names(prefix="early") == []
    assert run(app, "early", 1, 1).status == 201
    assert run(app, "early", 2, 1).status == 201


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/odd/1", "", 400),
        ("/odd/1", "one", 400),
        ("/odd/1", "1.5", 400),
        ("/odd/0", "1", 404),
        ("/odd/x", "1", 404),
        ("/odd", "1", 404),
        (f"/{'x' * 65}/1", "1", 404),
    ],
)
def test_what_is_no_step(app: App, path: str, body: str, status: int) -> None:
    """The status says why."""
    answer = app.fetch(path, "POST", body=body.encode())

    assert answer.status == status
    assert app.spaces["JOBS"].names(prefix="odd") == []


def test_cut_off_nothing_counts(site: Site, app: App) -> None:
    """A step is not run on what is only known from before; asked again later, it is."""
    run(app, "cut", 1, 1)
    site.command("dev", "cut", "LHR")
    try:
        answer = run(app, "cut", 2, 1)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
    finally:
        site.command("dev", "heal", "LHR")

    assert app.spaces["JOBS"].names(prefix="cut") == ["cut/1"]
