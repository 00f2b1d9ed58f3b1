"""The comparison as text: a block a task, a line a metric, and the queries that moved."""

from __future__ import annotations

from collections.abc import Sequence

from mteb_eval.scoring.comparison import Figure, Interval, Move
from mteb_eval.scoring.metrics import metric_name
from mteb_eval.scoring.task_result import MISSED, Outcome

CLEAR = 0.05  # a change with a smaller p is called better or worse


def heading(outcome: Outcome, flags: Sequence[str] = ()) -> str:
    """The task, its size, and what a reader must know before the figures."""
    size = []
    if outcome.count:
        size.append(
            f"{outcome.count:,} {'queries' if 'rank' in outcome.observed.column_names else 'pairs'}"
        )
    if outcome.about.get("documents"):
        size.append(f"{outcome.about['documents']:,} documents")
    split = f" ({outcome.split})" if outcome.split != "test" else ""
    return "\n".join(
        [
            f"{outcome.label}{split}" + (f", {', '.join(size)}" if size else ""),
            *(f"  ! {flag}" for flag in flags),
        ]
    )


def block(figures: Sequence[Figure], baseline: str, width: int) -> list[str]:
    """The lines of one task; where they are wider than the terminal, the values without their intervals."""
    for whole in (True, False):
        lines = align(_cells(figures, baseline, whole))
        if max(map(len, lines)) <= width:
            break
    return lines


def _cells(figures: Sequence[Figure], baseline: str, whole: bool) -> list[list[str]]:
    """Two runs side by side, any other number one below the other."""
    runs = list(dict.fromkeys(figure.run for figure in figures))
    by_place = {(figure.metric, figure.run): figure for figure in figures}
    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    if len(runs) == 2:
        ordered = [baseline, *(run for run in runs if run != baseline)]
        rows = [["", *ordered, "change"]]
        for metric in metrics:
            base, other = (by_place[metric, run] for run in ordered)
            rows.append(
                [
                    metric_name(metric),
                    value(base.value, whole),
                    value(other.value, whole),
                    change(other),
                ]
            )
        return rows
    rows = [["", *(metric_name(metric) for metric in metrics)]]
    for run in runs:
        rows.append([run, *(value(by_place[metric, run].value, whole) for metric in metrics)])
        if run != baseline:
            rows.append(["", *(change(by_place[metric, run], brief=True) for metric in metrics)])
    return rows


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


def value(figure: Interval, whole: bool = True) -> str:
    ends = (
        f" [{figure.low:.3f}, {figure.high:.3f}]"
        if whole and figure.low is not None and figure.high is not None
        else ""
    )
    return f"{figure.value:.3f}{ends}"


def change(figure: Figure, brief: bool = False) -> str:
    """The difference to the baseline, a word on whether it is more than chance and, unless brief, why."""
    if figure.change is None:
        return ""
    delta = figure.change
    ends = (
        f" [{delta.low:+.3f}, {delta.high:+.3f}]"
        if delta.low is not None and delta.high is not None
        else ""
    )
    if figure.p is None:
        return f"{delta.value:+.3f}{ends}"
    word = "unclear" if figure.p >= CLEAR else "better" if delta.value > 0 else "worse"
    if brief:
        return f"{delta.value:+.3f} {word}"
    p = "p < 0.001" if figure.p < 0.001 else f"p = {figure.p:.3f}"
    return f"{delta.value:+.3f}{ends} {word}, {p}"


def moved(rose: Sequence[Move], fell: Sequence[Move], width: int) -> list[str]:
    """`old rank → new rank  query`, cut to the width; a dash is "not among the first 1,000"."""
    lines = []
    for title, group in (
        ("rose most (rank of the first right document)", rose),
        ("fell most", fell),
    ):
        if group:
            lines.append(f"  {title}")
        lines += [
            _line(f"{_rank(move.before):>6} → {_rank(move.after):<6}", move.query, width)
            for move in group
        ]
    return lines


def lowest(moves: Sequence[Move], width: int) -> list[str]:
    """The ranks of the queries that one model does worst on."""
    lines = [_line(f"{_rank(move.after):>6}", move.query, width) for move in moves]
    return ["  worst queries (rank of the first right document)", *lines] if moves else []


def _line(ranks: str, query: str, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in query)
    room = max(width - len(ranks) - 6, 20)
    return f"    {ranks} {text if len(text) <= room else text[: room - 1] + '…'}"


def _rank(rank: int) -> str:
    return "-" if rank == MISSED else f"{rank:,}"
