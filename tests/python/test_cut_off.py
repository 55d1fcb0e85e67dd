"""What programs see of a location that is cut off: the same over HTTP and in process."""

import math
from collections.abc import Iterator

import httpx
import pytest

from atoll.core import errors, location_errors
from tests.processes.test_locations import atoll as command
from tests.python.conftest import MANNERS, Namespace, Ways
from tests.support.server import serving

ASKED_MAX = 20_000


@pytest.fixture(name="own", scope="module")
def fixture_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Run central and a location that can be cut off."""
    data = tmp_path_factory.mktemp("cut") / "data"
    with serving(data, locations="LHR", limits_preset="open", log_format="json") as server:
        ways = Ways(server)
        try:
            yield ways
        finally:
            ways.close()


def cut(ways: Ways) -> None:
    """Let nothing through between the location and central."""
    command(ways.server.data, "dev", "cut", "LHR")


def heal(ways: Ways) -> None:
    """Let everything through again, and wait until the location has noticed."""
    command(ways.server.data, "dev", "heal", "LHR")
    space = ways.namespace("location", "sync")
    for _ in range(ASKED_MAX):
        try:
            space.get("healed?", max_age=0)
        except errors.UnavailableError:
            continue
        return
    raise AssertionError("it is still cut off")


def until(space: Namespace, key: str, value: str | None) -> None:
    """Read a key until it is `value`."""
    for _ in range(ASKED_MAX):
        if space.get(key) == value:
            return
    raise AssertionError(value)


@pytest.fixture(name="spaces", scope="module")
def fixture_spaces(own: Ways) -> dict[str, Namespace]:
    """Return the namespace at the location, each way and manner: all under one cut."""
    return {
        f"{way}, {manner}": own.namespace(way, manner)
        for way in ("location", "in process")
        for manner in MANNERS
    }


def test_cut_off_it_answers_what_it_holds_and_journals(
    own: Ways, spaces: dict[str, Namespace], key: str
) -> None:
    """What is weaker says so, and what cannot be kept is refused."""
    central = own.namespace("central", "sync")
    central.put(key, "before")
    for space in spaces.values():
        assert space.get(key, max_age=0) == "before"
    cut(own)
    try:
        for name, space in spaces.items():
            journaled(space, f"{key}{name}")
            what_is_held(space, key)
    finally:
        heal(own)

    for name in spaces:
        until(central, f"{key}{name}", "here")


def journaled(space: Namespace, key: str) -> None:
    """Write what only the journal has, and read it."""
    written = space.put(key, "here", metadata=1)
    answer = space.get_with_metadata(key)

    assert written.journaled
    assert (answer.value, answer.metadata, answer.journaled) == ("here", 1, True)
    assert answer.position == written.position
    assert space.get(key, at_least=written.position) == "here"
    session = space.session()
    session.put(key, "here")
    assert session.get(key) == "here"
    with pytest.raises(errors.UnavailableError):
        space.put(key, "v", if_none_match="*")


def what_is_held(space: Namespace, key: str) -> None:
    """Read what is held, and what is not."""
    held = space.get_with_metadata(key)
    stale = space.get_with_metadata(key, max_age=0, max_stale=math.inf)

    assert (held.value, held.stale, held.journaled) == ("before", False, False)
    assert (stale.value, stale.stale) == ("before", True)
    with pytest.raises(location_errors.CutOffError):
        space.get(key, max_age=0)
    with pytest.raises(location_errors.CutOffError):
        space.get(f"{key}unknown")
    with pytest.raises(location_errors.CutOffError):
        space.list(key)


def test_a_namespace_decides_for_itself(own: Ways, spaces: dict[str, Namespace], key: str) -> None:
    """Its bound holds where a read names none, and what is stale is refused if it says so."""
    central = own.namespace("central", "sync")
    settings(own, '{"bound_s": 0, "stale": "refuse"}')
    for space in spaces.values():
        until_bounded(space, central, key)
        for number in range(20):
            central.put(key, str(number))
            assert space.get(key) == str(number)

    cut(own)
    try:
        for space in spaces.values():
            with pytest.raises(location_errors.CutOffError):
                space.get(key)
            with pytest.raises(location_errors.CutOffError):
                space.get(key, max_age=0, max_stale=math.inf)
            assert space.get(key, max_age=3600) == "19"
    finally:
        heal(own)
        settings(own, '{"bound_s": null, "stale": "allow"}')


def until_bounded(space: Namespace, central: Namespace, key: str) -> None:
    """Wait until the namespace's bound is known where `space` is read."""
    seen = 0
    for number in range(ASKED_MAX):
        central.put(key, str(number))
        seen = seen + 1 if space.get_with_metadata(key).age == 0 else 0
        if seen == 30:
            return
    raise AssertionError("its bound never came")


def settings(ways: Ways, text: str) -> None:
    """Change the settings of the namespace."""
    running = ways.server.running
    httpx.put(
        f"{running.central}/v1/namespaces/{running.namespace_id}/settings",
        content=text,
        headers={"Authorization": f"Bearer {running.token}"},
        trust_env=False,
    ).raise_for_status()
