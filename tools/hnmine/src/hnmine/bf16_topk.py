"""The best k inner products on a CPU that multiplies bf16 in tiles, with a proven bound on what was missed.

Products are taken in bf16, two to three times as fast as in float32. Then selecting costs more than multiplying, so scores
are compared with the k-th best so far as 16-bit integers, which is as fast as reading them.
"""

from __future__ import annotations

import numpy as np
import torch

from fletching.encode import memmap_buffer

QUERIES, DOCUMENTS = 1024, 32_768  # one part of the queries against one block of documents
PIECE = 4096  # documents of one product: its scores, 8 MB, stay in the processor's cache
NOISE = 1e-5  # of adding up in float32
# A key is a score, as an integer of the same order, above the number of its document: one sort moves both.
BITS = 40
EMPTY = np.iinfo(np.int64).min
KEYS = 1 << 20  # held at a time when selecting, three times over


def available() -> bool:
    return torch.cpu._is_amx_tile_supported()


def top(queries: np.ndarray, documents: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(a bound (w,) above the exact score of every document that was not found, numbers (w, k) in any order).

    queries: float32 (w, D). documents: float32 (n, D), n ≥ k; mapped from disk, it is read block by block.
    """
    asked = torch.from_numpy(queries)
    short = asked.bfloat16()
    asked_lost, asked_long = _lost_and_long(asked, short)
    best = np.full((len(queries), k), EMPTY)
    room = torch.empty(min(QUERIES, len(queries)) * PIECE, dtype=torch.bfloat16)
    error = 0.0
    for start in range(0, len(documents), DOCUMENTS):
        held = torch.from_numpy(np.asarray(documents[start : start + DOCUMENTS]))
        block = held.bfloat16()
        lost, longest = _lost_and_long(held, block)
        # q·d - q'·d' = (q - q')·d + q'·(d - d') for the rounded q', d'.
        error = max(error, asked_lost * longest + asked_long * lost + NOISE)
        for first in range(0, len(queries), QUERIES):
            part = slice(first, first + QUERIES)
            best[part] = _search(best[part], short[part], block, start, room)
        memmap_buffer.release_pages(documents)
    lowest = torch.from_numpy(_ordered(_bound(best))).view(torch.bfloat16).float().numpy()
    # The product is rounded to bf16: what is not above `lowest` was at most half a step, 2^-8 of it, above.
    return lowest + np.abs(lowest) * np.float32(2**-8) + np.float32(error), best & ((1 << BITS) - 1)


def _lost_and_long(exact: torch.Tensor, short: torch.Tensor) -> tuple[float, float]:
    """The largest length of a rounding error, and of a vector."""
    pieces = [
        (exact[start : start + 4096], short[start : min(start + 4096, len(exact))].float())
        for start in range(0, len(exact), 4096)
    ]
    lost = max(float((whole - rounded).norm(dim=1).max()) for whole, rounded in pieces)
    return lost, max(
        float(torch.maximum(whole.norm(dim=1), rounded.norm(dim=1)).max())
        for whole, rounded in pieces
    )


def _ordered(bits: np.ndarray) -> np.ndarray:
    """bf16 bits as int16 that order like the numbers, and back."""
    return bits ^ ((bits >> 15) & 0x7FFF)


def _bound(best: np.ndarray) -> np.ndarray:
    """The k-th best score of each row, int16 (q,): selecting leaves its key in the first column."""
    return (best[:, 0] >> BITS).astype(np.int16)


def _search(
    best: np.ndarray, queries: torch.Tensor, block: torch.Tensor, start: int, room: torch.Tensor
) -> np.ndarray:
    """The best keys (q, k) of those held and of a block of documents."""
    k = best.shape[1]
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    bound = _bound(best)
    for first in range(0, len(block), PIECE):
        piece = block[first : first + PIECE]
        scores = room[: len(queries) * len(piece)].view(len(queries), len(piece))
        torch.mm(queries, piece.T, out=scores)
        bits = scores.view(torch.int16).numpy()
        if best[:, 0].min() == EMPTY:
            best = _all(best, bits, start + first)
        else:
            waiting.append(_above(bits, bound, start + first))
        if sum(len(rows) for rows, _ in waiting) > len(best) * k or not waiting:
            best, waiting = _merged(best, waiting), []
            bound = _bound(best)
    return _merged(best, waiting)


def _above(bits: np.ndarray, bound: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, keys) of the scores (q, n), given as bits, above the bound (q,)."""
    if (
        bound.min() <= 0
    ):  # else the bits are in order where it matters: those of negative numbers are negative
        bits = _ordered(bits)
    places = np.flatnonzero(bits > bound[:, None])
    rows, columns = np.divmod(places, bits.shape[1])
    return rows, (bits.reshape(-1)[places].astype(np.int64) << BITS) + (start + columns)


def _all(best: np.ndarray, bits: np.ndarray, start: int) -> np.ndarray:
    """The best keys (q, k) of those held and of all scores (q, n)."""
    k = best.shape[1]
    found = np.empty_like(best)
    step = max(KEYS // (k + bits.shape[1]), 1)
    for first in range(0, len(best), step):
        part = slice(first, first + step)
        keys = (_ordered(bits[part]).astype(np.int64) << BITS) + (start + np.arange(bits.shape[1]))
        found[part] = np.partition(np.concatenate([best[part], keys], 1), -k, axis=1)[:, -k:]
    return found


def _merged(best: np.ndarray, waiting: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The best keys (q, k) of those held and of (rows, keys) in any order."""
    if not waiting:
        return best
    rows, keys = (np.concatenate(each) for each in zip(*waiting))
    order = np.argsort(rows.astype(np.int16), kind="stable")
    rows, keys = rows[order], keys[order]
    k, counts = best.shape[1], np.bincount(rows, minlength=len(best))
    starts = np.concatenate([[0], counts.cumsum()])
    found = np.empty_like(best)
    step = max(KEYS // (k + int(counts.max())), 1)
    for first in range(0, len(best), step):
        part, last = slice(first, first + step), min(first + step, len(best))
        mine = slice(starts[first], starts[last])
        every = np.full((last - first, k + int(counts[part].max())), EMPTY)
        every[:, :k] = best[part]
        every[rows[mine] - first, k + np.arange(mine.start, mine.stop) - starts[rows[mine]]] = keys[
            mine
        ]
        found[part] = np.partition(every, -k, axis=1)[:, -k:]
    return found
