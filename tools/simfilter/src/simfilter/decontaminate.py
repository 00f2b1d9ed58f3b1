"""Rows that stand in an evaluation set too, by equal texts or by words in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import keys, schema
from fletching.errors import Refused
from fletching.report import Report
from fletching.stream import Reader
from fletching.stream.reader import open_rows
from fletching.stream.sources import resolve


class Evaluation:
    """The texts of evaluation files (`examples` or `texts`), as sorted keys: 8 bytes a text, and 8 a word with `ngram`.

    ngram: words in a row that must be shared; 0 compares whole texts alone, after normalisation.
    """

    def __init__(self, files: Sequence[str], ngram: int) -> None:
        self.ngram = ngram
        whole, pieces = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for texts in _texts(files):
            whole.append(keys.of(texts))
            if ngram:
                pieces.append(keys.of_runs(texts, ngram)[1])
        self.whole, self.pieces = np.unique(np.concatenate(whole)), np.unique(np.concatenate(pieces))
        self.whole = self.whole[self.whole != keys.ABSENT]

    def reasons(self, batch: pa.RecordBatch) -> list[str | None]:
        """Why each row is contaminated, or None."""
        reasons: list[str | None] = [None] * len(batch)
        parents = pc.list_parent_indices(batch["pos"]).to_numpy()
        for texts, rows, name in ((batch["pos"].flatten(), parents, "a positive"), (batch["query"], np.arange(len(batch)), "its query")):
            if self.ngram:
                item, found = keys.of_runs(texts, self.ngram)
                for row in rows[item[keys.among(found, self.pieces)]]:
                    reasons[row] = f"sharing {self.ngram} words in a row with an evaluation set"
            for row in rows[keys.among(keys.of(texts), self.whole)]:
                reasons[row] = f"{name} stands in an evaluation set"
        return reasons


def split(batch: pa.RecordBatch, evaluation: Evaluation, report: Report) -> tuple[pa.RecordBatch, pa.RecordBatch, list[str]]:
    """(clean rows, contaminated rows, their reasons), counted."""
    reasons = evaluation.reasons(batch)
    wrong = pa.array([reason is not None for reason in reasons], pa.bool_())
    told = [reason for reason in reasons if reason is not None]
    for reason in told:
        report.drop(reason)
    return batch.filter(pc.invert(wrong)), batch.filter(wrong), told


def _texts(files: Sequence[str]) -> list[pa.Array]:
    """Every query, positive and text of the files."""
    found = []
    for source in resolve(files):
        quiet = Report("simfilter", quiet=True)
        names = open_rows(source, schema.load("texts")).schema.names
        kind = "texts" if "text" in names else "examples"
        if source.path is None:
            raise Refused("--decontaminate cannot read stdin", "name a file")
        for batch in Reader(quiet, [source.path], kind, count=False):
            found += [batch["text"]] if kind == "texts" else [batch["query"], batch["pos"].flatten()]
    return found
