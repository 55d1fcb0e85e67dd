"""What a program finds at a glance in a cache on disk is what the location would answer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from atoll.core.model import CacheStatus, Entry
from atoll.core.version import Version
from atoll.location.age import Record
from atoll.location.cache import CacheState
from atoll.location.glance import Glimpse
from atoll.location.lmdb_cache import LmdbCache
from atoll.location.lmdb_sight import LmdbSight
from atoll.location.lookup import Lookup
from atoll.location.mapping import Collector, ReaderMapping
from atoll.location.quick import Quick
from atoll.location.time import Look
from tests.support.clock import ManualClock
from tests.support.location import NS

BOUND_MS: Final = 60_000
EXPIRES_IN_S: Final = 3
US_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A program's view of a cache that its keeper has left."""

    clock: ManualClock
    lookup: Lookup
    quick: Quick
    collector: Collector

    def glimpse(self, key: str) -> Glimpse | None:
        """Look at a key, and take what is there for an answer."""
        asked_ms = self.quick.elapsed_ms()
        found = self.quick.look(NS, key, asked_ms=asked_ms, age_ms_max=None)
        if found is not None:
            self.quick.note(found)
        return found


@pytest.fixture(name="side")
def fixture_side(tmp_path: Path) -> Iterator[Side]:
    """Keep a few records, and look at them."""
    clock = ManualClock()
    now_ms, now_us = clock.elapsed_ms(), clock.now_us()
    entry = Entry(key="plain", version=Version(7), value=b"v", metadata=b"{}")
    fresh = Record(entry=entry, sequence=3, instant_ms=now_ms)
    expires = replace(entry, key="expires", expiration=now_us // US_PER_S + EXPIRES_IN_S)
    cache = LmdbCache(tmp_path / "cache", boot="b", size_bytes_max=2**20)
    cache.put(NS, "plain", fresh)
    cache.put(NS, "expires", replace(fresh, entry=expires))
    cache.put(NS, "changed", replace(fresh, entry=replace(entry, key="changed"), superseded=True))
    cache.put(NS, "pinned", replace(fresh, entry=replace(entry, key="pinned")))
    cache.put(NS, "missing", replace(fresh, entry=None))
    cache.pin_only([(NS, "pinned")])
    looked = Look(elapsed_ms=now_ms, wall_ms=now_us // 1000)
    cache.save(
        CacheState(boot="b", incarnation=1, central_us=now_us, central_at_ms=now_ms, looked=looked)
    )
    cache.close()
    sight = LmdbSight(tmp_path / "cache", opens=False)
    assert sight.raw(b"") is None
    sight.prepare()
    mapping = ReaderMapping(tmp_path / "readers")
    lookup = Lookup("LHR", sight, clock=clock, boot="b", mapping=mapping)
    yield Side(
        clock=clock,
        lookup=lookup,
        quick=Quick(lookup, sight, mapping, age_ms_max=BOUND_MS),
        collector=Collector(tmp_path / "readers"),
    )
    sight.close()
    mapping.close()


def test_what_is_plain_is_found_and_counted(side: Side) -> None:
    """A value, and that there is none."""
    plain, missing = side.glimpse("plain"), side.glimpse("missing")

    assert plain is not None
    assert (plain.value, plain.metadata, plain.version) == (b"v", b"{}", 7)
    assert missing is not None
    assert missing.value is None
    counted = side.collector.collect()
    assert (counted[CacheStatus.HIT], counted[CacheStatus.NEGATIVE]) == (1, 1)


@pytest.mark.parametrize("key", ["changed", "pinned", "unknown", "\ud800"])
def test_what_is_odd_is_left_to_be_judged(side: Side, key: str) -> None:
    """It is not counted here either."""
    assert side.glimpse(key) is None
    assert set(side.collector.collect().values()) == {0}


def test_what_has_expired_is_not_found(side: Side) -> None:
    """As soon as its time has come by central's clock, and within every bound."""
    found = side.glimpse("expires")
    assert found is not None
    assert found.value == b"v"
    side.clock.advance(EXPIRES_IN_S + 0.1)

    assert side.glimpse("expires") is None


def test_what_is_too_old_is_not_found(side: Side) -> None:
    """Nor what is old enough to be refreshed."""
    side.clock.advance(BOUND_MS / 1000 * 0.7)
    assert side.glimpse("plain") is not None
    side.clock.advance(BOUND_MS / 1000 * 0.2)
    assert side.glimpse("plain") is None
