"""The trial: the one winner on the test rows, the learning curve, the verdict and what is left."""

from __future__ import annotations

from fletching_tune.budget import shown_minutes
from fletching_tune.contest import Contest, Selection, TrainedCandidate
from fletching_tune.counts import Counts, row_count
from fletching_tune.evaluation import (
    BASE,
    BM25,
    Comparison,
    QueryScores,
    comparison_step,
    read_scores,
)
from fletching_tune.options import Options
from fletching_tune.plan import Plan
from fletching_tune.publishing import publish
from fletching_tune.report_page import gather, write_page
from fletching_tune.selection import Gain, interval, smallest_visible
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.runner import StepRunner
from fletching_tune.verdict import FEW_QUERIES, Findings, Verdict, candidate_rows, judge

CURVE_SHARES = (0.25, 0.5)
TUNED = "tuned"
FEWEST_GUARD_TEXTS = 50


class Trial:
    """The last stage of one run."""

    def __init__(
        self, options: Options, runner: StepRunner, *, plan: Plan, contest: Contest
    ) -> None:
        self.options = options
        self.runner = runner
        self.plan = plan
        self.contest = contest
        self.work = contest.work

    def verdict(self, selection: Selection, counts: Counts, *, budget: float) -> Verdict:
        """The verdict on the winner of dev, or on the base where there is none."""
        winner = selection.winner
        scores, names = selection.scores, list(selection.paths)
        test = guard = None
        if winner is not None:
            scores = self._test(selection.paths[winner])
            names = [TUNED]
            test = interval(scores.gains(names)[TUNED], self.options.seed)
            guard = self._guard_change()
        best = winner or next(iter(selection.bounds), None)
        visible = smallest_visible(list(scores.gains(names).values()))
        findings = Findings(
            base=str(self.options.model),
            winner=winner,
            dev=None if best is None else selection.bounds[best],
            test=test,
            queries=counts.queries["dev" if winner is None else "test"],
            base_score=scores.mean(BASE) or 0.0,
            bm25_score=scores.mean(BM25),
            smallest_visible=visible,
            curve=self._curve(budget),
            guard=guard,
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
            corpus=self.contest.test_corpus,
            dtype="float32",
            guard=self.guard,
        )
        self.runner.run(comparison_step(compared, self.options, self.work))
        self.runner.require("the verdict follows from the test rows")
        return read_scores(self.work.file("test.queries.parquet"), "test", [BASE, TUNED, BM25])

    @property
    def guard(self) -> str | None:
        """What shows forgetting: --guard, else the documents, whose neighbours the base knows."""
        if self.options.guard is not None:
            return self.options.guard
        corpus = self.contest.test_corpus
        return corpus[0] if corpus and row_count(corpus[0]) >= FEWEST_GUARD_TEXTS else None

    def _guard_change(self) -> Gain | None:
        """The change of nDCG@10 on the guard; None without one."""
        if self.guard is None:
            return None
        path = self.work.file("test.queries.parquet")
        return interval(
            read_scores(path, "guard", [BASE, TUNED]).gains([TUNED])[TUNED], self.options.seed
        )

    def _curve(self, budget: float) -> list[tuple[float, float]]:
        """(share of the rows, gain on dev) of the best recipe, where the budget allows."""
        trained = sorted(self.contest.trained, key=lambda model: -model.gain)
        if not trained:
            return []
        best = trained[0]
        step = self.contest.training_step(best.recipe, best.updates)
        whole = self.runner.recorded_seconds(step) or 0.0
        if self.runner.seconds + len(CURVE_SHARES) * whole > budget:  # start and evaluations too
            return []
        points = [(1.0, best.gain)]
        rows = self.contest.rows_of(best.recipe)
        for share in CURVE_SHARES:
            points.append((share, self._point(best, rows, share)))
        return sorted(points)

    def _point(self, best: TrainedCandidate, rows: str, share: float) -> float:
        """The gain on dev of its recipe that learns from a share of the rows."""
        percent = f"{best.recipe.name}-{share:.0%}".rstrip("%")
        part = self.work.file(f"rows-{percent}.parquet")
        count = max(int(row_count(rows) * share), self.plan.batch)
        commands = self.contest.commands
        self.runner.run(commands.sample([rows], count, part))
        step = commands.named_training(
            f"curve-{percent}",
            best.recipe,
            rows=part,
            updates=max(int(best.updates * share), 1),
            batch=self.plan.batch,
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
        path = self.work.file("report.html")
        write_page(path, content)
        return path

    def publish(self, verdict: Verdict, selection: Selection) -> str:
        """Write DIR; the text for stdout, of which the verdict is the last line."""
        split = "dev" if selection.winner is None else "test"
        with open(self.work.file(f"{split}.txt"), encoding="utf-8") as file:
            table = file.read()
        content = verdict.as_json()
        content["candidates"] = candidate_rows(selection.bounds)
        content["seconds"] = round(self.runner.seconds, 1)
        has_model = verdict.outcome != "NO GAIN" and selection.winner is not None
        publish(
            self.work,
            model=selection.paths[selection.winner or ""] if has_model else None,
            verdict=content,
            table=table,
            page=self._write_report(verdict, selection, split=split),
            steps=self.runner.steps,
        )
        lines = [
            table.rstrip("\n"),
            "",
            f"model     {verdict.model}",
            f"report    {self.work.output.rstrip('/')}/report.html",
            f"commands  {self.work.output.rstrip('/')}/commands.sh "
            f"(steps of {shown_minutes(self.runner.seconds)} in {self.work.path}, "
            "which can be removed)",
            verdict.line,
        ]
        return "\n".join(lines) + "\n"
