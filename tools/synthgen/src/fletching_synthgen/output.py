"""From responses to batches of rows, without duplicates; rejects with their raw text."""

from __future__ import annotations

import collections
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from fletching import schema as contract
from fletching.report import Report
from fletching.text import normalise
from fletching_synthgen import columns
from fletching_synthgen.diversity import Diversity
from fletching_synthgen.jobs.registry import GeneratedRow, GenerationJob, RowOrRejection
from fletching_synthgen.llm.client import LLMResponse
from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.request_plan import InputRow, PlannedRequest
from fletching_synthgen.text_validation import SHOWN_CHARACTERS

BATCH_ROWS = 1024


def text_key(*parts: str) -> int:
    """64 bits of normalised texts: equal for texts that differ only in case, blanks or width."""
    joined = "\0".join(normalise(part) for part in parts)
    return xxhash.xxh3_64_intdigest(joined.encode())


class OutputBatch(NamedTuple):
    """Rows and rejects that are ready to be written."""

    rows: pa.RecordBatch | None = None
    rejects: pa.RecordBatch | None = None


class RowBatchBuilder:
    """Collects generated rows into batches.

    Rows of one input batch are collected together, so that Arrow copies the columns that nobody
    changed. inherits_all: every column of the input row is the row's; otherwise only those that
    `examples` does not know.
    """

    def __init__(self, schema: pa.Schema, *, inherits_all: bool) -> None:
        self.schema = schema
        self.inherits_all = inherits_all
        self.source: pa.RecordBatch | None = None
        self.indices: list[int] = []
        self.rows: list[GeneratedRow] = []

    def add(self, row: InputRow | None, values: GeneratedRow) -> Iterator[pa.RecordBatch]:
        """Add a row made from an input row; yields the batch before it where that is complete."""
        source = row.batch if row else None
        is_full = len(self.rows) == BATCH_ROWS
        if self.rows and (is_full or source is not self.source):
            yield self.flush()
        self.source = source
        self.indices.append(row.index if row else 0)
        self.rows.append(values)

    def flush(self) -> pa.RecordBatch:
        """The batch of the rows so far."""
        inherited: pa.RecordBatch | None = None
        if self.source is not None:
            inherited = self.source.take(pa.array(self.indices, pa.int64()))
        arrays = [self._column(field, inherited) for field in self.schema]
        self.indices = []
        self.rows = []
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _column(self, field: pa.Field, inherited: pa.RecordBatch | None) -> pa.Array:
        """New values where a row has them, else those of its input row."""
        before = self._inherited_column(field, inherited)
        is_changed = any(field.name in values for values in self.rows)
        if before is not None and not is_changed:
            return before
        defaults = [None] * len(self.rows) if before is None else before.to_pylist()
        merged = [values.get(field.name, default) for values, default in zip(self.rows, defaults)]
        return pa.array(merged, field.type)

    def _inherited_column(
        self, field: pa.Field, inherited: pa.RecordBatch | None
    ) -> pa.Array | None:
        if inherited is None or field.name not in inherited.schema.names:
            return None
        is_known = contract.load("examples").field(field.name) is not None
        if is_known and not self.inherits_all:
            return None
        return inherited.column(field.name)


class OutputAssembler:
    """The rows of a job in the order of its plan, and the account of what was rejected.

    rejected: counts by reason. details: the first detail of each reason. diversity: by task.
    accepted: generated rows.
    """

    def __init__(self, job: GenerationJob, schema: pa.Schema, report: Report) -> None:
        self.job = job
        self.report = report
        self.rows = RowBatchBuilder(schema, inherits_all=job.keeps_input_rows)
        self.rejects = RowBatchBuilder(columns.rejects(), inherits_all=False)
        self.written_keys: set[int] = set()
        self.rejected: Counter[str] = Counter()
        self.details: dict[str, str] = {}
        self.accepted = 0
        self.diversity: dict[str, Diversity] = collections.defaultdict(Diversity)

    def add(self, request: PlannedRequest, response: LLMResponse | None) -> Iterator[OutputBatch]:
        """Add the rows of a response; None: the model was not asked. Yields complete batches."""
        for item in self._items(request, response):
            if isinstance(item, RejectedResponseError):
                self._count_rejection(item)
                raw_text = response.raw_text if response else ""
                reject = _reject_row(item, request, raw_text)
                for batch in self.rejects.add(None, reject):
                    yield OutputBatch(rejects=batch)
            else:
                for batch in self.rows.add(request.row, item):
                    yield OutputBatch(rows=batch)

    def finish(self) -> OutputBatch:
        """The rows and rejects that are left."""
        return OutputBatch(
            rows=self.rows.flush() if self.rows.rows else None,
            rejects=self.rejects.flush() if self.rejects.rows else None,
        )

    def _items(self, request: PlannedRequest, response: LLMResponse | None) -> list[RowOrRejection]:
        """The rows and rejections of a request; rows that are added are counted."""
        if response is None:
            return self._unasked_rows(request)
        if response.content is None:
            return self._rows_of_failure(request, response.rejection)
        return self._rows_of_content(request, response.content, response.model)

    def _unasked_rows(self, request: PlannedRequest) -> list[RowOrRejection]:
        rows = self.job.rows_without_response(request)
        # Rows that were read are not added.
        self._count_added(0 if self.job.keeps_input_rows else len(rows))
        return [*rows]

    def _rows_of_failure(
        self, request: PlannedRequest, rejection: RejectedResponseError | None
    ) -> list[RowOrRejection]:
        rejection = rejection or RejectedResponseError("no reply")
        rows = self.job.rows_without_response(request)
        if not self.job.adds_rows:
            return [*rows, rejection]
        lost = max(len(request.requested_attributes), 1)
        self._count_added(lost)
        return [*rows, *[rejection] * lost]

    def _rows_of_content(
        self, request: PlannedRequest, content: dict[str, Any], model: str
    ) -> list[RowOrRejection]:
        marks = {"synth_model": model, "synth_request": request.key}
        items: list[RowOrRejection] = []
        for item in self.job.rows(request, content):
            if isinstance(item, dict) and item:
                item = self._deduplicated(item, request)
            if isinstance(item, dict) and item:
                self.accepted += 1
                item = item | marks
            items.append(item)
        if self.job.adds_rows:
            kept = len(self.job.rows_without_response(request))
            self._count_added(len(items) - kept)
        return items

    def _deduplicated(self, row: GeneratedRow, request: PlannedRequest) -> RowOrRejection:
        """The row, or a rejection of a query or a pair that is already written."""
        if self.job.writes == "tasks":
            self.diversity[row["type"]].add({"text": row["text"]})
            return row
        if not self.job.adds_rows:
            return row
        query = row["query"]
        positives = row["pos"] if "pos" in row else request.input_row.texts("pos")
        target = _target(row, request)
        keys = {text_key("query", query, target), text_key("pair", query, *positives)}
        if keys & self.written_keys:
            return RejectedResponseError("duplicate", query[:SHOWN_CHARACTERS])
        self.written_keys |= keys
        texts = {"query": query, "pos": positives[0]}
        if row.get("neg"):
            texts["neg"] = row["neg"][0]
        self.diversity[row.get("task") or self.job.name].add(texts)
        return row

    def _count_added(self, rows: int) -> None:
        self.report.add(f"{self.job.writes} asked for", rows)

    def _count_rejection(self, rejection: RejectedResponseError) -> None:
        self.rejected[rejection.reason] += 1
        self.details.setdefault(rejection.reason, rejection.detail)
        if self.job.adds_rows:
            self.report.drop(rejection.reason)


def _target(row: GeneratedRow, request: PlannedRequest) -> str:
    """What the query of a row is about: a task, a passage or the input row."""
    if row.get("task_id"):
        return str(row["task_id"])
    if row.get("pos_ids"):
        return str(row["pos_ids"][0])
    return request.input_row.text("id")


def _reject_row(
    rejection: RejectedResponseError, request: PlannedRequest, raw_text: str
) -> GeneratedRow:
    """A row of --rejects."""
    return {
        "id": request.slot,
        "text": _encodable(raw_text),
        "reject_reason": rejection.reason,
        "reject_detail": _encodable(rejection.detail),
        "synth_slot": request.slot,
        "source_id": request.row.text("id") if request.row else None,
        "synth_request": request.key,
    }


def _encodable(text: str) -> str:
    """The text with ? for half surrogate pairs, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
