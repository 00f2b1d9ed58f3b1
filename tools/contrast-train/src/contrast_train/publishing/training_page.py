"""--html: the course of a training run as one static page, from the measures in the model folder.

A plot for each measure: inline SVG, no script, nothing loaded. The template draws what is here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from fletching.page import page_environment, scale_ticks
from fletching.table import atomic

WIDTH, HEIGHT = 460, 180
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 26  # margins
MOST_POINTS = 300  # of a curve; more steps are drawn as means with their range
LOG_ROWS = 12  # of the table of steps
PRIMARY = "ndcg_at_10"
HEADINGS = {
    "loss": "Loss",
    "grad_norm": "Gradient norm before clipping",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens a second",
    "mean_cosine": "Mean cosine of two documents; near 1 the model has collapsed",
    PRIMARY: "nDCG@10 on the held-out examples",
    "mrr_at_10": "MRR@10 on the held-out examples",
    "margin": "Margin of the positive over the best negative, held out",
}

Points = list[tuple[int, float]]  # (step, value), in order


@dataclass(frozen=True, kw_only=True)
class StepCurve:
    """The plot of one measure. line, top, bottom: SVG points; the band lies between the last two.

    marks: single points where there are few. best: that of the published step. description: the
    curve in words.
    """

    heading: str
    description: str
    line: str
    band: str
    marks: Sequence[tuple[float, float, str]]
    best: tuple[float, float] | None
    rows: Sequence[tuple[float, str]]
    columns: Sequence[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


class StepTable(NamedTuple):
    """Measures by step: their names, and (step, a value for each name) in order."""

    names: Sequence[str]
    rows: Sequence[tuple[int, Sequence[float | None]]]


@dataclass(frozen=True, kw_only=True)
class TrainingCourse:
    """The measures of a run. steps, best_step: as its lineage says; 0 is the base."""

    name: str
    training: dict[str, Points]
    held_out: dict[str, Points]
    steps: int
    best_step: int | None
    rows: int


def write_page(path: str, folder: str, *, version: str) -> None:
    """Write the page of a published model folder; a file of this name is replaced whole."""
    atomic.write_text(path, render_page(read_course(folder), version=version))


def read_course(folder: str) -> TrainingCourse:
    """The measures of a model folder that contrast-train has written."""
    table = pq.read_table(os.path.join(folder, "measures.parquet"))
    training: dict[str, Points] = {}
    held_out: dict[str, Points] = {}
    for row in table.select(["step", "split", "name", "value"]).to_pylist():
        if row["value"] is not None and math.isfinite(row["value"]):
            curves = held_out if row["split"] == "dev" else training
            curves.setdefault(row["name"], []).append((row["step"], row["value"]))
    end = json.loads(Path(folder, "fletching.json").read_text("utf-8"))["end"]
    return TrainingCourse(
        name=os.path.basename(os.path.abspath(folder)),
        training=training,
        held_out=held_out,
        steps=end["steps"],
        best_step=end["best_step"],
        rows=end["rows"],
    )


def render_page(course: TrainingCourse, *, version: str) -> str:
    """The page as HTML."""
    environment = page_environment("contrast_train.publishing", {"figure": format_figure})
    curves = [
        draw_curve(HEADINGS[name], measures[name], best=best)
        for measures, best in ((course.held_out, course.best_step), (course.training, None))
        for name in HEADINGS
        if measures.get(name)
    ]
    return environment.get_template("training.html.j2").render(
        course=course,
        curves=curves,
        evaluations=_by_step(course.held_out),
        log=_by_step({name: _thin(points) for name, points in course.training.items()}),
        change=_change(course),
        version=version,
    )


def _change(course: TrainingCourse) -> tuple[float, float] | None:
    """The primary measure of the base and of the published weights."""
    values = dict(course.held_out.get(PRIMARY, []))
    if course.best_step is None or 0 not in values or course.best_step not in values:
        return None
    return values[0], values[course.best_step]


def _by_step(measures: dict[str, Points]) -> StepTable:
    names = [name for name in HEADINGS if name in measures]
    by_step: dict[int, dict[str, float]] = {}
    for name in names:
        for step, value in measures[name]:
            by_step.setdefault(step, {})[name] = value
    rows = [
        (step, [values.get(name) for name in names]) for step, values in sorted(by_step.items())
    ]
    return StepTable(names, rows)


def _thin(points: Points) -> Points:
    """At most LOG_ROWS points, the first and the last among them."""
    if len(points) <= LOG_ROWS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (LOG_ROWS - 1))] for number in range(LOG_ROWS)]


# --- plots ---------------------------------------------------------------------------------------


def draw_curve(heading: str, points: Points, *, best: int | None = None) -> StepCurve:
    """The plot of a measure by step. best: a step to mark."""
    groups = group_points(points, MOST_POINTS)
    is_thinned = len(groups) < len(points)
    values = [value for _, value in points]
    ticks = scale_ticks(min(values), max(values), least_span=0.0)
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    top = [(x(step), y(high)) for step, _, _, high in groups]
    bottom = [(x(step), y(low)) for step, _, low, _ in groups]
    marks = []
    if len(points) <= 40:
        marks = [(x(step), y(value), f"step {step:,}: {value:.4g}") for step, value in points]
    at_best = dict(points).get(best) if best is not None else None
    return StepCurve(
        heading=heading,
        description=describe(points),
        line=_svg_points([(x(step), y(mean)) for step, mean, _, _ in groups]),
        band=_svg_points([*top, *reversed(bottom)]) if is_thinned else "",
        marks=marks,
        best=None if at_best is None or best is None else (x(best), y(at_best)),
        rows=[(y(tick), f"{tick:.6g}") for tick in ticks],
        columns=[(x(first), f"{first:,}"), (x(last), f"{last:,}")],
    )


def group_points(points: Points, most: int) -> list[tuple[float, float, float, float]]:
    """(mean step, mean, least, largest value) of at most `most` runs of points."""
    size = -(-len(points) // most)
    groups = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        values = [value for _, value in part]
        middle = sum(step for step, _ in part) / len(part)
        groups.append((middle, sum(values) / len(values), min(values), max(values)))
    return groups


def describe(points: Points) -> str:
    """The curve in words: first, last, least and largest value with their steps."""
    least = min(points, key=lambda point: point[1])
    largest = max(points, key=lambda point: point[1])
    named = {"first": points[0], "last": points[-1], "least": least, "largest": largest}
    return ", ".join(f"{name} {value:.4g} (step {step:,})" for name, (step, value) in named.items())


def format_figure(value: float | None) -> str:
    """Four digits; whole numbers with thousands; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _svg_points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
