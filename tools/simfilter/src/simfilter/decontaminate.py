"""Rows that share a text, or a run of words, with an evaluation set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.reader import open_rows
from fletching.io.sources import Source, resolve
from fletching.report import Report
from fletching.table import KeySet
from simfilter.arrays import Keys, Numbers
from simfilter.positive_lists import positive_owners


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The keys of one file: 8 bytes a text, and with `ngram` 8 a word."""

    name: str
    texts: KeySet
    runs: KeySet  # of words


@dataclass(frozen=True, kw_only=True)
class RowKeys:
    """Keys of texts, or of runs of words, of some rows; a row that shares one is dropped."""

    reason: str
    rows: Numbers  # (n,)
    keys: Keys  # (n,)
    of_runs: bool


@dataclass(frozen=True, kw_only=True)
class CleanedRows:
    """One unit, split."""

    clean: pa.RecordBatch
    contaminated: pa.RecordBatch
    reasons: list[str]  # of the contaminated rows


class EvaluationSets:
    """The texts of evaluation files (`examples` or `texts`).

    ngram: consecutive words that must be shared; 0 compares whole texts alone, after normalisation.
    rows: how many rows share a text with each file; a row may count for several.
    """

    def __init__(self, files: Sequence[str], ngram: int) -> None:
        self.ngram = ngram
        self.sets = [_evaluation_set(source, ngram) for source in resolve(files)]
        self.rows = {each.name: 0 for each in self.sets}

    def split(self, unit: pa.RecordBatch, report: Report) -> CleanedRows:
        """The unit's clean and contaminated rows; the latter count as dropped."""
        reasons = self._reasons(unit)
        is_contaminated = pa.array([reason is not None for reason in reasons], pa.bool_())
        dropped_for = [reason for reason in reasons if reason is not None]
        for reason in dropped_for:
            report.drop(reason)
        return CleanedRows(
            clean=unit.filter(pc.invert(is_contaminated)),
            contaminated=unit.filter(is_contaminated),
            reasons=dropped_for,
        )

    def _reasons(self, unit: pa.RecordBatch) -> list[str | None]:
        """Why each row is contaminated, or None: the last of its reasons."""
        every = self._row_keys(unit)
        last_reason = np.full(len(unit), -1)
        for evaluation_set in self.sets:
            is_touched = np.zeros(len(unit), bool)
            for number, each in enumerate(every):
                known = evaluation_set.runs if each.of_runs else evaluation_set.texts
                rows = each.rows[known.contains(each.keys)]
                last_reason[rows] = np.maximum(last_reason[rows], number)
                is_touched[rows] = True
            self.rows[evaluation_set.name] += int(np.count_nonzero(is_touched))
        return [every[number].reason if number >= 0 else None for number in last_reason.tolist()]

    def _row_keys(self, unit: pa.RecordBatch) -> list[RowKeys]:
        """Keys of the positives and queries, in rising order of their reasons."""
        every = []
        positives = ("a positive", unit["pos"].flatten(), positive_owners(unit))
        queries = ("its query", unit["query"], np.arange(len(unit)))
        for name, texts, rows in (positives, queries):
            if self.ngram:
                owners, runs = text_keys.hash_word_runs(texts, self.ngram)
                reason = f"shares {self.ngram} consecutive words with an evaluation set"
                every.append(RowKeys(reason=reason, rows=rows[owners], keys=runs, of_runs=True))
            keys = text_keys.hash_texts(texts)
            reason = f"{name} is in an evaluation set"
            every.append(RowKeys(reason=reason, rows=rows, keys=keys, of_runs=False))
        return every

    def report_rows(self, report: Report) -> None:
        """The contaminated rows by file, for the summary and, where there are any, the user."""
        report.measures["rows_in_evaluation_file"] = dict(self.rows)
        for name, rows in self.rows.items():
            if rows:
                report.note(f"{rows:,} rows share a text with {name}")


def _evaluation_set(source: Source, ngram: int) -> EvaluationSet:
    texts = _texts(source)
    whole = _joined(text_keys.hash_texts(column) for column in texts)
    runs = _joined(text_keys.hash_word_runs(column, ngram)[1] for column in texts if ngram)
    return EvaluationSet(
        name=source.where,
        texts=KeySet(whole[whole != text_keys.ABSENT]),
        runs=KeySet(runs),
    )


def _joined(parts: Iterable[Keys]) -> Keys:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _texts(source: Source) -> list[pa.Array]:
    """Every query, positive and text of a file."""
    if source.path is None:
        raise InputError("--decontaminate cannot read stdin", "name a file")
    columns = open_rows(source, schema.load("texts")).schema.names
    kind = "texts" if "text" in columns else "examples"
    texts = []
    for batch in Reader(Report("simfilter", quiet=True), [source.path], kind, count=False):
        if kind == "texts":
            texts.append(batch["text"])
        else:
            texts += [batch["query"], batch["pos"].flatten()]
    return texts
