"""What a Worker is told while its location cannot reach central."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from atoll.clock import SystemClock
from tests.clients.plain import Namespace, access_to, create
from tests.support.server import ATOLL, Server, environment, serving
from tests.workers.running import Json, Kv, KvError, as_module, running_worker, workerd

COME_S_MAX = 60.0
BOUND_S = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an Atoll whose answers may be a few seconds old."""
    data = tmp_path_factory.mktemp("cut") / "data"
    with serving(data, locations="LHR", bound_s=str(BOUND_S)) as server:
        yield server


@pytest.fixture(scope="module")
def spaces(server: Server) -> dict[str, Namespace]:
    """Return a namespace that allows everything, and one that allows nothing weaker."""
    found = {name: create(access_to(server), name) for name in ("LOOSE", "STRICT")}
    refuse = ("--stale", "refuse", "--journal", "refuse")
    order(server, "namespace", "settings", "STRICT", *refuse)
    return found


@pytest.fixture(scope="module")
def worker(
    server: Server, spaces: dict[str, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Kv]]:
    """Run a Worker with both, and return how to get at each."""
    folder = tmp_path_factory.mktemp("cut-worker")
    bound = [f"--kv={name}={name}" for name in spaces]
    with running_worker(
        server.data,
        folder,
        as_module(folder),
        *bound,
        "--workerd",
        workerd("wrangler-newest"),
    ) as running:
        yield lambda name: Kv(worker=running, binding=name)
        heal(server)  # Or its token could not be revoked.


def order(server: Server, *arguments: str) -> None:
    """Run a command of `atoll`."""
    subprocess.run(
        [ATOLL, *arguments], env=environment(server.data), check=True, capture_output=True
    )


def cut(server: Server) -> None:
    """Cut the location off."""
    order(server, "dev", "cut", "LHR")


def heal(server: Server) -> None:
    """Let it through again."""
    order(server, "dev", "heal", "LHR")


def until(said: Callable[[], Json], wanted: Callable[[Json], bool]) -> Json:
    """Ask until the answer is as wanted."""
    clock = SystemClock()
    end_ms = clock.elapsed_ms() + COME_S_MAX * 1000
    while True:
        told = said()
        if wanted(told):
            return told
        assert clock.elapsed_ms() < end_ms, told


def caught(call: Callable[[], Json]) -> str:
    """Return what the Worker caught; nothing if it caught nothing."""
    try:
        call()
    except KvError as error:
        return str(error)
    return ""


def test_a_key_written_too_often(worker: Callable[[str], Kv]) -> None:
    """One write a second; the second one is told so in words that Workers look for."""
    kv = worker("LOOSE")
    kv.put("often", "1")

    with pytest.raises(KvError) as refused:
        kv.put("often", "2")

    assert str(refused.value).startswith("KV PUT failed: 429 Too Many Requests")
    assert kv.get("often") == "1"
    until(lambda: caught(lambda: kv.put("often", "3")), lambda why: not why)
    assert kv.get("often") == "3"


def test_what_is_known_is_answered(
    server: Server, worker: Callable[[str], Kv], spaces: dict[str, Namespace]
) -> None:
    """Marked stale once its bound has passed, unless the namespace would rather have none.

    A plain write is taken, shown here, and reaches central when that can be reached. What was
    never seen is an error, and not null.
    """
    loose, strict = worker("LOOSE"), worker("STRICT")
    for kv in (loose, strict):
        kv.put("known", "before", metadata={"n": 1})
        assert kv.get("absent") is None
    cut(server)

    entry = until(lambda: loose.entry("known"), lambda found: found["cacheStatus"] == "STALE")
    assert (entry["value"], entry["metadata"]) == ("before", {"n": 1})
    assert loose.entry("absent")["cacheStatus"] == "STALE"
    assert loose.entry("absent")["value"] is None
    why = until(lambda: caught(lambda: strict.get("known")), bool)
    assert why.startswith("KV GET failed: 503 this location cannot reach central now")

    loose.put("new", "in the journal", metadata="m")
    assert (loose.get("new"), loose.entry("new")["metadata"]) == ("in the journal", "m")
    loose.delete("known")
    assert loose.get("known") is None
    for call, verb in (
        (lambda: strict.put("new", "x"), "PUT"),
        (lambda: strict.delete("known"), "DELETE"),
        (lambda: loose.get("never seen"), "GET"),
        (lambda: loose.get(["new", "never seen"]), "GET_BULK"),
        (loose.page, "GET"),
    ):
        assert caught(call).startswith(f"KV {verb} failed: 503 this location cannot reach central")

    heal(server)
    until(lambda: spaces["LOOSE"].value("new"), lambda value: value == b"in the journal")
    until(lambda: spaces["LOOSE"].value("known"), lambda value: value is None)
    until(lambda: caught(lambda: strict.get("known")), lambda text: not text)
    assert strict.get("known") == "before"
