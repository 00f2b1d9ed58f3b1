"""The score that --keep-top sets as a bound, which waits for the scores of all rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fletching import schema, text_keys
from fletching.table import DiskTable
from simfilter.arrays import Keys, Numbers, Scores
from simfilter.criteria import ScoredUnit
from simfilter.options import Options
from simfilter.positive_lists import positive_counts


def with_lowest_kept(
    units: Iterable[ScoredUnit], columns: pa.Schema, options: Options
) -> Iterator[ScoredUnit]:
    """The units with the lowest score that is kept.

    The rows wait on disk until all are scored; in memory are 12 bytes a positive.
    """
    if options.keep_top is None:
        yield from units
        return
    scores = [np.zeros(0, np.float32)]
    groups = [np.zeros(0, np.uint64)]
    ranks: list[Numbers | None] = []

    def noted_rows() -> Iterator[pa.RecordBatch]:
        """The rows of each unit; its scores and ranks are noted as it passes."""
        for unit in units:
            scores.append(unit.scores)
            groups.append(_group_keys(unit.rows, options.keep_top_by))
            ranks.append(unit.ranks)
            yield unit.rows

    with DiskTable.from_batches(columns, noted_rows()) as table:
        bounds = lowest_kept(np.concatenate(scores), np.concatenate(groups), options.keep_top)
        start = 0
        for rows, unit_scores, unit_ranks in zip(table, scores[1:], ranks):
            unit = ScoredUnit(rows=rows, scores=unit_scores, ranks=unit_ranks)
            stop = start + len(unit_scores)
            yield replace(unit, lowest_kept=bounds[start:stop])
            start = stop


def _group_keys(rows: pa.RecordBatch, by: str) -> Keys:
    """A key of the group of each positive, (p,)."""
    counts = positive_counts(rows)
    if by == "all":
        return np.zeros(int(counts.sum()), np.uint64)
    names = schema.column(rows, by, pa.string()).cast(pa.string())
    return np.repeat(text_keys.hash_texts(names), counts)


def lowest_kept(scores: Scores, groups: Keys, share: float) -> Scores:
    """For each score the lowest one among the best `share` of its group, at least one score."""
    if not len(scores):
        return scores
    by_group_and_score = np.lexsort((scores, groups))
    _, group_numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    kept = np.maximum(np.round(sizes * share).astype(int), 1)
    # In that order each group ends with its best scores: the lowest kept one is `kept` before its
    # end.
    lowest = by_group_and_score[sizes.cumsum() - kept]
    bounds: Scores = scores[lowest][group_numbers]
    return bounds
