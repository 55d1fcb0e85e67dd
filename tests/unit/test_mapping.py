"""What readers count arrives at the keeper once, also after their death."""

from pathlib import Path

from atoll.core.model import CacheStatus
from atoll.location.codec import digest_of
from atoll.location.mapping import Collector, ReaderMapping

READ = digest_of("n", "read")
UNREAD = digest_of("n", "not read")


def test_counts_are_collected_once_and_outlive_their_reader(tmp_path: Path) -> None:
    """Another keeper goes on where the last one stopped."""
    first, second = ReaderMapping(tmp_path), ReaderMapping(tmp_path)
    first.note(READ, CacheStatus.HIT)
    second.note(READ, CacheStatus.HIT)
    second.note(READ, CacheStatus.STALE)

    collected = Collector(tmp_path).collect()
    second.note(READ, CacheStatus.NEGATIVE)
    second.close()
    later = Collector(tmp_path).collect()

    assert (collected[CacheStatus.HIT], collected[CacheStatus.STALE]) == (2, 1)
    assert (later[CacheStatus.HIT], later[CacheStatus.NEGATIVE]) == (0, 1)
    assert len(list(tmp_path.iterdir())) == 1
    assert sum(Collector(tmp_path).collect().values()) == 0
    first.close()


def test_what_was_read_is_known(tmp_path: Path) -> None:
    """For as long as two collections."""
    mapping, collector = ReaderMapping(tmp_path), Collector(tmp_path)
    mapping.note(READ, CacheStatus.HIT)
    for expected in (True, True, False):
        collector.collect()
        assert collector.was_read(READ) is expected
        assert not collector.was_read(UNREAD)
    mapping.close()
