"""What a world of many locations showed, drawn as SVG: one file for each picture.

A picture follows the reader's light or dark scheme, and says which command drew it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from atoll.core.airports import SITES, Site
from atoll.simulator.globe import PERCENTILE, TARGET_ALIVE_S, TARGET_CUT_S, Asked, Seen, at_part
from atoll.simulator.plan import CENTRAL

WIDTH: Final = 840
HEIGHT: Final = 400
MS_PER_S: Final = 1000.0
BIN_S: Final = 5.0
"""Width of the stretches that are counted together over time."""
STEPS_PER_DECADE: Final = 10
POINTS_MAX: Final = 240
"""A curve has no more corners than this."""
RAMP: Final = ("fast", "quick", "middling", "slow")
"""Classes of colour on the map, and the upper ends of all but the last, in seconds."""
RAMP_S: Final = (0.05, 0.1, 0.2)

STYLE: Final = """
:root { --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --grid: #d8dee4; --one: #0969da;
  --two: #bc4c00; --shade: #ffebe9; --fast: #1a7f37; --quick: #0969da; --middling: #8250df;
  --slow: #bc4c00; --land: #d0d7de }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1;
  --grid: #2a313c; --one: #58a6ff; --two: #f0883e; --shade: #2d1618; --fast: #3fb950;
  --quick: #58a6ff; --middling: #bc8cff; --slow: #f0883e; --land: #30363d } }
svg { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
text { fill: var(--ink) } .soft { fill: var(--soft) } .small { font-size: 11px }
.title { font-size: 17px; font-weight: 600 } .head { font-weight: 600 }
.paper { fill: var(--paper) } .grid { stroke: var(--grid) } .axis { stroke: var(--soft) }
.curve { fill: none; stroke-width: 2.25 }
.one { stroke: var(--one) } .two { stroke: var(--two) } .bar-one { fill: var(--one) }
.bar-two { fill: var(--two) } .shade { fill: var(--shade) } .limit { stroke: var(--two);
  stroke-dasharray: 5 4 } .land { fill: var(--land) } .fast { fill: var(--fast) }
.quick { fill: var(--quick) } .middling { fill: var(--middling) } .slow { fill: var(--slow) }
.ring { fill: none; stroke: var(--ink); stroke-width: 1.75 } .dashed { stroke-dasharray: 6 4 }
"""


@dataclass(slots=True)
class Sheet:
    """One picture in the making."""

    title: str
    caption: str
    command: str
    parts: list[str] = field(default_factory=list[str])

    def add(self, part: str) -> None:
        """Add an element."""
        self.parts.append(part)

    def text(self, x: float, y: float, words: str, look: str = "", anchor: str = "start") -> None:
        """Write something."""
        self.add(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{look}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def line(self, a: tuple[float, float], b: tuple[float, float], look: str) -> None:
        """Draw a straight line."""
        self.add(
            f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
            f' class="{look}"/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], look: str) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(f'<polyline points="{path}" class="curve {look}"/>')

    def bar(self, x: float, y: float, width: float, height: float, look: str) -> None:
        """Draw a filled box."""
        self.add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' class="{look}"/>'
        )

    def dot(self, x: float, y: float, radius: float, look: str, tip: str = "") -> None:
        """Draw a dot, with what is told to who points at it."""
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{look}">{inside}</circle>')

    def svg(self) -> str:
        """Return the whole."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
            f"<title>{escape(self.title)}</title><desc>{escape(self.caption)}</desc>"
            f"<style>{STYLE}</style>"
        )
        frame = Sheet("", "", "")
        frame.bar(0, 0, WIDTH, HEIGHT, "paper")
        frame.text(24, 34, self.title, "title")
        frame.text(24, 54, self.caption, "soft")
        frame.text(WIDTH - 24, HEIGHT - 10, self.command, "soft small", "end")
        return "\n".join((head, *frame.parts, *self.parts, "</svg>\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A scale from values to places on the sheet."""

    label: str
    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]
    say: Callable[[float], str] = "{:g}".format
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies."""
        value = min(self.high, max(self.low, value))
        part = (value - self.low) / (self.high - self.low)
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + part * (self.end - self.begin)


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _frame(sheet: Sheet, x: Axis, y: Axis, head: str) -> None:
    """Draw a panel's grid, ticks and labels."""
    sheet.text(x.begin, y.end - 12, head, "head")
    for tick in y.ticks:
        sheet.line((x.begin, y.at(tick)), (x.end, y.at(tick)), "grid")
        sheet.text(x.begin - 6, y.at(tick) + 4, y.say(tick), "soft small", "end")
    for tick in x.ticks:
        sheet.line((x.at(tick), y.begin), (x.at(tick), y.begin + 4), "axis")
        sheet.text(x.at(tick), y.begin + 17, x.say(tick), "soft small", "middle")
    sheet.line((x.begin, y.begin), (x.end, y.begin), "axis")
    sheet.text((x.begin + x.end) / 2, y.begin + 34, x.label, "soft", "middle")
    middle = (y.begin + y.end) / 2
    sheet.add(
        f'<text class="soft" text-anchor="middle" transform="translate({x.begin - 40:.1f}'
        f' {middle:.1f}) rotate(-90)">{escape(y.label)}</text>'
    )


def _climb(sheet: Sheet, x: Axis, y: Axis, values: Sequence[float], look: str) -> None:
    """Draw which part of `values`, in order, lies below each."""
    step = max(1, len(values) // POINTS_MAX)
    steps = [*range(0, len(values), step), len(values) - 1]
    corners = [(x.at(values[at]), y.at((at + 1) / len(values))) for at in steps]
    sheet.curve([(x.at(x.low), y.at(0.0)), *corners], look)


def _mark(
    sheet: Sheet, end: float, y: Axis, values: list[float], say: Callable[[float], str]
) -> None:
    """Write the median, the 99th percentile and the most, up to the place `end`."""
    for row, (name, value) in enumerate(
        (
            ("median", at_part(values, 0.5)),
            ("99th percentile", at_part(values, PERCENTILE)),
            ("most", values[-1]),
        )
    ):
        sheet.text(end, y.at(0.1) - 36 + 18 * row, f"{name} {say(value)}", "", "end")


def propagation(seen: Seen, command: str) -> Sheet:
    """Draw how soon changes are seen, with the feed and without."""
    places = len(seen.sites)
    sheet = Sheet(
        "A change spreads",
        f"Part of {places} places that show a change, by the time since central accepted it",
        command,
    )
    y = Axis(
        label="part of places",
        low=0,
        high=1,
        begin=336,
        end=100,
        ticks=(0, 0.25, 0.5, 0.75, 1),
        say=_percent,
    )
    alive_s, cut_s = seen.alive_s(), seen.cut_s()
    left = Axis(
        label="milliseconds",
        low=0,
        high=TARGET_ALIVE_S * MS_PER_S,
        begin=76,
        end=410,
        ticks=(0, 200, 400, 600, 800, 1000),
    )
    right = Axis(
        label="seconds",
        low=0,
        high=70,
        begin=486,
        end=816,
        ticks=(0, 10, 20, 30, 40, 50, 60, 70),
    )
    _frame(sheet, left, y, "feed alive")
    alive_ms = [seconds * MS_PER_S for seconds in alive_s]
    _climb(sheet, left, y, alive_ms, "one")
    _mark(sheet, left.end - 8, y, alive_ms, lambda ms: f"{ms:.0f} ms")
    _frame(sheet, right, y, "every feed cut, questions get through")
    _climb(sheet, right, y, cut_s, "one")
    _mark(sheet, right.at(TARGET_CUT_S) - 8, y, cut_s, lambda s: f"{s:.1f} s")
    at = right.at(TARGET_CUT_S)
    sheet.line((at, y.begin), (at, y.end), "limit")
    sheet.text(at - 6, y.end + 12, "bound", "soft small", "end")
    return sheet


def latency(seen: Seen, command: str) -> Sheet:
    """Draw how long reads take: what is held, and what has to be asked."""
    hits = sorted(asked.took_s * MS_PER_S for asked in seen.reads if asked.hit)
    asked = sorted(asked.took_s * MS_PER_S for asked in seen.reads if not asked.hit)
    sheet = Sheet(
        "How long a read takes",
        f"{len(seen.reads):,} reads by clients beside {len(seen.sites)} places, with the feed"
        " alive, cut and healed",
        command,
    )
    x = Axis(
        label="milliseconds, as the client sees them",
        low=0.4,
        high=1000,
        begin=76,
        end=816,
        ticks=(0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        is_log=True,
    )
    counts = [_binned(values, x) for values in (hits, asked)]
    most = max(max(one) for one in counts) / len(seen.reads)
    top = math.ceil(most * 10) / 10
    y = Axis(
        label="part of reads",
        low=0,
        high=top,
        begin=336,
        end=100,
        ticks=tuple(top * n / 5 for n in range(6)),
        say=_percent,
    )
    _frame(sheet, x, y, "")
    width = (x.end - x.begin) / len(counts[0])
    for at, (hit, miss) in enumerate(zip(*counts, strict=True)):
        below = 0.0
        for count, look in ((hit, "bar-one"), (miss, "bar-two")):
            height = y.begin - y.at(count / len(seen.reads))
            if count:
                # What is rare is still to be seen.
                height = max(1.5, height)
                sheet.bar(x.begin + at * width, y.begin - below - height, width - 1, height, look)
            below += height
    for row, (look, words) in enumerate(
        (
            ("bar-one", f"held here: {_share(hits, seen)}, median {at_part(hits, 0.5):.1f} ms"),
            ("bar-two", f"asked: {_share(asked, seen)}, median {at_part(asked, 0.5):.0f} ms"),
        )
    ):
        sheet.bar(540, 108 + 20 * row, 11, 11, look)
        sheet.text(558, 118 + 20 * row, words)
    return sheet


def _share(part: Sequence[float], seen: Seen) -> str:
    return f"{len(part) / len(seen.reads):.1%}"


def _binned(values: Iterable[float], x: Axis) -> list[int]:
    """Count values in equal steps of a logarithmic axis."""
    bins = round(math.log10(x.high / x.low) * STEPS_PER_DECADE)
    counts = [0] * bins
    for value in values:
        part = (x.at(value) - x.begin) / (x.end - x.begin)
        counts[min(bins - 1, int(part * bins))] += 1
    return counts


def over_time(seen: Seen, command: str) -> Sheet:
    """Draw the hit rate and the age of answers as time goes by."""
    sheet = Sheet(
        "With every feed cut, then healed",
        "Reads answered from what is held, and how old answers are, in stretches of five seconds",
        command,
    )
    bins: dict[int, list[Asked]] = {}
    for asked in seen.reads:
        bins.setdefault(int(asked.at_s // BIN_S), []).append(asked)
    last_s = (max(bins) + 1) * BIN_S
    x = Axis(
        label="seconds",
        low=0,
        high=last_s,
        begin=76,
        end=816,
        ticks=tuple(float(s) for s in range(0, int(last_s) + 1, 30)),
    )
    upper = Axis(label="hits", low=0, high=1, begin=190, end=100, ticks=(0, 0.5, 1), say=_percent)
    lower = Axis(label="age, s", low=0, high=66, begin=340, end=236, ticks=(0, 15, 30, 45, 60))
    for y in (upper, lower):
        cut = x.at(seen.cut_from_s), x.at(seen.cut_until_s)
        sheet.bar(cut[0], y.end, cut[1] - cut[0], y.begin - y.end, "shade")
    _frame(sheet, _blank(x), upper, "answered from what is held")
    _frame(sheet, x, lower, "age of answers: median, and 99th percentile (dashed)")
    sheet.text(x.at(seen.cut_from_s) + 6, upper.begin - 8, "every feed cut", "soft")
    rows = sorted(bins.items())
    centres = [x.at((number + 0.5) * BIN_S) for number, _ in rows]
    hits = [sum(one.hit for one in asked) / len(asked) for _, asked in rows]
    sheet.curve([(at, upper.at(part)) for at, part in zip(centres, hits, strict=True)], "one")
    for part, look in ((0.5, "one"), (PERCENTILE, "two dashed")):
        ages_s = [at_part(sorted(one.age_s for one in asked), part) for _, asked in rows]
        sheet.curve([(at, lower.at(age)) for at, age in zip(centres, ages_s, strict=True)], look)
    sheet.line((x.begin, lower.at(TARGET_CUT_S)), (x.end, lower.at(TARGET_CUT_S)), "limit")
    sheet.text(x.begin + 6, lower.at(TARGET_CUT_S) - 4, "bound", "soft small")
    return sheet


def _blank(x: Axis) -> Axis:
    """Return the same scale without what is written under it."""
    return Axis(label="", low=x.low, high=x.high, begin=x.begin, end=x.end, ticks=())


def world(seen: Seen, command: str) -> Sheet:
    """Draw where one write was seen when: the one that took as long as most."""
    spread = sorted(seen.alive, key=lambda one: max(one.seen_s.values()))[len(seen.alive) // 2]
    last_s = max(spread.seen_s.values())
    sheet = Sheet(
        "One write, seen all over the world",
        f"Written at {spread.origin} with central at {seen.sites[CENTRAL].code}; seen at all"
        f" {len(seen.sites)} places after {last_s * MS_PER_S:.0f} ms",
        command,
    )
    for site in SITES.values():
        sheet.dot(*_on_map(site), 1.5, "land")
    for name, after_s in sorted(spread.seen_s.items(), key=lambda pair: -pair[1]):
        look = RAMP[sum(after_s >= bound for bound in RAMP_S)]
        tip = f"{seen.sites[name].code}: {after_s * MS_PER_S:.0f} ms"
        sheet.dot(*_on_map(seen.sites[name]), 3.6, look, tip)
    for name, look in ((CENTRAL, "ring"), (spread.origin, "ring dashed")):
        sheet.dot(*_on_map(seen.sites[name]), 8, look)
    counts = [0] * len(RAMP)
    for after_s in spread.seen_s.values():
        counts[sum(after_s >= bound for bound in RAMP_S)] += 1
    words = (
        *(f"under {bound * MS_PER_S:.0f} ms" for bound in RAMP_S),
        f"{RAMP_S[-1] * MS_PER_S:.0f} ms or more",
    )
    for row, (look, text, count) in enumerate(zip(RAMP, words, counts, strict=True)):
        sheet.dot(32, 298 + 19 * row, 5, look)
        sheet.text(46, 302 + 19 * row, f"{text}: {count} places")
    for at, (look, text) in enumerate((("ring", "central"), ("ring dashed", "writer"))):
        sheet.dot(32 + 84 * at, 376, 6, look)
        sheet.text(46 + 84 * at, 380, text)
    return sheet


def _on_map(site: Site) -> tuple[float, float]:
    """Return where a site lies on the sheet: degrees are squares."""
    return 190 + (site.longitude + 180) * 1.76, 70 + (76 - site.latitude) * 2.15


def draw_all(seen: Seen, folder: Path, *, command: str, with_world: bool) -> list[Path]:
    """Draw every picture into a folder, which is made if need be.

    Args:
        seen: What happened.
        folder: Where they go.
        command: What was asked for, which each picture states.
        with_world: Whether to draw the map as well.
    """
    sheets = {
        "propagation": propagation(seen, command),
        "latency": latency(seen, command),
        "over-time": over_time(seen, command),
    }
    if with_world:
        sheets["world"] = world(seen, command)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, sheet in sheets.items():
        path = folder / f"{name}.svg"
        path.write_text(sheet.svg())
        paths.append(path)
    return paths
