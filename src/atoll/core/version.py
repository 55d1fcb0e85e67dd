"""Versions: one total order over every write in the cluster.

Each write carries a version. Of two writes to one key the larger version wins, on every node
and in whatever order the two arrive, so nodes that have seen the same writes hold the same
value. That is the whole of our conflict resolution.

A version is a hybrid clock reading and the node that took it, in one 63-bit integer:

    micros   53 bits   microseconds since the Unix epoch; lasts until the year 2255
    node     10 bits   breaks the last tie; central is node 0

63 bits fit a signed database integer and a Cassandra write timestamp, so every store orders
writes by the same number. In JSON and ETags a version is decimal text, because a JavaScript
number cannot hold it.

Nothing here reads a clock: callers pass `now_us`, so a test or the simulator decides what time
it is.
"""

from collections.abc import Iterator
from typing import Final, NewType, cast

from atoll.core.errors import ConditionInvalidError

Version = NewType("Version", int)

NODE_BITS: Final = 10
NODE_MAX: Final = 2**NODE_BITS - 1
MICROS_MAX: Final = 2**53 - 1
VERSION_MAX: Final = 2**63 - 1
CENTRAL_NODE: Final = 0
NO_VERSION: Final = Version(0)

VERSION_DIGITS_MAX: Final = len(str(VERSION_MAX))


def version_at(micros: int, node: int) -> Version:
    """Pack a reading and a node.

    Args:
        micros: Microseconds since the Unix epoch, 0 to 2^53 - 1.
        node: The node's id, 0 to 1,023.
    """
    assert 0 <= micros <= MICROS_MAX, micros
    assert 0 <= node <= NODE_MAX, node
    return Version(micros << NODE_BITS | node)


def micros_of(version: Version) -> int:
    """Return the clock reading in `version`, in microseconds since the Unix epoch."""
    return version >> NODE_BITS


def node_of(version: Version) -> int:
    """Return the id of the node that took `version`."""
    return version & NODE_MAX


def parse_version(text: str) -> Version:
    """Read a version as an ETag or JSON shows it.

    Raises:
        ConditionInvalidError: `text` is not a decimal number that a version can be.
    """
    if text.isascii() and text.isdecimal() and len(text) <= VERSION_DIGITS_MAX:
        number = int(text)
        if 0 < number <= VERSION_MAX:
            return Version(number)
    raise ConditionInvalidError(given=text)


class HybridClock:
    """Issues versions that only grow, whatever the wall clock does."""

    def __init__(self, *, node: int, floor: Version = NO_VERSION) -> None:
        """Start above `floor`.

        Args:
            node: This node's id, unique in the cluster, 0 to 1,023.
            floor: The last version this node issued or saw before it stopped. Without it, a
                node whose wall clock stepped back across a restart would issue it again.
        """
        assert 0 <= node <= NODE_MAX, node
        self._node = node
        self._micros = micros_of(floor)

    @property
    def last(self) -> Version:
        """A version no smaller than any issued or observed so far."""
        return Version(self._micros << NODE_BITS | NODE_MAX)

    def tick(self, now_us: int) -> Version:
        """Return a version larger than every version issued or observed so far.

        Args:
            now_us: Wall clock, in microseconds since the Unix epoch. It may stand still or
                step back; versions then advance by counting instead.
        """
        return self.tick_many(now_us, 1)[0]

    def tick_many(self, now_us: int, count: int) -> "Versions":
        """Return `count` versions, growing, each larger than all issued or observed so far.

        Args:
            now_us: As in `tick`.
            count: How many, at least 1.
        """
        assert count >= 1, count
        first = max(now_us, self._micros + 1)
        self._micros = first + count - 1
        assert self._micros <= MICROS_MAX, self._micros
        return Versions(first, count, self._node)

    def observe(self, seen: Version) -> None:
        """Make the next `tick` larger than `seen`, a version received from another node."""
        self._micros = max(self._micros, micros_of(seen))


class Versions:
    """A run of versions from one node, one microsecond apart: a bulk needs thousands."""

    __slots__ = ("_range",)

    def __init__(self, first_us: int, count: int, node: int) -> None:
        """Describe `count` versions of `node` from `first_us` on."""
        first = first_us << NODE_BITS | node
        self._range = range(first, first + (count << NODE_BITS), 1 << NODE_BITS)

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Version]:
        # Not through `Version`, which does nothing and is called ten thousand times for a bulk.
        return cast("Iterator[Version]", iter(self._range))

    def __getitem__(self, index: int) -> Version:
        return Version(self._range[index])
