"""Demands that a Makefile or CI can make: enough gain on one metric, not too much loss on a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fletching.errors import UsageError
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.metrics import metric_key, metric_name


@dataclass(frozen=True)
class Demand:
    """`name` (a metric or a task) must gain more than, or lose at most, `bound`."""

    flag: str
    name: str
    bound: float


def parse(flag: str, items: Sequence[str]) -> list[Demand]:
    demands = []
    for item in items:
        name, _, number = item.rpartition("=")
        try:
            bound = float(number)
        except ValueError:
            bound = math.nan
        if not name or not math.isfinite(bound):
            raise UsageError(
                f"{flag} {item} is not NAME=NUMBER",
                f"write e.g. {flag} {'ndcg_at_10=0' if 'gain' in flag else 'SciFact=0.01'}",
            )
        demands.append(Demand(flag, name, bound))
    return demands


def check(
    gains: Sequence[Demand], losses: Sequence[Demand], metrics: Sequence[str], mains: dict[str, str]
) -> None:
    """Refuse a demand that nothing can meet, before hours of work. mains: the main metric by task."""
    guarded = {demand.name for demand in losses}
    shown = [*metrics, *mains.values()] if len(guarded) < len(mains) else []
    for demand in gains:
        if metric_key(demand.name) not in shown:
            known = ", ".join(dict.fromkeys(shown)) or "none: every task stands under --max-loss"
            raise UsageError(
                f"{demand.flag} {demand.name} is no metric of this run",
                f"it has {known}; --metrics adds others",
            )
    for demand in losses:
        if demand.name not in mains:
            raise UsageError(
                f"{demand.flag} {demand.name} is no task of this run", f"it has {', '.join(mains)}"
            )


def failures(
    gains: Sequence[Demand],
    losses: Sequence[Demand],
    figures: Sequence[Figure],
    mains: dict[str, str],
) -> list[str]:
    """A line for each demand that a run does not meet.

    A gain is asked of every task but those that stand under --max-loss: general quality may stay flat.
    """
    guarded = {demand.name for demand in losses}
    lines = []
    for demand in gains:
        for figure in figures:
            asked = figure.metric == metric_key(demand.name) and _task(figure) not in guarded
            if asked and figure.change is not None and not figure.change.value > demand.bound:
                lines.append(f"{_told(figure)}; {demand.flag} asks for more than {demand.bound:+g}")
    for demand in losses:
        for figure in figures:
            asked = _task(figure) == demand.name and figure.metric == mains[demand.name]
            if asked and figure.change is not None and figure.change.value < -demand.bound:
                lines.append(f"{_told(figure)}; {demand.flag} allows a loss of {demand.bound:g}")
    return lines


def _task(figure: Figure) -> str:
    """The task of `STS17[en-de]` is STS17: a demand on it holds for each of its subsets."""
    return figure.task.partition("[")[0]


def _told(figure: Figure) -> str:
    value = figure.change.value if figure.change else 0.0
    return f"{figure.run} changes {metric_name(figure.metric)} on {figure.task} by {value:+.4f}"
