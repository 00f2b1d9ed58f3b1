"""One run: the job that fits the input, its plan asked, its rows written."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from fletching import cli, lineage
from fletching.errors import InputError, UsageError
from fletching.io import Reader, Writer
from fletching.io.writer import check_output
from fletching.report import Report
from synthgen.jobs.enrich import Judge, Negatives
from synthgen.jobs.examples import Examples
from synthgen.jobs.queries import Queries
from synthgen.jobs.rewrite import Paraphrase, Translate
from synthgen.jobs.tasks import Tasks
from synthgen.llm.budget import Ledger, Price, Reserve, prompt_tokens
from synthgen.llm.journal import Journal
from synthgen.llm.rate_limiter import Pace
from synthgen.output import REJECTS, Output
from synthgen.prompts.library import Materials
from synthgen.request_plan import Job, Request, Setting
from synthgen.request_pool import Pool
from synthgen.settings import server, setting_of

if TYPE_CHECKING:
    from synthgen.llm.client import Asker
    from synthgen.options import Options

READS = ("tasks", "examples", "texts")


class Run:
    def __init__(self, options: Options, report: Report, version: str) -> None:
        self.options, self.report, self.version = options, report, version
        # Before any of them is opened: a later refusal would leave a temporary file.
        for path in (
            ()
            if options.dry_run
            else (options.output, options.rejects or "out.jsonl", options.ledger or "out.jsonl")
        ):
            check_output(path, report.tool)
        self.base_url, self.key = server(options)
        self.materials = Materials(options.prompts)
        self.setting = setting_of(options, self.materials)
        self.price = Price.of(options.model, self.materials.prices(options.prices), options.batch)
        if options.max_cost is not None and self.price is None:
            entry = json.dumps({options.model: {"input": 0.15, "output": 0.6}})
            raise UsageError(
                f"--max-cost, but the price table does not know {options.model}",
                f"pass --prices FILE with {entry}: dollars a million tokens",
            )
        self.source = (
            None
            if options.brainstorm
            else Reader(
                report, options.inputs, ("examples",) if options.job else READS, limit=options.limit
            )
        )
        self.job = _job(options, self.setting, self.source)
        self.stop = threading.Event()
        self.book = Ledger(self.price, options.max_requests, options.max_tokens, options.max_cost)
        self.lineage = self._lineage()

    def go(self) -> int:
        if self.options.dry_run:
            return self._dry_run()
        journal = Journal(self._folder())
        try:
            return self._write(journal)
        finally:
            self.stop.set()
            journal.close()

    # --- the work ------------------------------------------------------------------------------------

    def _write(self, journal: Journal) -> int:
        columns = self.job.columns(self.source.columns if self.source else None)
        about: dict[str, Any] = dict(
            version=self.version, options=self.lineage, sources=[self.source] if self.source else []
        )
        output = Output(self.job, columns, self.report, self.options.model)
        out = Writer(self.report, self.options.output, self.job.writes, columns, **about)
        rejects = (
            Writer(self.report, self.options.rejects, "texts", REJECTS, count=False, **about)
            if self.options.rejects
            else None
        )
        ledger = (
            Writer(
                self.report,
                self.options.ledger,
                "measures",
                _measure_columns(),
                count=False,
                **about,
            )
            if self.options.ledger
            else None
        )
        with out, rejects or contextlib.nullcontext(), ledger or contextlib.nullcontext():
            for rows, refused in self._batches(journal, output):
                if rows is not None:
                    out.write(rows)
                if rejects and refused is not None:
                    rejects.write(refused)
            if self.source and not self.job.keeps_rows:
                self.report.drop(f"{self.source.schema.name} read", self.report.rows_in)
            if ledger:
                ledger.write(self._measures(output))
        return self._tell(output, journal)

    def _batches(
        self, journal: Journal, output: Output
    ) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
        asker = self._asker(journal)
        pool = Pool(asker.outcome, self.options.concurrency, self.book, self.stop)
        with self._input() as batches, self.report.progress("asking", unit="requests") as progress:
            for wave in self.job.waves(batches):
                if self.book.reached:
                    break
                if self.options.batch:
                    self._batch(asker, wave)
                for request, outcome in pool.outcomes(wave(), self._worst):
                    yield from output.take(request, outcome)
                    progress.advance(1, self._spent())
            yield output.end()

    def _asker(self, journal: Journal) -> Asker:
        from synthgen.llm.client import Asker  # openai takes half a second to import
        from synthgen.llm.endpoint import Endpoint

        options = self.options
        endpoint = Endpoint(
            self.base_url, options.model, self.key, options.timeout, options.concurrency
        )
        pace = Pace(options.requests_per_minute, options.tokens_per_minute, self.stop)
        rung = None if options.response_format == "auto" else options.response_format
        return Asker(
            self.setting, endpoint, journal, self.book, pace, retries=options.retries, longest_wait=options.longest_wait,
            repair=options.repair, rung=rung, online=not options.batch,
        )  # fmt: skip

    def _batch(self, asker: Asker, wave: Callable[[], Iterator[Request]]) -> None:
        from synthgen.llm.batch_api import Batches

        asker.online = True  # for the probe
        Batches(asker, self.report, self.options.poll, self._worst).answer(wave)
        asker.online = False

    @contextlib.contextmanager
    def _input(self) -> Iterator[Callable[[], Iterable[pa.RecordBatch]]]:
        """The rows, once; on disk where a batch goes over them several times."""
        if self.source is None or not (self.options.batch or self.options.dry_run):
            yield lambda: self.source or ()
            return
        with tempfile.TemporaryFile(prefix="synthgen-") as spool:
            writer = pa.ipc.new_file(spool, self.source.columns)
            for batch in self.source:
                writer.write_batch(batch)
            writer.close()
            reader = pa.ipc.open_file(spool)
            yield lambda: (reader.get_batch(i) for i in range(reader.num_record_batches))

    def _worst(self, request: Request) -> Reserve:
        return self.book.worst(request.messages, self.options.answer_tokens, self.options.repair)

    # --- what is told --------------------------------------------------------------------------------

    def _spent(self) -> str:
        tokens = self.book.counts["prompt_tokens"] + self.book.counts["completion_tokens"]
        return f"{tokens:,} tokens" + (f", ${self.book.cost:.2f}" if self.price else "")

    def _tell(self, output: Output, journal: Journal) -> int:
        """Ledger, rejects and diversity in the summary; 1 where answers were paid for and none was usable."""
        totals, report = self.book.totals(), self.report
        diversity = {task: found.figures() for task, found in sorted(output.diversity.items())}
        report.measures |= {
            "ledger": totals,
            "this_run": self.book.this_run(),
            "rejected": dict(sorted(output.rejected.items())),
            "diversity": diversity,
        }
        if totals["requests"]:
            report.note(
                f"{totals['requests']:,} requests, {self._spent()}; journal: {journal.folder}"
            )
        if self.book.reached:
            report.note(
                f"stopped at {self.book.reached}; run again with more, and it goes on from there"
            )
        if output.rejected and not self.job.asks_for_rows:
            told = ", ".join(
                f"{count:,} {reason}" for reason, count in sorted(output.rejected.items())
            )
            report.note(f"rows left as they were, in full or in part: {told}")
        wanted = (self.options.brainstorm or 0) * len(self.options.types)
        if report.rows_out < wanted:
            report.note(
                f"asked for {wanted:,} tasks, got {report.rows_out:,}: ask again with another --seed and put both files together"
            )
        if output.rejected and not output.accepted:
            reason = max(output.rejected, key=lambda name: (output.rejected[name], name))
            detail = output.details.get(reason)
            report.note(
                f"no reply was usable: {reason}{detail and f' ({detail})'}; --rejects FILE shows them all"
            )
            return 1
        return 0

    def _measures(self, output: Output) -> pa.RecordBatch:
        units = {
            "cost": "USD",
            "prompt_tokens": "tokens",
            "completion_tokens": "tokens",
            "cached_tokens": "tokens",
        }
        rows = [
            dict(name=name, value=float(value), unit=units.get(name))
            for name, value in self.book.totals().items()
        ]
        rows += [
            dict(name="rejected", split=reason, value=float(count))
            for reason, count in sorted(output.rejected.items())
        ]
        for task, found in sorted(output.diversity.items()):
            rows += [
                dict(task=task, name=name, value=float(value))
                for name, value in found.figures().items()
            ]
        columns = _measure_columns()
        full = [{"run": self.options.model, **row} for row in rows]
        return pa.RecordBatch.from_arrays(
            [pa.array([row.get(f.name) for row in full], f.type) for f in columns], schema=columns
        )

    def _dry_run(self) -> int:
        """Count the plan. A brainstorm's later rounds depend on replies and are not in it."""
        requests = answered = prompt = completion = 0
        folder = self._folder()
        journal = Journal(folder) if os.path.exists(folder) else None
        with self._input() as batches:
            waves = self.job.waves(batches)
            for _, wave in zip(range(2 if self.options.brainstorm else 1), waves):
                for request in wave():
                    if not request.messages:
                        continue
                    requests += 1
                    answered += bool(journal and request.key in journal)
                    prompt += prompt_tokens(request.messages)
                    completion += min(round(request.words * 1.4) + 40, self.options.answer_tokens)
        if journal:
            journal.close()
        cost = self.price.cost(prompt, completion) if self.price else None
        plan = {
            "requests": requests,
            "answered_before": answered,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cost": cost,
        }
        self.report.measures["plan"] = plan
        money = (
            "unknown: the price table does not know the model"
            if cost is None
            else f"about ${cost:,.{2 if cost >= 1 else 4}f}"
        )
        print(
            f"requests            {requests:,}\nanswered before     {answered:,}\ntokens sent         about {prompt:,}\ntokens made         about {completion:,}\ncost                {money}"
        )
        self.report.drop("not asked: dry run", self.report.rows_in)
        return 0

    # --- what it is about ----------------------------------------------------------------------------

    def _lineage(self) -> dict[str, Any]:
        found = cli.row_options(self.options)
        if self.job.name != "brainstorm":
            found.pop("types", None)
        if self.materials.digest:
            found["prompts"] = self.materials.digest
        more = {
            name: value
            for name, value in self.setting.sampling.items()
            if name not in ("temperature", "top_p", "max_tokens")
        }
        # A hash: what a user sends along may be nobody else's business.
        return found | ({"body": xxhash.xxh3_64_hexdigest(lineage.dump(more))} if more else {})

    def _folder(self) -> str:
        """Where the journal is. For stdout: a folder of its own for each job, since two of a pipe run at once."""
        options = self.options
        if options.journal:
            return options.journal
        if options.output and options.output != "-" and not options.output.startswith("/dev/"):
            return options.output + ".journal"
        about = lineage.dump(
            {
                "job": self.job.name,
                "model": options.model,
                "seed": options.seed,
                "languages": options.languages,
            }
        )
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return os.path.join(home, "fletching", "synthgen", xxhash.xxh3_64_hexdigest(about))


def _measure_columns() -> pa.Schema:
    from fletching import schema as contract

    return contract.load("measures").arrow(["run", "task", "split", "name", "value", "unit"])


def _job(options: Options, setting: Setting, source: Reader | None) -> Job:
    """What is done follows from what is read."""
    if source is None:
        return Tasks(setting, options.types, options.brainstorm or 0)
    if source.schema.name == "tasks":
        return Examples(setting)
    if source.schema.name == "texts":
        return Queries(setting)
    if options.job is None:
        raise UsageError(
            "the input holds examples: what is to be done with them?",
            "pass --job negatives, paraphrase, translate or judge",
        )
    if options.job == "judge":
        return Judge(setting, options.replace_scores)
    if options.job == "translate" and options.languages == ("en",):
        raise InputError(
            "--job translate has no language to translate into", "pass --languages de,fr"
        )
    if options.job == "translate":
        return Translate(setting)
    return Negatives(setting) if options.job == "negatives" else Paraphrase(setting)
