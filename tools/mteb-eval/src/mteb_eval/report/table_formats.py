"""The comparison for other programs and for papers: markdown, csv, latex and json.

Each format is a function of the sections and the baseline, registered in TABLE_FORMATS.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fletching.registry import Registry
from fletching.report import printable
from mteb_eval.report.sections import TaskSection
from mteb_eval.report.text_report import format_change, format_value, heading, verdict
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.metrics import improvement, spell_metric

Render = Callable[[Sequence[TaskSection], str], str]

TABLE_FORMATS = Registry[Render]("table format")

CSV_COLUMNS = (
    "task", "split", "run", "metric", "value", "low", "high",
    "change", "change_low", "change_high", "p", "verdict", "queries",
)  # fmt: skip
LATEX_SIGNS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]<>|])")


# --- markdown ------------------------------------------------------------------------------------


def render_markdown(sections: Sequence[TaskSection], baseline: str) -> str:
    """A heading and a table for each task, a row for each run and metric."""
    blocks = ["\n".join(_markdown_lines(section, baseline)) for section in sections]
    return "\n\n".join(blocks) + "\n"


def _markdown_lines(section: TaskSection, baseline: str) -> Iterator[str]:
    yield f"### {_markdown(heading(section.results[baseline]))}"
    yield ""
    for text in filter(None, [section.note, *section.flags]):
        yield f"> {_markdown(text)}"
        yield ""
    yield f"| metric | model | value | change from {_markdown(baseline)} |"
    yield "|---|---|---|---|"
    for figure in section.figures:
        metric, run = _markdown(spell_metric(figure.metric)), _markdown(figure.run)
        yield f"| {metric} | {run} | {format_value(figure.value)} | {format_change(figure)} |"


def _markdown(text: str) -> str:
    """The text in one line, with what Markdown would obey as letters."""
    return MARKDOWN_SIGNS.sub(r"\\\1", " ".join(printable(text).split()))


# --- csv -----------------------------------------------------------------------------------------


def render_csv(sections: Sequence[TaskSection], baseline: str) -> str:
    """A line for each figure, in full precision; `verdict` is better, worse or unclear."""
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in sections:
        writer.writerows(map(_record, section.figures))
    return table.getvalue()


def _record(figure: Figure) -> dict[str, Any]:
    """The figure as one flat record; None where it has no such number."""
    change = figure.change
    return {
        "task": figure.task,
        "split": figure.split,
        "run": figure.run,
        "metric": figure.metric,
        "value": figure.value.value,
        "low": figure.value.low,
        "high": figure.value.high,
        "change": change.value if change else None,
        "change_low": change.low if change else None,
        "change_high": change.high if change else None,
        "p": figure.p,
        "verdict": verdict(figure),
        "queries": figure.count,
    }


# --- latex ---------------------------------------------------------------------------------------


def render_latex(sections: Sequence[TaskSection], baseline: str) -> str:
    r"""A `table` for each task, for a document that uses `booktabs`; ` \textbf` marks the best."""
    blocks = ["\n".join(_latex_lines(section, baseline)) for section in sections]
    return "\n\n".join(["% \\usepackage{booktabs}", *blocks]) + "\n"


def _latex_lines(section: TaskSection, baseline: str) -> Iterator[str]:
    metrics = list(dict.fromkeys(figure.metric for figure in section.figures))
    runs = list(dict.fromkeys(figure.run for figure in section.figures))
    by_key = {(figure.run, figure.metric): figure for figure in section.figures}
    best = {metric: _best([by_key[run, metric] for run in runs]) for metric in metrics}
    yield from (r"\begin{table}", r"\centering")
    yield rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}"
    yield r"\toprule"
    yield " & ".join(["model", *(_latex(spell_metric(metric)) for metric in metrics)]) + r" \\"
    yield r"\midrule"
    for run in runs:
        cells = [_latex_cell(by_key[run, metric], best[metric]) for metric in metrics]
        yield " & ".join([_latex(run), *cells]) + r" \\"
    yield from (r"\bottomrule", r"\end{tabular}")
    title = _latex(heading(section.results[baseline]))
    meaning = f"$\\pm$: half of the 95\\,\\% interval; $*$: p < 0.05 against {_latex(baseline)}."
    yield rf"\caption{{{title}. {meaning.replace('p < 0.05', '$p < 0.05$')}}}"
    yield r"\end{table}"


def _best(figures: Sequence[Figure]) -> float:
    """The best value of one metric, as it is printed."""
    values = [round(figure.value.value, 3) for figure in figures]
    return max(values, key=lambda value: improvement(figures[0].metric, value))


def _latex_cell(figure: Figure, best: float) -> str:
    """`\\textbf{0.704} $\\pm$ 0.021$^*$`."""
    value = figure.value
    text = f"{value.value:.3f}"
    if round(value.value, 3) == best:
        text = rf"\textbf{{{text}}}"
    if value.low is not None and value.high is not None:
        text += rf" $\pm$ {(value.high - value.low) / 2:.3f}"
    return text + ("$^*$" if verdict(figure) in ("better", "worse") else "")


def _latex(text: str) -> str:
    line = " ".join(printable(text).split())
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in line)


# --- json ----------------------------------------------------------------------------------------


def render_json(sections: Sequence[TaskSection], baseline: str) -> str:
    """One object: the figures of `measures` with flags, sizes and the queries that moved."""
    tasks = [_json_task(section, baseline) for section in sections]
    content = {"baseline": baseline, "tasks": tasks}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _json_task(section: TaskSection, baseline: str) -> dict[str, Any]:
    base = section.results[baseline]
    moves = {
        run: {"rose": list(map(vars, rose)), "fell": list(map(vars, fell))}
        for run, (rose, fell) in section.moves.items()
    }
    return {
        "task": base.label,
        "split": base.split,
        "kind": base.kind,
        "main_metric": base.main_metric,
        "count": base.count,
        "documents": base.effort.get("documents"),
        "note": section.note or None,
        "flags": list(section.flags),
        "figures": [_json_figure(figure) for figure in section.figures],
        "moved": moves,
        "worst": [{"query": move.query, "rank": move.after} for move in section.worst],
    }


def _json_figure(figure: Figure) -> dict[str, Any]:
    """`change` is null for the baseline."""
    change = {**vars(figure.change), "p": figure.p} if figure.change else None
    return {
        "run": figure.run,
        "name": figure.metric,
        **vars(figure.value),
        "change": change,
        "verdict": verdict(figure),
    }


TABLE_FORMATS.register("markdown", render_markdown)
TABLE_FORMATS.register("csv", render_csv)
TABLE_FORMATS.register("latex", render_latex)
TABLE_FORMATS.register("json", render_json)
