"""The contest of the candidates: trained by successive halving, within the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching_tune import table
from fletching_tune.candidates import Lists, Recipe, recipe
from fletching_tune.costs import Pace
from fletching_tune.counts import row_count
from fletching_tune.halving import Rung, survivors
from fletching_tune.options import Options
from fletching_tune.plan import MOST_LISTED_ROWS, Plan
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.runner import StepRunner
from fletching_tune.steps.step import Step
from fletching_tune.training import TrainingCommands
from fletching_tune.training_shape import FEWEST_UPDATES

LEAST_SHARE_OF_A_SEED = 2 / 3  # of the updates of the first one: it counts as much in the mean
WORTH_LONGER = 1.2  # a rung that is less longer than the one before is not trained


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate:
    """A candidate that was trained.

    gain: of nDCG@10 on dev, by its best evaluation, with the first of its seeds; None where its
    training was not evaluated.
    """

    name: str
    recipe: Recipe
    path: str
    gain: float | None
    updates: int
    seeds: int = 1


class Contest:
    """The candidates of one run.

    notes: what was left out for lack of time.
    """

    def __init__(
        self,
        options: Options,
        runner: StepRunner,
        *,
        plan: Plan,
        commands: TrainingCommands,
        budget: float,
    ) -> None:
        self.options = options
        self.runner = runner
        self.plan = plan
        self.commands = commands
        self.work = commands.work
        self.pace = Pace(plan.costs, budget=budget)
        self.notes: list[str] = []
        self.trained: list[TrainedCandidate] = []
        self.other_seeds: list[str] = []  # folders of the best one, trained with other seeds

    # --- mine ------------------------------------------------------------------------------------

    def make_lists(self) -> None:
        """Make the lists that recipes learn from: hard negatives of filtered pairs, and the best
        texts of a hybrid search.
        """
        steps: dict[Lists, list[Step]] = {
            "negatives": [self.commands.filtering(), self.commands.mining()],
            "hybrid": self._hybrid_steps(),
        }
        for lists, of_lists in steps.items():
            if lists not in self.plan.lists:
                continue
            seconds = sum(self.runner.run(step) for step in of_lists)
            self.pace.add(self.plan.costs.list_seconds[lists], seconds)

    def _hybrid_steps(self) -> list[Step]:
        """Of more rows than the seeds of a recipe see, a sample."""
        rows, steps = self.work.split("train"), []
        documents = [self.work.searched] if self.options.documents else []
        if row_count(rows) > MOST_LISTED_ROWS:
            sampled = self.work.file("hybrid-rows.parquet")
            steps = [self.commands.sample([rows], MOST_LISTED_ROWS, out=sampled, stage="mine")]
            if not documents:  # the other rows' positives are still texts to find
                documents = [self.work.file("hybrid-documents.parquet")]
                steps += table.positives_steps(self.work, [rows], out=documents[0], stage="mine")
            rows = sampled
        return [
            *steps,
            self.commands.hybrid_lists(rows, documents),
            self.commands.fixed_vectors(),
        ]

    def rows_of(self, chosen: Recipe) -> str:
        """The file of the rows that a recipe learns from."""
        if chosen.lists == "hybrid":
            return self.work.file("hybrid.parquet")
        if "negatives" not in self.plan.lists:
            return self.work.split("train")
        return self.work.file("mined.parquet" if chosen.lists == "negatives" else "kept.parquet")

    # --- train -----------------------------------------------------------------------------------

    def train(self) -> None:
        """Train by rungs; what the time does not allow at this pace is left out, and noted."""
        recipes: Sequence[Recipe] = [recipe(name) for name in self.plan.recipes]
        shorter = 0
        for number, rung in enumerate(self.plan.rungs):
            updates = self._updates_in_time(recipes, rung.updates) if number else rung.updates
            if updates < shorter * WORTH_LONGER:
                self.note(f"{rung.updates} updates would exceed the budget: left out")
                break
            if updates < rung.updates:
                self.note(f"{updates} updates of {rung.updates}, to keep to the budget")
            gains = self._train_rung(recipes, updates)
            shorter = updates
            if number + 1 < len(self.plan.rungs):
                self.runner.require("who trains longer follows from this rung: run with --to train")
                recipes = self._survivors(gains, updates, self.plan.rungs[number + 1])
                if not recipes:
                    break

    def _survivors(self, gains: Mapping[str, float], updates: int, longer: Rung) -> list[Recipe]:
        """Those that go on after so many updates; one that has all of its own is done."""
        unfinished = {
            name: gain
            for name, gain in gains.items()
            if recipe(name).trains_on(updates, longer.updates)
        }
        return [recipe(name) for name in survivors(unfinished, longer.recipes)]

    def note(self, text: str) -> None:
        """Something for stderr and for the report."""
        self.notes.append(text)
        self.runner.report.note(text)

    def _updates_in_time(
        self, recipes: Sequence[Recipe], wanted: int, *, reserved: float = 0.0
    ) -> int:
        spent, batch = self.runner.seconds, self.plan.batch
        return min(self.pace.updates(recipes, batch=batch, spent=spent, reserved=reserved), wanted)

    def _train_rung(self, recipes: Sequence[Recipe], updates: int) -> dict[str, float]:
        """Gains on dev by recipe; 0 where nothing measured them."""
        begun: list[Recipe] = []
        for each in recipes:
            if begun and not self._is_in_time(each, updates):
                name = f"{each.name}-{each.updates_of(updates)}"
                self.note(f"{name} would exceed the budget: left out")
                continue
            planned = self.plan.costs.training([each], updates, batch=self.plan.batch)
            self.pace.add(planned, self.runner.run(self.training_step(each, updates)))
            begun.append(each)
        self.runner.require("who trains longer follows from this rung: run with --to train")
        models = [self._trained(each, updates) for each in begun]
        self.trained += models
        return {model.recipe.name: model.gain or 0.0 for model in models}

    def _is_in_time(self, chosen: Recipe, updates: int) -> bool:
        """Is there time for this run, and for one of FEWEST_UPDATES where it is shorter?"""
        batch = self.plan.batch
        planned = self.plan.costs.training([chosen], updates, batch=batch)
        enough = min(FEWEST_UPDATES, self.plan.updates)
        if updates < enough:
            planned += self.plan.costs.training([chosen], enough, batch=batch)
        return planned <= self.pace.left(self.runner.seconds)

    def training_step(self, chosen: Recipe, updates: int) -> Step:
        """The step that trains a recipe for so many updates."""
        return self.commands.training(
            chosen,
            rows=self.rows_of(chosen),
            updates=chosen.updates_of(updates),
            batch=chosen.batch_of(self.plan.batch),
            is_evaluated=self.plan.evaluates_training,
        )

    def _trained(self, chosen: Recipe, updates: int) -> TrainedCandidate:
        updates = chosen.updates_of(updates)
        name = f"{chosen.name}-{updates}"
        return TrainedCandidate(
            name=name,
            recipe=chosen,
            path=self.work.model(name),
            gain=self._measured_gain(name),
            updates=updates,
        )

    def _measured_gain(self, name: str) -> float | None:
        """On dev, while it was trained; at most 0 where the folder has the base's weights."""
        if not self.plan.evaluates_training:
            return None
        measures = read_summary(self.work.summary(name))["measures"]
        gain: float = measures["trained_metric"] - measures["base_metric"]
        return min(gain, 0.0) if measures["best_step"] == 0 else gain

    def train_other_seeds(self) -> None:
        """Train the best candidate again with other seeds, shorter where the machine is slower."""
        finalists = self.finalists()
        for best in finalists[:1]:
            costs = self.plan.costs
            choice = costs.choice(len(finalists)) - costs.choice(1) + costs.mean_of(self.plan.seeds)
            for number in range(1, self.plan.seeds):
                left = self.plan.seeds - number
                updates = self._updates_of_seed(best, left=left, reserved=choice)
                if not updates:
                    seeds = f"{left} of {self.plan.seeds} seeds of {best.name}"
                    self.note(f"{seeds} would exceed the budget: left out")
                    return
                if updates < best.updates:
                    less = f"{updates} updates of {best.updates} with seed {number}"
                    self.note(f"{less}, to keep to the budget")
                self._train_seed(best, number, updates)

    def _updates_of_seed(self, best: TrainedCandidate, *, left: int, reserved: float) -> int:
        """An equal part of the time that is left for so many seeds, or for fewer; 0 for none.

        reserved: planned seconds that the finalists' comparison takes beside the smallest one.
        """
        fewest = best.updates * LEAST_SHARE_OF_A_SEED
        for seeds in range(left, 0, -1):
            updates = self._updates_in_time([best.recipe] * seeds, best.updates, reserved=reserved)
            if updates >= fewest:
                return updates
        return 0

    def _train_seed(self, best: TrainedCandidate, number: int, updates: int) -> None:
        name, batch = f"{best.recipe.name}-{updates}-seed{number}", self.plan.batch
        step = self.commands.named_training(
            name,
            best.recipe,
            rows=self.rows_of(best.recipe),
            updates=updates,
            batch=best.recipe.batch_of(batch),
            seed=number,
            is_evaluated=self.plan.evaluates_training,
        )
        planned = self.plan.costs.training([best.recipe], updates, batch=batch)
        self.pace.add(planned, self.runner.run(step))
        self.runner.require("the other seeds follow from this one: run with --to train")
        gain = self._measured_gain(name)
        if gain is not None and gain <= 0:
            self.note(f"{name} was never better than the base on dev: left out of the mean")
        else:
            self.other_seeds.append(self.work.model(name))

    def finalists(self) -> list[TrainedCandidate]:
        """The best model of each recipe that was better than the base, best first.

        Without evaluations every model may be better.
        """
        best: dict[str, TrainedCandidate] = {}
        for model in sorted(self.trained, key=lambda model: -(model.gain or 0.0)):
            if model.gain is None or model.gain > 0:
                best.setdefault(model.recipe.name, model)
        return list(best.values())[: self.plan.finalists]
