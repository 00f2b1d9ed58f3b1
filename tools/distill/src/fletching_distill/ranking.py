"""The ranking loss over all pairs of similarities, exact, in O(M log M) for M similarities.

    L = 1/P sum over pairs (a, b) that the teacher orders a below b of max(0, s_a - s_b + margin)
    P = M (M-1) / 2

Equal teacher similarities are ordered by position, as in the published code. Written out, the
pairs of M = B (B-1) / 2 similarities take O(B^4) memory. But the sum needs no pair: with
k_m = (violated pairs in which m should be the lower one) - (those in which it should be the higher
one), it is sum_m k_m s_m + margin * violated, and k is its gradient. The counts come from a wavelet
descent: the bits of the ranks, from the highest on, one stable partition each.

Zhang et al. 2024 (Jasper and Stella: the relative similarity loss). Needs torch alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranking(student: Tensor, teacher_order: Tensor, margin: float) -> Tensor:
    """The loss of the student's similarities (M,); zero for M < 2.

    teacher_order: (M,) the stable ascending order of the teacher's similarities.
    """
    size = len(student)
    if size < 2:
        return student.sum() * 0
    # float64: sums of counts near M times s cancel to the loss.
    ordered = student[teacher_order].double()
    with torch.no_grad():
        as_lower, as_higher = count_violations(ordered, margin)
    violated = as_lower.sum().double()
    total = (ordered * (as_lower - as_higher)).sum() + margin * violated
    pairs = size * (size - 1) / 2
    return (total / pairs).to(student.dtype)


def count_violations(values: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """In how many pairs i < j with values[i] - values[j] + margin > 0 each position occurs.

    (as i, as j), both int64 (M,).
    """
    size = len(values)
    ascending, order = values.sort(stable=True)
    positions = torch.arange(size, device=values.device)
    ranks = torch.empty_like(order)
    ranks[order] = positions
    # How many values lie below values[i] + margin; below or at values[j] - margin.
    below_upper = torch.searchsorted(ascending, values + margin)
    below_lower = torch.searchsorted(ascending, values - margin, right=True)

    first, end = torch.zeros_like(positions), torch.full_like(positions, size)
    as_i = count_below(ranks, start=positions + 1, end=end, bound=below_upper)
    not_violated = count_below(ranks, start=first, end=positions, bound=below_lower)
    return as_i, positions - not_violated


def count_below(ranks: Tensor, *, start: Tensor, end: Tensor, bound: Tensor) -> Tensor:
    """For each query q the number of positions p in [start[q], end[q]) with ranks[p] < bound[q].

    ranks: a permutation of 0 … M-1; bound: from 0 to M. int64 (Q,).
    """
    count = torch.zeros_like(bound)
    for bit in reversed(range(len(ranks).bit_length())):
        is_zero = (ranks >> bit) & 1 == 0
        # zeros[p]: how many of the first p ranks have this bit unset, (M+1,)
        zeros = torch.cat([is_zero.new_zeros(1, dtype=torch.long), is_zero.cumsum(0)])
        zeros_before_start, zeros_before_end = zeros[start], zeros[end]
        bound_has_bit = (bound >> bit) & 1 == 1
        # Ranks without the bit are below a bound with it; the search continues among those with it.
        count += torch.where(bound_has_bit, zeros_before_end - zeros_before_start, 0)
        start = torch.where(
            bound_has_bit, zeros[-1] + start - zeros_before_start, zeros_before_start
        )
        end = torch.where(bound_has_bit, zeros[-1] + end - zeros_before_end, zeros_before_end)
        ranks = torch.cat([ranks[is_zero], ranks[~is_zero]])
    return count
