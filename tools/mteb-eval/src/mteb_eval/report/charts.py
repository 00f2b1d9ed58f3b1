"""Where the marks of a plot are: bars with intervals, and recall curves. The template draws them.

Coordinates are in SVG's user units; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mteb_eval.report.text_report import format_value
from mteb_eval.scoring.comparison import Figure, Interval
from mteb_eval.scoring.metrics import DEPTHS, spell_metric
from mteb_eval.scoring.task_result import TaskResult

WIDTH, HEIGHT = 720, 260
LEFT, TOP, BOTTOM = 44, 12, 28  # margins
GROUP = 0.8  # share of a metric's width that its bars take
BAR = 0.9  # share of its slot that a bar takes
WIDEST_SLOT = 60
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Tick(NamedTuple):
    """A line across the plot."""

    y: float
    text: str


class Label(NamedTuple):
    """A text below the plot, centred at x."""

    x: float
    text: str


class Curve(NamedTuple):
    """The points of one run."""

    title: str
    colour: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One figure. middle: the x of its interval; ends: the y of the interval's ends, if any."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    ends: tuple[float, float] | None
    colour: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot of values from 0 to 1: bars or curves, and the labels below them."""

    labels: Sequence[Label]
    bars: Sequence[Bar] = ()
    curves: Sequence[Curve] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT

    @property
    def ticks(self) -> list[Tick]:
        """The lines across the plot."""
        return [Tick(_y(value), f"{value:.1f}") for value in TICKS]


def bar_chart(figures: Sequence[Figure], colours: Mapping[str, str]) -> Chart:
    """A group of bars for each metric, one for each run, with the ends of the intervals."""
    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    runs = list(dict.fromkeys(figure.run for figure in figures))
    group = (WIDTH - LEFT) / max(len(metrics), 1)
    slot = min(group * GROUP / len(runs), WIDEST_SLOT)
    margin = (group - slot * len(runs)) / 2
    bars = []
    for figure in figures:
        start = LEFT + group * metrics.index(figure.metric) + margin
        x, y = start + slot * runs.index(figure.run), _y(figure.value.value)
        bars.append(
            Bar(
                x=x,
                y=y,
                width=slot * BAR,
                height=_y(0) - y,
                middle=x + slot * BAR / 2,
                ends=_ends(figure.value),
                colour=colours[figure.run],
                title=f"{figure.run}, {spell_metric(figure.metric)}: {format_value(figure.value)}",
            )
        )
    labels = [
        Label(LEFT + group * (number + 0.5), spell_metric(metric))
        for number, metric in enumerate(metrics)
    ]
    return Chart(labels=labels, bars=bars)


def recalls(results: Mapping[str, TaskResult]) -> list[tuple[str, Sequence[float]]]:
    """(run, its recall at each depth)."""
    return [
        (run, [result.scores[f"recall_at_{depth}"] for depth in DEPTHS])
        for run, result in results.items()
    ]


def recall_chart(results: Mapping[str, TaskResult], colours: Mapping[str, str]) -> Chart:
    """Recall at each depth, a line for each run; the depths are equally far apart."""
    step = (WIDTH - LEFT - 40) / (len(DEPTHS) - 1)
    positions = [LEFT + 20 + step * number for number in range(len(DEPTHS))]
    curves = []
    for run, of_run in recalls(results):
        points = list(zip(positions, map(_y, of_run)))
        curves.append(Curve(run, colours[run], points))
    labels = [Label(x, f"{depth:,}") for x, depth in zip(positions, DEPTHS)]
    return Chart(labels=labels, curves=curves)


def _ends(value: Interval) -> tuple[float, float] | None:
    if value.low is None or value.high is None:
        return None
    return _y(value.low), _y(value.high)


def _y(value: float) -> float:
    """The y of a value from 0 to 1; below 0 (a correlation can be) it is drawn as 0."""
    share = min(max(value, 0.0), 1.0)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
