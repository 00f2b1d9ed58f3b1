"""The candidates of all parts of a pool as those of one: frames of some rows, best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import text_keys
from fletching.arrays import Keys, Mask, Scores
from fletching.errors import InputError
from fletching.row_columns import list_lengths
from fletching.table import RaggedArray
from hnmine.candidate_files import MAKE_AGAIN, ONE_RUN, CandidateFile, share_of
from hnmine.queries import MiningRows, domains_of

MERGED_AT_A_TIME = 1 << 19  # candidates of some rows: 30 MB in a frame
ROUNDING = 5e-3  # of the score of a text that was encoded twice, in other batches, in bfloat16
SCHEMA = {
    "row": pl.Int32,
    "candidate": pl.UInt64,
    "key": pl.UInt64,
    "score": pl.Float32,
    "positive_score": pl.Float32,
    "copy_score": pl.Float32,
    "is_positive": pl.Boolean,
}


class MergedCandidates:
    """The candidates of the rows of a shard, from the files of all parts.

    width: how many of one part a row has at most, nearly. In the frames `candidate` is the hash of
    domain and text: no text has a number yet. After `frames`: positive_scores, old_scores (of the
    negatives that are kept), and rows_without_texts, of whose domain no part has a text.
    """

    def __init__(self, rows: MiningRows, files: Sequence[CandidateFile], *, width: int) -> None:
        self.files = files
        self.rows = len(rows)
        self.domains: Keys = domains_of(rows)
        self.step = max(MERGED_AT_A_TIME // (len(files) * width), 1)
        self.positive_scores: list[Scores] = []
        self.old_scores: list[Scores] = []
        self.rows_without_texts = 0

    def frames(self) -> Iterator[pl.DataFrame]:
        """Frames of some rows each, of which every candidate has what guards and draws name."""
        self.positive_scores, self.old_scores, self.rows_without_texts = [], [], 0
        streams = [_slices(file.reader, self.step) for file in self.files]
        for first_row in range(0, self.rows, self.step):
            rows = min(self.step, self.rows - first_row)
            parts = [self._next(part, rows) for part in zip(self.files, streams)]
            self._note_rows(parts)
            domains = self.domains[first_row : first_row + rows]
            yield _ranked_together(
                [_candidates(file, table) for file, table in zip(self.files, parts)],
                domains=domains,
                first_row=first_row,
                positive_scores=_numbers(parts[0], "lowest_pos_score"),
            )
        for part in zip(self.files, streams):
            self._next(part, 0)  # reads the end of the file, which is checked

    def _next(self, part: tuple[CandidateFile, Iterator[pa.Table]], rows: int) -> pa.Table:
        """The next rows of a file. Raises InputError where it has other rows than the run."""
        file, stream = part
        table = next(stream, None)
        if (0 if table is None else len(table)) != rows:
            what = f"{file.where} has not the {self.rows:,} rows that it was made from"
            raise InputError(what, MAKE_AGAIN)
        return table

    def _note_rows(self, parts: Sequence[pa.Table]) -> None:
        """Keep the scores of the rows' own texts, which all parts must agree on."""
        scores = [_numbers(table, "pos_scores") for table in parts]
        for file, other in zip(self.files, scores):
            if not np.allclose(other, scores[0], rtol=0, atol=ROUNDING):
                what = f"{file.where} scores positives otherwise than {self.files[0].where}: "
                raise InputError(what + "their vectors are not of one model", ONE_RUN)
        self.positive_scores.append(scores[0])
        self.old_scores.append(_numbers(parts[0], "neg_scores"))
        without_texts = [np.asarray(table["text_keys"].is_null()) for table in parts]
        self.rows_without_texts += int(np.all(without_texts, axis=0).sum())


def _slices(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many at a time."""
    waiting: list[pa.RecordBatch] = []
    missing = rows
    for batch in batches:
        while len(batch) >= missing:
            yield pa.Table.from_batches([*waiting, batch.slice(0, missing)])
            batch = batch.slice(missing)
            waiting, missing = [], rows
        if len(batch):
            waiting.append(batch)
            missing -= len(batch)
    if waiting:
        yield pa.Table.from_batches(waiting)


class PartCandidates(NamedTuple):
    """The candidates of one part for some rows."""

    keys: RaggedArray  # uint64, of the normalised texts
    scores: Scores  # (n,)
    copy_scores: Scores  # (n,)
    is_answer: Mask  # (n,)


def _candidates(file: CandidateFile, table: pa.Table) -> PartCandidates:
    """Raises InputError for a text of another part, and for an answer that is no candidate."""
    keys = _lists(table, "text_keys")
    answers = _lists(table, "answers")
    own_keys = keys.values.view(np.uint64)
    beyond = (answers.values < 0) | (answers.values >= keys.lengths[answers.owners])
    if beyond.any() or not share_of(own_keys, file.shard).all():
        raise InputError(f"{file.where} holds candidates of another part", MAKE_AGAIN)
    is_answer = np.zeros(len(own_keys), bool)
    is_answer[keys.offsets[answers.owners] + answers.values] = True
    return PartCandidates(
        keys=RaggedArray(own_keys, keys.offsets),
        scores=_numbers(table, "scores"),
        copy_scores=_numbers(table, "copy_scores"),
        is_answer=is_answer,
    )


def _ranked_together(
    parts: Sequence[PartCandidates], *, domains: Keys, first_row: int, positive_scores: Scores
) -> pl.DataFrame:
    """The candidates of all parts, of each row best first; ties by the hash of their content."""
    owners = np.concatenate([part.keys.owners for part in parts])
    keys = np.concatenate([part.keys.values for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    candidates = text_keys.mix(domains[owners], keys)
    order = np.lexsort((candidates, -scores, owners))
    columns = {
        "row": first_row + owners,
        "candidate": candidates,
        "key": keys,
        "score": scores,
        "positive_score": positive_scores[owners],
        "copy_score": np.concatenate([part.copy_scores for part in parts]),
        "is_positive": np.concatenate([part.is_answer for part in parts]),
    }
    return pl.DataFrame({name: values[order] for name, values in columns.items()}, schema=SCHEMA)


def _lists(table: pa.Table, name: str) -> RaggedArray:
    lists = table[name].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return RaggedArray.from_lengths(values, list_lengths(lists))


def _numbers(table: pa.Table, name: str) -> Scores:
    """The numbers of a column, or of its lists, end to end; none where the column is absent."""
    if name not in table.column_names:
        return np.zeros(0, np.float32)
    column = table[name].combine_chunks()
    values = column.flatten() if pa.types.is_list(column.type) else column
    numbers: Scores = values.to_numpy(zero_copy_only=False)
    return numbers
