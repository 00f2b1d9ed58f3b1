"""The comparison as text: a block for each task, a line for each metric, the queries that moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fletching.report import printable
from mteb_eval.data.names import is_reference
from mteb_eval.data.ranking import MISSED
from mteb_eval.report.sections import TaskSection
from mteb_eval.scoring.comparison import Figure, Interval, Move
from mteb_eval.scoring.metrics import improvement, spell_metric
from mteb_eval.scoring.task_result import TaskResult

SIGNIFICANT = 0.05  # a change with a smaller p is called better or worse
MOVES_SHOWN = 3  # of more runs only the page shows queries


def render(sections: Sequence[TaskSection], *, baseline: str, width: int) -> str:
    """All sections, a blank line between them, in lines of `width` columns where they fit."""
    blocks = ["\n".join(_section_lines(section, baseline, width)) for section in sections]
    return printable("\n\n".join(blocks)) + "\n"


def _section_lines(section: TaskSection, baseline: str, width: int) -> Iterator[str]:
    yield heading(section.results[baseline])
    if section.note:
        yield f"  {section.note}"
    yield from (f"  ! {flag}" for flag in section.flags)
    yield from _figure_lines(section.figures, baseline, width)
    moves = {run: both for run, both in section.moves.items() if not is_reference(run)}
    if len(moves) <= MOVES_SHOWN:
        for run, (rose, fell) in moves.items():
            lines = [
                *_move_lines("rose most (rank of the first relevant document)", rose, width),
                *_move_lines("fell most", fell, width),
            ]
            if lines:
                yield f"  {run} against {baseline}:"
                yield from lines
    if section.worst:
        yield "  worst queries (rank of the first relevant document)"
        for move in section.worst:
            yield _query_line(f"{format_rank(move.after):>6}", move.query, width)


def heading(result: TaskResult) -> str:
    """The task and its size: `faq, 12 queries, 40 documents`."""
    parts = [result.label if result.split == "test" else f"{result.label} ({result.split})"]
    if result.count:
        unit = "queries" if result.has_ranks else "pairs"
        parts.append(f"{result.count:,} {unit}")
    documents = result.effort.get("documents")
    if documents:
        parts.append(f"{documents:,} documents")
    return ", ".join(parts)


def _figure_lines(figures: Sequence[Figure], baseline: str, width: int) -> list[str]:
    """The table; where it is wider than the terminal, the values without their intervals."""
    lines = _align(_cells(figures, baseline, with_intervals=True))
    if max(map(len, lines)) > width:
        lines = _align(_cells(figures, baseline, with_intervals=False))
    return lines


def _cells(figures: Sequence[Figure], baseline: str, *, with_intervals: bool) -> list[list[str]]:
    """Two runs side by side, any other number one below the other."""
    runs = list(dict.fromkeys(figure.run for figure in figures))
    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    by_key = {(figure.metric, figure.run): figure for figure in figures}
    if len(runs) == 2:
        other = runs[1] if runs[0] == baseline else runs[0]
        rows = [["", baseline, other, "change"]]
        for metric in metrics:
            values = [by_key[metric, run].value for run in (baseline, other)]
            cells = [format_value(value, with_interval=with_intervals) for value in values]
            rows.append([spell_metric(metric), *cells, format_change(by_key[metric, other])])
        return rows
    rows = [["", *map(spell_metric, metrics)]]
    for run in runs:
        of_run = [by_key[metric, run] for metric in metrics]
        cells = [format_value(figure.value, with_interval=with_intervals) for figure in of_run]
        rows.append([run, *cells])
        if run != baseline:
            rows.append(["", *(format_change(figure, brief=True) for figure in of_run)])
    return rows


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[" ".join(printable(cell).split("\n")) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append("  " + "   ".join(padded).rstrip())
    return lines


def format_value(value: Interval, *, with_interval: bool = True) -> str:
    """`0.697 [0.675, 0.719]`, or the value alone."""
    if not with_interval or value.low is None or value.high is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def format_change(figure: Figure, *, brief: bool = False) -> str:
    """The difference from the baseline, and whether it is more than chance.

    `+0.089 [+0.072, +0.105] better, p < 0.001`; brief: `+0.089 better`.
    """
    change, p = figure.change, figure.p
    if change is None:
        return ""
    text = f"{change.value:+.3f}"
    with_interval = text
    if change.low is not None and change.high is not None:
        with_interval = f"{text} [{change.low:+.3f}, {change.high:+.3f}]"
    if p is None:
        return with_interval
    if brief:
        return f"{text} {verdict(figure)}"
    shown_p = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{with_interval} {verdict(figure)}, {shown_p}"


def verdict(figure: Figure) -> str | None:
    """better, worse or unclear; None for the baseline and where nothing is tested."""
    if figure.change is None or figure.p is None:
        return None
    if figure.p >= SIGNIFICANT:
        return "unclear"
    return "better" if improvement(figure.metric, figure.change.value) > 0 else "worse"


def _move_lines(title: str, moves: Sequence[Move], width: int) -> Iterator[str]:
    """`old rank → new rank  query`, truncated to the width."""
    if moves:
        yield f"  {title}"
    for move in moves:
        ranks = f"{format_rank(move.before):>6} → {format_rank(move.after):<6}"
        yield _query_line(ranks, move.query, width)


def _query_line(ranks: str, query: str, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in query)
    space = max(width - len(ranks) - 6, 20)
    if len(text) > space:
        text = text[: space - 1] + "…"
    return f"    {ranks} {text}"


def format_rank(rank: int) -> str:
    """A rank; a dash is "not among the first 1,000"."""
    return "-" if rank == MISSED else f"{rank:,}"
