"""What is checked when a run is over: the order of writes at central, and every journal."""

from atoll.checking.facts import Operation, say_row, wrote
from atoll.core.model import SYSTEM_NAMESPACE
from atoll.core.version import Version, micros_of
from atoll.simulator.checks import Checker
from atoll.simulator.clock import US_PER_S, WALL_START_US


def check_history(checker: Checker, *, now_s: float) -> None:
    """Hold what central applied to the promises about the order of writes."""
    for text in checker.history.applied_twice:
        checker.violated("durability", now_s, f"{text} was applied twice")
    for text in checker.history.out_of_order:
        checker.violated("last write wins", now_s, text)
    # By its version if the journal's copy was applied, by its value if the first one was.
    accepted: dict[tuple[str, str, int | bytes | None], float | None] = {}
    for operation in checker.journaled:
        at = (operation.namespace, operation.key)
        accepted[*at, operation.version] = operation.answered_s
        if operation.value is not None:
            accepted[*at, operation.value] = operation.answered_s
    for namespace, key in sorted(checker.history.keys()):
        _check_rows(checker, namespace, key, accepted, now_s)
    for operation in checker.journaled:
        _check_journaled(checker, operation, now_s)


def _check_rows(
    checker: Checker,
    namespace: str,
    key: str,
    accepted: dict[tuple[str, str, int | bytes | None], float | None],
    now_s: float,
) -> None:
    rows = checker.history.key(namespace, key).rows
    values: set[bytes] = set()
    direct_s = 0.0
    for row in rows[1:]:
        twice = row.value is not None and row.value in values
        if twice and namespace != SYSTEM_NAMESPACE:
            checker.violated("durability", now_s, f"{key}: {say_row(row)} was applied twice")
        values.add(row.value or b"")
        accepted_s = accepted.get((namespace, key, row.version if row.stamped else row.value))
        if accepted_s is not None and accepted_s < direct_s:
            checker.violated(
                "last write wins",
                now_s,
                f"{key}: {say_row(row)}, journaled at {accepted_s:.3f}, won over what central"
                f" accepted at {direct_s:.3f}",
            )
        if not row.stamped:
            # Accepted between stamp and commit, which lie apart where central stood still.
            stamped_s = (micros_of(Version(row.version)) - WALL_START_US) / US_PER_S
            direct_s = min(row.at_s, stamped_s)


def _check_journaled(checker: Checker, operation: Operation, now_s: float) -> None:
    """After the healing every journaled write was applied, or lost to a later one."""
    rows = checker.history.key(operation.namespace, operation.key).rows
    assert operation.version is not None
    assert operation.token is not None
    incarnation = checker.history.delivered_in.get(operation.token)
    if incarnation is not None and incarnation < checker.history.incarnation:
        return  # It was delivered to what a restored backup has taken back.
    there = any(row.version >= operation.version or row.value == operation.value for row in rows)
    if incarnation is None or not there:
        checker.violated(
            "durability", now_s, f"{wrote(operation)} was journaled and never delivered"
        )
