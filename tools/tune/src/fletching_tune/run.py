"""One run, stage by stage: split, plan, mine, train, choose, verdict."""

from __future__ import annotations

from typing import TextIO

from fletching.errors import InputError
from fletching.report import Report
from fletching_tune import table
from fletching_tune.budget import parse_budget
from fletching_tune.candidates import requested_recipes
from fletching_tune.contest import Contest
from fletching_tune.costs import Rates
from fletching_tune.counts import Counts, distinct_texts, row_count, shared_queries, text_count
from fletching_tune.documents import DocumentCommands, describe_pairs, two_shares
from fletching_tune.final_choice import FinalChoice, Selection
from fletching_tune.options import Options
from fletching_tune.plan import SEEDS_OF_DOCUMENTS, Plan, Planner, plan_lines, split_shares
from fletching_tune.steps.printer import CommandPrinter, UndecidedStepError
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.runner import StepRunner
from fletching_tune.training import PROBED_UPDATES, TrainingCommands
from fletching_tune.trial import Trial
from fletching_tune.work_folder import WorkFolder

SPLITS = ("train", "dev", "test")


class TuningRun:
    """The stages of one command line.

    out: takes the table and the verdict.
    """

    def __init__(self, options: Options, report: Report, *, out: TextIO) -> None:
        self.options = options
        self.report = report
        self.out = out
        self.work = WorkFolder(options.output or "")
        self.budget = parse_budget(options.budget)
        self.runner: StepRunner = (
            CommandPrinter(self.work.path, report, out)
            if options.print_commands
            else StepRunner(self.work.path, report)
        )

    def run(self) -> int:
        """All stages, or those up to --to; 1 where --require-gain is not met."""
        if self.options.print_commands:
            try:
                self._stages()
            except UndecidedStepError as unknown:
                self.out.write(f"# {unknown}\n")
            return 0
        with self.runner.locked():
            if self.options.from_:
                self.runner.forget(self.options.from_)
            return self._stages()

    def _stages(self) -> int:
        counts = self.split()
        if self._stops_after("split"):
            return 0
        plan = self.plan(counts)
        if self._stops_after("plan"):
            return 0
        contest = Contest(
            self.options,
            self.runner,
            plan=plan,
            commands=TrainingCommands(
                self.options, self.work, eval_corpus=self._corpus("dev", plan.dev_documents)
            ),
            budget=self.budget,
        )
        test_corpus = self._test_corpus(plan.test_documents)
        contest.make_lists()
        if self._stops_after("mine"):
            return 0
        contest.train()
        contest.train_other_seeds()
        if self._stops_after("train"):
            return 0
        selection = FinalChoice(contest).choose()
        self._note_choice(selection)
        if self._stops_after("choose"):
            return 0
        trial = Trial(contest, test_corpus=test_corpus)
        verdict = trial.verdict(selection, counts)
        if self.options.print_commands:
            return 0
        self.report.measures |= verdict.as_json()
        self.out.write(trial.publish(verdict, selection))
        self.out.flush()
        return 1 if self.options.require_gain and verdict.outcome != "WIN" else 0

    def _stops_after(self, stage: str) -> bool:
        if self.options.to != stage:
            return False
        self.report.note(f"stopped after {stage}; the same command without --to goes on")
        return True

    def _note_choice(self, selection: Selection) -> None:
        for name, gain in selection.bounds.items():
            kept = f", keeps {selection.kept[name]:.0%} of the guard" if selection.kept else ""
            self.report.note(f"dev: {name} {gain}{kept}")
        if selection.choice.reason:
            self.report.note(f"choice: {selection.choice.reason}")

    # --- split -----------------------------------------------------------------------------------

    def split(self) -> Counts:
        """Pairs in three splits, and the documents. Raises InputError for too few."""
        options, work, runner = self.options, self.work, self.runner
        if options.documents:
            self._split_documents()
        elif options.dev:
            sources = zip(SPLITS, (options.inputs, options.dev, options.test))
            for name, tables in sources:
                columns = table.column_words(options, tables, self.report)
                step = table.pairs_step(options, work, name=name, tables=tables, columns=columns)
                runner.run(step)
            runner.require("the rows are counted first: --to split")
            self._account("pairs-train")
        else:
            tables = options.inputs
            columns = table.column_words(options, tables, self.report)
            step = table.pairs_step(options, work, name="all", tables=tables, columns=columns)
            runner.run(step)
            runner.require("the shares follow from the rows: run with --to plan first")
            self._account("pairs-all")
            pairs = work.split("all")
            queries = distinct_texts([pairs], "query")
            documents = distinct_texts([pairs], "pos")
            table.check_pairs(queries, documents, self.report.dropped)
            shares = split_shares(queries, documents)
            runner.run(table.split_step(options, work, shares, columns=columns))
        counts = self._counts()
        table.check_counts(counts, options)
        if options.dev:
            self._check_leaks(counts)
        if not table.is_grouped(options) and not options.documents:
            for step in table.documents_steps(work, SPLITS):
                runner.run(step)
        return counts

    def _split_documents(self) -> None:
        """Texts, queries for them, and those of them that are found again, in splits."""
        commands, runner = DocumentCommands(self.options, self.work), self.runner
        runner.run(commands.texts())
        for step in commands.queries():
            seconds = runner.run(step)
            if step.program == "synthgen":  # an LLM takes as long as it takes
                self.budget += seconds
        for step in commands.round_trip():
            runner.run(step)
        runner.require("the shares follow from the queries: run with --to plan first")
        self._account("round")
        searched, has_llm = row_count(self.work.searched), self.options.llm is not None
        self.report.note(describe_pairs(self.work, searched=searched, has_llm=has_llm))
        pairs = self.work.split("all")
        queries, documents = (distinct_texts([pairs], name) for name in ("query", "pos"))
        table.check_pairs(queries, documents, self.report.dropped)
        shares = split_shares(queries, documents)
        if self.options.test:
            shares = two_shares(shares)
            runner.run(commands.test())
        runner.run(commands.split(shares))

    def _check_leaks(self, counts: Counts) -> None:
        """Note queries of --dev and --test that are trained on. Raises InputError for all."""
        train = self.work.split("train")
        for name in ("dev", "test"):
            shared, whole = shared_queries(self.work.split(name), train), counts.queries[name]
            if shared == whole:
                raise InputError(
                    f"every query of --{name} is in TABLE too: nothing would be held out",
                    f"give other rows to --{name}, or leave --dev and --test out",
                )
            if shared:
                self.report.note(f"{shared:,} of {whole:,} {name} queries are in TABLE too")

    def _counts(self) -> Counts:
        paths = {name: self.work.split(name) for name in SPLITS}
        rows = {name: row_count(path) for name, path in paths.items()}
        queries = {name: distinct_texts([path], "query") for name, path in paths.items()}
        # Rows of a category rank each other: the rows of another split are not searched.
        searched = [paths["dev"]] if table.is_grouped(self.options) else list(paths.values())
        if self.options.documents:
            documents = row_count(self.work.searched)
        else:
            documents = distinct_texts(searched, "pos")
        documents += text_count(self.options.corpus, self.report)
        return Counts(rows=rows, queries=queries, documents=documents)

    def _account(self, step: str) -> None:
        """The account of rows of csv2pairs as that of this run."""
        summary = read_summary(self.work.summary(step))
        self.report.rows_in = summary["rows_in"]
        self.report.rows_out = summary["rows_out"]
        self.report.added.update(summary["added"])
        self.report.dropped.update(summary["dropped"])

    # --- plan ------------------------------------------------------------------------------------

    def plan(self, counts: Counts) -> Plan:
        """Measure, plan, and say the plan in two lines. Raises InputError for a small budget."""
        options, probe = self.options, self._probing().probe()
        seconds = self.runner.run(probe)
        self.runner.require("the plan follows from the measured rate: run with --to plan first")
        rates = measured_rates(read_summary(self.work.summary("probe"))["measures"], seconds)
        recipes = requested_recipes(
            options.candidates, documents=options.documents, has_llm=options.llm is not None
        )
        plan = Planner(
            counts=counts,
            rates=rates,
            spent=self.runner.seconds,
            recipes=recipes,
            seeds=SEEDS_OF_DOCUMENTS if options.documents else 1,
            keeps_all=bool(options.candidates),
            # Of one recipe that is trained to its end, dev need not choose before the models are.
            evaluates_training=not options.documents or len(recipes) > 1,
        ).plan(self.budget)
        for line in plan_lines(plan, counts, rates, budget=self.budget):
            self.report.note(line)
        return plan

    def _corpus(self, split: str, count: int | None) -> list[str]:
        """The documents in which a split is ranked. count: how many; None: all of them."""
        return self._sampled(self.documents, split, count)

    def _test_corpus(self, count: int | None) -> list[str]:
        """The same for test. People's queries search texts as they are, with their titles."""
        if self.options.documents and self.options.test:
            return self._sampled([self.work.texts, *self.options.corpus], "test", count)
        return self._corpus("test", count)

    def _sampled(self, documents: list[str], split: str, count: int | None) -> list[str]:
        if count is None or not documents:
            return documents
        sampled = self.work.file(f"{split}-documents.parquet")
        sample = self._probing().sample(documents, count, out=sampled, stage="mine")
        self.runner.run(sample)
        return [sampled]

    def _probing(self) -> TrainingCommands:
        return TrainingCommands(self.options, self.work, eval_corpus=self.documents)

    @property
    def documents(self) -> list[str]:
        """Files of the documents that are searched in use."""
        corpus = list(self.options.corpus)
        if self.options.documents:
            return [self.work.searched, *corpus]
        return corpus if table.is_grouped(self.options) else [self.work.documents, *corpus]


def measured_rates(measures: dict[str, float], seconds: float) -> Rates:
    """Rates from the summary of contrast-train --dry-run, which took so many seconds.

    It times about one update.
    """
    from fletching_tune.costs import FORWARD_SHARE
    from fletching_tune.training_shape import LARGEST_BATCH

    update = measures["estimated_seconds"] / PROBED_UPDATES
    token_seconds = update / max(measures["tokens_per_step"], 1)
    tokens = measures.get("document_tokens_mean") or measures["query_tokens_mean"]
    # The mean is that of whole documents: of a row, so much is left after truncation.
    row_tokens = measures["tokens_per_step"] / LARGEST_BATCH
    tokens = min(tokens, max(row_tokens - measures.get("query_tokens_mean", 0.0), 1.0))
    return Rates(
        row_seconds=update / LARGEST_BATCH,
        text_seconds=token_seconds * tokens * FORWARD_SHARE,
        start_seconds=max(seconds - update, seconds / 4),
    )
