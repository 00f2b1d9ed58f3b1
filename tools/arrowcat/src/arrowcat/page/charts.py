"""Where the bars of a histogram are, for the page; the template draws them.

Coordinates are in SVG's user units; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arrowcat.figures.distributions import Bin

WIDTH, HEIGHT = 340, 150
TOP, BOTTOM = 16, 22  # margins
WIDEST_SLOT = 60
GAP = 0.12  # share of a bar's slot that stays blank
LEAST_HEIGHT = 1.5  # of a bar that counts something


class HistogramBar(NamedTuple):
    """One bar: its left edge, its top, its height and what it says when it is pointed at."""

    x: float
    y: float
    height: float
    title: str


@dataclass(frozen=True, kw_only=True)
class HistogramChart:
    """A chart of bars with a caption; below it the ends of the range, above it the largest count.

    description: the same for those who do not see it.
    """

    caption: str
    note: str
    description: str
    bars: Sequence[HistogramBar]
    bar_width: float
    first_label: str
    last_label: str
    largest: str
    width: int = WIDTH
    height: int = HEIGHT
    floor: int = HEIGHT - BOTTOM


def draw_histogram(caption: str, note: str, bins: Sequence[Bin], *, whole: bool) -> HistogramChart:
    """The chart of a histogram. whole: are the values whole numbers?"""
    largest = max(bin_.count for bin_ in bins)
    slot = min(WIDTH / len(bins), WIDEST_SLOT)
    bars = []
    for number, bin_ in enumerate(bins):
        height = (HEIGHT - TOP - BOTTOM) * bin_.count / largest
        if bin_.count:
            height = max(height, LEAST_HEIGHT)
        title = f"{bin_.label(whole=whole)}: {bin_.count:,}"
        bars.append(
            HistogramBar(
                x=(number + GAP / 2) * slot, y=HEIGHT - BOTTOM - height, height=height, title=title
            )
        )
    return HistogramChart(
        caption=caption,
        note=note,
        description=f"{caption}: " + "; ".join(bar.title for bar in bars if bar.height),
        bars=bars,
        bar_width=slot * (1 - GAP),
        first_label=bins[0].label(whole=whole).split(" to ")[0],
        last_label=bins[-1].label(whole=whole).split(" to ")[-1],
        largest=f"{largest:,}",
    )
