"""How much is trained in the time that is left: batch, rungs and recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fletching_tune.candidates import Recipe
from fletching_tune.costs import StepCosts
from fletching_tune.halving import Rung, ladder

FEWEST_UPDATES = 100
FEWEST_OF_A_SEED = 60  # updates, where several seeds are averaged
MOST_UPDATES = 1500
SHORT_RUNG = 40
SMALLEST_BATCH, LARGEST_BATCH = 16, 64
FEWEST_PASSES, MOST_PASSES = 2.0, 8.0
MOST_FINALISTS = 3


def finalists_of(rungs: Sequence[Rung]) -> int:
    """How many of the trained models may be blended."""
    return min(MOST_FINALISTS, rungs[0].recipes)


def seconds(
    costs: StepCosts, recipes: Sequence[Recipe], rungs: Sequence[Rung], *, batch: int, seeds: int
) -> float:
    """Of training and choosing."""
    updates = rungs[-1].updates
    once = max(costs.training([each], updates, batch=batch) for each in recipes[: rungs[0].recipes])
    again = once * (seeds - 1)
    choice = costs.mean_of(seeds) + costs.choice(finalists_of(rungs))
    return costs.rungs(recipes, rungs, batch=batch) + again + choice


def shape(
    rows: int, costs: StepCosts, *, recipes: Sequence[Recipe], left: float, seeds: int
) -> tuple[int, tuple[Rung, ...], Sequence[Recipe]] | None:
    """(batch, rungs, recipes) of the widest ladder that fits; else one recipe for fewer passes."""
    for count, passes in _wishes(len(recipes)):
        batch = _batch_for(rows, passes)
        updates = max(
            each.updates_of(_updates_for(rows, batch, passes)) for each in recipes[:count]
        )
        if count == 1:
            batch = recipes[0].batch_of(batch)
        rungs = ladder(count, updates, fewest=SHORT_RUNG)
        if seconds(costs, recipes, rungs, batch=batch, seeds=seeds) <= left:
            return batch, rungs, recipes[:count]
    for each in recipes if seeds == 1 else recipes[:1]:  # the first one beats seeds of another
        short = _short_run(rows, costs, each, left=left, seeds=seeds)
        if short is not None:
            batch, rung = short
            return batch, (rung,), [each]
    return None


def least_seconds(costs: StepCosts, recipes: Sequence[Recipe]) -> float:
    """Of training one recipe for a short time, and choosing."""
    short = [Rung(1, FEWEST_UPDATES)]
    return min(seconds(costs, [each], short, batch=SMALLEST_BATCH, seeds=1) for each in recipes)


def _short_run(
    rows: int, costs: StepCosts, chosen: Recipe, *, left: float, seeds: int
) -> tuple[int, Rung] | None:
    """(batch, rung) of one recipe, for as many updates as there is time for."""
    fewest = chosen.updates_of(FEWEST_UPDATES if seeds == 1 else FEWEST_OF_A_SEED)
    batch = _batch_for(rows, FEWEST_PASSES)
    updates = chosen.updates_of(_updates_for(rows, batch, FEWEST_PASSES))
    remaining = left - seconds(costs, [chosen], [Rung(1, 0)], batch=batch, seeds=seeds)
    for smaller in [chosen.batch] if chosen.batch else [batch, batch // 2, batch // 4]:
        affordable = int(remaining / (seeds * costs.updates([chosen], smaller)))
        if smaller >= SMALLEST_BATCH and affordable >= fewest:
            return smaller, Rung(1, min(affordable, updates))
    return None


def _wishes(most: int) -> Iterator[tuple[int, float]]:
    """(recipes, passes), from the best to the cheapest: all recipes for as long as can be, else
    fewer of them.
    """
    passes = MOST_PASSES
    while passes > FEWEST_PASSES:
        yield most, passes
        passes /= 2
    for recipes in range(most, 0, -1):
        yield recipes, FEWEST_PASSES


def _batch_for(rows: int, passes: float) -> int:
    """A power of two with which so many passes are FEWEST_UPDATES or more."""
    most = max(rows * passes / FEWEST_UPDATES, 1)
    return int(min(max(2 ** int(math.log2(most)), SMALLEST_BATCH), LARGEST_BATCH))


def _updates_for(rows: int, batch: int, passes: float) -> int:
    updates = math.ceil(passes * rows / batch)
    return min(max(updates, FEWEST_UPDATES), MOST_UPDATES)
