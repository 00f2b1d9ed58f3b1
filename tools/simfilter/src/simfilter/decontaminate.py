"""Rows that share a text, or a run of words, with an evaluation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.arrays import Keys, Numbers
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.reader import open_rows
from fletching.io.sources import Source, resolve
from fletching.report import Report
from fletching.row_columns import list_owners
from fletching.table import KeySet


class EvaluationSets:
    """The texts of evaluation files (`examples` or `texts`): 8 bytes a text.

    ngram: consecutive words that must be shared, with 8 bytes a word; 0 compares whole texts
    alone, after normalisation. rows: how many rows share a text with each file; a row may count
    for several.
    """

    def __init__(self, files: Sequence[str], ngram: int) -> None:
        self.ngram = ngram
        sources = resolve(files)
        self.known = {source.where: self._keys_of_file(source) for source in sources}
        self.rows = dict.fromkeys(self.known, 0)

    def reasons(self, unit: pa.RecordBatch) -> list[str | None]:
        """Why each row is contaminated, or None; the last of its reasons."""
        positives = unit["pos"].flatten()
        keys = [
            *self._keys(positives, list_owners(unit["pos"]), "a positive"),
            *self._keys(unit["query"], np.arange(len(unit)), "its query"),
        ]
        names: list[str | None] = [None, *(reason for reason, _, _ in keys)]
        last_reason = np.zeros(len(unit), np.int64)
        for file, known in self.known.items():
            is_shared = np.zeros(len(unit), bool)
            for number, (_, rows, keys_of_rows) in enumerate(keys, 1):
                shared = rows[known.contains(keys_of_rows)]
                last_reason[shared] = np.maximum(last_reason[shared], number)
                is_shared[shared] = True
            self.rows[file] += int(is_shared.sum())
        return [names[number] for number in last_reason.tolist()]

    def _keys(
        self, texts: pa.Array, rows: Numbers, what: str
    ) -> Iterator[tuple[str, Numbers, Keys]]:
        """(reason, row of each key, keys) of texts and, before them, of their runs of words."""
        if self.ngram:
            owners, runs = text_keys.hash_word_runs(texts, self.ngram)
            reason = f"shares {self.ngram} consecutive words with an evaluation set"
            yield reason, rows[owners], text_keys.mix(runs, self.ngram)
        keys = text_keys.hash_texts(texts)
        is_text = keys != text_keys.ABSENT
        yield f"{what} is in an evaluation set", rows[is_text], keys[is_text]

    def _keys_of_file(self, source: Source) -> KeySet:
        parts = [np.zeros(0, np.uint64)]
        for column in _texts(source):
            parts += [keys for _, _, keys in self._keys(column, np.arange(len(column)), "")]
        return KeySet(np.concatenate(parts))

    def report_rows(self, report: Report) -> None:
        """The contaminated rows by file, for the summary and, where there are any, the user."""
        report.measures["rows_in_evaluation_file"] = dict(self.rows)
        for name, rows in self.rows.items():
            if rows:
                report.note(f"{rows:,} rows share a text with {name}")


def split(
    unit: pa.RecordBatch, reasons: Sequence[str | None]
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[str]]:
    """(the clean rows, the contaminated ones, the reasons of these)."""
    is_contaminated = pa.array([reason is not None for reason in reasons], pa.bool_())
    contaminated = unit.filter(is_contaminated)
    return (
        unit.filter(pc.invert(is_contaminated)),
        contaminated,
        [reason for reason in reasons if reason is not None],
    )


def _texts(source: Source) -> Iterator[pa.Array]:
    """Every query, positive and text of a file."""
    if source.path is None:
        raise InputError("--decontaminate cannot read stdin", "name a file")
    columns = open_rows(source, schema.load("texts")).schema.names
    kind = "texts" if "text" in columns else "examples"
    for batch in Reader(Report("simfilter", quiet=True), [source.path], kind, count=False):
        if kind == "texts":
            yield batch["text"]
        else:
            yield batch["query"]
            yield batch["pos"].flatten()
