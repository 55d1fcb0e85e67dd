"""What was measured, as JSON for programs, and Markdown and a picture for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

from bench import plot

RESULTS: Final = Path(__file__).parent / "results"
MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One number that has to be reached, or is aimed at."""

    what: str
    measured: float
    low: float | None = None
    high: float | None = None
    aim: bool = False
    """Missing an aim is said, and is no failure."""

    @property
    def met(self) -> bool:
        """Whether the number lies within its bounds."""
        above = self.low is None or self.measured >= self.low
        return above and (self.high is None or self.measured <= self.high)

    @property
    def bounds(self) -> str:
        """The bounds as one reads them."""
        parts = [
            f"at least {self.low:g}" if self.low is not None else "",
            f"at most {self.high:g}" if self.high is not None else "",
        ]
        return ("aim: " if self.aim else "") + ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of numbers under headings."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A median with its spread."""

    label: str
    value: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, label: str, values: Sequence[float]) -> Self:
        """Make one of what was measured in each round."""
        return cls(label=label, value=median(values), smallest=min(values), largest=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars of one unit, to be drawn."""

    title: str
    unit: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part of the bench found."""

    name: str
    title: str
    how: str
    """Two or three sentences that let a reader judge the numbers."""
    targets: Sequence[Target]
    tables: Sequence[Table]
    charts: Sequence[Chart] = ()
    rounds: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Every single measurement, for whoever wants to compute something else."""


def spread(values: Sequence[float]) -> str:
    """Return the smallest and the largest, as text behind a median."""
    return f"{short(min(values))} to {short(max(values))}"


def shown(values: Sequence[float]) -> str:
    """Return the median, and the spread if there was more than one round."""
    middle = short(median(values))
    return middle if len(values) == 1 else f"{middle} ({spread(values)})"


def mebibytes(size_bytes: float) -> str:
    """Return a size as people read it."""
    return f"{size_bytes / MIB:.0f} MiB"


def short(value: float) -> str:
    """Return a number with the digits that matter."""
    if abs(value) >= 100:  # noqa: PLR2004  # three digits say enough
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_json(part: Part) -> dict[str, Any]:
    """Return a part as JSON holds it."""
    targets = [{**asdict(target), "met": target.met} for target in part.targets]
    return {**asdict(part), "targets": targets}


def save(path: Path, machine: Mapping[str, str], part: Part) -> list[Path]:
    """Write all forms; other parts that are there already are kept.

    Args:
        path: Without suffix.
        machine: Where and on what it was measured.
        part: What was measured.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_suffix(".json")
    kept: dict[str, Any] = json.loads(file.read_text())["parts"] if file.exists() else {}
    together = kept | {part.name: {**as_json(part), "machine": dict(machine)}}
    file.write_text(json.dumps({"parts": together}, indent=1) + "\n")
    text = path.with_suffix(".md")
    picture = path.with_suffix(".svg")
    drawn = plot.svg([chart for each in together.values() for chart in each.get("charts", ())])
    picture.write_text(drawn)
    text.write_text(markdown(together, picture=picture.name))
    return [file, text, picture]


def markdown(parts: Mapping[str, Mapping[str, Any]], *, picture: str | None = None) -> str:
    """Lay out parts, as JSON holds them, for reading.

    Args:
        parts: By name.
        picture: The name of a file with the charts.
    """
    lines = [
        "# What the bench measured",
        "",
        "| target | measured | bound | |",
        "|---|---|---|---|",
    ]
    for part in parts.values():
        for given in part["targets"]:
            target = Target(**{name: given[name] for name in given if name != "met"})
            verdict = "met" if target.met else "not met"
            lines.append(
                f"| {target.what} | {short(target.measured)} | {target.bounds} | {verdict} |"
            )
    if picture is not None and any(part.get("charts") for part in parts.values()):
        lines += ["", f"![Medians, with the smallest and the largest of the rounds]({picture})"]
    for part in parts.values():
        lines += ["", f"## {part['title']}", "", part["how"]]
        for table in part["tables"]:
            lines += ["", f"**{table['title']}**", "", _row(table["headings"])]
            lines += ["|" + "---|" * len(table["headings"]), *map(_row, table["rows"])]
        lines += ["", *(f"- {name}: {said}" for name, said in part["machine"].items())]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
