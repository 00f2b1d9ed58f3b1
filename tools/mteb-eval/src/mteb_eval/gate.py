"""Demands that a Makefile or CI can make: enough gain on one metric, not too much loss on a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fletching.errors import Usage

from mteb_eval.comparison import Figure
from mteb_eval.table import metric_key, metric_name


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
            raise Usage(f"{flag} {item} is not NAME=NUMBER", f"write e.g. {flag} {'ndcg_at_10=0' if 'gain' in flag else 'SciFact=0.01'}")
        demands.append(Demand(flag, name, bound))
    return demands


def failures(gains: Sequence[Demand], losses: Sequence[Demand], figures: Sequence[Figure], mains: dict[str, str]) -> list[str]:
    """A line for each demand that a run does not meet. mains: the main metric by task.

    A gain is asked of every task but those that stand under --max-loss: general quality may stay flat.
    """
    guarded = {demand.name for demand in losses}
    lines = []
    for demand in gains:
        metric = metric_key(demand.name)
        asked = [figure for figure in figures if figure.metric == metric and figure.task not in guarded]
        if not asked:
            known = ", ".join(dict.fromkeys(figure.metric for figure in figures))
            raise Usage(f"{demand.flag} {demand.name} is no metric of this run", f"it has {known}; --metrics adds others")
        for figure in asked:
            if figure.change is not None and not figure.change.value > demand.bound:
                lines.append(
                    f"{figure.run} changes {metric_name(metric)} on {figure.task} by {figure.change.value:+.4f}; "
                    f"{demand.flag} asks for more than {demand.bound:+g}"
                )
    for demand in losses:
        asked = [figure for figure in figures if figure.task == demand.name and figure.metric == mains.get(figure.task)]
        if not asked:
            raise Usage(f"{demand.flag} {demand.name} is no task of this run", f"it has {', '.join(mains)}")
        for figure in asked:
            if figure.change is not None and figure.change.value < -demand.bound:
                lines.append(
                    f"{figure.run} changes {metric_name(figure.metric)} on {figure.task} by {figure.change.value:+.4f}; "
                    f"{demand.flag} allows a loss of {demand.bound:g}"
                )
    return lines
