"""The comparison as one static page: inline SVG, all text escaped, no script, nothing loaded.

The page is `templates/page.html.j2`; here is what it is filled with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fletching.page import page_environment
from fletching.table import atomic
from mteb_eval.data.names import is_reference
from mteb_eval.report.charts import Chart, bar_chart, recall_chart, recalls
from mteb_eval.report.forest import Forest, forest_plot
from mteb_eval.report.sections import TaskSection
from mteb_eval.report.text_report import format_change, format_rank, format_value, heading
from mteb_eval.scoring.comparison import Figure, Move
from mteb_eval.scoring.metrics import spell_metric

COLOURS = ("#8a94a6", "#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")
GOLDEN_ANGLE = 137.508
SETTINGS = ("fingerprint", "dtype", "lengths", "prompts_used", "dimensions", "numbers")

MoveGroups = list[tuple[str, Sequence[Move]]]  # with a heading each


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """One task as the template shows it. moves: of each run; worst: of a run without a baseline."""

    title: str
    size: str
    note: str
    flags: Sequence[str]
    figures: Sequence[Figure]
    forest: Forest | None
    bars: Chart
    curves: Chart | None
    recalls: Sequence[tuple[str, Sequence[float]]]
    moves: Sequence[tuple[str, MoveGroups]]
    worst: Sequence[Move]


def write_page(path: str, sections: Sequence[TaskSection], *, baseline: str, version: str) -> None:
    """Write the page; a file of this name is replaced whole or not at all."""
    atomic.write_text(path, render_page(sections, baseline=baseline, version=version))


def render_page(sections: Sequence[TaskSection], *, baseline: str, version: str) -> str:
    """The page as HTML."""
    settings_by_run: dict[str, Mapping[str, object]] = {}
    for section in sections:
        for run, result in section.results.items():
            settings_by_run.setdefault(run, result.settings)
    runs = list(settings_by_run)
    colours = dict(zip(runs, palette(len(runs))))
    return (
        page_environment("mteb_eval.report", FILTERS)
        .get_template("page.html.j2")
        .render(
            title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
            colours=colours,
            sections=[_page_section(section, colours) for section in sections],
            setting_names=SETTINGS,
            settings_by_run=settings_by_run,
            baseline=baseline,
            version=version,
            has_bm25=any(map(is_reference, runs)),
        )
    )


def _page_section(section: TaskSection, colours: Mapping[str, str]) -> PageSection:
    first = next(iter(section.results.values()))
    title, _, size = heading(first).partition(", ")
    has_recall = "recall_at_10" in first.scores
    moves: list[tuple[str, MoveGroups]] = []
    for run, (rose, fell) in section.moves.items():
        if rose or fell:
            moves.append((run, [("rose most", rose), ("fell most", fell)]))
    return PageSection(
        title=title,
        size=size,
        note=section.note,
        flags=section.flags,
        figures=section.figures,
        forest=forest_plot(section.figures),
        bars=bar_chart(section.figures, colours),
        curves=recall_chart(section.results, colours) if has_recall else None,
        recalls=recalls(section.results) if has_recall else (),
        moves=moves,
        worst=section.worst,
    )


def palette(size: int) -> Sequence[str]:
    """As many different colours: ours, or hues by the golden angle, dark and light in turn."""
    if size <= len(COLOURS):
        return COLOURS
    colours = []
    for number in range(size):
        hue = number * GOLDEN_ANGLE % 360
        lightness = 62 if number % 2 else 40
        colours.append(f"hsl({hue:.1f} 60% {lightness}%)")
    return colours


def _format_setting(content: object) -> str:
    """A line for each entry; texts in quotation marks where they may be empty."""
    if isinstance(content, dict):
        lines = [
            f"{name}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in content.items()
        ]
        return "\n".join(lines)
    if isinstance(content, str):
        return content
    return "all" if content is None else json.dumps(content)


FILTERS: Mapping[str, Callable[..., object]] = {
    "metric": spell_metric,
    "value": format_value,
    "change": format_change,
    "rank": format_rank,
    "setting": _format_setting,
}
