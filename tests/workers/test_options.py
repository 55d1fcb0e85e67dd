"""Metadata, expirations and `cacheTtl`, and how a Worker is told that they will not do."""

import pytest

from atoll.clock import SystemClock
from tests.workers.running import Kv, KvError

NOT_A_NUMBER = "abc"
US_PER_S = 1_000_000


def now_s() -> int:
    """Return the time."""
    return SystemClock().now_us() // US_PER_S


def refused(kv: Kv, method: str, *args: object) -> str:
    """Call what has to be refused, and return what the Worker caught."""
    with pytest.raises(KvError) as caught:
        kv(method, *args)
    assert caught.value.name == "Error"
    return str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": [1, {"b": None}], "é": "😀"},
        [],
        "text",
        "",
        0,
        False,
        1.5,
        {"controls": "\x00\n\x7f\u2028"},
        {"quotes": '"\\/'},
        {"latin": "\u00ff\u0080"},
    ],
    ids=repr,
)
def test_metadata_of_any_kind(kv: Kv, metadata: object) -> None:
    """It comes back with the value, in a list, and with several values."""
    kv.put("k", "value", metadata=metadata)

    entry = kv.entry("k")
    assert (entry["value"], entry["metadata"]) == ("value", metadata)
    assert kv.page()["keys"] == [{"name": "k", "metadata": metadata}]
    assert kv.entry(["k"]) == {"k": {"value": "value", "metadata": metadata}}


def test_no_metadata(kv: Kv) -> None:
    """Null is none."""
    kv.put("k", "value", metadata=None)

    assert kv.entry("k")["metadata"] is None
    assert kv.entry(["k"]) == {"k": {"value": "value", "metadata": None}}


def test_metadata_has_a_limit(kv: Kv) -> None:
    """1,024 bytes as JSON, quotes included."""
    kv.put("k", "value", metadata="m" * 1022)
    assert kv.entry("k")["metadata"] == "m" * 1022

    why = refused(kv, "put", "k", "value", {"metadata": "m" * 1023})

    assert why == "KV PUT failed: 413 Metadata length of 1025 exceeds limit of 1024."


def test_expirations(kv: Kv) -> None:
    """Both kinds show in a list; of both together the time to live counts."""
    at = now_s() + 600
    kv.put("at", "value", expiration=at)
    kv.put("ttl", "value", expirationTtl=600)
    kv.put("both", "value", expiration=at + 9_000, expirationTtl=600, metadata=1)
    kv.put("cut off", "value", expirationTtl=600.9)

    rows = {row["name"]: row for row in kv.page()["keys"]}

    assert rows["at"] == {"name": "at", "expiration": at}
    for name in ("ttl", "both", "cut off"):
        assert at - 5 <= rows[name]["expiration"] <= at + 30
    assert rows["both"]["metadata"] == 1


@pytest.mark.parametrize(
    ("given", "sent", "rule"),
    [
        (NOT_A_NUMBER, 0, "Please specify integer greater than 0."),
        (None, 0, "Please specify integer greater than 0."),
        (0, 0, "Please specify integer greater than 0."),
        (-1, -1, "Please specify integer greater than 0."),
        (30, 30, "Expiration TTL must be at least 60."),
        (59.9, 59, "Expiration TTL must be at least 60."),
    ],
)
def test_a_time_to_live_that_will_not_do(kv: Kv, given: object, sent: int, rule: str) -> None:
    """In Workers KV's words, with the number that the runtime makes of it."""
    why = refused(kv, "put", "k", "value", {"expirationTtl": given})

    assert why == f"KV PUT failed: 400 Invalid expiration_ttl of {sent}. {rule}"
    assert kv.get("k") is None


def test_an_expiration_that_will_not_do(kv: Kv) -> None:
    """No number, the past, and too soon."""
    past = now_s() - 10
    soon = now_s() + 30
    later = (
        "Please specify integer greater than the current number of seconds since the UNIX epoch."
    )

    for given, sent, rule in (
        (NOT_A_NUMBER, 0, later),
        (past, past, later),
        (soon, soon, "Expiration times must be at least 60 seconds in the future."),
    ):
        why = refused(kv, "put", "k", "value", {"expiration": given})
        assert why == f"KV PUT failed: 400 Invalid expiration of {sent}. {rule}"


@pytest.mark.parametrize("method", ["get", "getWithMetadata"])
@pytest.mark.parametrize(
    ("given", "sent"), [(10, 10), (29.9, 29), (0, 0), (-5, -5), (NOT_A_NUMBER, 0)]
)
def test_a_cache_ttl_that_will_not_do(kv: Kv, method: str, given: object, sent: int) -> None:
    """Less than half a minute, alone and for several keys."""
    rule = f"400 Invalid cache_ttl of {sent}. Cache TTL must be at least 30."

    assert refused(kv, method, "k", {"cacheTtl": given}) == f"KV GET failed: {rule}"
    assert refused(kv, method, ["k"], {"cacheTtl": given}) == f"KV GET_BULK failed: {rule}"


@pytest.mark.parametrize("cache_ttl", [30, 60, 86_400, 2**31 - 1])
def test_a_cache_ttl_that_will_do(kv: Kv, cache_ttl: int) -> None:
    """Half a minute and more."""
    kv.put("k", "value")

    assert kv.get("k", {"cacheTtl": cache_ttl}) == "value"
    assert kv.get(["k"], {"cacheTtl": cache_ttl}) == {"k": "value"}


def test_the_cache_tells_how_it_came_by_an_answer(kv: Kv) -> None:
    """What is not there is known as well as what is."""
    first, second = kv.entry("k"), kv.entry("k")
    assert (first["cacheStatus"], second["cacheStatus"]) == ("MISS", "HIT")
    assert (second["value"], second["metadata"]) == (None, None)

    kv.put("k", "value")

    assert kv.entry("k")["value"] == "value"
    assert kv.entry("k")["cacheStatus"] == "HIT"
