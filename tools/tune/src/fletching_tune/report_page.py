"""report.html: one self-contained page of a run, without a script, every text escaped.

`TuningReport` is what it shows; `gather` fills it from what the steps have left.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fletching.page import page_environment, scale_ticks
from fletching.report import printable
from fletching.table import atomic
from fletching_tune.evaluation import SHOWN
from fletching_tune.report_evidence import (
    MOST_SHOWN,
    DroppedRows,
    QueryChanges,
    SuspectRow,
    agreed_documents,
    changed_queries,
    contradictions,
    dropped_rows,
    near_duplicates,
    query_rows,
)
from fletching_tune.selection import Gain
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.step import Step
from fletching_tune.verdict import Verdict, worth_of_twice
from fletching_tune.work_folder import WorkFolder

ROW_PROGRAMS = ("csv2pairs", "simfilter", "hnmine")  # whose drops are those of the table
REPEATED = "split"  # reads the rows of `pairs-all` again
STRIP_WIDTH, STRIP_HEIGHT, STRIP_MARGIN = 320, 22, 30
CURVE_WIDTH, CURVE_HEIGHT, CURVE_MARGIN = 560, 220, 48
LONGEST_TEXT = 600  # characters of a row that are shown


@dataclass(frozen=True, kw_only=True)
class TuningReport:
    """Everything on the page.

    candidates: gains on dev with simultaneous lower bounds, by name. split, tuned: whose queries
    `changes` compares with the base. table: the comparison as text. suspects: rows worth a look.
    commands: the steps in order. seconds: of all steps. notes: on the choice, and what was left
    out.
    """

    verdict: Verdict
    candidates: Mapping[str, Gain]
    split: str
    tuned: str
    changes: QueryChanges | None
    table: str
    dropped: Sequence[DroppedRows]
    suspects: Sequence[SuspectRow]
    commands: Sequence[str]
    seconds: float
    notes: Sequence[str] = field(default_factory=tuple)


def gather(
    work: WorkFolder,
    verdict: Verdict,
    candidates: Mapping[str, Gain],
    *,
    split: str,
    tuned: str | None,
    steps: Sequence[Step],
    seconds: float,
) -> TuningReport:
    """The report of a run from the files of its steps.

    split: the one that the verdict is about. tuned: the run that is compared with the base in its
    --per-query file; None where nothing was trained.
    """
    changes = None
    suspects = contradictions([work.split(name) for name in ("train", "dev", "test")])
    path = work.file(f"{split}.queries.parquet")
    if tuned is not None and os.path.exists(path):
        rows = query_rows(path, split)
        changes = changed_queries(rows, tuned)
        suspects = [*agreed_documents(rows, tuned), *near_duplicates(rows), *suspects]
    summaries = {
        step.name: read_summary(work.summary(step.name))
        for step in steps
        if step.program in ROW_PROGRAMS
        and step.name != REPEATED
        and os.path.exists(work.summary(step.name))
    }
    with open(work.file(f"{split}.txt"), encoding="utf-8") as file:
        table = file.read()
    return TuningReport(
        verdict=verdict,
        candidates=candidates,
        split=split,
        tuned=tuned or "",
        changes=changes,
        table=table,
        dropped=dropped_rows(summaries),
        suspects=suspects,
        commands=[step.line for step in steps],
        seconds=seconds,
    )


def write_page(path: str, report: TuningReport) -> None:
    """Write the page; a file of this name is replaced whole or not at all."""
    atomic.write_text(path, render_page(report))


def render_page(report: TuningReport) -> str:
    """The page as HTML."""
    filters: Mapping[str, Callable[..., object]]
    filters = {"text": _shown, "line": printable, "rank": _shown_rank}
    environment = page_environment("fletching_tune", filters)
    findings = report.verdict.findings
    kinds = dict.fromkeys(row.kind for row in report.suspects)
    groups = {kind: [row for row in report.suspects if row.kind == kind] for kind in kinds}
    return environment.get_template("report.html.j2").render(
        report=report,
        verdict=report.verdict,
        findings=findings,
        metric=SHOWN,
        strips=change_strips(report),
        curve=curve_plot(findings.curve),
        twice=worth_of_twice(findings.curve),
        groups=groups,
        most_shown=MOST_SHOWN,
    )


def _shown(text: str) -> str:
    """The text with control signs as escapes, cut where it is long."""
    cut = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    return printable(cut)


def _shown_rank(rank: int) -> str:
    """A rank; 0 is "not among the first 1,000"."""
    return f"{rank:,}" if rank else "not found"


# --- plots ---------------------------------------------------------------------------------------


class StripRow(NamedTuple):
    """A change with its marks: x of the value and of the ends of its interval."""

    name: str
    gain: Gain
    x: float
    ends: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ChangeStrips:
    """The forest plot: rows on one scale. ticks: (x, label), zero among them."""

    rows: Sequence[StripRow]
    ticks: Sequence[tuple[float, str]]
    zero: float
    width: int = STRIP_WIDTH
    height: int = STRIP_HEIGHT


def change_strips(report: TuningReport) -> ChangeStrips | None:
    """The verdict first, then the guard and the candidates; None where nothing was measured."""
    findings = report.verdict.findings
    changes: dict[str, Gain] = {}
    if findings.test is not None:
        changes[f"verdict: {findings.winner}, on the test queries"] = findings.test
    if findings.guard is not None:
        changes["guard: share of what the base knew"] = findings.guard
    changes |= {f"{name}, on dev": gain for name, gain in report.candidates.items()}
    finite = {name: gain for name, gain in changes.items() if math.isfinite(gain.high - gain.low)}
    if not finite:
        return None
    low = min(0.0, *(gain.low for gain in finite.values()))
    high = max(0.0, *(gain.high for gain in finite.values()))
    ticks = scale_ticks(low, high, least_span=0.01)
    span = ticks[-1] - ticks[0]

    def x(value: float) -> float:
        return STRIP_MARGIN + (STRIP_WIDTH - 2 * STRIP_MARGIN) * (value - ticks[0]) / span

    rows = [
        StripRow(name, gain, x(gain.value), ends=(x(gain.low), x(gain.high)))
        for name, gain in finite.items()
    ]
    labels = [(x(tick), f"{tick:+.3g}" if tick else "0") for tick in ticks]
    return ChangeStrips(rows=rows, ticks=labels, zero=x(0.0))


@dataclass(frozen=True, kw_only=True)
class CurvePlot:
    """The learning curve: gain on dev by share of the rows, which double from point to point."""

    points: Sequence[tuple[float, float, str, float]]  # x, y, share, gain
    zero: float
    width: int = CURVE_WIDTH
    height: int = CURVE_HEIGHT


def curve_plot(curve: Sequence[tuple[float, float]]) -> CurvePlot | None:
    """The plot of (share of the rows, gain); None for fewer than two points."""
    points = sorted(curve)
    if len(points) < 2:
        return None
    gains = [0.0, *(gain for _, gain in points)]
    low, high = min(gains), max(gains)
    span = (high - low) or 1.0
    doublings = math.log2(points[-1][0] / points[0][0]) or 1.0

    def y(gain: float) -> float:
        return CURVE_MARGIN + (CURVE_HEIGHT - 2 * CURVE_MARGIN) * (high - gain) / span

    def x(share: float) -> float:
        steps = math.log2(share / points[0][0]) / doublings
        return CURVE_MARGIN + (CURVE_WIDTH - 2 * CURVE_MARGIN) * steps

    marks = [(x(share), y(gain), f"{share:.0%}", gain) for share, gain in points]
    return CurvePlot(points=marks, zero=y(0.0))
