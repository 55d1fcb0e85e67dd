"""What a run found, for people and for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.checking.checks import PROMISES
from atoll.checking.facts import Violation
from atoll.verify.measures import PlaceMeasures, exposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    prefix: str
    namespace: str
    seconds: float
    places: Mapping[str, PlaceMeasures]
    counts: Counter[str]
    violations: Sequence[Violation]
    """The first of them."""
    undelivered: int
    """Writes that were journaled and that central did not have at the end."""
    unsettled: Sequence[str]
    began_anew: int

    @property
    def reads(self) -> int:
        """How many answers were held to the promises."""
        return self.counts["reads"] + self.counts["reads: journaled"]

    @property
    def summary(self) -> str:
        """The last line."""
        return f"{self.reads} reads checked, {self.counts['violations']} violations"

    def document(self) -> dict[str, object]:
        """Return everything, for JSON."""
        return {
            "prefix": self.prefix,
            "namespace": self.namespace,
            "seconds": round(self.seconds, 1),
            "reads": self.reads,
            "violations": self.counts["violations"],
            "violations_shown": [
                {
                    "checker": one.promise,
                    "promise": PROMISES[one.promise],
                    "at_s": round(one.at_s, 3),
                    "what": one.what,
                }
                for one in self.violations
            ],
            "undelivered": self.undelivered,
            "unsettled": list(self.unsettled),
            "began_anew": self.began_anew,
            "places": {
                name: {
                    "counts": dict(sorted(one.counts.items())),
                    **{what: it.document() for what, it in one.distributions.items()},
                }
                for name, one in self.places.items()
            },
            "counts": dict(sorted(self.counts.items())),
        }

    def exposition(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return exposition(
            self.places,
            {
                "reads_checked": self.reads,
                "violations": self.counts["violations"],
                "stores_replaced": self.began_anew,
            },
        )

    def text(self) -> str:
        """Return everything for people."""
        lines: list[str] = []
        for name, one in self.places.items():
            said = ", ".join(f"{count} {what}" for what, count in one.counts.most_common())
            lines.append(f"{name}: {said or 'nothing'}")
            for what, it in one.distributions.items():
                if it.count:
                    lines.append(
                        f"  {what:8} p50 {it.percentile(0.5):.3f} s, p99 {it.percentile(0.99):.3f}"
                        f" s, max {it.largest_s:.3f} s ({it.count})"
                    )
        lines += [f"promise {PROMISES[one.promise]}, {one}" for one in self.violations]
        lines += sorted(set(self.unsettled))
        if self.undelivered:
            lines.append(f"{self.undelivered} journaled writes had not reached central at the end")
        if self.began_anew:
            lines.append("central's store became another meanwhile; what was before did not count")
        lines.append(self.summary)
        return "\n".join(lines)
