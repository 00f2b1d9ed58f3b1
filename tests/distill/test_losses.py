"""The losses against their written-out forms, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fletching_distill.losses import DistillLoss
from fletching_distill.ranking import count_below, ranking

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


def direct(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """The published form: every pair of similarities, M x M."""
    a, b = torch.triu_indices(len(student), len(student), 1)
    sign = torch.where(teacher[b] < teacher[a], 1.0, -1.0).to(student.dtype)
    return (sign * (student[b] - student[a]) + margin).clamp_min(0).mean()


def loss_and_gradient(value: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(value, of)
    return value.detach(), gradient


def vectors(seed: int, rows: int, dim: int) -> Tensor:
    return torch.randn(
        rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def unit(values: Tensor) -> Tensor:
    return values / values.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("batch", [3, 8, 33, 96])
def test_ranking_is_the_direct_form_in_loss_and_gradient(batch: int) -> None:
    size = batch * (batch - 1) // 2
    noise = torch.Generator().manual_seed(batch)
    teacher = (
        torch.rand(size, generator=noise, dtype=torch.float64) * 40
    ).round() / 40  # with ties
    student = (
        teacher + 0.1 * torch.randn(size, generator=noise, dtype=torch.float64)
    ).requires_grad_()
    ours = loss_and_gradient(ranking(student, teacher.argsort(stable=True), 0.015), student)
    theirs = loss_and_gradient(direct(student, teacher, 0.015), student)
    assert ours[0] == pytest.approx(theirs[0].item(), rel=1e-12)
    assert (ours[1] - theirs[1]).norm() <= 1e-12 * theirs[1].norm()


def test_ranking_in_float32_at_192_texts() -> None:
    """The direct form row by row: its 18,336 squared pairs do not fit at once."""
    size = 192 * 191 // 2
    noise = torch.Generator().manual_seed(0)
    teacher = torch.rand(size, generator=noise)
    student = (teacher + 0.05 * torch.randn(size, generator=noise)).requires_grad_()
    loss, gradient = loss_and_gradient(
        ranking(student, teacher.argsort(stable=True), 0.015), student
    )
    ordered = student.detach()[teacher.argsort(stable=True)].double()
    total, counts, pairs = 0.0, torch.zeros(size, dtype=torch.float64), size * (size - 1) / 2
    for start in range(0, size, 512):
        gap = ordered[start : start + 512, None] - ordered[None, :] + 0.015
        later = torch.arange(size)[None, :] > torch.arange(start, min(start + 512, size))[:, None]
        violated = (gap > 0) & later
        total += float(gap[violated].sum())
        counts[start : start + 512] += violated.sum(1)
        counts -= violated.sum(0)
    expected = torch.empty_like(counts)
    expected[teacher.argsort(stable=True)] = counts / pairs
    assert loss.item() == pytest.approx(total / pairs, rel=1e-6)
    assert (gradient - expected).norm() <= 1e-6 * expected.norm()


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_ranking_holds_with_ties_and_gaps_of_exactly_the_margin(
    values: list[int], random: Any
) -> None:
    student = torch.tensor(values, dtype=torch.float64).requires_grad_()
    teacher = torch.tensor([random.randint(0, 3) for _ in values], dtype=torch.float64)
    ours = loss_and_gradient(ranking(student, teacher.argsort(stable=True), 2.0), student)
    theirs = direct(student, teacher, 2.0)
    assert ours[0].item() == pytest.approx(theirs.item(), abs=1e-12)
    order = teacher.argsort(stable=True)
    counts = [0] * len(values)
    for i in range(len(values)):
        for j in range(i + 1, len(values)):
            if values[order[i]] - values[order[j]] + 2 > 0:
                counts[order[i]] += 1
                counts[order[j]] -= 1
    pairs = len(values) * (len(values) - 1) / 2
    assert (ours[1] * pairs).tolist() == pytest.approx(counts, abs=1e-9)


@given(st.permutations(range(9)), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_count_below_counts_ranks_in_a_range(
    ranks: list[int], left: int, right: int, bound: int
) -> None:
    left, right = min(left, right), max(left, right)
    count = count_below(
        torch.tensor(ranks),
        start=torch.tensor([left]),
        end=torch.tensor([right]),
        bound=torch.tensor([bound]),
    )
    assert count.tolist() == [sum(rank < bound for rank in ranks[left:right])]


def one(name: str, student: Tensor, teacher: Tensor, **settings: Any) -> float:
    return DistillLoss({name: 1.0}, **settings)(student, teacher)[0].item()


def test_each_loss_is_its_closed_form() -> None:
    raw, teacher = vectors(1, 5, 4), unit(vectors(2, 5, 4))
    student = unit(raw)
    assert one("cosine", raw, teacher) == pytest.approx(
        sum(1 - float(student[i] @ teacher[i]) for i in range(5)) / 5, rel=1e-12
    )
    assert one("mse", raw, teacher) == pytest.approx(
        float(((raw - teacher) ** 2).sum()) / 20, rel=1e-12
    )
    gaps = [
        (float(student[i] @ student[j]) - float(teacher[i] @ teacher[j])) ** 2
        for i in range(5)
        for j in range(5)
    ]
    assert one("similarity", raw, teacher) == pytest.approx(sum(gaps) / 25, rel=1e-12)
    rows, columns = torch.triu_indices(5, 5, 1)
    expected = direct(
        (student @ student.T)[rows, columns], (teacher @ teacher.T)[rows, columns], 0.3
    )
    assert one("ranking", raw, teacher, margin=0.3) == pytest.approx(expected.item(), rel=1e-12)
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        p, q = ([math.exp(float(m[i] @ m[j]) / 0.2) for j in others] for m in (teacher, student))
        total += sum(x / sum(p) * math.log(x / sum(p) * sum(q) / y) for x, y in zip(p, q))
    assert one("kl", raw, teacher, temperature=0.2) == pytest.approx(total / 5, rel=1e-10)


def test_the_mixture_is_the_weighted_sum_and_names_its_parts() -> None:
    raw, teacher = vectors(1, 6, 4), unit(vectors(2, 6, 4))
    weights = {"cosine": 10.0, "similarity": 200.0, "ranking": 20.0, "mse": 3.0, "kl": 0.5}
    total, parts = DistillLoss(weights)(raw, teacher)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        {name: one(name, raw, teacher) for name in weights}
    )
    assert total.item() == pytest.approx(
        sum(weights[name] * part.item() for name, part in parts.items()), rel=1e-12
    )
    assert DistillLoss({"cosine": 1.0, "kl": 0.0})(raw, teacher)[1].keys() == {"cosine"}


def test_matryoshka_is_the_mean_over_prefixes_normalised_anew() -> None:
    raw, teacher = vectors(1, 6, 8), unit(vectors(2, 6, 8))
    for name in ("similarity", "ranking", "kl"):
        expected = sum(one(name, raw[:, :dim], teacher) for dim in (2, 5, 8)) / 3
        assert one(name, raw, teacher, dims=(2, 5, 8)) == pytest.approx(expected, rel=1e-12)
    assert one("cosine", raw, teacher, dims=(2,)) == one("cosine", raw, teacher)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("dims", [(), (1, 3)])
def test_no_batch_is_too_small(rows: int, dims: tuple[int, ...]) -> None:
    raw = vectors(1, rows, 3).requires_grad_()
    weights = dict.fromkeys(("cosine", "similarity", "ranking", "mse", "kl"), 1.0)
    loss, gradient = loss_and_gradient(
        DistillLoss(weights, dims)(raw, unit(vectors(2, rows, 3)))[0], raw
    )
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_a_zero_vector_and_equal_texts_give_finite_numbers() -> None:
    raw = torch.cat([torch.zeros(1, 3), torch.ones(3, 3)]).requires_grad_()
    weights = dict.fromkeys(("cosine", "similarity", "ranking", "mse", "kl"), 1.0)
    loss, gradient = loss_and_gradient(DistillLoss(weights)(raw, unit(torch.ones(4, 3)))[0], raw)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_halves_are_computed_in_float32() -> None:
    raw, teacher = vectors(1, 40, 8), unit(vectors(2, 40, 8))
    weights = {"cosine": 10.0, "similarity": 200.0, "ranking": 20.0}
    low = DistillLoss(weights)(raw.bfloat16(), teacher.half())[0]
    same = DistillLoss(weights)(raw.bfloat16().double(), teacher.half().double())[0]
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(same.item(), rel=1e-5)
