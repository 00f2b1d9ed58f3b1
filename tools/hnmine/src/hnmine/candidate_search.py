"""One part of a pool searched: for each row its candidates, as rows of `candidates`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from fletching.row_columns import list_lengths, lists_like
from fletching.table import RaggedArray
from fletching.table.ragged_array import ranks_within
from hnmine.candidate_files import COLUMNS
from hnmine.queries import MiningRows
from hnmine.ranked_pool import RankedPool

STORED = np.dtype(
    [("key", np.int64), ("score", np.float32), ("copy", np.float32), ("is_answer", np.bool_)]
)
MERGED_COLUMNS = pl.col("key") + pl.col("copy_score")  # what --merge needs beside rank and score


class CandidateSpool:
    """Candidates in the order in which domains are searched, on disk: 17 bytes each.

    In memory: 16 bytes a row.
    """

    def __init__(self, rows: int) -> None:
        self.starts = np.zeros(rows, np.int64)
        self.lengths = np.zeros(rows, np.int64)
        self.stored = 0
        self._file = tempfile.TemporaryFile(buffering=0, prefix="fletching-")
        self._mapped: npt.NDArray[np.void] = np.zeros(0, STORED)

    def append(self, candidates: pl.DataFrame) -> None:
        """Add the candidates of some rows, those of a row one after the other."""
        stored = np.empty(candidates.height, STORED)
        stored["key"] = candidates["key"].to_numpy().view(np.int64)
        stored["score"] = candidates["score"].to_numpy()
        stored["copy"] = candidates["copy_score"].to_numpy()
        stored["is_answer"] = candidates["rejected_by"].is_not_null().to_numpy()
        rows = candidates["row"].to_numpy()
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        self.starts[rows[firsts]] = self.stored + firsts
        self.lengths[rows[firsts]] = np.diff(firsts, append=len(rows))
        self._file.write(stored.data)
        self.stored += len(stored)

    def finish(self) -> None:
        """Map what was added; from here on it is read."""
        if self.stored:
            self._mapped = np.memmap(self._file, STORED, "r", shape=(self.stored,))
        self._file.close()

    def lists(self, first: int, stop: int) -> RaggedArray:
        """The candidates of the rows from `first` up to `stop`."""
        lengths = self.lengths[first:stop]
        positions = np.repeat(self.starts[first:stop], lengths) + ranks_within(lengths)
        return RaggedArray.from_lengths(self._mapped[positions], lengths)


def candidate_units(ranked_pool: RankedPool, rows: MiningRows) -> Iterator[pa.RecordBatch]:
    """The rows of the shard as rows of `candidates`."""
    evidence = ranked_pool.evidence
    spool = CandidateSpool(len(rows))
    for ranked in ranked_pool.batches():
        seen = ranked_pool.selector.seen(ranked)
        spool.append(evidence.with_columns_of(seen, MERGED_COLUMNS))
    spool.finish()
    positive_scores = evidence.queries.positives["score"].to_numpy()
    old_scores = ranked_pool.old_negatives()["score"].to_numpy()
    has_texts = ranked_pool.has_texts
    first_row = first_positive = first_old = 0
    for unit in rows.units:
        stop = first_row + len(unit)
        columns = _lists(spool.lists(first_row, stop), ~has_texts[first_row:stop])
        positives = int(list_lengths(unit["pos"]).sum())
        scores = positive_scores[first_positive : first_positive + positives]
        columns["pos_scores"] = lists_like(unit["pos"], pa.array(scores))
        columns["neg_scores"] = pa.nulls(len(unit), COLUMNS.field("neg_scores").type)
        if len(old_scores):
            old = int(list_lengths(unit["neg"]).sum())
            of_unit = old_scores[first_old : first_old + old]
            columns["neg_scores"] = lists_like(unit["neg"], pa.array(of_unit))
            first_old += old
        lowest = evidence.queries.lowest_positive_scores[first_row:stop]
        columns |= {"id": unit["id"], "lowest_pos_score": pa.array(lowest)}
        yield pa.RecordBatch.from_arrays([columns[name] for name in COLUMNS.names], schema=COLUMNS)
        first_row, first_positive = stop, first_positive + positives


def _lists(candidates: RaggedArray, is_null: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """The columns of the candidates; null where the part has no text of the row's domain."""
    mask = pa.array(is_null) if is_null.any() else None
    offsets = pa.array(candidates.offsets, pa.int32())
    fields = {"text_keys": "key", "scores": "score", "copy_scores": "copy"}
    lists = {}
    for name, field in fields.items():
        values = pa.array(np.ascontiguousarray(candidates.values[field]))
        lists[name] = pa.ListArray.from_arrays(offsets, values, mask=mask)
    is_answer = candidates.values["is_answer"]
    answers = RaggedArray(candidates.ranks_within, candidates.offsets).filter(is_answer)
    offsets = pa.array(answers.offsets, pa.int32())
    lists["answers"] = pa.ListArray.from_arrays(offsets, pa.array(answers.values), mask=mask)
    return lists
