"""A model against the baseline: intervals over queries, significance, and the queries that moved.

Efron & Tibshirani (1993) for the percentile bootstrap; Smucker, Allan & Carterette (CIKM 2007) for the
paired randomisation test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash

from mteb_eval.scoring.task_result import MISSED, Outcome

RESAMPLES = 2000
FLIPS = 10_000
CHUNK = 1 << 22  # signs drawn at a time


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval, where one can be given."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Figure:
    """One metric of one run on one task; change and p stand against the baseline."""

    run: str
    task: str
    split: str
    metric: str
    value: Interval
    count: int | None
    change: Interval | None = None
    p: float | None = None


def figures(
    outcomes: dict[str, Outcome], baseline: str, metric: str, seed: int
) -> Iterable[Figure]:
    """A metric of all runs on one task, by run in the order given.

    The same resamples serve every run, so that the interval of a difference is a paired one. Metrics that
    are means over queries are tested by sign flips; others (Spearman, AP) by the bootstrap of the difference.
    """
    base = outcomes[baseline]
    first = base.statistic(metric)
    rows = _resamples(base, metric, seed) if first else []
    by_run = {}
    for run, outcome in outcomes.items():
        statistic = outcome.statistic(metric)
        by_run[run] = np.array([statistic(chosen) for chosen in rows]) if statistic else None
    for run, outcome in outcomes.items():
        value = outcome.scores[metric]
        samples, before = by_run[run], by_run[baseline]
        change, p = None, None
        if run != baseline:
            differences = samples - before if samples is not None and before is not None else None
            change = interval(value - base.scores[metric], differences)
            p = _significance(base, outcome, metric, differences, seed)
        yield Figure(
            run,
            outcome.label,
            outcome.split,
            metric,
            interval(value, samples),
            outcome.count,
            change,
            p,
        )


def interval(value: float, samples: np.ndarray | None) -> Interval:
    if samples is None or not len(samples):
        return Interval(value)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _resamples(outcome: Outcome, metric: str, seed: int) -> list[np.ndarray]:
    """Row numbers drawn with replacement, the same for every run on this task."""
    size = outcome.observed.num_rows
    generator = np.random.default_rng(
        [seed, xxhash.xxh3_64_intdigest(f"{outcome.label} {outcome.split}".encode())]
    )
    return [generator.integers(0, size, size) for _ in range(RESAMPLES)]


def _significance(
    base: Outcome, other: Outcome, metric: str, differences: np.ndarray | None, seed: int
) -> float | None:
    """Two-sided p that runs as equal as chance differ this much."""
    before, after = base.values(metric), other.values(metric)
    if before is not None and after is not None:
        return randomisation(after - before, seed)
    if differences is None:
        return None
    side = min((differences <= 0).mean(), (differences >= 0).mean())
    return float(min(1.0, max(2 * side, 2 / RESAMPLES)))


def randomisation(differences: np.ndarray, seed: int) -> float:
    """p of the paired randomisation test: how often random signs give a mean at least as far from 0."""
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    generator = np.random.default_rng([seed, len(differences)])
    reached = abs(differences.sum()) * (1 - 1e-12)
    extreme, done = 0, 0
    while done < FLIPS:
        draws = min(FLIPS - done, max(CHUNK // len(differences), 1))
        signs = (
            generator.integers(0, 2, (draws, len(differences)), np.int8).astype(np.float64) * 2 - 1
        )
        extreme += int((np.abs(signs @ differences) >= reached).sum())
        done += draws
    return (extreme + 1) / (FLIPS + 1)


@dataclass(frozen=True)
class Move:
    """A query whose first relevant document changed its rank; 0 is "not retrieved"."""

    query: str
    before: int
    after: int

    @property
    def gain(self) -> float:
        """Change of the reciprocal rank: 2 to 1 is more than 900 to 400."""
        return (1 / self.after if self.after != MISSED else 0.0) - (
            1 / self.before if self.before != MISSED else 0.0
        )


def moves(
    base: Outcome, other: Outcome, texts: dict[str, str], count: int
) -> tuple[list[Move], list[Move]]:
    """The queries that rose most and those that fell most, at most `count` of each. texts: by query id."""
    if "rank" not in base.observed.column_names:
        return [], []
    columns = (
        base.observed["id"].to_pylist(),
        base.observed["rank"].to_pylist(),
        other.observed["rank"].to_pylist(),
    )
    moved = [Move(texts.get(name, name), before, after) for name, before, after in zip(*columns)]
    rose = sorted(
        (move for move in moved if move.gain > 0), key=lambda move: (-move.gain, move.query)
    )
    fell = sorted(
        (move for move in moved if move.gain < 0), key=lambda move: (move.gain, move.query)
    )
    return rose[:count], fell[:count]


def worst(outcome: Outcome, texts: dict[str, str], count: int) -> list[Move]:
    """The queries whose first right document stands lowest, at most `count`, as moves from nowhere."""
    if "rank" not in outcome.observed.column_names:
        return []
    found = zip(outcome.observed["id"].to_pylist(), outcome.observed["rank"].to_pylist())
    missed = [Move(texts.get(name, name), rank, rank) for name, rank in found if rank != 1]
    return sorted(missed, key=lambda move: (move.after != MISSED, -move.after, move.query))[:count]
