"""One run from options to output files: the job for the input, its requests, its rows."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from fletching import lineage
from fletching.cli import row_options
from fletching.errors import UsageError
from fletching.io import Reader, Writer
from fletching.io.writer import check_output
from fletching.report import Report
from fletching.table import DiskTable
from fletching_synthgen import columns, dry_run, run_summary
from fletching_synthgen.jobs.registry import (
    NAMED_JOBS,
    NOTHING,
    BatchSource,
    GenerationJob,
    RequestRound,
    find_job,
    readable_schemas,
)
from fletching_synthgen.llm.budget import Budget, ModelPrice, Reservation
from fletching_synthgen.llm.chat_request import ChatRequest
from fletching_synthgen.llm.journal import Journal
from fletching_synthgen.llm.rate_limiter import RateLimiter
from fletching_synthgen.output import OutputAssembler, OutputBatch
from fletching_synthgen.prompts.library import PromptLibrary
from fletching_synthgen.request_pool import RequestPool
from fletching_synthgen.settings import endpoint_address, journal_folder, request_settings

if TYPE_CHECKING:
    from fletching_synthgen.llm.client import LLMClient
    from fletching_synthgen.options import Options

# Parameters that have an option, whose value is in the lineage by itself.
SAMPLING_OPTIONS = ("temperature", "top_p", "max_tokens")


class GenerationRun:
    """One run of the tool. Creating it checks the options and opens the input.

    Raises UsageError before any output is opened or any request is sent.
    """

    def __init__(self, options: Options, report: Report, version: str) -> None:
        self.options = options
        self.report = report
        self.version = version
        # Before any of them is opened: a later refusal would leave a temporary file.
        if not options.dry_run:
            check_output(options.output, report.tool)
            for path in (options.rejects, options.ledger):
                if path:
                    check_output(path, report.tool)
        self.server = endpoint_address(options)
        self.library = PromptLibrary(options.prompts)
        self.settings = request_settings(options, self.library)
        self.price = self._price()
        self.source = self._open_source()
        self.job = self._create_job()
        self.stop = threading.Event()
        self.budget = Budget(
            self.price,
            max_requests=options.max_requests,
            max_tokens=options.max_tokens,
            max_cost=options.max_cost,
        )
        self.journal_folder = journal_folder(options, self.job.name)

    def _price(self) -> ModelPrice | None:
        options = self.options
        table = self.library.prices(options.prices)
        price = ModelPrice.from_table(table, options.model, batch=options.batch_api)
        if options.max_cost is not None and price is None:
            entry = json.dumps({options.model: {"input": 0.15, "output": 0.6}})
            raise UsageError(
                f"--max-cost, but the price table does not know {options.model}",
                f"pass --prices FILE with {entry}: dollars a million tokens",
            )
        return price

    def _open_source(self) -> Reader | None:
        options = self.options
        if options.brainstorm:
            return None
        schemas = [NAMED_JOBS[options.job].reads] if options.job else readable_schemas()
        return Reader(self.report, options.inputs, schemas, limit=options.limit)

    def _create_job(self) -> GenerationJob:
        schema = self.source.schema.name if self.source else NOTHING
        job = find_job(schema, self.options.job)
        _check_query_options(self.options, job)
        return job(self.settings, self.options)

    def execute(self) -> int:
        """Write the output, or with --dry-run print an estimate; the exit code."""
        if self.options.dry_run:
            self._print_estimate()
            return 0
        journal = Journal(self.journal_folder)
        if journal.cut_bytes:
            self.report.note(
                f"the last line of the journal was torn by a power cut or a full disk: "
                f"{journal.cut_bytes:,} bytes cut off, and its request is sent again"
            )
        try:
            return self._write(journal)
        finally:
            self.stop.set()
            journal.close()

    # --- the work ---

    def _write(self, journal: Journal) -> int:
        source_columns = self.source.columns if self.source else None
        schema = self.job.columns(source_columns)
        assembler = OutputAssembler(self.job, schema, self.report)
        with contextlib.ExitStack() as outputs:
            out = outputs.enter_context(
                self._writer(self.options.output, self.job.writes, schema, count=True)
            )
            rejects = self._side_output(
                outputs, self.options.rejects, name="texts", schema=columns.rejects()
            )
            ledger = self._side_output(
                outputs, self.options.ledger, name="measures", schema=columns.measures()
            )
            for batch in self._batches(journal, assembler):
                if batch.rows is not None:
                    out.write(batch.rows)
                if rejects and batch.rejects is not None:
                    rejects.write(batch.rejects)
            if self.source and not self.job.keeps_input_rows:
                self.report.drop(f"{self.source.schema.name} read", self.report.rows_in)
            if ledger:
                ledger.write(run_summary.ledger_rows(self.options, assembler, self.budget))
        wanted_tasks = (self.options.brainstorm or 0) * len(self.options.types)
        return run_summary.summarise(
            self.report, assembler, self.budget, journal=journal.folder, wanted_tasks=wanted_tasks
        )

    def _writer(self, path: str | None, name: str, schema: pa.Schema, *, count: bool) -> Writer:
        return Writer(
            self.report,
            path,
            schema=name,
            columns=schema,
            version=self.version,
            options=self._lineage_options(),
            sources=[self.source] if self.source else [],
            count=count,
        )

    def _side_output(
        self, outputs: contextlib.ExitStack, path: str | None, *, name: str, schema: pa.Schema
    ) -> Writer | None:
        if not path:
            return None
        return outputs.enter_context(self._writer(path, name, schema, count=False))

    def _batches(self, journal: Journal, assembler: OutputAssembler) -> Iterator[OutputBatch]:
        """Batches of rows and rejects, round by round."""
        client = self._client(journal)
        pool = RequestPool(
            client.respond,
            threads=self.options.concurrency,
            budget=self.budget,
            worst_case=self._worst_case,
            stop=self.stop,
        )
        progress = self.report.progress("asking", unit="requests")
        with self._input_batches() as batches, progress:
            for request_round in self.job.request_rounds(batches):
                if self.budget.reached:
                    break
                if self.options.batch_api:
                    self._complete_by_batches(client, request_round)
                for request, response in pool.responses(request_round()):
                    yield from assembler.add(request, response)
                    progress.advance(1, run_summary.spent(self.budget))
            yield assembler.finish()

    def _client(self, journal: Journal) -> LLMClient:
        from fletching_synthgen.llm.client import LLMClient  # openai takes half a second to import
        from fletching_synthgen.llm.endpoint import Endpoint

        options = self.options
        endpoint = Endpoint(
            address=self.server,
            model=options.model,
            timeout=options.timeout,
            connections=options.concurrency,
        )
        rate_limiter = RateLimiter(
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            stop=self.stop,
        )
        probe_modes = options.response_format == "auto"
        return LLMClient(
            endpoint=endpoint,
            journal=journal,
            budget=self.budget,
            rate_limiter=rate_limiter,
            sampling=self.settings.sampling,
            repair_request=self.settings.repair if options.repair else None,
            retries=options.retries,
            longest_wait=options.longest_wait,
            structured_output_mode=None if probe_modes else options.response_format,
            online=not options.batch_api,
        )

    def _complete_by_batches(self, client: LLMClient, request_round: RequestRound) -> None:
        from fletching_synthgen.llm.batch_api import BatchRunner

        runner = BatchRunner(
            client=client,
            report=self.report,
            poll_seconds=self.options.poll,
            worst_case=self._worst_case,
        )
        client.online = True  # for the probe
        runner.complete(request_round)
        client.online = False

    @contextlib.contextmanager
    def _input_batches(self) -> Iterator[BatchSource]:
        """The rows read: once, or from disk where they are passed over several times."""
        source = self.source
        if source is None:
            yield lambda: ()
        elif self.options.batch_api:
            with DiskTable.from_batches(source.columns, source) as table:
                yield lambda: table
        else:
            yield lambda: source

    def _worst_case(self, request: ChatRequest) -> Reservation:
        return self.budget.worst_case(
            request.messages,
            answer_tokens=self.options.answer_tokens,
            repair=self.options.repair,
        )

    def _print_estimate(self) -> None:
        has_journal = os.path.exists(self.journal_folder)
        journal = Journal(self.journal_folder) if has_journal else None
        with self._input_batches() as batches:
            estimate = dry_run.estimate(
                self.job.request_rounds(batches),
                journal=journal,
                price=self.price,
                answer_tokens=self.options.answer_tokens,
            )
        if journal:
            journal.close()
        self.report.measures["plan"] = estimate.as_dict()
        print(estimate.as_text())
        self.report.drop("not asked: dry run", self.report.rows_in)

    # --- lineage ---

    def _lineage_options(self) -> dict[str, Any]:
        """The options that can change rows, with hashes of the user's prompts and --body."""
        options = row_options(self.options)
        if self.source is not None:
            options.pop("types", None)
        if self.library.digest:
            options["prompts"] = self.library.digest
        extra_fields = _without(self.settings.sampling, SAMPLING_OPTIONS)
        if extra_fields:  # a hash, since they may be confidential
            options["body"] = xxhash.xxh3_64_hexdigest(lineage.dump(extra_fields))
        return options


def _check_query_options(options: Options, job: type[GenerationJob]) -> None:
    """Raise UsageError for an option on queries where the job makes none."""
    settings = {
        "--queries-per-text": options.queries_per_text is not None,
        "--query-kinds": bool(options.query_kinds),
        "--queries-per-request": options.queries_per_request is not None,
        "--no-evidence": not options.evidence,
    }
    stated = [name for name, is_stated in settings.items() if is_stated]
    if stated and job.name != "queries":
        raise UsageError(
            f"{stated[0]} is for queries of texts, but the job is {job.name}", "leave it out"
        )


def _without(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
