"""The best k inner products on a CPU that multiplies bf16 in tiles, with a proven bound on what was missed.

Products are taken in bf16, two to three times as fast as in float32. Then selecting costs more than multiplying, so scores
are looked at as 16-bit integers, by the maxima of groups of 16: only groups that pass the k-th best so far are opened.
"""

from __future__ import annotations

import numpy as np
import torch

from fletching.encode import store

QUERIES, DOCUMENTS = 1024, 32_768  # one part of the queries against one block of documents
PIECE, GROUP = 4096, 16  # documents of one product: its scores, 8 MB, stay in the processor's cache
NOISE = 1e-5  # of adding up in float32
# A key is a score, as an integer of the same order, above the number of its document: one sort moves both.
BITS = 40
EMPTY = np.iinfo(np.int64).min
KEYS = 1 << 22  # held at a time when selecting


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
        block = torch.zeros(-(-len(held) // GROUP) * GROUP, held.shape[1], dtype=torch.bfloat16)
        block[: len(held)] = held
        lost, longest = _lost_and_long(held, block)
        # q·d - q'·d' = (q - q')·d + q'·(d - d') for the rounded q', d'; the result, rounded to bf16, is off by 2^-9 of itself.
        error = max(error, asked_lost * longest + asked_long * lost + asked_long * longest * 2**-8 + NOISE)
        for first in range(0, len(queries), QUERIES):
            part = slice(first, first + QUERIES)
            best[part] = _search(best[part], short[part], block, start, len(held), room)
        store.forget(documents)
    lowest = torch.from_numpy(_ordered(_bound(best))).view(torch.bfloat16)
    return lowest.float().numpy() + np.float32(error), best & ((1 << BITS) - 1)


def _lost_and_long(exact: torch.Tensor, short: torch.Tensor) -> tuple[float, float]:
    """The largest length of a rounding error, and of a vector."""
    pieces = [(exact[start : start + 4096], short[start : min(start + 4096, len(exact))].float()) for start in range(0, len(exact), 4096)]
    lost = max(float((whole - rounded).norm(dim=1).max()) for whole, rounded in pieces)
    return lost, max(float(torch.maximum(whole.norm(dim=1), rounded.norm(dim=1)).max()) for whole, rounded in pieces)


def _ordered(bits: np.ndarray) -> np.ndarray:
    """bf16 bits as int16 that order like the numbers, and back."""
    return bits ^ ((bits >> 15) & 0x7FFF)


def _bound(best: np.ndarray) -> np.ndarray:
    """The k-th best score of each row, int16 (q,): selecting leaves its key in the first column."""
    return (best[:, 0] >> BITS).astype(np.int16)


def _search(best: np.ndarray, queries: torch.Tensor, block: torch.Tensor, start: int, size: int, room: torch.Tensor) -> np.ndarray:
    """The best keys (q, k) of those held and of a block of documents, of which the first `size` count."""
    k = best.shape[1]
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    bound = _bound(best)
    for first in range(0, len(block), PIECE):
        piece = block[first : first + PIECE]
        scores = room[: len(queries) * len(piece)].view(len(queries), len(piece))
        torch.mm(queries, piece.T, out=scores)
        scores[:, size - first :] = -torch.inf
        if best[:, 0].min() == EMPTY:
            best = _all(best, scores, start + first, size - first)
        else:
            waiting.append(_above(scores, bound, start + first))
        if sum(len(rows) for rows, _ in waiting) > len(best) * k or not waiting:
            best, waiting = _merged(best, waiting), []
            bound = _bound(best)
    return _merged(best, waiting)


def _above(scores: torch.Tensor, bound: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, keys) of the scores (q, n) above the bound (q,)."""
    groups = scores.view(len(scores), GROUP, -1)  # every n/16th score is in one group: a maximum over rows is fast
    # As integers the bits of positive numbers are in order, above those of all negative ones, and their maxima are fast.
    plain = bound.min() > 0
    highest = (groups.view(torch.int16) if plain else groups).amax(1).view(torch.int16).numpy()  # (q, n/16)
    highest = highest if plain else _ordered(highest)
    width = highest.shape[1]
    row, group = np.divmod(np.flatnonzero(highest > bound[:, None]), width)
    lanes = np.arange(GROUP) * width
    bits = scores.view(torch.int16).numpy().reshape(-1)
    opened = _ordered(bits[(row * scores.shape[1] + group)[:, None] + lanes])  # (opened groups, 16)
    place, lane = np.divmod(np.flatnonzero(opened > bound[row][:, None]), GROUP)
    return row[place], (opened[place, lane].astype(np.int64) << BITS) + (start + lanes[lane] + group[place])


def _all(best: np.ndarray, scores: torch.Tensor, start: int, size: int) -> np.ndarray:
    """The best keys (q, k) of those held and of all the first `size` scores (q, n)."""
    k, bits = best.shape[1], scores.view(torch.int16).numpy()[:, :size]
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
        every[rows[mine] - first, k + np.arange(mine.start, mine.stop) - starts[rows[mine]]] = keys[mine]
        found[part] = np.partition(every, -k, axis=1)[:, -k:]
    return found
