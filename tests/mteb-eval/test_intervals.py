"""Do 95 % intervals hold the true figure 95 times of 100, near the ceiling too?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mteb_eval.scoring import comparison, intervals

pytestmark = pytest.mark.slow  # as a whole: seconds of draws and runs

SIMULATIONS = 2000
# Of 95 % intervals, by queries and true share, summed over the binomial distribution.
COVERAGE = {
    (30, 0.5): 0.9572,
    (30, 0.93): 0.9447,
    (100, 0.5): 0.9431,
    (100, 0.93): 0.9518,
    (300, 0.5): 0.9434,
    (300, 0.93): 0.9590,
}


def no_resamples(values):
    raise AssertionError("only the accelerated bootstrap needs resamples")


def coverage(ends, truth):
    low, high = np.array(ends).T
    return np.mean((low <= truth) & (truth <= high))


@pytest.mark.parametrize(("count", "truth"), COVERAGE)
def test_the_interval_of_a_share_holds_the_true_share(count, truth):
    """Of every possible number of hits, weighed by its probability: exact, without chance."""
    hits = np.arange(count + 1)
    ends = [
        intervals.mean_ends((np.arange(count) < number).astype(float), no_resamples)
        for number in hits
    ]
    low, high = np.array(ends).T
    weights = stats.binom.pmf(hits, count, truth)
    covered = weights[(low <= truth) & (truth <= high)].sum()
    assert covered == pytest.approx(COVERAGE[count, truth], abs=1e-4)
    assert 0.93 <= covered <= 0.97
    if count <= intervals.LARGEST_FOR_WILSON:
        reference = [stats.binomtest(int(k), count).proportion_ci(0.95, "wilson") for k in hits]
        assert np.allclose(ends, reference, atol=1e-9)


def test_the_interval_of_many_hits_and_misses_is_that_of_jeffreys():
    """Each tail beyond it has 2.5 % of the area under p^(hits - 1/2) · (1 - p)^(misses - 1/2)."""
    hits, misses = 52, 8
    low, high = intervals.mean_ends((np.arange(60) < hits).astype(float), no_resamples)
    middles = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = middles ** (hits - 0.5) * (1 - middles) ** (misses - 0.5)
    below = np.cumsum(density) / density.sum()
    assert np.interp([low, high], middles, below) == pytest.approx([0.025, 0.975], abs=1e-5)
    assert intervals.jeffreys_ends(np.ones(60))[1] == 1
    assert intervals.jeffreys_ends(np.zeros(60))[0] == 0


RECIPROCAL_RANKS = np.array([1, 1 / 2, 1 / 3, 1 / 5, 0])


@pytest.mark.parametrize(
    "chances", [(0.88, 0.08, 0.02, 0.01, 0.01), (0.35, 0.2, 0.15, 0.1, 0.2)], ids=["0.93", "0.54"]
)
@pytest.mark.parametrize("count", [30, 100, 300])
def test_the_interval_of_a_mean_reciprocal_rank_holds_the_true_one(count, chances):
    generator = np.random.default_rng(1)
    truth = float(RECIPROCAL_RANKS @ chances)
    samples = generator.choice(RECIPROCAL_RANKS, p=chances, size=(SIMULATIONS, count))
    ends = [intervals.mean_ends(values, no_resamples) for values in samples]
    assert 0.93 <= coverage(ends, truth) <= 0.975


@pytest.mark.parametrize("shares", [(0.25, 0.25), (0.02, 0.05), (0.1, 0.02)])
@pytest.mark.parametrize("count", [30, 100, 300])
def test_the_interval_of_a_paired_difference_of_shares_holds_the_true_one(count, shares):
    won, lost = shares
    generator = np.random.default_rng(2)
    drawn = generator.random((SIMULATIONS, count))
    before, after = (drawn < lost).astype(float), (drawn > 1 - won).astype(float)
    ends = [intervals.difference_ends(*pair, no_resamples) for pair in zip(before, after)]
    assert coverage(ends, won - lost) >= 0.93  # wide, and never too narrow, where few differ


@pytest.mark.parametrize("count", [30, 100])
def test_the_interval_of_a_skewed_difference_holds_the_true_one(count):
    """Most queries do not move, and a few of them far: BCa."""
    generator = np.random.default_rng(3)

    def resample(values):
        rows = np.random.default_rng(0).integers(0, count, (800, count))
        return values[rows].mean(1)

    moved = generator.random((600, count)) < 0.4
    differences = np.where(moved, generator.beta(2, 3, (600, count)) - 0.2, 0.0)
    truth = 0.4 * (0.4 - 0.2)
    zero = np.zeros(count)
    ends = [intervals.difference_ends(zero, row, resample) for row in differences]
    assert 0.9 <= coverage(ends, truth) <= 0.975


def test_the_accelerated_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(4).exponential(size=60)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
    )
    ends = intervals.bca_ends(values, reference.bootstrap_distribution)
    assert ends == pytest.approx(tuple(reference.confidence_interval), abs=1e-6)


def test_thirty_hits_of_thirty_are_no_certainty():
    low, high = intervals.mean_ends(np.ones(30), no_resamples)
    assert high == 1
    assert low == pytest.approx(0.8865, abs=1e-4)


def test_values_all_alike_have_no_spread_and_ranks_may_exceed_one():
    assert intervals.mean_ends(np.full(40, 0.5), no_resamples) == (0.5, 0.5)
    ranks = np.random.default_rng(0).integers(1, 30, 80).astype(float)
    samples = comparison._resample((ranks,), np.mean, np.random.default_rng(0), is_vectorized=True)
    low, high = intervals.mean_ends(ranks, lambda values: samples)
    assert low < ranks.mean() < high
