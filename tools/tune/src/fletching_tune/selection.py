"""Which candidate is surely better than the base on dev, if one is.

The gain of a candidate is its mean paired difference from the base over the queries. The lower
bounds of all candidates hold together: the studentised bootstrap of their maximum (Romano and Wolf
2005) corrects for how many were looked at, and less so where candidates are alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 4000
BLOCK = 1 << 21  # weights in memory at a time
CONFIDENCE = 0.95
NOTICEABLE = 0.05  # a share of the guard that is worth a loss within its standard error
POWER_FACTOR = 1.960 + 0.842  # normal quantiles of 95 % confidence and 80 % power


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A mean paired gain with the ends of its interval.

    low: of a chosen candidate on dev, the lower bound that holds for all of them together.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def group_values(gains: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """One value a group of queries, whose mean is the mean of the queries.

    Deviations of group sums from what the overall mean gives them (the linearised ratio): their
    spread is that of a bootstrap over groups. gains, groups: (queries,); groups from 0.
    """
    sums = np.bincount(groups, weights=gains)
    sizes = np.bincount(groups)
    mean = gains.mean()
    values: Floats = mean + (sums - mean * sizes) * (len(sizes) / len(gains))
    return values


def lower_bounds(gains: Mapping[str, Floats], seed: int) -> dict[str, Gain]:
    """The gain of each candidate with simultaneous one-sided lower bounds.

    gains: per-query differences from the base, aligned, each (queries,). The upper end is the
    mirrored lower one.
    """
    if not gains:
        return {}
    table = np.stack(list(gains.values()))  # (candidates, queries)
    means = table.mean(1)
    spread = _standard_errors(table)
    quantile = _largest_deviation(table, means, spread=spread, seed=seed)
    return {
        name: Gain(value=float(mean), low=float(mean - reach), high=float(mean + reach))
        for name, mean, reach in zip(gains, means, quantile * spread)
    }


def _standard_errors(table: Floats) -> Floats:
    count = table.shape[1]
    if count < 2:
        return np.full(len(table), np.inf)
    errors: Floats = table.std(1, ddof=1) / np.sqrt(count)
    return errors


def _largest_deviation(table: Floats, means: Floats, *, spread: Floats, seed: int) -> float:
    """The quantile of the largest studentised deviation over the candidates, by resampling."""
    varies = (spread > 0) & np.isfinite(spread)
    if not varies.any():
        return 0.0 if not spread.any() else float("inf")
    count = table.shape[1]
    centred = (table[varies] - means[varies, None]) / spread[varies, None]
    largest = np.concatenate(
        [(weights @ centred.T).max(1) for weights in resampled_weights(count, seed)]
    )
    return float(np.quantile(largest, CONFIDENCE))


def resampled_weights(count: int, seed: int) -> Iterator[Floats]:
    """How often each of `count` queries is drawn in a resample, over `count`: blocks of rows."""
    generator = np.random.default_rng([seed, count])
    rows = max(BLOCK // count, 1)
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=size)
        yield drawn / count


def interval(gains: Floats, seed: int) -> Gain:
    """A mean gain with its two-sided 95 % interval: the percentiles of its bootstrap."""
    blocks = [weights @ gains for weights in resampled_weights(len(gains), seed)]
    means = np.concatenate(blocks)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Gain(value=float(gains.mean()), low=float(low), high=float(high))


@dataclass(frozen=True)
class Choice:
    """The candidate to test, None for the base, and why in words."""

    winner: str | None
    reason: str


def choose(
    bounds: Mapping[str, Gain],
    gains: Mapping[str, Floats],
    kept: Mapping[str, float],
    *,
    least: float = 0.0,
    is_proxy: bool = False,
) -> Choice:
    """The candidate with the highest lower bound, or one that is as good and keeps more.

    As good is within one standard error of the paired difference (Breiman et al. 1984). The base
    where no lower bound is above 0. gains: per query, aligned. kept: shares of the guard; {}
    without one. least: candidates that keep a smaller share are left out. is_proxy: dev has other
    queries than test, so the base needs candidates that are surely worse.
    """
    better = [name for name, bound in bounds.items() if (bound.high if is_proxy else bound.low) > 0]
    allowed = [name for name in better if kept.get(name, 1.0) >= least]
    if not allowed:
        if not better:
            return Choice(None, "")
        best = max(better, key=lambda name: kept[name])
        return Choice(
            None,
            f"no candidate keeps {least:.0%} of the guard: {best}, which is surely better, keeps "
            f"{kept[best]:.0%}",
        )
    best = max(allowed, key=lambda name: bounds[name].low)
    if bounds[best].low <= 0:
        return Choice(best, f"{best} may be better ({bounds[best]}); people's queries decide")
    if not kept:
        return Choice(best, f"{best} has the highest lower bound")
    lost = {name: gains[best] - gains[name] for name in allowed}
    rivals = [name for name in allowed if _is_as_good(lost[name])]
    keeper = max(rivals, key=lambda name: (kept[name], bounds[name].low))
    if kept[keeper] < kept[best] + NOTICEABLE:
        reason = f"{best} has the highest lower bound, and keeps {kept[best]:.0%} of the guard"
        return Choice(best, reason)
    return Choice(
        keeper,
        f"{keeper} keeps {kept[keeper]:.0%} of the guard, {best} {kept[best]:.0%}; its gain is not "
        f"clearly lower ({-lost[keeper].mean():+.3f})",
    )


def _is_as_good(lost: Floats) -> bool:
    """Is the mean loss within its standard error?"""
    return bool(lost.mean() <= _standard_errors(lost[None])[0])


def smallest_visible(gains: Sequence[Floats]) -> float | None:
    """The smallest mean gain that so many queries can show with 80 % power, by the paired spread.

    None where no difference varies.
    """
    spreads = [POWER_FACTOR * float(_standard_errors(each[None])[0]) for each in gains]
    visible = [spread for spread in spreads if 0 < spread < float("inf")]
    return max(visible) if visible else None
