"""The contest of the candidates: trained by successive halving, blended, compared on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fletching_tune.candidates import Recipe, recipe
from fletching_tune.evaluation import (
    BASE,
    BM25,
    Comparison,
    QueryScores,
    comparison_step,
    read_scores,
)
from fletching_tune.halving import Rung, survivors
from fletching_tune.options import Options
from fletching_tune.plan import Plan
from fletching_tune.selection import Gain, choose, lower_bounds
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.runner import StepRunner
from fletching_tune.steps.step import Step
from fletching_tune.training import TrainingCommands

HALF = (0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate:
    """A candidate that was trained. gain: of nDCG@10 on dev, by its best evaluation."""

    name: str
    recipe: Recipe
    path: str
    gain: float
    updates: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What dev says. scores: per query, by model. bounds: by candidate, best lower bound first.

    winner: the candidate to test; None: the base.
    """

    scores: QueryScores
    bounds: Mapping[str, Gain]
    winner: str | None
    paths: Mapping[str, str] = field(default_factory=dict)


class Contest:
    """The candidates of one run."""

    def __init__(
        self,
        options: Options,
        runner: StepRunner,
        *,
        plan: Plan,
        commands: TrainingCommands,
        test_corpus: Sequence[str],
    ) -> None:
        self.options = options
        self.runner = runner
        self.plan = plan
        self.commands = commands
        self.test_corpus = tuple(test_corpus)
        self.work = commands.work
        self.trained: list[TrainedCandidate] = []

    # --- mine ------------------------------------------------------------------------------------

    def mine_negatives(self) -> None:
        """Filter the pairs and mine hard negatives, where a recipe learns from them."""
        if self.plan.is_mined:
            self.runner.run(self.commands.filtering())
            self.runner.run(self.commands.mining())

    def rows_of(self, chosen: Recipe) -> str:
        """The file of the rows that a recipe learns from."""
        if not self.plan.is_mined:
            return self.work.split("train")
        return self.work.file("mined.parquet" if chosen.is_mined else "kept.parquet")

    # --- train -----------------------------------------------------------------------------------

    def train(self, budget: float) -> None:
        """Train by rungs; what would exceed the budget is left out, and noted."""
        names: Sequence[str] = self.plan.recipes
        for number, rung in enumerate(self.plan.rungs):
            gains = self._train_rung(names, rung, deadline=budget)
            if number + 1 == len(self.plan.rungs):
                break
            self.runner.require("who trains longer follows from this rung: run with --to train")
            names = survivors(gains, self.plan.rungs[number + 1].recipes)
            if not names:
                break

    def _train_rung(self, names: Sequence[str], rung: Rung, *, deadline: float) -> dict[str, float]:
        """Gains on dev by recipe."""
        models = []
        for name in names:
            if self.trained and self.runner.seconds > deadline:
                self.runner.report.note(f"the budget is used up: {name}-{rung.updates} is left out")
                continue
            models.append(self._train(recipe(name), rung.updates))
        gains = {}
        for name, path in models:
            self.runner.require("who trains longer follows from this rung: run with --to train")
            model = self._trained(recipe(name), path, rung.updates)
            gains[name] = model.gain
            self.trained.append(model)
        return gains

    def _train(self, chosen: Recipe, updates: int) -> tuple[str, str]:
        self.runner.run(self.training_step(chosen, updates))
        return chosen.name, f"{chosen.name}-{updates}"

    def training_step(self, chosen: Recipe, updates: int) -> Step:
        """The step that trains a recipe for so many updates."""
        return self.commands.training(
            chosen, rows=self.rows_of(chosen), updates=updates, batch=self.plan.batch
        )

    def _trained(self, chosen: Recipe, name: str, updates: int) -> TrainedCandidate:
        measures = read_summary(self.work.summary(name))["measures"]
        gain = measures["trained_metric"] - measures["base_metric"]
        if measures["best_step"] == 0:  # the folder has the base's weights
            gain = min(gain, 0.0)
        return TrainedCandidate(
            name=name, recipe=chosen, path=self.work.model(name), gain=gain, updates=updates
        )

    # --- choose ----------------------------------------------------------------------------------

    def finalists(self) -> list[TrainedCandidate]:
        """The best model of each recipe that was better than the base, best first."""
        best: dict[str, TrainedCandidate] = {}
        for model in sorted(self.trained, key=lambda model: -model.gain):
            if model.gain > 0:
                best.setdefault(model.recipe.name, model)
        return list(best.values())[: self.plan.finalists]

    def choose(self) -> Selection:
        """Blend, make soups, rank dev by all of them, and choose by lower bounds."""
        self.runner.require("the finalists follow from their training: run with --to train")
        finalists = self.finalists()
        models = {model.name: model.path for model in finalists}
        for model in finalists:
            name = f"blend-{model.name}"
            # The first one gives prompts and lengths, which options may have set in training.
            models[name] = self._mean(name, [model.path, self.commands.base], HALF)
        for count in range(2, len(finalists) + 1):
            name, path = self._soup(finalists[:count])
            models[name] = path
        scores = self._compare(models)
        greedy = self._greedy_soup(finalists, scores)
        if greedy is not None and greedy[0] not in models:
            models[greedy[0]] = greedy[1]
            scores = self._compare(models, name="dev-greedy")
        return self._selection(scores, models)

    def _selection(self, scores: QueryScores, models: Mapping[str, str]) -> Selection:
        bounds = lower_bounds(scores.gains(list(models)), self.options.seed)
        ordered = dict(sorted(bounds.items(), key=lambda item: -item[1].low))
        return Selection(scores=scores, bounds=ordered, winner=choose(ordered), paths=models)

    def _mean(self, name: str, models: Sequence[str], weights: Sequence[float]) -> str:
        self.runner.run(self.commands.blend(name, models, weights))
        return self.work.model(name)

    def _soup(self, models: Sequence[TrainedCandidate]) -> tuple[str, str]:
        name = "soup-" + "_".join(model.name for model in models)
        share = 1 / len(models)
        return name, self._mean(name, [model.path for model in models], [share] * len(models))

    def _greedy_soup(
        self, finalists: Sequence[TrainedCandidate], scores: QueryScores
    ) -> tuple[str, str] | None:
        """The soup of those finalists of which each made it better; None below three.

        The first two steps are among the soups of the best two and three already.
        """
        if len(finalists) < 3:
            return None
        first, second, third = finalists[:3]
        pair = "soup-" + "_".join([first.name, second.name])
        if scores.by_model[pair].mean() > scores.by_model[first.name].mean():
            return None
        return self._soup([first, third])

    def _compare(self, models: Mapping[str, str], name: str = "dev") -> QueryScores:
        compared = Comparison(
            name=name,
            stage="choose",
            split="dev",
            models={BASE: str(self.options.model), **models},
            corpus=self.commands.eval_corpus,
            dtype="auto",
        )
        step = comparison_step(compared, self.options, self.work)
        self.runner.run(step)
        self.runner.require("the winner follows from dev: run with --to choose")
        path = self.work.file(f"{name}.queries.parquet")
        return read_scores(path, "dev", [*compared.models, BM25])
