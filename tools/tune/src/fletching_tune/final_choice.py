"""The final choice: the best candidates, their blends and soups on dev, and what they forget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fletching_tune.contest import Contest, TrainedCandidate
from fletching_tune.evaluation import (
    BASE,
    BM25,
    GUARD,
    Comparison,
    QueryScores,
    comparison_step,
    guard_file,
    read_scores,
)
from fletching_tune.selection import Choice, Gain, choose, lower_bounds

ONE_SEED, SEVERAL_SEEDS = 0.5, 0.7  # of a blend with the base: the mean of seeds strays less


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What dev says. scores: per query, by model. bounds: by candidate, best lower bound first.

    choice: the candidate to test, and why. kept: the share of the guard that each one keeps.
    """

    scores: QueryScores
    bounds: Mapping[str, Gain]
    choice: Choice
    paths: Mapping[str, str]
    kept: Mapping[str, float] = field(default_factory=dict)

    @property
    def winner(self) -> str | None:
        """The candidate to test; None: the base."""
        return self.choice.winner


class FinalChoice:
    """Who of the trained candidates, their blends with the base and their soups is tested."""

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.options = contest.options
        self.runner = contest.runner
        self.commands = contest.commands
        self.work = contest.work
        self.costs = contest.plan.costs

    def choose(self) -> Selection:
        """Blend, make soups, rank dev by all of them, and choose by lower bounds."""
        self.runner.require("the finalists follow from their training: run with --to train")
        finalists = self._in_time(self.contest.finalists())
        finalists = [*map(self._average_of_seeds, finalists[:1]), *finalists[1:]]
        models = {model.name: model.path for model in finalists}
        for model in finalists:
            name = f"blend-{model.name}"
            # The first one gives prompts and lengths, which options may have set in training.
            share = ONE_SEED if model.seeds == 1 else SEVERAL_SEEDS
            paths = [model.path, self.commands.base]
            models[name] = self._mean(name, paths, [share, 1 - share])
        for count in range(2, len(finalists) + 1):
            name, path = self._soup(finalists[:count])
            models[name] = path
        scores = self._compare(models)
        greedy = self._greedy_soup(finalists, scores)
        if greedy is None or greedy[0] in models:
            return self._selection(scores, models, file="dev")
        models[greedy[0]] = greedy[1]
        scores = self._compare(models, file="dev-greedy")
        return self._selection(scores, models, file="dev-greedy")

    def _average_of_seeds(self, best: TrainedCandidate) -> TrainedCandidate:
        """The mean of the weights of all its seeds, in its place; itself where it has one seed."""
        paths = [best.path, *self.contest.other_seeds]
        if len(paths) == 1:
            return best
        name = f"{best.name}-{len(paths)}seeds"
        path = self._mean(name, paths, [1 / len(paths)] * len(paths))
        return dataclasses.replace(best, name=name, path=path, seeds=len(paths))

    def _in_time(self, finalists: Sequence[TrainedCandidate]) -> Sequence[TrainedCandidate]:
        """As many of the best as there is time to blend and to compare; at least one."""
        count = len(finalists)
        left = self.contest.pace.left(self.runner.seconds)
        while count > 1 and self.costs.choice(count) - self.costs.choice(1) > left:
            count -= 1
        if count < len(finalists):
            note = f"the best {count} of {len(finalists)} are compared, to keep to the budget"
            self.contest.note(note)
        return finalists[:count]

    def _selection(self, scores: QueryScores, models: Mapping[str, str], *, file: str) -> Selection:
        gains = scores.gains(list(models))
        bounds = lower_bounds(gains, self.options.seed)
        ordered = dict(sorted(bounds.items(), key=lambda item: -item[1].low))
        kept: dict[str, float] = {}
        if models and self.guard is not None:
            path = self.work.file(f"{file}.queries.parquet")
            kept = read_scores(path, GUARD, [BASE, *models]).shares(list(models))
        choice = choose(
            ordered,
            gains,
            kept,
            least=self.options.guard_share,
            is_proxy=self.options.documents and bool(self.options.test),
        )
        return Selection(scores=scores, bounds=ordered, choice=choice, paths=models, kept=kept)

    @property
    def guard(self) -> str | None:
        """The file that shows forgetting."""
        return guard_file(self.options, self.commands.eval_corpus)

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
        is_in_time = self.costs.another_soup <= self.contest.pace.left(self.runner.seconds)
        if len(finalists) < 3 or not is_in_time:
            return None
        first, second, third = finalists[:3]
        pair = "soup-" + "_".join([first.name, second.name])
        if scores.by_model[pair].mean() > scores.by_model[first.name].mean():
            return None
        return self._soup([first, third])

    def _compare(self, models: Mapping[str, str], file: str = "dev") -> QueryScores:
        compared = Comparison(
            name=file,
            stage="choose",
            split="dev",
            models={BASE: str(self.options.model), **models},
            corpus=self.commands.eval_corpus,
            dtype="auto",
            guard=self.guard if models else None,
        )
        step = comparison_step(compared, self.options, self.work)
        self.runner.run(step)
        self.runner.require("the winner follows from dev: run with --to choose")
        path = self.work.file(f"{file}.queries.parquet")
        return read_scores(path, "dev", [*compared.models, BM25])
