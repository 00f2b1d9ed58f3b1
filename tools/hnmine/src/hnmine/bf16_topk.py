"""The best k inner products on a CPU with bf16 units, with a proven bound on what was missed.

Products are taken in bf16, two to three times as fast as in float32. Then selecting costs more
than multiplying, so scores are compared with the k-th best so far as 16-bit integers, which is as
fast as reading them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fletching.arrays import Numbers, Scores, Vectors
from fletching.encode import memmap_buffer
from fletching.encode.instruction_set import multiplies_bf16
from fletching.table import RaggedArray

QUERY_BLOCK = 2048  # queries of one product
DOCUMENT_BLOCK = 32_768  # documents rounded to bf16 at a time
TILE = 1024  # documents of one product: its scores, 4 MB, stay in the processor's cache
NOISE = 1e-5  # of adding up in float32
# A key is a score, as an integer of the same order, above the number of its document: one sort
# moves both.
NUMBER_BITS = 40
EMPTY = np.iinfo(np.int64).min
SELECTION_KEYS = 1 << 20  # partitioned at a time, three times over in memory

SortKeys = npt.NDArray[np.int64]
ScoreBits = npt.NDArray[np.int16]  # of bf16 scores


class Survivors(NamedTuple):
    """Keys that may belong to the best k of their rows."""

    rows: npt.NDArray[np.int16]  # (n,)
    keys: SortKeys  # (n,)


class NormBounds(NamedTuple):
    """Largest norms among vectors that were rounded to bf16."""

    error: float  # of a rounding error
    vector: float  # of a vector, rounded or not


def available() -> bool:
    """Does this CPU multiply bf16 faster than float32?"""
    return multiplies_bf16()


def top(queries: Vectors, documents: Vectors, k: int) -> tuple[Scores, Numbers]:
    """(bound (w,), numbers (w, k) in any order); no other document scores the bound or more.

    queries: (w, D). documents: (n, D), n >= k; mapped from disk, they are read block by block.
    """
    exact_queries = torch.from_numpy(queries)
    rounded_queries = exact_queries.bfloat16()
    query_norms = _norm_bounds(exact_queries, rounded_queries)
    best = np.full((len(queries), k), EMPTY)
    buffer = torch.empty(min(QUERY_BLOCK, len(queries)) * TILE, dtype=torch.bfloat16)
    error = 0.0
    for start in range(0, len(documents), DOCUMENT_BLOCK):
        exact = torch.from_numpy(np.asarray(documents[start : start + DOCUMENT_BLOCK]))
        rounded = exact.bfloat16()
        norms = _norm_bounds(exact, rounded)
        # q·d - q'·d' = (q - q')·d + q'·(d - d') for the rounded q', d'.
        by_query = query_norms.error * norms.vector
        by_document = query_norms.vector * norms.error
        error = max(error, by_query + by_document + NOISE)
        for first in range(0, len(queries), QUERY_BLOCK):
            part = slice(first, first + QUERY_BLOCK)
            scorer = _TileScores(rounded_queries[part], rounded, buffer)
            best[part] = _search(best[part], scorer, start)
        memmap_buffer.release_pages(documents)
    bits = _ordered(_kth_best(best))
    lowest = torch.from_numpy(bits).view(torch.bfloat16).float().numpy()
    # The product is rounded to bf16: what is not above `lowest` was at most half a step, 2^-8 of
    # it, above.
    bound = lowest + np.abs(lowest) * np.float32(2**-8) + np.float32(error)
    numbers = best & ((1 << NUMBER_BITS) - 1)
    return bound, numbers


def _norm_bounds(exact: torch.Tensor, rounded: torch.Tensor) -> NormBounds:
    """Bounds over vectors (n, D), float32, and the same in bf16."""
    error = vector = 0.0
    for start in range(0, len(exact), 4096):
        whole = exact[start : start + 4096]
        approximate = rounded[start : start + 4096].float()
        longest = torch.maximum(whole.norm(dim=1), approximate.norm(dim=1)).max()
        error = max(error, float((whole - approximate).norm(dim=1).max()))
        vector = max(vector, float(longest))
    return NormBounds(error, vector)


def _ordered(bits: ScoreBits) -> ScoreBits:
    """bf16 bits as int16 that order like the numbers, and back."""
    return bits ^ ((bits >> 15) & 0x7FFF)


def _kth_best(best: SortKeys) -> ScoreBits:
    """The k-th best score of each row, (q,): np.partition leaves its key in the first column."""
    return (best[:, 0] >> NUMBER_BITS).astype(np.int16)


class _TileScores:
    """Products of queries (q, D) with tiles of documents (n, D), in one reused buffer."""

    def __init__(
        self, queries: torch.Tensor, documents: torch.Tensor, buffer: torch.Tensor
    ) -> None:
        self.queries = queries
        self.documents = documents
        self.buffer = buffer

    def bits(self, first: int) -> ScoreBits:
        """Scores (q, up to TILE) of the documents from `first` on; valid until the next call."""
        tile = self.documents[first : first + TILE]
        shape = len(self.queries), len(tile)
        scores = self.buffer[: shape[0] * shape[1]].view(shape)
        torch.mm(self.queries, tile.T, out=scores)
        bits: ScoreBits = scores.view(torch.int16).numpy()
        return bits


def _search(best: SortKeys, scorer: _TileScores, start: int) -> SortKeys:
    """The best keys (q, k) of `best` and of the scorer's documents, numbered from `start`."""
    rows, k = best.shape
    pending: list[Survivors] = []
    bound = _kth_best(best)
    for first in range(0, len(scorer.documents), TILE):
        bits = scorer.bits(first)
        if best[:, 0].min() == EMPTY:
            best = _merge_all(best, bits, start + first)
            bound = _kth_best(best)
            continue
        pending.append(_above(bits, bound, start + first))
        if sum(len(survivors.rows) for survivors in pending) > rows * k:
            best, pending = _merge_survivors(best, pending), []
            bound = _kth_best(best)
    return _merge_survivors(best, pending)


def _above(bits: ScoreBits, bound: ScoreBits, start: int) -> Survivors:
    """The scores (q, n), as bits, above the bound (q,)."""
    # Above zero the bits are in order: those of negative scores are negative.
    if bound.min() <= 0:
        bits = _ordered(bits)
    is_above = bits > bound[:, None]
    positions = np.flatnonzero(is_above)
    width = bits.shape[1]
    rows = positions // width  # np.divmod divides one number at a time
    keys = bits.reshape(-1)[positions].astype(np.int64)
    keys <<= NUMBER_BITS
    keys += positions
    keys -= rows * width - start
    return Survivors(rows.astype(np.int16), keys)


def _merge_all(best: SortKeys, bits: ScoreBits, start: int) -> SortKeys:
    """The best keys (q, k) of `best` and of all scores (q, n)."""
    k = best.shape[1]
    numbers = start + np.arange(bits.shape[1])
    merged = np.empty_like(best)
    step = max(SELECTION_KEYS // (k + bits.shape[1]), 1)
    for first in range(0, len(best), step):
        part = slice(first, first + step)
        keys = _ordered(bits[part]).astype(np.int64)
        keys = (keys << NUMBER_BITS) + numbers
        candidates = np.concatenate([best[part], keys], 1)
        merged[part] = np.partition(candidates, -k, axis=1)[:, -k:]
    return merged


def _merge_survivors(best: SortKeys, pending: list[Survivors]) -> SortKeys:
    """The best keys (q, k) of `best` and of the survivors.

    Each row becomes k + m columns wide, m the most survivors of a row, and is partitioned. With k
    = 2 and the survivors 7, 8 of row 0 and 9 of row 2, for `best` = [[5, 6], [3, 4], [1, 2]]:

        5 6 7 8      survivors.owners        0 0 2   the row of each key
        3 4 . .      survivors.ranks_within  0 1 0   its column, behind the first k
        1 2 9 .      .: EMPTY, below every key
    """
    if not pending:
        return best
    rows = np.concatenate([survivors.rows for survivors in pending])
    keys = np.concatenate([survivors.keys for survivors in pending])
    k = best.shape[1]
    counts = np.bincount(rows, minlength=len(best))
    order = np.argsort(rows, kind="stable")  # a radix sort, for 16 bits alone
    owners = rows[order]
    survivors = RaggedArray.from_lengths(keys[order], counts)
    columns = k + survivors.ranks_within
    merged = np.empty_like(best)
    step = max(SELECTION_KEYS // (k + int(counts.max())), 1)
    for first in range(0, len(best), step):
        last = min(first + step, len(best))
        part = slice(survivors.offsets[first], survivors.offsets[last])
        most = int(counts[first:last].max())
        candidates = np.full((last - first, k + most), EMPTY)
        candidates[:, :k] = best[first:last]
        candidates[owners[part] - first, columns[part]] = survivors.values[part]
        merged[first:last] = np.partition(candidates, -k, axis=1)[:, -k:]
    return merged
