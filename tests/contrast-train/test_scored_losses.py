"""Losses over scores, guided and other masks, against their formulas written out in float64."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contrast_train import losses
from contrast_train.losses import PairStructure

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

seeds = st.integers(0, 10**6)


def scored_batch(seed: int) -> tuple[Tensor, Tensor, PairStructure]:
    """Four rows: a positive and two negatives, a positive and one, two positives alone, and one without scores."""
    gen = torch.Generator().manual_seed(seed)
    q, d = (torch.randn(n, 5, generator=gen, dtype=torch.float64) * 2 for n in (4, 8))
    terms = torch.tensor([[0, 0], [1, 3], [2, 5], [2, 6], [3, 7]])
    weights = torch.tensor([0.25, 0.25, 0.125, 0.125, 0.25], dtype=torch.float64)
    hard = torch.tensor([[0, 1], [0, 2], [1, 4]])
    lists = torch.tensor(
        [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 1, 3], [1, 1, 4], [2, 2, 5], [2, 2, 6]]
    )
    scores = torch.randint(0, 4, (7,), generator=gen).double()  # ties happen
    return (
        q,
        d,
        PairStructure(
            positive_pairs=terms,
            weights=weights,
            hard_negative_pairs=hard,
            masked_pairs=terms,
            scored_pairs=lists,
            scores=scores,
        ),
    )


def cosines(q: Tensor, d: Tensor) -> Tensor:
    return torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(d, dim=1).T


def angles(q: Tensor, d: Tensor, *, normalised: bool = True) -> Tensor:
    """AnglE's similarity of each query and document, in complex numbers."""
    z, w = (torch.complex(*torch.nn.functional.pad(x, (0, 1)).chunk(2, dim=1)) for x in (q, d))
    products = z @ w.conj().T
    if normalised:
        products = products / (q.norm(dim=1)[:, None] * d.norm(dim=1)[None])
    return (products.real + products.imag).abs()


def rows_of(structure: PairStructure) -> list[list[tuple[int, int, float]]]:
    """(query, document, score) of each row that has scores."""
    rows: dict[int, list[tuple[int, int, float]]] = {}
    for (row, query, document), score in zip(
        structure.scored_pairs.tolist(), structure.scores.tolist()
    ):
        rows.setdefault(row, []).append((query, document, score))
    return list(rows.values())


def kl_written_out(
    s: Tensor, structure: PairStructure, temperature: float, teacher_temperature: float
) -> Tensor:
    parts = []
    for row in rows_of(structure):
        teacher = torch.softmax(
            torch.tensor([score for *_, score in row], dtype=torch.float64) / teacher_temperature, 0
        )
        student = torch.log_softmax(
            torch.stack([s[query, document] for query, document, _ in row]) / temperature, 0
        )
        parts.append(torch.nn.functional.kl_div(student, teacher, reduction="sum"))
    return torch.stack(parts).mean()


def margin_mse_written_out(
    s: Tensor, structure: PairStructure, temperature: float, teacher_temperature: float
) -> Tensor:
    positive = {tuple(term) for term in structure.positive_pairs.tolist()}
    parts = []
    for row in rows_of(structure):
        pairs = [
            (a, b)
            for a, b in itertools.product(row, row)
            if a[:2] in positive and b[:2] not in positive
        ]
        if pairs:
            gaps = [
                (s[a[:2]] - s[b[:2]]) / temperature - (a[2] - b[2]) / teacher_temperature
                for a, b in pairs
            ]
            parts.append(torch.stack(gaps).square().mean())
    return torch.stack(parts).mean()


def cosent_written_out(s: Tensor, structure: PairStructure, temperature: float) -> Tensor:
    pairs = [pair for row in rows_of(structure) for pair in row]
    inner = [
        (s[b[:2]] - s[a[:2]]) / temperature
        for a, b in itertools.product(pairs, pairs)
        if a[2] > b[2]
    ]
    return torch.stack([s.sum() * 0, *inner]).exp().sum().log()


FORMULAS: dict[str, tuple[Any, Any, dict[str, float]]] = {
    "kl": (losses.kl, kl_written_out, {"temperature": 0.3, "teacher_temperature": 2.0}),
    "margin-mse": (
        losses.margin_mse,
        margin_mse_written_out,
        {"temperature": 0.5, "teacher_temperature": 3.0},
    ),
    "cosent": (losses.cosent, cosent_written_out, {"temperature": 0.2}),
}


def assert_meets_formula(
    loss: Any,
    value: Any,
    q: Tensor,
    d: Tensor,
    structure: PairStructure,
    similarity: str = "cosine",
    angle: bool = False,
    **settings: Any,
) -> None:
    """The loss, its gradients for both sides and for log temperature are those of `value`, by torch."""
    q, d = q.clone().requires_grad_(), d.clone().requires_grad_()
    log_t = torch.tensor(settings.pop("temperature")).double().log().requires_grad_()
    if angle:
        similarities = angles(q, d, normalised=similarity == "cosine")
    else:
        similarities = cosines(q, d) if similarity == "cosine" else q @ d.T
    wanted = value(
        similarities,
        structure,
        temperature=log_t.exp(),
        **settings,
    )
    slopes = torch.autograd.grad(wanted, [q, d, log_t], allow_unused=True, materialize_grads=True)
    result = loss(
        q.detach(),
        d.detach(),
        structure,
        similarity=similarity,
        temperature=log_t.exp().item(),
        **settings,
    )
    for ours, theirs in zip(result, [wanted.detach(), *slopes], strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm().clamp_min(1e-3)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("name", FORMULAS)
@given(seeds)
def test_a_loss_over_scores_meets_its_formula(name: str, similarity: str, seed: int) -> None:
    loss, value, settings = FORMULAS[name]
    assert_meets_formula(loss, value, *scored_batch(seed), similarity=similarity, **settings)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@given(seeds)
def test_angle_meets_its_formula_in_complex_numbers(similarity: str, seed: int) -> None:
    batch = scored_batch(seed)
    assert_meets_formula(
        losses.angle,
        cosent_written_out,
        *batch,
        similarity=similarity,
        angle=True,
        temperature=0.2,
    )


def test_kl_compares_documents_of_one_row_alone() -> None:
    q, d, structure = scored_batch(1)
    whole = losses.kl(q, d, structure).value
    rows = [structure.scored_pairs[:, 0] == row for row in range(3)]
    alone = [
        losses.kl(
            q,
            d,
            replace(
                structure, scored_pairs=structure.scored_pairs[of], scores=structure.scores[of]
            ),
        ).value
        for of in rows
    ]
    assert whole == pytest.approx(sum(alone) / 3)


def test_kl_is_zero_where_the_student_has_the_teachers_distribution() -> None:
    q, d, structure = scored_batch(2)
    _, of_query, of_document = structure.scored_pairs.T
    same = replace(structure, scores=cosines(q, d)[of_query, of_document] / 0.05 * 7 + 3)
    result = losses.kl(q, d, same, temperature=0.05, teacher_temperature=7.0)
    assert result.value.abs() < 1e-12
    assert result.queries.norm() < 1e-9


def test_infonce_and_kl_add_up() -> None:
    q, d, structure = scored_batch(3)
    parts = (
        losses.infonce(q, d, structure, temperature=0.1),
        losses.kl(q, d, structure, temperature=0.1, teacher_temperature=2.0),
    )
    both = losses.infonce_kl(
        q, d, structure, temperature=0.1, teacher_temperature=2.0, kl_weight=0.4
    )
    for ours, one, other in zip(both, *parts):
        torch.testing.assert_close(ours, one + 0.4 * other)


@pytest.mark.parametrize("loss", [losses.kl, losses.margin_mse, losses.cosent, losses.angle])
def test_rows_without_scores_give_zero(loss: Any) -> None:
    q, d, structure = scored_batch(4)
    result = loss(
        q,
        d,
        replace(structure, scored_pairs=structure.scored_pairs[:0], scores=structure.scores[:0]),
    )
    assert [float(part.norm()) for part in result] == [0, 0, 0, 0]


def test_graded_pairs_in_float32_do_not_overflow() -> None:
    q, d, structure = scored_batch(5)
    result = losses.cosent(
        q.float() * 50, d.float() * 50, structure, similarity="dot", temperature=0.05
    )
    assert all(bool(torch.isfinite(part).all()) for part in result)


# --- which candidates are negatives --------------------------------------------------------------


def softmax_over(s: Tensor, structure: PairStructure, temperature: Any, allowed: Any) -> Tensor:
    """InfoNCE where `allowed(query, positive, candidate)` says which columns of s (Q, C) are negatives."""
    total = s.sum() * 0
    for (query, positive), weight in zip(structure.positive_pairs.tolist(), structure.weights):
        row = [
            s[query, c] for c in range(s.shape[1]) if c == positive or allowed(query, positive, c)
        ]
        total = (
            total
            + weight * (torch.stack(row) / temperature).logsumexp(0)
            - weight * s[query, positive] / temperature
        )
    return total


@given(seeds)
def test_hard_candidates_are_everyones_hard_negatives_and_no_others_positive(seed: int) -> None:
    q, d, structure = scored_batch(seed)
    everyones = set(structure.hard_negative_pairs[:, 1].tolist())

    def value(s: Tensor, structure: PairStructure, temperature: Tensor) -> Tensor:
        return softmax_over(s, structure, temperature, lambda query, positive, c: c in everyones)

    def loss(*arguments: Any, **settings: Any) -> Any:
        return losses.infonce(*arguments, candidates="hard", **settings)

    assert_meets_formula(loss, value, q, d, structure, temperature=0.1)


@pytest.mark.parametrize("symmetric", [False, True])
def test_other_queries_are_negatives_but_for_those_that_share_the_positive(symmetric: bool) -> None:
    q, d, structure = scored_batch(6)
    structure = replace(
        structure, masked_pairs=torch.cat([structure.masked_pairs, torch.tensor([[3, 0]])])
    )  # query 3 is answered by 0's positive
    known = {tuple(pair) for pair in structure.masked_pairs.tolist()}

    def value(s: Tensor, structure: PairStructure, temperature: Tensor) -> Tensor:
        def allowed(query: int, positive: int, c: int) -> bool:
            return (query, c) not in known if c < 8 else (c - 8, positive) not in known

        one = softmax_over(s, structure, temperature, allowed)
        if not symmetric:
            return one
        turned = replace(structure, positive_pairs=structure.positive_pairs.flip(1))
        return (
            one + softmax_over(s[:, :8].T, turned, temperature, lambda d, q, c: (c, d) not in known)
        ) / 2

    def both(q: Tensor, d: Tensor) -> Tensor:
        return torch.cat([cosines(q, d), cosines(q, q)], 1)

    q.requires_grad_(), d.requires_grad_()
    wanted = value(both(q, d), structure, torch.tensor(0.2).double())
    slopes = torch.autograd.grad(wanted, [q, d])
    result = losses.infonce(
        q.detach(),
        d.detach(),
        structure,
        temperature=0.2,
        query_negatives=True,
        symmetric=symmetric,
        tile=2,
    )
    torch.testing.assert_close(result.value, wanted.detach())
    torch.testing.assert_close(result.queries, slopes[0])
    torch.testing.assert_close(result.documents, slopes[1])


@pytest.mark.parametrize(
    ("margin", "relative"), [(0.0, False), (0.2, False), (0.3, True), (-0.1, False)]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_guide_masks_what_it_finds_as_near_as_the_positive(
    margin: float, relative: bool, seed: int
) -> None:
    q, d, structure = scored_batch(seed)
    gen = torch.Generator().manual_seed(seed)
    guides = [
        torch.nn.functional.normalize(torch.randn(n, 3, generator=gen, dtype=torch.float64), dim=1)
        for n in (4, 8)
    ]
    near = guides[0] @ guides[1].T
    known = {tuple(pair) for pair in structure.masked_pairs.tolist()}
    structure = replace(structure, guide_queries=guides[0], guide_documents=guides[1])

    def value(s: Tensor, structure: PairStructure, temperature: Tensor) -> Tensor:
        def allowed(query: int, positive: int, c: int) -> bool:
            limit = near[query, positive]
            return (query, c) not in known and bool(
                near[query, c] <= limit - margin * (limit.abs() if relative else 1)
            )

        return softmax_over(s, structure, temperature, allowed)

    def loss(*arguments: Any, **settings: Any) -> Any:
        return losses.infonce(*arguments, guide_margin=margin, guide_relative=relative, **settings)

    assert_meets_formula(loss, value, q, d, structure, temperature=0.1)
    assert (
        losses.infonce(q, d, structure, guide_margin=margin, guide_relative=relative).value
        < losses.infonce(q, d, replace(structure, guide_queries=None)).value
    )


def test_guided_masks_are_those_of_gistembed() -> None:
    """The published loss, on vectors: anchors, positives and one negative a row, its three kinds of candidates."""
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    gen = torch.Generator().manual_seed(0)
    columns, guides = ([torch.randn(6, 4, generator=gen) for _ in range(3)] for _ in range(2))

    class Vectors(torch.nn.Module):
        def __init__(self, vectors: list[Tensor]) -> None:
            super().__init__()
            self.vectors = vectors

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": torch.cat(self.vectors)[features["input_ids"][:, 0]]}

    theirs = GISTEmbedLoss.__new__(GISTEmbedLoss)
    torch.nn.Module.__init__(theirs)
    settings: dict[str, Any] = dict(
        temperature=0.05, margin_strategy="relative", margin=0.1, contrast_anchors=False
    )
    settings |= dict(contrast_positives=False, gather_across_devices=False, must_retokenize=False)
    for name, item in settings.items():
        setattr(theirs, name, item)
    theirs.model, theirs.guide = Vectors(columns), Vectors(guides)
    theirs.similarity_fct, theirs.cross_entropy_loss = (
        torch.nn.CosineSimilarity(dim=-1),
        torch.nn.CrossEntropyLoss(),
    )
    features = [
        {"input_ids": torch.arange(6 * k, 6 * k + 6)[:, None], "attention_mask": torch.ones(6, 1)}
        for k in range(3)
    ]
    published = theirs(features, torch.empty(0))
    terms = torch.arange(6)[:, None].repeat(1, 2)
    units = [torch.nn.functional.normalize(vectors, dim=1) for vectors in guides]
    structure = PairStructure(
        positive_pairs=terms,
        weights=torch.full((6,), 1 / 6),
        hard_negative_pairs=terms + torch.tensor([0, 6]),
        masked_pairs=terms,
        guide_queries=units[0],
        guide_documents=torch.cat(units[1:]),
    )
    ours = losses.infonce(
        columns[0],
        torch.cat(columns[1:]),
        structure,
        temperature=0.05,
        guide_margin=0.1,
        guide_relative=True,
    )
    assert ours.value.item() == pytest.approx(published.item(), rel=1e-5)
