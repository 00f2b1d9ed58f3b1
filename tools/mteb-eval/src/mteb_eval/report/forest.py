"""Where the marks of a forest plot are: each change from the baseline with its interval.

Each row is a strip of its own inside a table, all on one scale, so that the numbers beside the
strips are the plot's text, and both fit a narrow screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fletching.page import scale_ticks
from mteb_eval.report.text_report import format_change, verdict
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.metrics import spell_metric

WIDTH, HEIGHT, MARGIN = 320, 22, 26


class ScaleMark(NamedTuple):
    """A line of the scale, with its label."""

    x: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One change. x: of its value; ends: of its interval, if it has one."""

    metric: str
    run: str
    x: float
    ends: tuple[float, float] | None
    text: str
    kind: str  # better, worse or unclear


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The rows of one task, by metric, on one scale."""

    rows: Sequence[ForestRow]
    marks: Sequence[ScaleMark]
    zero: float
    width: int = WIDTH
    height: int = HEIGHT


def forest_plot(figures: Sequence[Figure]) -> Forest | None:
    """The changes among the figures; None where there is none."""
    changed = [figure for figure in figures if figure.change is not None]
    if not changed:
        return None
    numbers = [0.0]
    for figure in changed:
        assert figure.change is not None
        ends = (figure.change.value, figure.change.low, figure.change.high)
        numbers += [number for number in ends if number is not None]
    ticks = scale_ticks(min(numbers), max(numbers))
    low, high = min(*numbers, ticks[0]), max(*numbers, ticks[-1])

    def x(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low)

    rows = []
    for figure in changed:
        assert figure.change is not None
        change = figure.change
        has_ends = change.low is not None and change.high is not None
        rows.append(
            ForestRow(
                metric=spell_metric(figure.metric),
                run=figure.run,
                x=x(change.value),
                ends=(x(change.low or 0.0), x(change.high or 0.0)) if has_ends else None,
                text=format_change(figure),
                kind=verdict(figure) or "unclear",
            )
        )
    marks = [ScaleMark(x(tick), f"{tick:+.3g}" if tick else "0") for tick in ticks]
    return Forest(rows=rows, marks=marks, zero=x(0.0))
