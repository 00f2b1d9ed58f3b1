"""The training rows as one Arrow file: the columns that training reads, written once."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from contrast_train.losses.requirements import DatasetStats, LossRequirements
from fletching import schema
from fletching.digest import RowDigest
from fletching.report import Report
from fletching.table import DiskTable

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
    prompt_template: str | None = None,
) -> tuple[str, DatasetStats]:
    """Write the rows that can be trained to `path`; gives their digest and what they carry.

    A row of `texts` becomes one of `examples` with the text as its query and no positive.
    Rows that the loss cannot use (blank query, no positive …) are dropped and counted in the
    report. prompt_template: what the prompt of a row is put into, e.g. "Instruct: {}\\nQuery:
    ".
    """
    requirements = requirements or LossRequirements()
    digest, stats = RowDigest(), DatasetStats()
    with DiskTable(COLUMNS, path) as table:
        for batch in batches:
            examples = _fill_template(_as_examples(batch), prompt_template)
            rows = examples.to_pylist()
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


def _as_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    if "query" in batch.schema.names:
        columns = [schema.column(batch, each.name, each.type) for each in COLUMNS]
        return pa.RecordBatch.from_arrays(columns, schema=COLUMNS)
    rows = len(batch)
    filled = {
        "id": batch["id"],
        "query": pa.array(_titled_texts(batch), pa.string()),
        "pos": pa.array([[]] * rows, pa.list_(pa.string())),
        "prompt": schema.column(batch, "prompt", pa.string()),
    }
    columns = [filled.get(each.name, pa.nulls(rows, each.type)) for each in COLUMNS]
    return pa.RecordBatch.from_arrays(columns, schema=COLUMNS)


def _titled_texts(batch: pa.RecordBatch) -> list[str]:
    titles = schema.column(batch, "title", pa.string()).to_pylist()
    texts = batch["text"].to_pylist()
    return [f"{title} {text}" if title else text for title, text in zip(titles, texts)]


def _fill_template(batch: pa.RecordBatch, template: str | None) -> pa.RecordBatch:
    if template is None:
        return batch
    prompts = [
        None if prompt is None else template.replace("{}", prompt)
        for prompt in batch["prompt"].to_pylist()
    ]
    return batch.set_column(
        NAMES.index("prompt"), COLUMNS.field("prompt"), pa.array(prompts, pa.string())
    )
