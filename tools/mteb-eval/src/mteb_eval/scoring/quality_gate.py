"""Demands of a Makefile or CI: enough gain of a metric, not too much loss on a task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fletching.errors import UsageError
from mteb_eval.data.guard_texts import GUARD
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.metrics import improvement, parse_metric, spell_metric


@dataclass(frozen=True)
class Demand:
    """`name`, a metric or a task, must gain more than `bound`, or lose at most `bound`."""

    flag: str
    name: str
    bound: float


@dataclass(frozen=True)
class QualityGate:
    """All demands of a run. gains: by metric, of every task. losses: by task, of its main metric.

    A task with an allowed loss need not gain: general quality may stay as it is. Nor need the
    guard. No demand is made of BM25 or of a model fused with it.
    """

    gains: Sequence[Demand]
    losses: Sequence[Demand]

    @classmethod
    def parse(cls, require_gain: Sequence[str], max_loss: Sequence[str]) -> QualityGate:
        """From the values of --require-gain and --max-loss. Raises UsageError."""
        gains = [_parse_demand("--require-gain", item) for item in require_gain]
        losses = [_parse_demand("--max-loss", item) for item in max_loss]
        return cls(gains, losses)

    def check(self, metrics: Sequence[str], main_metrics: Mapping[str, str]) -> None:
        """Raises UsageError for a demand that no figure can meet, before hours of work.

        metrics: those shown. main_metrics: the main metric by task.
        """
        has_free_task = bool(main_metrics.keys() - self._guarded)
        shown = [*metrics, *main_metrics.values()] if has_free_task else []
        for demand in self.gains:
            if parse_metric(demand.name) not in shown:
                known = ", ".join(dict.fromkeys(shown)) or "none: every task is under --max-loss"
                raise UsageError(
                    f"{demand.flag} {demand.name} is not a metric of this run",
                    f"it has {known}; --metrics adds others",
                )
        for demand in self.losses:
            if demand.name not in main_metrics:
                raise UsageError(
                    f"{demand.flag} {demand.name} is not a task of this run",
                    f"it has {', '.join(main_metrics)}",
                )

    def failures(self, figures: Sequence[Figure], main_metrics: Mapping[str, str]) -> Iterator[str]:
        """A line for each demand that a run does not meet."""
        figures = [figure for figure in figures if not figure.is_reference]
        for demand in self.gains:
            for figure in figures:
                is_metric = figure.metric == parse_metric(demand.name)
                is_demanded = is_metric and _task(figure) not in self._guarded
                if is_demanded and not _gain(figure) > demand.bound:
                    yield f"{_describe(figure)}; {demand.flag} asks for more than {demand.bound:+g}"
        for demand in self.losses:
            for figure in figures:
                is_main = figure.metric == main_metrics[demand.name]
                is_guarded = is_main and _task(figure) == demand.name
                if is_guarded and _gain(figure) < -demand.bound:
                    yield f"{_describe(figure)}; {demand.flag} allows a loss of {demand.bound:g}"

    @property
    def _guarded(self) -> set[str]:
        """The guard, and the tasks with an allowed loss."""
        return {GUARD, *(demand.name for demand in self.losses)}


def _parse_demand(flag: str, text: str) -> Demand:
    name, _, number = text.rpartition("=")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not name or not math.isfinite(bound):
        example = "ndcg_at_10=0" if "gain" in flag else "SciFact=0.01"
        raise UsageError(f"{flag} {text} is not NAME=NUMBER", f"write e.g. {flag} {example}")
    return Demand(flag, name, bound)


def _gain(figure: Figure) -> float:
    """The improvement over the baseline; infinite for the baseline, which no demand is made of."""
    if figure.change is None:
        return math.inf
    return improvement(figure.metric, figure.change.value)


def _task(figure: Figure) -> str:
    """The task of `STS17[en-de]` is STS17: a demand on it is made of each of its subsets."""
    return figure.task.partition("[")[0]


def _describe(figure: Figure) -> str:
    change = figure.change.value if figure.change else 0.0
    return f"{figure.run} changes {spell_metric(figure.metric)} on {figure.task} by {change:+.4f}"
