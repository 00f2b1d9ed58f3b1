"""The trial: the one winner on the test rows, the learning curve, the verdict and what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fletching_tune.budget import shown_minutes
from fletching_tune.contest import Contest, TrainedCandidate
from fletching_tune.counts import Counts, row_count
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
from fletching_tune.final_choice import Selection
from fletching_tune.options import Options
from fletching_tune.publishing import publish
from fletching_tune.report_evidence import query_rows
from fletching_tune.report_page import gather, write_page
from fletching_tune.selection import Gain, group_values, interval, smallest_visible
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.runner import StepRunner
from fletching_tune.verdict import FEW_QUERIES, Findings, Verdict, candidate_rows, judge
from fletching_tune.winner_card import TrialFigures, trial_figures

CURVE_SHARES = (0.25, 0.5)
TUNED = "tuned"


class Trial:
    """The last stage of one run. test_corpus: files of `texts` in which test is ranked."""

    def __init__(self, contest: Contest, *, test_corpus: Sequence[str]) -> None:
        self.contest = contest
        self.options: Options = contest.options
        self.runner: StepRunner = contest.runner
        self.plan = contest.plan
        self.work = contest.work
        self.budget = contest.pace.budget
        self.test_corpus = tuple(test_corpus)
        self.figures: TrialFigures | None = None  # known after `verdict`

    def verdict(self, selection: Selection, counts: Counts) -> Verdict:
        """The verdict on the winner of dev, or on the base where there is none."""
        winner = selection.winner
        scores, names = selection.scores, list(selection.paths)
        test = guard = None
        if winner is not None:
            scores = self._test(selection.paths[winner])
            names = [TUNED]
            test = interval(scores.gains(names)[TUNED], self.options.seed)
            self.figures = self._trial_figures(scores, test)
            guard = self._guard_change()
        best = winner or next(iter(selection.bounds), None)
        visible = smallest_visible(list(scores.gains(names).values()))
        findings = Findings(
            base=str(self.options.model),
            winner=winner,
            dev=None if best is None else selection.bounds[best],
            test=test,
            queries=counts.queries["dev" if winner is None else "test"],
            origin="generated" if self._has_generated(winner) else "held-out",
            could_have_llm=self.options.documents and not self.options.llm,
            base_score=scores.mean(BASE) or 0.0,
            bm25_score=scores.mean(BM25),
            smallest_visible=visible,
            curve=self._curve(),
            guard=guard,
            choice=selection.choice.reason,
        )
        if findings.queries < FEW_QUERIES and visible is not None:
            self.runner.report.note(
                f"{findings.queries} queries show differences of {visible:.3f} or more, "
                "hardly a smaller one"
            )
        return judge(findings, tuned=self.work.output)

    def _test(self, path: str) -> QueryScores:
        compared = Comparison(
            name="test",
            stage="verdict",
            split="test",
            models={BASE: str(self.options.model), TUNED: path},
            corpus=self.test_corpus,
            dtype="float32",
            guard=self.guard,
        )
        self.runner.run(comparison_step(compared, self.options, self.work))
        self.runner.require("the verdict follows from the test rows")
        return read_scores(self.work.file("test.queries.parquet"), "test", [BASE, TUNED, BM25])

    def _has_generated(self, winner: str | None) -> bool:
        """Are the queries that the verdict is about generated? Those of dev always are."""
        return self.options.documents and (winner is None or not self.options.test)

    def _trial_figures(self, scores: QueryScores, change: Gain) -> TrialFigures:
        """Means with intervals of base and winner, and the kinds of queries, for the card."""
        means = {
            name: interval(group_values(scores.by_model[name], scores.groups), self.options.seed)
            for name in (BASE, TUNED)
        }
        rows = query_rows(self.work.file("test.queries.parquet"), "test")
        return trial_figures(means, change, rows, tuned=TUNED)

    @property
    def guard(self) -> str | None:
        """The file that shows forgetting."""
        return guard_file(self.options, self.test_corpus)

    def _guard_change(self) -> Gain | None:
        """The change on the guard: of the share of neighbours, else of nDCG@10; None without."""
        if self.guard is None:
            return None
        path = self.work.file("test.queries.parquet")
        return interval(
            read_scores(path, GUARD, [BASE, TUNED]).gains([TUNED])[TUNED], self.options.seed
        )

    def _curve(self) -> list[tuple[float, float]]:
        """(share of the rows, gain on dev) of the best recipe, where the budget allows."""
        measured = [model for model in self.contest.trained if model.gain is not None]
        if not measured:
            return []
        best = max(measured, key=lambda model: model.gain or 0.0)
        if best.updates == best.recipe.most_updates:  # whatever the rows
            return []
        step = self.contest.training_step(best.recipe, best.updates)
        whole = self.runner.recorded_seconds(step) or 0.0
        smaller = len(CURVE_SHARES) * whole  # as long: they start and evaluate too
        if self.runner.seconds + smaller > self.budget:
            return []
        points = [(1.0, best.gain or 0.0)]
        rows = self.contest.rows_of(best.recipe)
        for share in CURVE_SHARES:
            points.append((share, self._point(best, rows, share)))
        return sorted(points)

    def _point(self, best: TrainedCandidate, rows: str, share: float) -> float:
        """The gain on dev of its recipe that learns from a share of the rows."""
        percent = f"{best.recipe.name}-{share:.0%}".rstrip("%")
        part = self.work.file(f"rows-{percent}.parquet")
        batch = best.recipe.batch_of(self.plan.batch)
        count = max(int(row_count(rows) * share), batch)
        commands = self.contest.commands
        self.runner.run(commands.sample([rows], count, out=part, stage="verdict"))
        step = commands.named_training(
            f"curve-{percent}",
            best.recipe,
            rows=part,
            updates=max(int(best.updates * share), 1),
            batch=batch,
        )
        self.runner.run(step)
        measures = read_summary(self.work.summary(f"curve-{percent}"))["measures"]
        return float(measures["trained_metric"] - measures["base_metric"])

    def _write_report(self, verdict: Verdict, selection: Selection, *, split: str) -> str:
        """Write the report into the work folder; its path."""
        best = next(iter(selection.bounds), None)
        content = gather(
            self.work,
            verdict,
            selection.bounds,
            split=split,
            tuned=best if selection.winner is None else TUNED,
            steps=self.runner.steps,
            seconds=self.runner.seconds,
        )
        notes = [*filter(None, [selection.choice.reason]), *self.contest.notes]
        path = self.work.file("report.html")
        write_page(path, dataclasses.replace(content, notes=notes))
        return path

    def _note_excess(self) -> None:
        """Say when the budget was exceeded by more than a tenth."""
        if self.runner.seconds > 1.1 * self.budget:
            self.contest.note(
                f"all steps took {shown_minutes(self.runner.seconds)}, --budget was "
                f"{shown_minutes(self.budget)}: the machine was slower than its first seconds"
            )

    def publish(self, verdict: Verdict, selection: Selection) -> str:
        """Write DIR; the text for stdout, of which the verdict is the last line."""
        split = "dev" if selection.winner is None else "test"
        with open(self.work.file(f"{split}.txt"), encoding="utf-8") as file:
            table = file.read()
        content = verdict.as_json()
        content["candidates"] = candidate_rows(selection.bounds, selection.kept)
        content["seconds"] = round(self.runner.seconds, 1)
        content["budget"] = self.budget
        self._note_excess()
        has_model = verdict.outcome != "NO GAIN" and selection.winner is not None
        publish(
            self.work,
            model=selection.paths[selection.winner or ""] if has_model else None,
            verdict=content,
            table=table,
            page=self._write_report(verdict, selection, split=split),
            steps=self.runner.steps,
            figures=self.figures if has_model else None,
        )
        choice = [f"choice    {selection.choice.reason}"] if selection.winner else []
        lines = [
            table.rstrip("\n"),
            "",
            *choice,
            f"model     {verdict.model}",
            f"report    {self.work.output.rstrip('/')}/report.html",
            f"commands  {self.work.output.rstrip('/')}/commands.sh "
            f"(steps of {shown_minutes(self.runner.seconds)} in {self.work.path}, "
            "which can be removed)",
            verdict.line,
        ]
        return "\n".join(lines) + "\n"
