"""The training rows as one Arrow file: the columns that training reads, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

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


class TrainableRows(NamedTuple):
    """What of a batch can be trained. rows: as they are read. kept: those that can be trained.

    reasons: why a row is dropped, for each row; "" for those that are kept.
    """

    rows: list[Row]
    kept: pa.RecordBatch
    reasons: list[str]


@dataclass(frozen=True, kw_only=True)
class RowSelector:
    """Which rows a loss can use. prompts: complete the `prompt` of each row."""

    requirements: LossRequirements
    prompts: QueryPrompts

    def select(self, batch: pa.RecordBatch, locate: Callable[[int], str]) -> TrainableRows:
        """The rows of a batch of `examples`, or of `texts`, in `COLUMNS`.

        A row of `texts` becomes one of `examples` with the text as its query and no positive.
        locate: names a row by its number in the batch. Raises InputError for a row that would
        teach the loss something wrong.
        """
        examples = _with_complete_prompts(_as_examples(batch), self.prompts)
        rows = examples.to_pylist()
        for number, row in enumerate(rows):
            if why := self.requirements.contradiction(row):
                self._refuse(why, f"{locate(number)} (id {row['id']})")
        reasons = [self.requirements.missing(row) for row in rows]
        kept = examples.filter(pa.array([not reason for reason in reasons], pa.bool_()))
        return TrainableRows(rows, kept, reasons)

    def _refuse(self, why: str, where: str) -> NoReturn:
        raise InputError(
            f"{where}: {why}, and --loss {self.requirements.loss} compares them",
            "score both sides alike, e.g. hnmine --score-all --reranker CE --replace-scores; "
            "drop the columns of one side; or choose another --loss",
        )


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

    Rows that the loss cannot use (blank query, no positive …) are dropped and counted in the
    report. prompts: complete the `prompt` of each row. locate: names a row by its number from 0,
    for errors. Raises InputError for a row that would teach the loss something wrong.
    """
    selector = RowSelector(
        requirements=requirements or LossRequirements(),
        prompts=prompts or QueryPrompts(None, report),
    )
    digest, stats, first_row = RowDigest(), DatasetStats(), 0

    def locate_in_batch(number: int) -> str:
        number += first_row
        return locate(number) if locate else f"row {number + 1:,}"

    with DiskTable(COLUMNS, path) as table:
        for batch in batches:
            rows, kept, reasons = selector.select(batch, locate_in_batch)
            for row, reason in zip(rows, reasons):
                if reason:
                    report.drop(reason)
                else:
                    stats.count(row)
            digest.update(kept)
            table.append(kept)
            first_row += len(rows)
        table.finish()
    return digest.hexdigest(), stats


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
