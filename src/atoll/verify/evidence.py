"""What somebody who only writes and reads can know of what central committed.

The version of a key grows along the log, so each answer bounds it at every other position: not
less at any later one, not more at any earlier. Each answer to a write, and each that was read,
also says that its version was there when it came. An answer that no history within these bounds
explains is a violation; whatever some history explains is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from atoll.checking.facts import MISSING, NEVER_S, NO_SEQUENCE, Operation, Row, Span, say_row
from atoll.core.model import CENTRAL_NAME, JournalToken, Reading, Written

LATEST: Final = 2**63 - 1
"""Above every version."""

NAME_MARK: Final = "~"
"""What stands between a location's name and what tells its journals apart."""

SOMEWHERE: Final = "?"
"""The owner of a journal whose location was not met yet."""


@dataclass(slots=True)
class _Known:
    """What is known of one version of a key."""

    row: Row
    at_s: float = NEVER_S
    """It was there at this time, or before."""
    from_sequence: int = NO_SEQUENCE
    """It, or a later one, is what the key is here and behind."""
    to_sequence: int = -1
    """It is what the key was here, so a later one was nowhere before."""


@dataclass(slots=True)
class _Key:
    """All of one key."""

    versions: dict[int, _Known] = field(default_factory=dict[int, _Known])
    unresolved: list[Operation] = field(default_factory=list[Operation])
    """Writes of which nobody has seen what version central gave them, if any."""
    by_value: dict[bytes, Operation] = field(default_factory=dict[bytes, Operation])
    end: Row = MISSING
    """What central had when nobody wrote any more."""

    def bounds(self, sequence: int) -> tuple[int, int]:
        """Return the least and the largest version that it can have had at a position."""
        low, high = 0, LATEST
        for version, known in self.versions.items():
            if known.from_sequence <= sequence:
                low = max(low, version)
            if known.to_sequence >= sequence:
                high = min(high, version)
        return low, high

    def span(self, row: Row) -> Span:
        """Return a row and when at the latest it was overwritten."""
        until_s = min(
            (known.at_s for version, known in self.versions.items() if version > row.version),
            default=NEVER_S,
        )
        return Span(row=row, until_s=until_s, until_sequence=NO_SEQUENCE)

    def absences(self, low: int, high: int) -> Iterable[Row]:
        """Yield the rows between two versions over which a reader finds nothing."""
        for known in self.versions.values():
            row = known.row
            if low <= row.version <= high and _may_be_absent(row.value, row.expiration):
                yield row
        for operation in self.unresolved:
            if not _may_be_absent(operation.value, operation.expiration):
                continue
            least = max(low + 1, _least(operation))
            if least <= high:
                most = high if operation.version is None else max(least, operation.version)
                yield _row(operation, least)
                yield _row(operation, min(high, most))

    def learn(
        self, row: Row, *, at_s: float, sequence: int, exactly: bool, operation: Operation | None
    ) -> None:
        """Take in that a version was there."""
        known = self.versions.setdefault(row.version, _Known(row=row))
        known.at_s = min(known.at_s, at_s)
        known.from_sequence = min(known.from_sequence, sequence)
        if exactly:
            known.to_sequence = max(known.to_sequence, sequence)
        if operation in self.unresolved:
            self.unresolved.remove(operation)


def _may_be_absent(value: bytes | None, expiration: int | None) -> bool:
    return value is None or expiration is not None


def _least(operation: Operation) -> int:
    """Return a version that a write is not given less than."""
    if operation.version is None:
        # A location that has not answered may have journaled it, by a clock that lags behind.
        return operation.floor + 1 if operation.place == CENTRAL_NAME else 1
    return min(operation.version, operation.floor + 1)


def _row(operation: Operation, version: int) -> Row:
    return Row(
        at_s=NEVER_S,
        sequence=0,
        version=version,
        value=operation.value,
        expiration=operation.expiration,
        stamped=False,
        identity=None,
    )


class Evidence:
    """See `Truth` and the module."""

    is_told = False

    def __init__(self, incarnation: int) -> None:
        """Know nothing yet.

        Args:
            incarnation: Central's.
        """
        self.incarnation = incarnation
        self.names: dict[str, str] = {}
        """What locations call themselves, and what they were introduced as."""
        self._keys: dict[tuple[str, str], _Key] = {}
        self._tokens: dict[JournalToken, Operation] = {}

    def _key(self, namespace: str, key: str) -> _Key:
        found = self._keys.get((namespace, key))
        if found is None:
            found = self._keys[namespace, key] = _Key()
            found.versions[0] = _Known(row=MISSING, at_s=0.0, from_sequence=0)
        return found

    def forget(self, namespace: str, key: str) -> None:
        """Let go of a key that nobody asks for any more."""
        self._keys.pop((namespace, key), None)
        gone = [token for token, one in self._tokens.items() if one.key == key]
        for token in gone:
            del self._tokens[token]

    # Learning.

    def wanted(self, operation: Operation) -> None:
        """Take in that a write was sent."""
        key = self._key(operation.namespace, operation.key)
        key.unresolved.append(operation)
        if operation.value is not None:
            key.by_value[operation.value] = operation

    def refused(self, operation: Operation) -> None:
        """Take in that a write was refused for good: nobody applies it."""
        key = self._key(operation.namespace, operation.key)
        if operation in key.unresolved:
            key.unresolved.remove(operation)

    def accepted(self, operation: Operation, written: Written, *, now_s: float) -> None:
        """Take in the answer to a write."""
        if written.token is not None:
            self._tokens[written.token] = operation
            return
        version = int(written.outcomes[0].version)
        self._key(operation.namespace, operation.key).learn(
            _row(operation, version),
            at_s=now_s,
            sequence=written.position.sequence,
            exactly=False,
            operation=operation,
        )

    def read(self, namespace: str, key: str, reading: Reading, *, now_s: float) -> None:
        """Take in an answer to a read that can be true."""
        if reading.journaled:
            return
        spans = self.shown(namespace, key, reading)
        known = self._key(namespace, key)
        if len(spans) != 1:
            return
        row = spans[0].row
        operation = None
        if reading.entry is not None and row.value is not None:
            operation = known.by_value.get(row.value)
        elif row.version not in known.versions:
            return  # What version a deletion was given is a guess.
        sequence = reading.position.sequence
        known.learn(row, at_s=now_s, sequence=sequence, exactly=True, operation=operation)

    def ended(self, namespace: str, key: str, reading: Reading) -> None:
        """Take in what central has now that nobody writes any more."""
        known = self._key(namespace, key)
        entry = reading.entry
        known.end = MISSING
        if entry is not None:
            assert isinstance(entry.value, bytes)
            known.end = _row(known.by_value[entry.value], int(entry.version))

    # What checkers ask.

    def knows(self, incarnation: int) -> bool:
        """See `Truth`."""
        return incarnation == self.incarnation

    def shown(self, namespace: str, key: str, reading: Reading) -> Sequence[Span]:
        """See `Truth`."""
        known = self._key(namespace, key)
        low, high = known.bounds(reading.position.sequence)
        entry = reading.entry
        if entry is None:
            rows = sorted(known.absences(low, high), key=lambda row: row.version)
            return [known.span(row) for row in rows]
        assert isinstance(entry.value, bytes)
        operation = known.by_value.get(entry.value)
        version = int(entry.version)
        if operation is None or operation.expiration != entry.expiration:
            return ()
        held = known.versions.get(version)
        if held is not None and held.row.value != entry.value:
            return ()
        direct = operation.version is not None and operation.token is None
        if (direct and operation.version != version) or not low <= version <= high:
            return ()
        if operation.version is not None and version > operation.version:
            # A journaled write keeps its version, or has the earlier one of its first copy.
            return ()
        return (known.span(_row(operation, version)),)

    def explained(self, namespace: str, key: str, reading: Reading) -> str:
        """See `Truth`."""
        known = self._key(namespace, key)
        low, high = known.bounds(reading.position.sequence)
        below, above = (known.versions.get(version) for version in (low, high))
        said = "" if below is None else f"at that position or before there was {say_row(below.row)}"
        if above is not None:
            said += f", and there or later still {say_row(above.row)}"
        return said

    def newest(self, namespace: str, key: str) -> int:
        """See `Truth`."""
        return max(self._key(namespace, key).versions)

    def latest(self, namespace: str, key: str) -> Row:
        """See `Truth`."""
        return self._key(namespace, key).end

    def row_of(self, operation: Operation) -> Row | None:
        """See `Truth`. Whether it is there is for those to say who read it."""
        assert operation.version is not None
        return self._key(operation.namespace, operation.key).versions[operation.version].row

    def became(self, token: JournalToken, key: str) -> int | None:  # noqa: ARG002 - see `Truth`
        """See `Truth`: at least later than what was there when it was sent."""
        operation = self._tokens.get(token)
        return None if operation is None else _least(operation)

    def taken_back(self, token: JournalToken, incarnation: int) -> bool:
        """See `Truth`."""
        return token not in self._tokens or incarnation != self.incarnation

    def owner(self, token: JournalToken) -> str:
        """See `Truth`."""
        name = token.location.rpartition(NAME_MARK)[0] or token.location
        return self.names.get(name, SOMEWHERE)

    def say(self, now_s: float, what: str) -> None:
        """See `Truth`. Nobody reads along."""
