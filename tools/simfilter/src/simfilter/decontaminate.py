"""Rows that stand in an evaluation set too, by equal texts or by words in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.reader import open_rows
from fletching.io.sources import Source, resolve
from fletching.report import Report


class Evaluation:
    """The texts of evaluation files (`examples` or `texts`), as sorted keys: 8 bytes a text, and 8 a word with `ngram`.

    ngram: words in a row that must be shared; 0 compares whole texts alone, after normalisation.
    rows: how many rows stood in each file; a row that stands in several counts for each.
    """

    def __init__(self, files: Sequence[str], ngram: int) -> None:
        self.ngram = ngram
        self.sets: list[
            tuple[str, np.ndarray, np.ndarray]
        ] = []  # name, keys of texts, keys of runs of words
        self.rows: dict[str, int] = {}
        for source in resolve(files):
            texts = _texts(source)
            whole = _distinct([text_keys.hash_texts(some) for some in texts])
            runs = _distinct([text_keys.hash_word_runs(some, ngram)[1] for some in texts if ngram])
            self.sets.append((source.where, whole[whole != text_keys.ABSENT], runs))
            self.rows[source.where] = 0

    def reasons(self, batch: pa.RecordBatch) -> list[str | None]:
        """Why each row is contaminated, or None; the last reason that holds is told."""
        parents, every = pc.list_parent_indices(batch["pos"]).to_numpy(), np.arange(len(batch))
        asked: list[tuple[str, np.ndarray, np.ndarray, bool]] = []  # reason, rows, keys, of runs?
        for texts, rows, name in (
            (batch["pos"].flatten(), parents, "a positive"),
            (batch["query"], every, "its query"),
        ):
            if self.ngram:
                item, found = text_keys.hash_word_runs(texts, self.ngram)
                asked.append(
                    (
                        f"sharing {self.ngram} words in a row with an evaluation set",
                        rows[item],
                        found,
                        True,
                    )
                )
            asked.append(
                (f"{name} stands in an evaluation set", rows, text_keys.hash_texts(texts), False)
            )
        strongest = np.zeros(len(batch), np.int64)  # place in `asked`, from 1 on
        for name, whole, runs in self.sets:
            touched = np.zeros(len(batch), bool)
            for place, (_, rows, found, of_runs) in enumerate(asked, 1):
                inside = rows[text_keys.among(found, runs if of_runs else whole)]
                strongest[inside] = np.maximum(strongest[inside], place)
                touched[inside] = True
            self.rows[name] += int(touched.sum())
        return [asked[place - 1][0] if place else None for place in strongest.tolist()]

    def tell(self, report: Report) -> None:
        """The rows found in each file, for the summary and, where there are any, the reader."""
        report.measures["rows_in_evaluation_file"] = dict(self.rows)
        for name, rows in self.rows.items():
            if rows:
                report.note(f"{rows:,} rows stand in {name}")


def split(
    batch: pa.RecordBatch, evaluation: Evaluation, report: Report
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[str]]:
    """(clean rows, contaminated rows, their reasons), counted."""
    reasons = evaluation.reasons(batch)
    wrong = pa.array([reason is not None for reason in reasons], pa.bool_())
    told = [reason for reason in reasons if reason is not None]
    for reason in told:
        report.drop(reason)
    return batch.filter(pc.invert(wrong)), batch.filter(wrong), told


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))


def _texts(source: Source) -> list[pa.Array]:
    """Every query, positive and text of a file."""
    names = open_rows(source, schema.load("texts")).schema.names
    kind = "texts" if "text" in names else "examples"
    if source.path is None:
        raise InputError("--decontaminate cannot read stdin", "name a file")
    found = []
    for batch in Reader(Report("simfilter", quiet=True), [source.path], kind, count=False):
        found += [batch["text"]] if kind == "texts" else [batch["query"], batch["pos"].flatten()]
    return found
