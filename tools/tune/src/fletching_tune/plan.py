"""The plan: what rows, documents, measured rates and the budget allow."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fletching.errors import InputError
from fletching_tune.budget import shown_minutes
from fletching_tune.candidates import RECIPES, Lists, Recipe, recipe
from fletching_tune.costs import Rates, StepCosts
from fletching_tune.counts import Counts
from fletching_tune.halving import Rung, ladder

WANTED_QUERIES = 400  # held out for choosing, and as many for the verdict
MOST_QUERIES = 1000
WANTED_DOCUMENTS = 100
MOST_SHARE = 0.2
SMALL_SHARE = 0.05
FEWEST_UPDATES = 100
FEWEST_OF_A_SEED = 60  # updates, where several seeds are averaged
MOST_UPDATES = 1500
MOST_LISTED_ROWS = 6000  # three seeds of `hybrid` see 5,760
SHORT_RUNG = 40
SMALLEST_BATCH, LARGEST_BATCH = 16, 64
FEWEST_PASSES, MOST_PASSES = 2.0, 8.0
SEEDS_OF_DOCUMENTS = 3  # gains of one seed vary by as much as they are: the mean of three
DEV_SHARE = 1 / 40  # of the budget, for one model on dev
TEST_SHARE = 1 / 8  # of the budget, for base and winner on test
FEWEST_DOCUMENTS = (1000, 300)  # that are searched; fewer where no candidate fits otherwise
MOST_FINALISTS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done.

    seeds: with how many the best candidate is trained. dev_documents, test_documents: how many
    documents are searched; None: all of them. seconds: of everything, by the measured rates.
    """

    batch: int
    rungs: tuple[Rung, ...]
    recipes: tuple[str, ...]
    seeds: int
    dev_documents: int | None
    test_documents: int | None
    costs: StepCosts
    seconds: float

    @property
    def finalists(self) -> int:
        """How many models are blended, at most."""
        return finalists_of(self.rungs)

    @property
    def updates(self) -> int:
        """Of the longest run."""
        return self.rungs[-1].updates

    @property
    def lists(self) -> set[Lists]:
        """What the recipes learn from."""
        return {recipe(name).lists for name in self.recipes}


def split_shares(queries: int, documents: int) -> list[str]:
    """Shares of train, dev and test, so that dev and test have queries enough and no more."""
    wanted = max(
        WANTED_QUERIES / queries,
        WANTED_DOCUMENTS / documents,  # queries with the same answer go together
        min(SMALL_SHARE, MOST_QUERIES / queries),
    )
    share = round(min(wanted, MOST_SHARE), 6)
    return [f"train={round(1 - 2 * share, 6):.8g}", f"dev={share:g}", f"test={share:g}"]


def make_plan(
    counts: Counts,
    rates: Rates,
    *,
    budget: float,
    spent: float,
    recipes: Sequence[Recipe] = RECIPES,
    seeds: int = 1,
    keeps_all: bool = False,
) -> Plan:
    """The plan for so many seconds. Raises InputError where no candidate fits into them.

    seeds: with how many the best candidate is trained, where there is time for it; the time of
    further candidates comes after it, unless `keeps_all`, for those that the user has named.
    """
    plan = functools.partial(_plan, counts, rates, budget=budget, spent=spent, recipes=recipes)
    for fewest, tried in itertools.product(FEWEST_DOCUMENTS, sorted({seeds, 1}, reverse=True)):
        with contextlib.suppress(InputError):
            shape = plan(fewest=fewest, seeds=tried)
            if tried == 1 or not keeps_all or len(shape.recipes) == len(recipes):
                return shape
    return plan(fewest=FEWEST_DOCUMENTS[-1], seeds=1)


def _plan(
    counts: Counts,
    rates: Rates,
    *,
    budget: float,
    spent: float,
    recipes: Sequence[Recipe],
    fewest: int,
    seeds: int,
) -> Plan:
    """The plan where at least so many documents are searched, or all. Raises InputError."""
    dev_documents = _affordable(counts, "dev", rates, seconds=budget * DEV_SHARE, fewest=fewest)
    test_documents = _affordable(
        counts, "test", rates, seconds=budget * TEST_SHARE / 2, fewest=fewest
    )
    mined_rows = 2 * counts.rows["train"]
    listed = min(counts.rows["train"], MOST_LISTED_ROWS)
    hybrid_texts = 2 * listed + counts.documents  # each positive is a text without its query
    costs = StepCosts(
        rates=rates,
        dev_seconds=_evaluation(counts, "dev", rates, documents=dev_documents),
        test_seconds=_evaluation(counts, "test", rates, documents=test_documents),
        list_seconds={
            "pairs": 0.0,
            "negatives": 2 * rates.start_seconds + mined_rows * rates.text_seconds,
            "hybrid": 2 * rates.start_seconds + hybrid_texts * rates.text_seconds,
        },
    )
    left = budget - spent - costs.verdict
    shape = _shape(counts.rows["train"], costs, recipes=recipes, left=left, seeds=seeds)
    if shape is None:
        shortest = [Rung(1, FEWEST_UPDATES)]
        least = min(
            _seconds(costs, [each], shortest, batch=SMALLEST_BATCH, seeds=1) for each in recipes
        )
        needed = math.ceil((budget - left + least) / 30) / 2
        raise InputError(
            f"--budget of {shown_minutes(budget)} is too small for one candidate: {needed:g} "
            "minutes are needed on this machine",
            f"pass --budget {needed:g}m",
        )
    batch, rungs, affordable = shape
    return Plan(
        batch=batch,
        rungs=rungs,
        recipes=tuple(each.name for each in affordable),
        seeds=seeds,
        dev_documents=dev_documents,
        test_documents=test_documents,
        costs=costs,
        seconds=budget - left + _seconds(costs, affordable, rungs, batch=batch, seeds=seeds),
    )


def finalists_of(rungs: Sequence[Rung]) -> int:
    """How many of the trained models may be blended."""
    return min(MOST_FINALISTS, rungs[0].recipes)


def _seconds(
    costs: StepCosts, recipes: Sequence[Recipe], rungs: Sequence[Rung], *, batch: int, seeds: int
) -> float:
    """Of training and choosing."""
    dearest = max(recipes[: rungs[0].recipes], key=lambda each: each.price)
    again = costs.training([dearest], rungs[-1].updates, batch=batch) * (seeds - 1)
    choice = costs.mean_of(seeds) + costs.choice(finalists_of(rungs))
    return costs.rungs(recipes, rungs, batch=batch) + again + choice


def _affordable(
    counts: Counts, split: str, rates: Rates, *, seconds: float, fewest: int
) -> int | None:
    """How many documents can be encoded in these seconds; None where all can."""
    texts = int(seconds / rates.text_seconds) - counts.queries[split]
    most = max(texts, fewest, counts.queries[split])
    return None if most >= counts.documents else most


def _evaluation(counts: Counts, split: str, rates: Rates, *, documents: int | None) -> float:
    texts = counts.queries[split] + (counts.documents if documents is None else documents)
    return texts * rates.text_seconds


def _shape(
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
        if _seconds(costs, recipes, rungs, batch=batch, seeds=seeds) <= left:
            return batch, rungs, recipes[:count]
    for each in recipes if seeds == 1 else recipes[:1]:  # the first one beats seeds of another
        shape = _short_run(rows, costs, each, left=left, seeds=seeds)
        if shape is not None:
            batch, rung = shape
            return batch, (rung,), [each]
    return None


def _short_run(
    rows: int, costs: StepCosts, chosen: Recipe, *, left: float, seeds: int
) -> tuple[int, Rung] | None:
    """(batch, rung) of one recipe, for as many updates as there is time for."""
    fewest = chosen.updates_of(FEWEST_UPDATES if seeds == 1 else FEWEST_OF_A_SEED)
    batch = _batch_for(rows, FEWEST_PASSES)
    updates = chosen.updates_of(_updates_for(rows, batch, FEWEST_PASSES))
    seconds = left - _seconds(costs, [chosen], [Rung(1, 0)], batch=batch, seeds=seeds)
    for smaller in [chosen.batch] if chosen.batch else [batch, batch // 2, batch // 4]:
        affordable = int(seconds / (seeds * costs.updates([chosen], smaller)))
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


def plan_lines(plan: Plan, counts: Counts, rates: Rates, *, budget: float) -> tuple[str, str]:
    """The plan in two lines: what the data allow, and what the time allows."""
    documents = counts.documents if plan.dev_documents is None else plan.dev_documents
    of = f" of {counts.documents:,}" if plan.dev_documents is not None else ""
    data = (
        f"data: {counts.rows['train']:,} rows to train on, {counts.queries['dev']:,} queries to "
        f"choose by, {counts.queries['test']:,} for the verdict; dev ranks {documents:,}{of} "
        f"documents; batches of {plan.batch}"
    )
    seeds = f"the best with {plan.seeds} seeds, " if plan.seeds > 1 else ""
    rungs = ", then ".join(f"{rung.recipes} x {rung.updates}" for rung in plan.rungs)
    seconds = plan.costs.updates([recipe(plan.recipes[0])], plan.batch)
    time = (
        f"time: {seconds:.2f} s an update, so {shown_minutes(budget)} "
        f"allow {rungs} updates ({', '.join(plan.recipes)}), {seeds}blends and soups, "
        f"about {shown_minutes(plan.seconds)} in all"
    )
    return data, time
