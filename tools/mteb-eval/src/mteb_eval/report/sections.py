"""What the text and the page show of each task: its figures, flags, and the queries that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mteb_eval.scoring import comparison
from mteb_eval.scoring.comparison import Figure, Move
from mteb_eval.scoring.task_result import TaskResult

TaskSplit = tuple[str, str]
Moves = tuple[list[Move], list[Move]]  # rose, fell


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """One task. results, moves: by run. worst: the worst queries, where one run is all there is.

    note: what the task is, where its name does not say it.
    """

    results: Mapping[str, TaskResult]
    figures: Sequence[Figure]
    flags: Sequence[str]
    moves: Mapping[str, Moves]
    worst: Sequence[Move]
    note: str = ""


def make_sections(
    results: Mapping[TaskSplit, Mapping[str, TaskResult]],
    figures: Sequence[Figure],
    *,
    baseline: str,
    query_texts: Mapping[TaskSplit, Mapping[str, str]],
    flags: Sequence[tuple[str, str]],
    changed: int,
    notes: Mapping[str, str] | None = None,
) -> list[TaskSection]:
    """A section for each task and split. flags: with their task. changed: moves to show.

    notes: by the name of the task.
    """
    sections = []
    for key, by_run in results.items():
        base = by_run[baseline]
        texts = query_texts.get(key, {})
        moves = {
            run: comparison.find_moves(base, result, texts, count=changed)
            for run, result in by_run.items()
            if run != baseline and key in query_texts
        }
        is_alone = len(by_run) == 1
        worst = comparison.find_worst(base, texts, changed) if is_alone else []
        sections.append(
            TaskSection(
                results=by_run,
                figures=[figure for figure in figures if (figure.task, figure.split) == key],
                flags=[flag for task, flag in flags if task in (key[0], base.task)],
                moves=moves,
                worst=worst,
                note=(notes or {}).get(base.task, ""),
            )
        )
    return sections
