"""Cosine of each positive to its query, and the criteria that decide on it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.encode import Encoder
from fletching.report import Report
from fletching.stream import Reader

EXAMPLES = schema.load("examples")
ALIGNED = ("pos", "pos_ids", "pos_scores")  # lists that lose an item together
PROTECTED = pa.array(["reranker", "label", "judge"])  # scores that a cosine does not overwrite
BINS = 20

nothing = contextlib.nullcontext


@dataclass(frozen=True)
class Criteria:
    """Bounds on the cosine; `keep_top` becomes a lower bound once all scores are known."""

    low: float | None
    high: float | None
    keep_top: float | None
    low_is_rank: bool = False

    def verdict(self, scores: np.ndarray) -> np.ndarray:
        """-1 too low, 0 kept, 1 too high, for each score; a bound itself is kept."""
        verdict = np.zeros(len(scores), np.int8)
        if self.low is not None:
            verdict[scores < np.float32(self.low)] = -1
        if self.high is not None:
            verdict[scores > np.float32(self.high)] = 1
        return verdict

    def reason(self, verdict: int) -> str:
        if verdict > 0:
            return f"above {self.high:g}"
        return f"outside the best {self.keep_top:.0%}" if self.low_is_rank else f"below {self.low:g}"


def scored_columns(columns: pa.Schema) -> pa.Schema:
    return schema.extend(EXAMPLES, columns, "pos_scores", "pos_score_kind")


def reject_columns(columns: pa.Schema) -> pa.Schema:
    return columns.append(pa.field("reject_reason", pa.string()))


def score(rows: Reader, columns: pa.Schema, encoder: Encoder, report: Report, replace_scores: bool) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """(rows with their scores, cosine of every positive [sum of len(pos)]), batch by batch."""
    with report.progress("scoring", unit="pairs") as progress:
        for batch in rows:
            prompts = schema.column(batch, "prompt", pa.string()).to_pylist()
            queries = encoder.encode(batch["query"].to_pylist(), "query", prompts)  # (rows, D)
            positives = encoder.encode(batch["pos"].flatten().to_pylist(), "document")  # (pairs, D)
            parents = pc.list_parent_indices(batch["pos"]).to_numpy()
            cosines = np.einsum("pd,pd->p", queries[parents], positives)
            yield with_scores(batch, columns, cosines, replace_scores), cosines
            progress.advance(len(cosines))


def with_scores(batch: pa.RecordBatch, columns: pa.Schema, cosines: np.ndarray, replace_scores: bool) -> pa.RecordBatch:
    """The batch with the cosines as `pos_scores`, but where better scores stand already."""
    lengths = pc.list_value_length(batch["pos"]).to_numpy()
    offsets = pa.array(np.concatenate([[0], lengths.cumsum()]), pa.int32())
    fresh: pa.Array = pa.ListArray.from_arrays(offsets, pa.array(cosines, pa.float32()))
    kinds: pa.Array = pa.array(["cosine"] * len(batch))
    before = schema.column(batch, "pos_score_kind", pa.string())
    if not replace_scores:
        keep = pc.and_(pc.is_in(before, PROTECTED), schema.column(batch, "pos_scores", fresh.type).is_valid())
        fresh = pc.if_else(keep, schema.column(batch, "pos_scores", fresh.type), fresh)
        kinds = pc.if_else(keep, before, kinds)
    new = {"pos_scores": fresh, "pos_score_kind": kinds}
    arrays = [new[field.name] if field.name in new else batch[field.name] for field in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def decide(scored: Iterable[tuple[pa.RecordBatch, np.ndarray]], criteria: Criteria, report: Report) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """(rows kept, rows dropped with `reject_reason`), batch by batch, and the counts of both."""
    if criteria.keep_top is not None:
        scored, criteria = _with_threshold(scored, criteria)
    histogram = np.zeros(BINS, int)
    lost = 0
    for batch, cosines in scored:
        histogram += np.histogram(cosines.clip(-1, 1), BINS, (-1, 1))[0]
        verdict = criteria.verdict(cosines)
        lengths = pc.list_value_length(batch["pos"]).to_numpy()
        starts = lengths.cumsum() - lengths
        left = np.add.reduceat(verdict == 0, starts, dtype=int)
        gone = left == 0
        lost += int((lengths - left)[~gone].sum())
        # A row goes for the reason of its best positive.
        best = [start + cosines[start : start + length].argmax() for start, length in zip(starts[gone], lengths[gone])]
        reasons = [criteria.reason(verdict[pair]) for pair in best]
        for reason in reasons:
            report.drop(reason)
        dropped = batch.filter(pa.array(gone))
        dropped = pa.RecordBatch.from_arrays([*dropped.columns, pa.array(reasons, pa.string())], schema=reject_columns(batch.schema))
        yield _without(batch, verdict == 0).filter(pa.array(~gone)), dropped
    edges = np.linspace(-1, 1, BINS + 1).round(2).tolist()
    report.measures |= {"positives_dropped_from_kept_rows": lost, "cosine_histogram": {"edges": edges, "counts": histogram.tolist()}}


def _without(batch: pa.RecordBatch, keep: np.ndarray) -> pa.RecordBatch:
    """The batch with the positives that `keep` [sum of len(pos)] marks, and what is aligned with them."""
    lengths = pc.list_value_length(batch["pos"]).to_numpy()
    for name in ALIGNED:
        index = batch.schema.get_field_index(name)
        if index >= 0:
            items = batch.column(index)
            present = np.asarray(items.is_valid())  # (rows,)
            mine = keep[np.repeat(present, lengths)]
            counts = np.zeros(len(batch), int)
            np.add.at(counts, np.repeat(np.arange(len(batch)), lengths), keep)
            counts[~present] = 0
            offsets = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
            nulls = items.is_null() if items.null_count else None
            kept: Any = pa.ListArray.from_arrays(offsets, items.flatten().filter(pa.array(mine)), mask=nulls)
            batch = batch.set_column(index, batch.schema.field(index), kept)
    return batch


def _with_threshold(scored: Iterable[tuple[pa.RecordBatch, np.ndarray]], criteria: Criteria) -> tuple[Iterator[tuple[pa.RecordBatch, np.ndarray]], Criteria]:
    """Wait for all scores, rows spooled to disk, and turn the share to keep into a lower bound."""
    spool = tempfile.TemporaryFile(prefix="simfilter-")
    scores: list[np.ndarray] = []
    writer = None
    for batch, cosines in scored:
        writer = writer or pa.ipc.new_stream(spool, batch.schema)
        writer.write_batch(batch)
        scores.append(cosines)
    if writer is None:
        return iter(()), criteria
    writer.close()
    spool.seek(0)
    ranked = np.sort(np.concatenate(scores))
    lowest = ranked[len(ranked) - max(round(len(ranked) * (criteria.keep_top or 0)), 1)]
    ranks = criteria.low is None or lowest > criteria.low
    bound = replace(criteria, low=float(lowest), low_is_rank=True) if ranks else criteria
    return zip(pa.ipc.open_stream(spool), scores), bound
