"""Bars as SVG, written by hand: a picture of this kind takes no library."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

WIDTH: Final = 860
LABELS_WIDTH: Final = 230
NUMBERS_WIDTH: Final = 130
ROW: Final = 22
BAR: Final = 14
TITLE: Final = 34
MARGIN: Final = 12
OURS: Final = "atoll"
OURS_COLOUR: Final = "#0b7285"
THEIRS_COLOUR: Final = "#adb5bd"
TEXT_COLOUR: Final = "#212529"
SPREAD_COLOUR: Final = "#495057"


def svg(charts: Sequence[Mapping[str, Any]]) -> str:
    """Draw charts, as JSON holds them, one below the other; each has a scale of its own."""
    drawn: list[str] = []
    top = MARGIN
    for chart in charts:
        drawn += _chart(chart, top)
        top += TITLE + ROW * len(chart["bars"]) + MARGIN
    style = f'font-family="sans-serif" font-size="12" fill="{TEXT_COLOUR}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" {style}>'
    background = f'<rect width="{WIDTH}" height="{top}" fill="white"/>'
    return "\n".join((opening, background, *drawn, "</svg>", ""))


def _chart(chart: Mapping[str, Any], top: int) -> list[str]:
    heading = escape(f"{chart['title']}: {chart['unit']}")
    drawn = [f'<text x="{MARGIN}" y="{top + 16}" font-weight="bold">{heading}</text>']
    largest = max((bar["largest"] for bar in chart["bars"]), default=0) or 1
    scale = (WIDTH - LABELS_WIDTH - NUMBERS_WIDTH) / largest
    for number, bar in enumerate(chart["bars"]):
        drawn += _bar(bar, top + TITLE + ROW * number, scale)
    return drawn


def _bar(bar: Mapping[str, Any], y: int, scale: float) -> list[str]:
    colour = OURS_COLOUR if bar["label"].startswith(OURS) else THEIRS_COLOUR
    base = y + BAR - 3
    low, high, length = (
        LABELS_WIDTH + bar["smallest"] * scale,
        LABELS_WIDTH + bar["largest"] * scale,
        bar["value"] * scale,
    )
    value = f"{bar['value']:,.0f}" if bar["value"] >= 100 else f"{bar['value']:.3g}"  # noqa: PLR2004
    anchor = f'x="{LABELS_WIDTH - 8}" y="{base}" text-anchor="end"'
    return [
        f"<text {anchor}>{escape(bar['label'])}</text>",
        f'<rect x="{LABELS_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {y + BAR / 2}H{high:.1f}" stroke="{SPREAD_COLOUR}"/>',
        f'<text x="{high + 8:.1f}" y="{base}">{value}</text>',
    ]
