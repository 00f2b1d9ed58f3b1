"""The best k inner products on a CPU that multiplies bf16 in tiles, with a proven bound on what was missed.

Products are taken in bf16, two to three times as fast as in float32; then selecting costs more than multiplying, so a block
of scores is looked at by the maxima of groups of 16, and only groups that reach the k-th best so far are opened.
"""

from __future__ import annotations

import numpy as np
import torch

from fletching.encode import store

QUERIES, DOCUMENTS, GROUP = 256, 32_768, 16  # a block of scores is 16 MB
NOISE = 1e-5  # of adding up in float32


def available() -> bool:
    return torch.cpu._is_amx_tile_supported()


def top(queries: np.ndarray, documents: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(a bound (w,) above the exact score of every document that was not found, numbers (w, k) in any order).

    queries: float32 (w, D). documents: float32 (n, D), n ≥ k; mapped from disk, it is read block by block.
    """
    asked = torch.from_numpy(queries)
    short = asked.bfloat16()
    asked_lost, asked_long = _lost_and_long(asked, short)
    best = torch.full((len(queries), k), -torch.inf, dtype=torch.bfloat16)
    numbers = torch.full((len(queries), k), -1, dtype=torch.int64)
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
            best[part], numbers[part] = _merge(best[part], numbers[part], short[part] @ block.T, start, len(held))
        store.forget(documents)
    return best.float().amin(1).numpy() + np.float32(error), numbers.numpy()


def _lost_and_long(exact: torch.Tensor, short: torch.Tensor) -> tuple[float, float]:
    """The largest length of a rounding error, and of a vector."""
    pieces = [(exact[start : start + 4096], short[start : min(start + 4096, len(exact))].float()) for start in range(0, len(exact), 4096)]
    lost = max(float((whole - rounded).norm(dim=1).max()) for whole, rounded in pieces)
    return lost, max(float(torch.maximum(whole.norm(dim=1), rounded.norm(dim=1)).max()) for whole, rounded in pieces)


def _merge(best: torch.Tensor, numbers: torch.Tensor, scores: torch.Tensor, start: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best k of what was found, (q, k), and of a block of scores, (q, n); only the first `size` are documents."""
    k = best.shape[1]
    scores[:, size:] = -torch.inf
    groups = scores.view(len(scores), GROUP, -1)  # every n/16th score is in one group: a maximum over rows is fast
    highest = groups.amax(1)  # (q, n/16)
    bound = best.amin(1, keepdim=True)
    if bool(bound.isinf().any()) and highest.shape[1] > k:  # the k-th highest of the groups has k scores that reach it
        bound = torch.maximum(bound, torch.topk(highest, k).values[:, -1:])
    row, group = ((highest >= bound) & (highest > -torch.inf)).nonzero(as_tuple=True)
    if len(row) > len(scores) * 4 * k or bool(bound.isinf().any()):
        fresh, named = torch.topk(scores[:, :size], min(k, size), sorted=False)
        named += start
    else:
        fresh, named = _opened(groups, row, group, bound, start)
    every, names = torch.cat([best, fresh], 1), torch.cat([numbers, named], 1)
    chosen = torch.topk(every, k, sorted=False)
    return chosen.values, names.gather(1, chosen.indices)


def _opened(
    groups: torch.Tensor, row: torch.Tensor, group: torch.Tensor, bound: torch.Tensor, start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores, numbers) (q, m) of what reaches the bound in these groups; -inf and -1 where a row has fewer than m."""
    opened = groups[row, :, group]  # (opened groups, 16)
    place, lane = (opened >= bound[row]).nonzero(as_tuple=True)
    row, column, values = row[place], lane * groups.shape[2] + group[place], opened[place, lane]
    counts = torch.bincount(row, minlength=len(groups))
    inside = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    fresh = groups.new_full((len(groups), int(counts.max())), -torch.inf)
    named = torch.full(fresh.shape, -1)
    fresh[row, inside], named[row, inside] = values, column + start
    return fresh, named
