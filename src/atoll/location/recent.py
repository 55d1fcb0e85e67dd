"""The changes that the feed told of lately, so that what was read before them is known as old."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

from atoll.core.model import Entry


class RecentChanges:
    """The latest change of each key that changed lately, bounded in number.

    Values are not kept. `floor` says how far back it reaches: of changes up to there it may have
    forgotten some.
    """

    def __init__(self, count_max: int) -> None:
        """Remember `count_max` keys at most."""
        self._count_max = count_max
        self._latest: OrderedDict[tuple[str, str], tuple[int, Entry]] = OrderedDict()
        self.floor = 0

    def start_over(self, floor: int) -> None:
        """Forget everything: nothing is known of changes up to `floor`."""
        self._latest.clear()
        self.floor = floor

    def note(self, namespace: str, entry: Entry, *, sequence: int) -> None:
        """Remember a change, and let go of the oldest."""
        self._latest.pop((namespace, entry.key), None)
        self._latest[namespace, entry.key] = (sequence, marked(entry, sequence))
        if len(self._latest) > self._count_max:
            _, (dropped, _) = self._latest.popitem(last=False)
            self.floor = dropped

    def changed_after(self, namespace: str, key: str, sequence: int) -> bool:
        """Whether a change of the key behind `sequence` is remembered."""
        latest = self._latest.get((namespace, key))
        return latest is not None and latest[0] > sequence

    def after(self, sequence: int) -> Iterator[tuple[str, Entry]]:
        """Yield what changed behind `sequence`, in the order of the log, without values."""
        for (namespace, _), (at, entry) in self._latest.items():
            if at > sequence:
                yield namespace, entry


def marked(entry: Entry, sequence: int) -> Entry:
    """Return an entry without its value; that it is a deletion stays to be seen."""
    return replace(entry, value=None if entry.value is None else b"", sequence=sequence)
