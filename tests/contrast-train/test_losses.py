"""Losses against their closed forms, written out in float64 and differentiated by torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contrast_train import losses
from contrast_train.losses import PairStructure

INFINITE = torch.tensor(-torch.inf, dtype=torch.float64)


def batch(
    seed: int, queries: int = 7, documents: int = 12, dim: int = 5
) -> tuple[Tensor, Tensor, PairStructure]:
    """Two terms for the first query, hard negatives for some, a known answer that is no term for others."""
    gen = torch.Generator().manual_seed(seed)
    q, d = (
        torch.randn(n, dim, generator=gen, dtype=torch.float64) * 3 for n in (queries, documents)
    )
    terms = torch.tensor([[0, documents - 1], *([i, i] for i in range(queries))])
    weights = torch.rand(len(terms), generator=gen, dtype=torch.float64)
    hard = torch.tensor([[0, 8], [0, 9], [2, 8], [5, 10], [5, 9]])
    known = torch.cat([terms, torch.tensor([[1, 9], [4, 0], [6, 8], [0, 3]])])
    return (
        q,
        d,
        PairStructure(
            positive_pairs=terms,
            weights=weights / weights.sum(),
            hard_negative_pairs=hard,
            masked_pairs=known,
        ),
    )


def written_out(
    q: Tensor, d: Tensor, s: PairStructure, temperature: float, candidates: str = "all"
) -> Tensor:
    """-sum_t w_t log(e^{s(q,p)} / sum_{C} e^{s(q,c)}), one term at a time."""
    answers = {tuple(pair) for pair in s.masked_pairs.tolist()}
    hard = {tuple(pair) for pair in s.hard_negative_pairs.tolist()}
    positives = set(s.positive_pairs[:, 1].tolist())
    total = torch.zeros((), dtype=torch.float64)
    for (query, positive), weight in zip(s.positive_pairs.tolist(), s.weights):
        allowed = []
        for document in range(len(d)):
            in_reach = (
                candidates == "all"
                or (query, document) in hard
                or (candidates == "positives" and document in positives)
            )
            if document == positive or (in_reach and (query, document) not in answers):
                allowed.append(torch.cosine_similarity(q[query], d[document], dim=0) / temperature)
        target = torch.cosine_similarity(q[query], d[positive], dim=0) / temperature
        total = total + weight * (torch.stack(allowed).logsumexp(0) - target)
    return total


def gradients(value: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [
        grad if grad is not None else torch.zeros_like(leaf)
        for grad, leaf in zip(torch.autograd.grad(value, leaves, allow_unused=True), leaves)
    ]


def near(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).norm() <= 1e-10 * theirs.norm().clamp_min(1e-3))


@given(
    st.integers(0, 10**6),
    st.sampled_from(["all", "positives", "own"]),
    st.sampled_from([1, 3, 512]),
    st.sampled_from([0.02, 0.5]),
)
def test_infonce_and_its_gradient_meet_the_formula_for_any_tile(
    seed: int, candidates: str, tile: int, temperature: float
) -> None:
    q, d, structure = batch(seed)
    q.requires_grad_(), d.requires_grad_()
    value = written_out(q, d, structure, temperature, candidates)
    wanted = gradients(value, q, d)
    loss, grad_q, grad_d, _ = losses.infonce(
        q.detach(), d.detach(), structure, temperature=temperature, candidates=candidates, tile=tile
    )
    assert near(loss, value.detach())
    assert near(grad_q, wanted[0])
    assert near(grad_d, wanted[1])


def test_symmetric_infonce_is_the_mean_of_both_directions() -> None:
    q, d, structure = batch(3)
    q.requires_grad_(), d.requires_grad_()
    turned = PairStructure(
        positive_pairs=structure.positive_pairs.flip(1),
        weights=structure.weights,
        hard_negative_pairs=structure.hard_negative_pairs.flip(1),
        masked_pairs=structure.masked_pairs.flip(1),
    )
    value = (written_out(q, d, structure, 0.1) + written_out(d, q, turned, 0.1)) / 2
    wanted = gradients(value, q, d)
    loss, grad_q, grad_d, _ = losses.infonce(
        q.detach(), d.detach(), structure, temperature=0.1, symmetric=True, tile=2
    )
    assert near(loss, value.detach())
    assert near(grad_q, wanted[0])
    assert near(grad_d, wanted[1])


def test_infonce_without_masks_is_cross_entropy_on_the_diagonal() -> None:
    gen = torch.Generator().manual_seed(0)
    q, d = (torch.randn(6, 4, generator=gen, dtype=torch.float64) for _ in range(2))
    terms = torch.arange(6)[:, None].repeat(1, 2)
    structure = PairStructure(
        positive_pairs=terms,
        weights=torch.full((6,), 1 / 6, dtype=torch.float64),
        hard_negative_pairs=torch.empty(0, 2, dtype=torch.long),
        masked_pairs=terms,
    )
    scores = (
        torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(d, dim=1).T / 0.05
    )
    assert near(
        losses.infonce(q, d, structure)[0],
        torch.nn.functional.cross_entropy(scores, torch.arange(6)),
    )


def test_a_known_answer_gets_no_gradient_as_a_negative() -> None:
    q = torch.eye(2, dtype=torch.float64)
    d = torch.eye(3, dtype=torch.float64)[:, :2] + 0.1
    structure = PairStructure(
        positive_pairs=torch.tensor([[0, 0]]),
        weights=torch.ones(1),
        hard_negative_pairs=torch.empty(0, 2, dtype=torch.long),
        masked_pairs=torch.tensor([[0, 0], [0, 2]]),
    )
    assert losses.infonce(q, d, structure)[2][2].abs().max() == 0
    assert (
        losses.infonce(q, d, replace(structure, masked_pairs=torch.tensor([[0, 0]])))[2][2]
        .abs()
        .max()
        > 0
    )


def test_half_precision_vectors_are_compared_in_float32() -> None:
    q, d, structure = batch(5)
    rounded = q.bfloat16(), d.bfloat16()
    loss, grad, *_ = losses.infonce(*rounded, structure, temperature=0.02)
    exact = losses.infonce(*(x.double() for x in rounded), structure, temperature=0.02)[0]
    assert loss.dtype == grad.dtype == torch.float32
    assert abs(loss.item() - exact.item()) < 1e-5 * abs(exact.item())


@given(st.integers(0, 10**6))
def test_triplet_meets_its_formula(seed: int) -> None:
    q, d, s = batch(seed)
    q.requires_grad_(), d.requires_grad_()
    value = (q.sum() + d.sum()) * 0
    for (query, positive), weight in zip(s.positive_pairs.tolist(), s.weights):
        negatives = [n for owner, n in s.hard_negative_pairs.tolist() if owner == query]
        for negative in negatives:
            gap = (
                0.2
                - torch.cosine_similarity(q[query], d[positive], dim=0)
                + torch.cosine_similarity(q[query], d[negative], dim=0)
            )
            value = value + weight / len(negatives) * gap.clamp_min(0)
    wanted = gradients(value, q, d)
    loss, grad_q, grad_d, _ = losses.triplet(q.detach(), d.detach(), s, triplet_margin=0.2)
    assert near(loss, value.detach())
    assert near(grad_q, wanted[0])
    assert near(grad_d, wanted[1])


def test_triplet_without_hard_negatives_is_zero() -> None:
    q, d, s = batch(1)
    loss, grad_q, grad_d, _ = losses.triplet(
        q, d, replace(s, hard_negative_pairs=torch.empty(0, 2, dtype=torch.long))
    )
    assert loss == 0
    assert grad_q.abs().max() == 0
    assert grad_d.abs().max() == 0


def test_matryoshka_is_the_mean_over_prefixes() -> None:
    q, d, structure = batch(2)
    q.requires_grad_(), d.requires_grad_()
    value = sum(written_out(q[:, :dim], d[:, :dim], structure, 0.05) for dim in (2, 3, 5)) / 3
    wanted = gradients(value, q, d)
    loss, grad_q, grad_d, _ = losses.matryoshka(
        q.detach(), d.detach(), structure, loss=losses.infonce, dims=[2, 3, 5]
    )
    assert near(loss, value.detach())
    assert near(grad_q, wanted[0])
    assert near(grad_d, wanted[1])


def test_matryoshka_takes_weights() -> None:
    q, d, structure = batch(2)
    parts = [
        losses.triplet(q[:, :dim], d[:, :dim], structure, triplet_margin=0.5).value
        for dim in (2, 5)
    ]
    weighted = losses.matryoshka(
        q, d, structure, loss=losses.triplet, dims=[2, 5], weights=[3, 1], triplet_margin=0.5
    ).value
    assert near(weighted, (3 * parts[0] + parts[1]) / 4)


@pytest.mark.parametrize("tile", [64, 1024])
def test_memory_grows_with_the_tile_and_not_with_the_batch_squared(tile: int) -> None:
    rows = 2048
    terms = torch.arange(rows)[:, None].repeat(1, 2)
    structure = PairStructure(
        positive_pairs=terms,
        weights=torch.full((rows,), 1 / rows),
        hard_negative_pairs=torch.empty(0, 2, dtype=torch.long),
        masked_pairs=terms,
    )
    largest = 0

    class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    with LargestTensor():
        losses.infonce(torch.randn(rows, 8), torch.randn(rows, 8), structure, tile=tile)
    assert largest <= tile * rows


def test_a_pair_that_is_nearly_learned_keeps_the_digits_of_its_gradient() -> None:
    """softmax - 1 of a positive at 0.999999 would be rounding noise in float32."""
    angle = torch.tensor([0.0, 1.2, 2.4], dtype=torch.float64)
    q = torch.stack([angle.cos(), angle.sin()], 1)
    pairs = torch.arange(3)[:, None].repeat(1, 2)
    structure = PairStructure(
        positive_pairs=pairs,
        weights=torch.full((3,), 1 / 3),
        hard_negative_pairs=torch.empty(0, 2, dtype=torch.long),
        masked_pairs=pairs,
    )
    wanted = losses.infonce(q, q, structure, temperature=0.05, similarity="dot")
    rounded = losses.infonce(q.float(), q.float(), structure, temperature=0.05, similarity="dot")
    assert 0 < wanted.queries.norm() < 1e-3
    assert (rounded.queries - wanted.queries).norm() <= 1e-4 * wanted.queries.norm()
