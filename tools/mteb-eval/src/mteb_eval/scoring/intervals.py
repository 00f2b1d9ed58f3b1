"""95 % intervals of means over queries, of differences, and of what resampling gives.

Percentiles of the bootstrap fail where they are needed most: of 30 queries of which 28 are found
they cover the true share 0.87 times of 100, and of 30 out of 30 they are one point. So a share of
hits has Wilson's interval of up to 40 queries and that of Jeffreys above, a mean of graded values
between 0 and 1 Wilson's, the difference of two shares that of Bonett & Price, and any other mean
the accelerated bootstrap (BCa).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
Ends = tuple[float, float]

LEVEL = 0.95
TAILS = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
FEW_QUERIES = 50  # below which an interval is a rough guide
LARGEST_FOR_WILSON = 40  # hits and misses: Brown, Cai & DasGupta (2001), section 5
TINY = 1e-12


def mean_ends(values: Floats, resample: Callable[[Floats], Floats]) -> Ends:
    """The interval of the mean of `values`, (queries,).

    resample: the means of resamples of such values, for figures that are not all within 0 and 1.
    """
    if _is_binary(values) and len(values) > LARGEST_FOR_WILSON:
        return jeffreys_ends(values)
    if values.min() >= 0 and values.max() <= 1:
        return wilson_ends(values)
    return bca_ends(values, resample(values))


def difference_ends(before: Floats, after: Floats, resample: Callable[[Floats], Floats]) -> Ends:
    """The interval of the mean of `after - before`, both (queries,), paired."""
    differences = after - before
    if _is_binary(before) and _is_binary(after):
        return bonett_price_ends(differences)
    return bca_ends(differences, resample(differences))


def wilson_ends(values: Floats) -> Ends:
    """Wilson's score interval (1927) of the mean of values between 0 and 1.

    Hits and misses are counted as they are. Of graded values, n queries count as n · m(1 - m) / s²
    for a mean m and a variance s², as in surveys (Franco et al. 2019): as many hits and misses as
    would make the mean as certain; and Student's quantile allows for s² being estimated.
    """
    count = len(values)
    mean = float(values.mean())
    largest_variance = mean * (1 - mean)  # that of hits and misses
    quantile = float(stats.norm.ppf(TAILS[1]))
    size = float(count)
    if count > 1 and not _is_binary(values):
        variance = float(values.var())
        if variance < TINY * largest_variance:  # all alike
            return mean, mean
        size = count * max(largest_variance / variance, 1.0)
        quantile = float(stats.t.ppf(TAILS[1], count - 1))
    square = quantile * quantile
    centre = (mean + square / (2 * size)) / (1 + square / size)
    spread = math.sqrt(max(largest_variance, 0.0) / size + square / (4 * size * size))
    half = quantile * spread / (1 + square / size)
    # Rounding must not leave a mean of 0 or 1 outside.
    return min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean)


def jeffreys_ends(values: Floats) -> Ends:
    """The equal-tailed Jeffreys interval of a share; values: 0 or 1, (queries,).

    Quantiles of Beta(hits + 1/2, misses + 1/2), and 0 or 1 where every query is alike (Brown, Cai &
    DasGupta 2001, "Interval estimation for a binomial proportion"). Of 100 queries with a share of
    0.93 it covers 0.952 where Wilson's covers 0.972.
    """
    hits = float(values.sum())
    misses = len(values) - hits
    low, high = stats.beta.ppf(TAILS, hits + 0.5, misses + 0.5)
    return float(low) if hits else 0.0, float(high) if misses else 1.0


def bonett_price_ends(differences: Floats) -> Ends:
    """The interval of the difference of two paired shares; differences: -1, 0 or 1, (queries,).

    Adjusted Wald interval of Bonett & Price (2012): one more query won and one more lost.
    """
    size = len(differences) + 2
    won = (float((differences > 0).sum()) + 1) / size
    lost = (float((differences < 0).sum()) + 1) / size
    centre = won - lost
    half = float(stats.norm.ppf(TAILS[1])) * math.sqrt((won + lost - centre**2) / size)
    mean = float(differences.mean())
    return min(max(centre - half, -1.0), mean), max(min(centre + half, 1.0), mean)


def bca_ends(values: Floats, samples: Floats) -> Ends:
    """The bias-corrected and accelerated bootstrap interval of a mean (Efron 1987).

    values: (queries,). samples: the means of resamples. As `scipy.stats.bootstrap` has it, with the
    acceleration of a mean in closed form in place of one jackknife sample for each query.
    """
    mean = values.mean()
    deviations = values - mean
    squares = float((deviations**2).sum())
    if squares <= TINY * max(float((values**2).sum()), TINY):  # all alike: rounding noise
        return float(values.min()), float(values.max())
    share_below = float((samples < mean).mean() + (samples <= mean).mean()) / 2
    edge = 1 / (2 * len(samples))
    bias = stats.norm.ppf(min(max(share_below, edge), 1 - edge))
    acceleration = float((deviations**3).sum()) / (6 * squares**1.5)
    shifted = bias + stats.norm.ppf(TAILS)
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(samples, levels)
    return float(low), float(high)


def percentile_ends(samples: Floats) -> Ends:
    """The 2.5 % and 97.5 % quantiles of resamples."""
    low, high = np.quantile(samples, TAILS)
    return float(low), float(high)


def _is_binary(values: Floats) -> bool:
    return bool(((values == 0) | (values == 1)).all())
