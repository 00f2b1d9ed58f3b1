"""The ranking loss over all pairs of similarities, exact, in O(M log M) for M similarities. Needs torch alone.

    L = 1/P sum over pairs (a, b) that the teacher orders a below b of max(0, s_a - s_b + margin),   P = M (M-1) / 2

Equal teacher similarities are ordered by place, as in the published code. Written out, the pairs of M = B (B-1) / 2
similarities take O(B^4) memory. But the sum needs no pair: with k_m = (violated pairs in which m should be the lower
one) - (those in which it should be the higher one), it is sum_m k_m s_m + margin * violated, and k is its gradient. The
counts come from a wavelet descent: the bits of the ranks, from the highest on, one stable partition each.

Zhang et al. 2024 (Jasper and Stella: the relative similarity loss).
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranking(student: Tensor, teacher_order: Tensor, margin: float) -> Tensor:
    """The loss of student similarities (M,); teacher_order (M,) sorts the teacher's ascending, stably. Zero for M < 2."""
    size = len(student)
    if size < 2:
        return student.sum() * 0
    ordered = student[
        teacher_order
    ].double()  # (M,) float64: sums of counts near M times s cancel to the loss
    with torch.no_grad():
        as_lower, as_higher = violations(ordered, margin)
    total = (ordered * (as_lower - as_higher)).sum() + margin * as_lower.sum().double()
    return (total / (size * (size - 1) / 2)).to(student.dtype)


def violations(values: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """How many pairs i < j with values[i] - values[j] + margin > 0 each place stands in: (as i, as j), both (M,)."""
    size = len(values)
    ascending, order = values.sort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(size, device=values.device)
    place = torch.arange(size, device=values.device)
    below_upper = torch.searchsorted(
        ascending, values + margin
    )  # how many values lie below values[i] + margin
    below_lower = torch.searchsorted(ascending, values - margin, right=True)
    as_i = below(ranks, place + 1, torch.full_like(place, size), below_upper)
    as_j = place - below(ranks, torch.zeros_like(place), place, below_lower)
    return as_i, as_j


def below(ranks: Tensor, left: Tensor, right: Tensor, bound: Tensor) -> Tensor:
    """For each query q the number of places p in [left[q], right[q]) with ranks[p] < bound[q]; int64 (Q,).

    ranks: a permutation of 0 … M-1; bound from 0 to M.
    """
    count = torch.zeros_like(bound)
    for bit in reversed(range(len(ranks).bit_length())):
        is_zero = (ranks >> bit) & 1 == 0
        zeros = torch.cat(
            [is_zero.new_zeros(1, dtype=torch.long), is_zero.cumsum(0)]
        )  # before each place (M+1,)
        zeros_left, zeros_right = zeros[left], zeros[right]
        goes_right = (bound >> bit) & 1 == 1
        count += torch.where(goes_right, zeros_right - zeros_left, 0)
        left = torch.where(goes_right, zeros[-1] + left - zeros_left, zeros_left)
        right = torch.where(goes_right, zeros[-1] + right - zeros_right, zeros_right)
        ranks = torch.cat([ranks[is_zero], ranks[~is_zero]])
    return count
