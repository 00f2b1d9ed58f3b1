"""A model beside the baseline: intervals over queries, significance, and the queries that moved.

Percentile bootstrap (Efron & Tibshirani 1993) by scipy; paired randomisation test (Smucker, Allan &
Carterette, CIKM 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from scipy import stats

from mteb_eval.data.ranking import MISSED
from mteb_eval.scoring.metrics import find_metric
from mteb_eval.scoring.task_result import TaskResult

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
PERMUTATIONS = 10_000
BLOCK = 1 << 22  # random numbers in memory at a time


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric of one run on one task; change and p compare it with the baseline."""

    run: str
    task: str
    split: str
    metric: str
    value: Interval
    count: int | None
    change: Interval | None = None
    p: float | None = None


def compare_runs(
    results: Mapping[str, TaskResult], *, baseline: str, metric: str, seed: int
) -> Iterator[Figure]:
    """One metric of all runs on one task, in the order of `results`, which are by run.

    The same resamples serve every run, so that the interval of a difference is a paired one. A
    metric that is a mean over queries is tested by random signs, any other (Spearman, AP) by the
    bootstrap of the difference.
    """
    base = results[baseline]
    before = bootstrap(base, metric, seed)
    for run, result in results.items():
        samples = before if run == baseline else bootstrap(result, metric, seed)
        value = result.scores[metric]
        change, p = None, None
        if run != baseline:
            is_paired = samples is not None and before is not None
            differences = samples - before if is_paired else None  # type: ignore[operator]
            change = interval(value - base.scores[metric], differences)
            p = _significance(base, result, metric, seed=seed, differences=differences)
        yield Figure(
            run=run,
            task=result.label,
            split=result.split,
            metric=metric,
            value=interval(value, samples),
            count=result.count,
            change=change,
            p=p,
        )


def interval(value: float, samples: Floats | None) -> Interval:
    """The figure with the 2.5 % and 97.5 % quantiles of its resamples."""
    if samples is None or not len(samples):
        return Interval(value)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def bootstrap(result: TaskResult, metric: str, seed: int) -> Floats | None:
    """The metric on resamples of the queries or pairs, (RESAMPLES,); None without observations.

    The resamples depend on the task, the split and the seed alone.
    """
    task_key = xxhash.xxh3_64_intdigest(f"{result.label} {result.split}".encode())
    generator = np.random.default_rng([seed, task_key])
    values = result.per_query(metric)
    if values is not None:
        return _resample((values,), np.mean, generator, is_vectorized=True)
    pairs, definition = result.pairs(), find_metric(metric)
    if pairs is None or definition is None or definition.of_pairs is None:
        return None
    return _resample(pairs, definition.of_pairs, generator, is_vectorized=False)


def _resample(
    columns: Sequence[Floats],
    statistic: Callable[..., Any],
    generator: np.random.Generator,
    *,
    is_vectorized: bool,
) -> Floats:
    """The statistic of rows drawn with replacement from aligned columns, (RESAMPLES,).

    scipy draws the same rows, in the same order, as `generator.integers(0, size, size)` for each
    resample, in blocks; so the memory is bounded, and the block size does not change a figure.
    """
    size = len(columns[0])
    if size < 2:  # every resample is the sample, and scipy refuses it
        return np.full(RESAMPLES, float(statistic(*columns)))
    drawn = stats.bootstrap(
        columns,
        statistic,
        n_resamples=RESAMPLES,
        method="percentile",
        paired=len(columns) > 1,
        vectorized=is_vectorized,
        batch=max(BLOCK // size, 1),
        rng=generator,
    )
    samples: Floats = drawn.bootstrap_distribution
    return samples


def _significance(
    base: TaskResult, other: TaskResult, metric: str, *, seed: int, differences: Floats | None
) -> float | None:
    """Two-sided p that runs of equal quality differ this much. differences: of the resamples."""
    before, after = base.per_query(metric), other.per_query(metric)
    if before is not None and after is not None:
        return randomisation_test(after - before, seed)
    if differences is None:
        return None
    smaller_side = min((differences <= 0).mean(), (differences >= 0).mean())
    return float(min(1.0, max(2 * smaller_side, 2 / RESAMPLES)))


def randomisation_test(differences: Floats, seed: int) -> float:
    """p of the paired randomisation test: how often random signs move the mean as far from 0.

    differences: of the paired queries, (queries,); those of 0 decide nothing and are left out.
    `scipy.stats.permutation_test` with `permutation_type="samples"` is the same test, but takes
    4.3 s for 1,081 queries where these lines take 0.14 s (12 s and 0.6 s for 10,000; one core):
    the product of a matrix of signs with the differences needs no copy of the data for each
    permutation.
    """
    differences = differences[differences != 0]
    size = len(differences)
    if not size:
        return 1.0
    generator = np.random.default_rng([seed, size])
    observed = abs(differences.sum()) * (1 - 1e-12)
    extreme, done = 0, 0
    while done < PERMUTATIONS:
        count = min(PERMUTATIONS - done, max(BLOCK // size, 1))
        coins = generator.integers(2, size=(count, size), dtype=np.int8)
        signs = coins.astype(np.float64) * 2 - 1
        extreme += int((np.abs(signs @ differences) >= observed).sum())
        done += count
    return (extreme + 1) / (PERMUTATIONS + 1)


@dataclass(frozen=True)
class Move:
    """A query whose first relevant document changed its rank; 0 is "not retrieved"."""

    query: str
    before: int
    after: int

    @property
    def gain(self) -> float:
        """Change of the reciprocal rank: 2 to 1 is more than 900 to 400."""
        return _reciprocal(self.after) - _reciprocal(self.before)


def _reciprocal(rank: int) -> float:
    return 0.0 if rank == MISSED else 1 / rank


def find_moves(
    base: TaskResult, other: TaskResult, texts: Mapping[str, str], count: int
) -> tuple[list[Move], list[Move]]:
    """The queries that rose most and those that fell most, at most `count` of each.

    texts: of the queries, by id.
    """
    if not base.has_ranks:
        return [], []
    names = base.observed["id"].to_pylist()
    before = base.observed["rank"].to_pylist()
    after = other.observed["rank"].to_pylist()
    moves = [Move(texts.get(name, name), *ranks) for name, *ranks in zip(names, before, after)]
    rose = [move for move in moves if move.gain > 0]
    fell = [move for move in moves if move.gain < 0]
    rose.sort(key=lambda move: (-move.gain, move.query))
    fell.sort(key=lambda move: (move.gain, move.query))
    return rose[:count], fell[:count]


def find_worst(result: TaskResult, texts: Mapping[str, str], count: int) -> list[Move]:
    """The queries whose first relevant document ranks lowest, at most `count`."""
    if not result.has_ranks:
        return []
    names = result.observed["id"].to_pylist()
    ranks = result.observed["rank"].to_pylist()
    moves = [Move(texts.get(name, name), rank, rank) for name, rank in zip(names, ranks)]
    worst = [move for move in moves if move.after != 1]
    worst.sort(key=lambda move: (move.after != MISSED, -move.after, move.query))
    return worst[:count]
