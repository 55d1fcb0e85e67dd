"""What only the simulator can check, because only it knows what truly happened: see `Checker`."""

from atoll.checking import checks
from atoll.checking.facts import US_PER_S, Operation, holds, live_versions, say_row, wrote
from atoll.core.errors import ConditionFailedError
from atoll.core.model import Page
from atoll.core.version import CENTRAL_NODE, Version, node_of
from atoll.simulator.history import History


class Checker(checks.Checker):
    """The shared checkers, and those of conditions and of lists."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.history = history

    def condition_held(self, operation: Operation, *, central_us: int, now_s: float) -> None:
        """Was the condition of an acknowledged write true when it was applied."""
        self.counts["writes: condition held"] += 1
        self.coverage.met("conditions")
        rows = self.history.key(operation.namespace, operation.key).rows
        for i, row in enumerate(rows):
            if row.version == operation.version and i > 0:
                before = rows[i - 1]
                live = live_versions(before, from_us=0, to_us=central_us)
                if not any(holds(operation.condition, version) for version in live):
                    self.violated(
                        "conditions",
                        now_s,
                        f"{wrote(operation)} was applied over {say_row(before)}",
                    )

    def condition_failed(
        self,
        operation: Operation,
        error: ConditionFailedError,
        *,
        asked_us: int,
        now_us: int,
        now_s: float,
    ) -> None:
        """Was the condition of a refused write false at some moment while it was asked."""
        self.counts["writes: condition failed"] += 1
        self.coverage.met("conditions")
        history = self.history.key(operation.namespace, operation.key)
        for span in history.spans():
            if span.row.at_s > now_s or span.until_s < operation.asked_s:
                continue
            live = live_versions(span.row, from_us=asked_us, to_us=now_us)
            if any(not holds(operation.condition, version) for version in live):
                return
        self.violated(
            "conditions",
            now_s,
            f"{wrote(operation)} was refused ({error.version_current} is there), but its"
            " condition held all the time",
        )

    def check_page(
        self,
        place: str,
        namespace: str,
        prefix: str,
        page: Page,
        *,
        asked_us: int,
        now_us: int,
        now_s: float,
    ) -> None:
        """Is a list that was read in one page what central held at its position."""
        self.counts["lists"] += 1
        self.coverage.met("lists")
        if not self.history.knows(page.position.incarnation):
            return
        listed = {item.key: item.version for item in page.items}
        places = (place, *self.places[place].above)
        for at_namespace, key in sorted(self.history.keys()):
            if at_namespace != namespace or not key.startswith(prefix):
                continue
            history = self.history.key(namespace, key, page.position.incarnation)
            row = history.at(page.position.sequence).row
            got = listed.get(key)
            allowed = live_versions(row, from_us=asked_us - US_PER_S, to_us=now_us)
            if got in allowed or self._may_be_journaled(places, (namespace, key), got):
                continue
            self.violated(
                "truth", now_s, f"{place} lists {key} as {got}, but there it was {say_row(row)}"
            )

    def _may_be_journaled(
        self, places: tuple[str, ...], at: tuple[str, str], version: int | None
    ) -> bool:
        """Whether a journal on the way to central may hold such a write, or such a deletion."""
        if version is not None and node_of(Version(version)) == CENTRAL_NODE:
            return False
        return any(
            operation.place in places
            and operation.condition is None
            and operation.position is None
            and (version is None or operation.version in {None, version})
            and (version is not None or operation.value is None or operation.expiration is not None)
            for operation in self.wanted_at.get(at, ())
        )
