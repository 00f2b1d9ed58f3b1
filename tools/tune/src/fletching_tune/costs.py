"""What steps cost on this machine, and how the steps that are done correct that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching_tune.candidates import Lists, Recipe
from fletching_tune.halving import Rung

FORWARD_SHARE = 0.5  # of an update's time a token, where it is encoded alone; float32 for bfloat16
EVALUATIONS = 3  # of dev, in a training run
EVALUATION_STARTS = 2  # mteb-eval loads more libraries than the others
PUBLISHING_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the first seconds measured.

    row_seconds: training, by row of a batch. text_seconds: encoding, by document. start_seconds:
    of a program before its work.
    """

    row_seconds: float
    text_seconds: float
    start_seconds: float


@dataclass(frozen=True, kw_only=True)
class StepCosts:
    """Seconds of steps by the measured rates.

    dev_seconds, test_seconds: a model on dev, on test. list_seconds: of making the lists that
    recipes learn from, by kind. evaluations: of dev, in a training run.
    """

    rates: Rates
    dev_seconds: float
    test_seconds: float
    list_seconds: Mapping[Lists, float]
    evaluations: int = EVALUATIONS

    @property
    def run_seconds(self) -> float:
        """A training run beside its updates."""
        return self.rates.start_seconds + self.evaluations * self.dev_seconds * FORWARD_SHARE

    def updates(self, recipes: Sequence[Recipe], batch: int) -> float:
        """An update of each recipe."""
        rows = sum(each.price * each.batch_of(batch) for each in recipes)
        return rows * self.rates.row_seconds

    def training(self, recipes: Sequence[Recipe], updates: int, *, batch: int) -> float:
        """Training runs of so many updates each."""
        of_updates = (each.updates_of(updates) * self.updates([each], batch) for each in recipes)
        return sum(of_updates) + len(recipes) * self.run_seconds

    def rungs(self, recipes: Sequence[Recipe], rungs: Sequence[Rung], *, batch: int) -> float:
        """Training by the rungs, the dearest recipes being the survivors; mining where needed."""
        first, shorter = recipes[: rungs[0].recipes], -1  # nothing is trained yet
        total = sum(self.list_seconds[lists] for lists in {each.lists for each in first})
        for rung in rungs:
            unfinished = [each for each in first if each.trains_on(shorter, rung.updates)]
            seconds = [self.training([each], rung.updates, batch=batch) for each in unfinished]
            total += sum(sorted(seconds)[-rung.recipes :])
            shorter = rung.updates
        return total

    def choice(self, finalists: int) -> float:
        """Blends and soups of the finalists, and all of them and the base on dev."""
        blends = finalists + max(finalists - 1, 0)
        models = 1 + finalists + blends
        starts = EVALUATION_STARTS + blends
        return starts * self.rates.start_seconds + models * self.dev_seconds

    def mean_of(self, seeds: int) -> float:
        """The mean of the weights of so many seeds."""
        return self.rates.start_seconds if seeds > 1 else 0.0

    @property
    def another_soup(self) -> float:
        """One more blend on dev."""
        return (1 + EVALUATION_STARTS) * self.rates.start_seconds + self.dev_seconds

    @property
    def verdict(self) -> float:
        """Base and winner on test, and the report."""
        evaluation = EVALUATION_STARTS * self.rates.start_seconds + 2 * self.test_seconds
        return evaluation + PUBLISHING_SECONDS


class Pace:
    """How much slower than measured the steps are, and what still fits into the budget.

    The first seconds may have measured a calmer machine. Seconds are those that the runner has
    recorded, so that a run that goes on decides as before.
    """

    def __init__(self, costs: StepCosts, *, budget: float) -> None:
        self.costs = costs
        self.budget = budget
        self.planned = 0.0
        self.taken = 0.0

    def add(self, planned: float, taken: float) -> None:
        """A step that is done; one that was only printed took no time."""
        if taken > 0:
            self.planned += planned
            self.taken += taken

    @property
    def factor(self) -> float:
        """Seconds taken by seconds planned; 1 before a step is done."""
        return self.taken / self.planned if self.planned else 1.0

    def left(self, spent: float) -> float:
        """Planned seconds for which there is time before the smallest choice and the verdict."""
        return (self.budget - spent) / self.factor - self.costs.choice(1) - self.costs.verdict

    def updates(
        self, recipes: Sequence[Recipe], *, batch: int, spent: float, reserved: float = 0.0
    ) -> int:
        """How many updates of each of these recipes there is time for.

        reserved: planned seconds for other things, beside the smallest choice and the verdict.
        """
        seconds = self.left(spent) - reserved - len(recipes) * self.costs.run_seconds
        return int(seconds / self.costs.updates(recipes, batch))
