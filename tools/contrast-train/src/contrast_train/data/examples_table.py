"""The training rows as one Arrow file: the columns that training reads, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from contrast_train.losses.requirements import DatasetStats, LossRequirements, Row
from fletching import schema
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.prompts import QueryPrompts
from fletching.report import Report
from fletching.table import DiskTable
from fletching.titled_texts import titled_texts

NAMES = (
    "id",
    "query",
    "pos",
    "neg",
    "pos_ids",
    "neg_ids",
    "pos_scores",
    "neg_scores",
    "pos_score_kind",
    "neg_score_kind",
    "prompt",
    "task",
)


def _columns() -> pa.Schema:
    fields = [schema.load("examples").field(name) for name in NAMES]
    return pa.schema([pa.field(each.name, each.arrow, each.nullable) for each in fields if each])


COLUMNS = _columns()


def write(
    batches: Iterable[pa.RecordBatch],
    path: str,
    report: Report,
    *,
    requirements: LossRequirements | None = None,
    prompts: QueryPrompts | None = None,
    locate: Callable[[int], str] | None = None,
) -> tuple[str, DatasetStats]:
    """Write the rows that can be trained to `path`; gives their digest and what they carry.

    A row of `texts` becomes one of `examples` with the text as its query and no positive.
    Rows that the loss cannot use (blank query, no positive …) are dropped and counted in the
    report. prompts: complete the `prompt` of each row. locate: names a row by its number from 0,
    for errors. Raises InputError for a row that would teach the loss something wrong.
    """
    requirements = requirements or LossRequirements()
    prompts = prompts or QueryPrompts(None, report)
    digest, stats, rows_read = RowDigest(), DatasetStats(), 0
    with DiskTable(COLUMNS, path) as table:
        for batch in batches:
            examples = _with_complete_prompts(_as_examples(batch), prompts)
            rows = examples.to_pylist()
            _refuse_contradictions(rows, requirements, rows_read, locate=locate)
            rows_read += len(rows)
            reasons = [requirements.missing(row) for row in rows]
            for row, reason in zip(rows, reasons):
                if reason:
                    report.drop(reason)
                else:
                    stats.count(row)
            kept = examples.filter(pa.array([not reason for reason in reasons], pa.bool_()))
            digest.update(kept)
            table.append(kept)
        table.finish()
    return digest.hexdigest(), stats


def _refuse_contradictions(
    rows: Iterable[Row],
    requirements: LossRequirements,
    first_row: int,
    *,
    locate: Callable[[int], str] | None,
) -> None:
    """Raise InputError for the first row that would teach the loss something wrong."""
    for number, row in enumerate(rows, first_row):
        why = requirements.contradiction(row)
        if why:
            where = locate(number) if locate else f"row {number + 1:,}"
            raise InputError(
                f"{where} (id {row['id']}): {why}, and --loss {requirements.loss} compares them",
                "score both sides alike, e.g. hnmine --score-all --reranker CE --replace-scores; "
                "drop the columns of one side; or choose another --loss",
            )


def _as_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    if "query" in batch.schema.names:
        columns = [schema.column(batch, each.name, each.type) for each in COLUMNS]
        return pa.RecordBatch.from_arrays(columns, schema=COLUMNS)
    rows = len(batch)
    filled = {
        "id": batch["id"],
        "query": titled_texts(batch),
        "pos": pa.array([[]] * rows, pa.list_(pa.string())),
        "prompt": schema.column(batch, "prompt", pa.string()),
    }
    columns = [filled.get(each.name, pa.nulls(rows, each.type)) for each in COLUMNS]
    return pa.RecordBatch.from_arrays(columns, schema=COLUMNS)


def _with_complete_prompts(batch: pa.RecordBatch, prompts: QueryPrompts) -> pa.RecordBatch:
    completed = prompts.complete(batch["prompt"].to_pylist())
    return batch.set_column(
        NAMES.index("prompt"), COLUMNS.field("prompt"), pa.array(completed, pa.string())
    )
