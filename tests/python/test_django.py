"""The cache backend keeps Django's contract, over HTTP and in process."""

import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache, CacheKeyWarning, InvalidCacheKey
from django.core.exceptions import ImproperlyConfigured

from tests.python.conftest import Ways

BACKEND: Final = "atoll.integrations.django.AtollCache"
ASKED_MAX: Final = 1_000_000


@pytest.fixture(scope="module")
def configured(ways: Ways) -> None:
    """Have Django know caches over every way, as an application's settings would."""
    running = ways.server.running
    options: dict[str, Any] = {"NAMESPACE": running.namespace_id, "TTL_S_MIN": 1}
    over_http: dict[str, Any] = {
        "BACKEND": BACKEND,
        "LOCATION": running.locations["LHR"],
        "OPTIONS": {**options, "TOKEN": running.token},
    }
    settings.configure(
        CACHES={
            "default": {**over_http, "KEY_PREFIX": "site"},
            "near": {
                "BACKEND": BACKEND,
                "LOCATION": str(ways.folder),
                "KEY_PREFIX": "near",
                "OPTIONS": options,
            },
            "json": {
                **over_http,
                "KEY_PREFIX": "json",
                "OPTIONS": {**over_http["OPTIONS"], "SERIALIZER": "json", "MAX_AGE": 30},
            },
            "odd": {**over_http, "KEY_FUNCTION": "tests.python.test_django.own_key"},
            "unnamed": {"BACKEND": BACKEND, "LOCATION": "http://127.0.0.1:1"},
        }
    )


def own_key(key: object, prefix: str, version: int) -> str:
    """Make keys of a form of one's own."""
    return f"{key}-{version}-{prefix}"


@pytest.fixture(params=["default", "near", "json"])
def cache(request: pytest.FixtureRequest, configured: None) -> Iterator[BaseCache]:
    """Return an empty cache."""
    del configured
    cache = caches[request.param]
    cache.clear()
    yield cache
    cache.clear()


def test_what_is_set_is_got(cache: BaseCache) -> None:
    """Values of all kinds, nothing among them, and a default where there is none."""
    for value in ("text", 5, 1.5, True, None, [1, {"a": "ü"}], ""):
        cache.set("key", value)
        assert cache.get("key", "default") == value
        assert cache.has_key("key")
        assert "key" in cache
    assert cache.get("missing") is None
    assert cache.get("missing", "default") == "default"
    assert "missing" not in cache


def test_any_python_value_is_pickled(configured: None) -> None:
    """As in Django's other backends; JSON has fewer."""
    del configured
    value = {"set": {1, 2}, "bytes": b"\xff", ("tuple",): object}
    caches["default"].set("key", value)

    assert caches["default"].get("key") == value
    with pytest.raises(TypeError):
        caches["json"].set("key", value)


def test_a_timeout_says_how_long(cache: BaseCache) -> None:
    """None is for ever, 0 and less not at all; a fraction of a second is one."""
    cache.set("ever", 1, timeout=None)
    cache.set("never", 1)
    cache.set("never", 1, timeout=0)
    cache.set("past", 1, timeout=-5)
    cache.set("brief", 1, timeout=0.3)

    assert cache.get("brief") == 1
    for _ in range(ASKED_MAX):
        if cache.get("brief") is None:
            break
    assert cache.get("brief") is None
    assert not cache.has_key("brief")
    assert cache.get_many(["ever", "never", "past", "brief"]) == {"ever": 1}
    assert cache.add("brief", 2)
    assert cache.get("brief") == 2


def test_add_sets_what_is_missing(cache: BaseCache) -> None:
    """And nothing over what is there, not even over nothing."""
    assert cache.add("key", None)
    assert not cache.add("key", 2)
    assert cache.get("key", "default") is None
    assert cache.add("nothing", 1, timeout=0)
    assert cache.get("nothing") is None


def test_of_two_who_add_one_does(cache: BaseCache) -> None:
    """However many try at once."""
    added: list[bool] = []

    def add() -> None:
        """Add it, as the others do."""
        added.append(cache.add("key", 1))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(added) == [False] * 7 + [True]


def test_a_number_is_counted_up_and_down(cache: BaseCache) -> None:
    """It keeps its time, and of several who count none is lost."""
    cache.set("n", 5, timeout=None)
    threads = [threading.Thread(target=lambda: cache.incr("n")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert cache.get("n") == 9
    assert cache.incr("n", 10) == 19
    assert cache.decr("n") == 18
    for change in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="not found"):
            change("missing")


def test_touch_gives_another_time(cache: BaseCache) -> None:
    """To what is there; the value stays."""
    cache.set("key", "v", timeout=1)

    assert cache.touch("key", timeout=None)
    assert cache.get("key") == "v"
    assert cache.touch("key", timeout=0)
    assert cache.get("key") is None
    assert not cache.touch("key")


def test_many_at_once(cache: BaseCache) -> None:
    """Set, got and deleted together."""
    pairs = {f"k{n}": n for n in range(5)}

    assert cache.set_many(pairs) == []
    assert cache.get_many([*pairs, "missing"]) == pairs
    cache.delete_many(["k0", "k1", "missing"])
    assert cache.get_many(pairs) == {"k2": 2, "k3": 3, "k4": 4}


def test_delete_says_whether_it_was_there(cache: BaseCache) -> None:
    """As Django has it since 3.1."""
    cache.set("key", 1)

    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get("key") is None


def test_versions_keep_values_apart(cache: BaseCache) -> None:
    """And one can be moved to the next."""
    cache.set("key", "one", version=1)
    cache.set("key", "two", version=2)

    assert cache.get("key") == cache.get("key", version=1) == "one"
    assert cache.get("key", version=2) == "two"
    assert cache.incr_version("key", version=2) == 3
    assert cache.get("key", version=2) is None
    assert cache.get("key", version=3) == "two"


def test_get_or_set(cache: BaseCache) -> None:
    """What is missing is computed once."""
    assert cache.get_or_set("key", lambda: "made") == "made"
    assert cache.get_or_set("key", "other") == "made"


def test_clear_keeps_to_its_prefix(cache: BaseCache) -> None:
    """Other caches of the namespace keep what they have."""
    other = caches["near" if cache.key_prefix != "near" else "default"]
    other.set("kept", 1)
    cache.set("gone", 1)
    cache.set("gone", 1, version=2)

    cache.clear()

    assert cache.get("gone") is None
    assert cache.get("gone", version=2) is None
    assert other.get("kept") == 1


def test_keys_are_looked_at(cache: BaseCache) -> None:
    """What other backends refuse is warned of; what a namespace refuses is refused."""
    with pytest.warns(CacheKeyWarning):
        cache.set("with space", 1)
    with pytest.warns(CacheKeyWarning), pytest.raises(InvalidCacheKey):
        cache.get("k" * 600)


def test_settings_are_looked_at(configured: None) -> None:
    """A cache without a namespace says what it needs, and one with odd keys clears nothing."""
    del configured
    with pytest.raises(ImproperlyConfigured, match="NAMESPACE"):
        caches["unnamed"].get("key")
    with pytest.raises(ImproperlyConfigured, match="KEY_FUNCTION"):
        caches["odd"].clear()
    with pytest.raises(InvalidCacheBackendError):
        caches["none"].get("key")
