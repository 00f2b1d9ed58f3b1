"""The plan: what rows, documents, measured rates and the budget allow."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fletching.errors import InputError
from fletching_tune import training_shape
from fletching_tune.budget import shown_minutes
from fletching_tune.candidates import RECIPES, Lists, Recipe, recipe
from fletching_tune.costs import EVALUATIONS, Rates, StepCosts
from fletching_tune.counts import Counts
from fletching_tune.halving import Rung

WANTED_QUERIES = 400  # held out for choosing, and as many for the verdict
MOST_QUERIES = 1000
WANTED_DOCUMENTS = 100
MOST_SHARE = 0.2
SMALL_SHARE = 0.05
MOST_LISTED_ROWS = 6000  # three seeds of `hybrid` see 5,760
SEEDS_OF_DOCUMENTS = 3  # gains of one seed vary by as much as they are: the mean of three
DEV_SHARE = 1 / 40  # of the budget, for one model on dev
TEST_SHARE = 1 / 8  # of the budget, for base and winner on test
MORE_DOCUMENTS = (8, 4, 2)  # times these shares, where all candidates still fit
FEWEST_DOCUMENTS = (1000, 300)  # that are searched; fewer where no candidate fits otherwise


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done.

    seeds: with how many the best candidate is trained. evaluates_training: do training runs rank
    dev? dev_documents, test_documents: how many documents are searched; None: all of them.
    seconds: of everything, by the measured rates.
    """

    batch: int
    rungs: tuple[Rung, ...]
    recipes: tuple[str, ...]
    seeds: int
    evaluates_training: bool
    dev_documents: int | None
    test_documents: int | None
    costs: StepCosts
    seconds: float

    @property
    def finalists(self) -> int:
        """How many models are blended, at most."""
        return training_shape.finalists_of(self.rungs)

    @property
    def updates(self) -> int:
        """Of the longest run."""
        return self.rungs[-1].updates

    @property
    def training(self) -> tuple[int, tuple[Rung, ...], tuple[str, ...], int]:
        """What is trained, and for how long."""
        return self.batch, self.rungs, self.recipes, self.seeds

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


class BudgetTooSmallError(Exception):
    """No candidate fits. seconds: in which one may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Planner:
    """What a plan follows from, but the budget.

    spent: seconds before it. seeds: with how many the best candidate is trained, where there is
    time for it; the time of further candidates comes after it, unless `keeps_all`, for those that
    the user has named. evaluates_training: do training runs rank dev?
    """

    counts: Counts
    rates: Rates
    spent: float
    recipes: Sequence[Recipe] = RECIPES
    seeds: int = 1
    keeps_all: bool = False
    evaluates_training: bool = True

    def plan(self, budget: float) -> Plan:
        """The plan for so many seconds. Raises InputError where no candidate fits into them."""
        try:
            return self._widest(budget)
        except BudgetTooSmallError:
            minutes = self._least_minutes(budget)
        raise InputError(
            f"--budget of {shown_minutes(budget)} is too small for one candidate: {minutes:g} "
            "minutes are needed on this machine",
            f"pass --budget {minutes:g}m",
        )

    def _least_minutes(self, budget: float) -> float:
        """Half minutes in which a candidate fits; a larger budget ranks more documents too."""
        while True:
            try:
                self._widest(budget)
            except BudgetTooSmallError as error:
                budget = max(math.ceil(error.seconds / 30) * 30, budget + 30)
            else:
                return budget / 60

    def _widest(self, budget: float) -> Plan:
        """Most seeds and candidates, then most documents. Raises BudgetTooSmallError."""
        too_small = BudgetTooSmallError(budget)
        for fewest, seeds in itertools.product(FEWEST_DOCUMENTS, sorted({self.seeds, 1})[::-1]):
            try:
                plan = self._shaped(budget, fewest=fewest, seeds=seeds)
            except BudgetTooSmallError as error:
                too_small = error
                continue
            if seeds == 1 or not self.keeps_all or len(plan.recipes) == len(self.recipes):
                return self._with_more_documents(plan, budget, fewest=fewest)
        raise too_small

    def _with_more_documents(self, plan: Plan, budget: float, *, fewest: int) -> Plan:
        """The same training, and the rest of the time for more documents to rank."""
        for factor in MORE_DOCUMENTS:
            with contextlib.suppress(BudgetTooSmallError):
                larger = self._shaped(budget, fewest=fewest, seeds=plan.seeds, factor=factor)
                if larger.training == plan.training:
                    return larger
        return plan

    def _shaped(self, budget: float, *, fewest: int, seeds: int, factor: int = 1) -> Plan:
        """The plan where at least so many documents are ranked, or all.

        factor: of the shares of the budget for ranking them. Raises BudgetTooSmallError.
        """
        rows = self.counts.rows["train"]
        dev = self._ranked("dev", budget * DEV_SHARE * factor, fewest)
        test = self._ranked("test", budget * TEST_SHARE / 2 * factor, fewest)
        costs = self._costs(dev, test)
        left = budget - self.spent - costs.verdict
        shape = training_shape.shape(rows, costs, recipes=self.recipes, left=left, seeds=seeds)
        if shape is None:
            least = training_shape.least_seconds(costs, self.recipes)
            raise BudgetTooSmallError(budget - left + least)
        batch, rungs, affordable = shape
        seconds = training_shape.seconds(costs, affordable, rungs, batch=batch, seeds=seeds)
        return Plan(
            batch=batch,
            rungs=rungs,
            recipes=tuple(each.name for each in affordable),
            seeds=seeds,
            evaluates_training=self.evaluates_training,
            dev_documents=dev,
            test_documents=test,
            costs=costs,
            seconds=budget - left + seconds,
        )

    def _ranked(self, split: str, seconds: float, fewest: int) -> int | None:
        """How many documents can be encoded in these seconds; None where all can."""
        queries = self.counts.queries[split]
        most = max(int(seconds / self.rates.text_seconds) - queries, fewest, queries)
        return None if most >= self.counts.documents else most

    def _costs(self, dev_documents: int | None, test_documents: int | None) -> StepCosts:
        start, text = self.rates.start_seconds, self.rates.text_seconds
        rows = self.counts.rows["train"]
        # Each positive of a list is a text without its query.
        listed = 2 * min(rows, MOST_LISTED_ROWS) + self.counts.documents
        return StepCosts(
            rates=self.rates,
            dev_seconds=self._evaluation("dev", dev_documents),
            test_seconds=self._evaluation("test", test_documents),
            list_seconds={
                "pairs": 0.0,
                "negatives": 2 * start + 2 * rows * text,
                "hybrid": 2 * start + listed * text,
            },
            evaluations=EVALUATIONS if self.evaluates_training else 0,
        )

    def _evaluation(self, split: str, documents: int | None) -> float:
        """Seconds of one model. documents: how many are ranked; None: all."""
        documents = self.counts.documents if documents is None else documents
        return (self.counts.queries[split] + documents) * self.rates.text_seconds


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
    first = recipe(plan.recipes[0])
    of_first = "" if first.price == 1 else f" of {first.name}"
    names = ", ".join(_with_limits(recipe(name), plan) for name in plan.recipes)
    time = (
        f"time: {plan.costs.updates([first], plan.batch):.2f} s an update{of_first}, so "
        f"{shown_minutes(budget)} allow {rungs} updates ({names}), {seeds}blends and soups, "
        f"about {shown_minutes(plan.seconds)} in all"
    )
    return data, time


def _with_limits(each: Recipe, plan: Plan) -> str:
    """Its name, and how much shorter it is trained than the plan says."""
    batch, updates = each.batch_of(plan.batch), each.updates_of(plan.updates)
    if (batch, updates) == (plan.batch, plan.updates):
        return each.name
    return f"{each.name} for at most {updates} updates of {batch}"
