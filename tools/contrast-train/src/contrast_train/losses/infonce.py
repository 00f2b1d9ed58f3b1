"""InfoNCE, exact and tiled, with an analytic gradient; SimCSE is the same on two views of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contrast_train.losses.structure import Gradients, Lists, Structure, on_similarities

Candidates = str  # all | positives | hard | own


@dataclass(frozen=True)
class Masks:
    """Which candidates are negatives of an anchor, for anchors (A) and candidates (C) of one direction.

    own: an anchor's own hard negatives; everyones (C,): candidates open to every anchor; both None where
    all are. guide: unit vectors of anchors (A, E) and candidates (C, E) by another model: a candidate that
    is as near to the anchor as its positive, less the margin, may be an answer and is left out.
    """

    known: Lists
    own: Lists | None = None
    everyones: Tensor | None = None
    guide: tuple[Tensor, Tensor] | None = None
    guide_margin: float = 0.0
    guide_relative: bool = False

    def apply(self, scores: Tensor, anchors: Tensor, positives: Tensor) -> None:
        """Set to -inf what is no negative; `positives` (t,) are put back by the caller. scores (t, C)."""
        if self.own is not None and self.everyones is not None:
            allowed = self.everyones.repeat(len(anchors), 1)
            allowed[self.own.of(anchors)] = True
            scores.masked_fill_(~allowed, -torch.inf)
        if self.guide is not None:
            near = self.guide[0][anchors] @ self.guide[1].T  # (t, C)
            own = near.gather(1, positives[:, None])
            scores.masked_fill_(
                near > own - self.guide_margin * (own.abs() if self.guide_relative else 1.0),
                -torch.inf,
            )
        scores[self.known.of(anchors)] = -torch.inf


def tiled_infonce(
    q: Tensor,
    d: Tensor,
    structure: Structure,
    *,
    temperature: float = 0.05,
    symmetric: bool = False,
    candidates: Candidates = "all",
    query_negatives: bool = False,
    guide_margin: float = 0.0,
    guide_relative: bool = False,
    tile: int = 512,
) -> Gradients:
    """InfoNCE, exact, in tiles: memory grows with tile x N, not with Q x N.

        L = sum_t w_t [ log sum_{d in C(t)} exp(s(q_t, d) / temperature) - s(q_t, p_t) / temperature ]

    C(t) is p_t and the other documents of the batch, each distinct text once, without those known to
    answer q_t. candidates: "all" of them; own hard negatives and everyone's "positives"; everyone's
    "hard" negatives; "own" hard negatives alone. query_negatives: the other queries too, but for those
    that share the positive (Li et al. 2023, GTE). symmetric: the mean of this and the same with queries
    and documents exchanged (Radford et al. 2021). With guide vectors in the structure, candidates nearer
    than the positive's similarity - guide_margin (relative: x (1 - guide_margin)) by the guide are left
    out (Solatorio 2024). van den Oord et al. 2018.
    """
    grad_q, grad_d = torch.zeros_like(q), torch.zeros_like(d)
    weights = structure.weights.to(q.dtype) * (0.5 if symmetric else 1.0)
    guide = None
    if structure.guide_queries is not None and structure.guide_documents is not None:
        guide = structure.guide_queries, structure.guide_documents
    known, others, grad_others = structure.known, d, grad_d
    if query_negatives:
        known = torch.cat([known, sharing(structure, len(d))])
        others, grad_others = torch.cat([d, q]), torch.cat([grad_d, grad_q])
        guide = guide and (guide[0], torch.cat([guide[1], guide[0]]))
    masks = Masks(
        Lists(known, len(q)),
        *_reach(structure, candidates, len(q), len(d), len(others)),
        guide,
        guide_margin,
        guide_relative,
    )
    loss = _one_way(
        q, others, structure.terms, weights, temperature, masks, tile, grad_q, grad_others
    )
    if query_negatives:
        grad_d += grad_others[: len(d)]
        grad_q += grad_others[len(d) :]
    if symmetric:
        turned = guide and (guide[1][: len(d)], guide[0])
        masks = Masks(
            Lists(structure.known.flip(1), len(d)), None, None, turned, guide_margin, guide_relative
        )
        loss += _one_way(
            d, q, structure.terms.flip(1), weights, temperature, masks, tile, grad_d, grad_q
        )
    return loss, grad_q, grad_d


infonce = on_similarities(tiled_infonce)


def simcse(queries: Tensor, documents: Tensor, structure: Structure, **settings: Any) -> Any:
    """InfoNCE on two views of each text, which differ by their dropout masks alone: query i and document i.

    The vectors must come from two passes; a text that was encoded once is its own copy. Gao et al. 2021.
    """
    return infonce(queries, documents, structure, **settings)


def _reach(
    structure: Structure, candidates: Candidates, queries: int, documents: int, width: int
) -> tuple[Lists | None, Tensor | None]:
    """(own hard negatives, candidates (width,) that every query meets); what lies behind the documents is open to all."""
    if candidates == "all":
        return None, None
    open_to_all = torch.arange(width, device=structure.terms.device) >= documents
    if candidates == "positives":
        open_to_all[structure.terms[:, 1]] = True
    elif candidates == "hard":
        open_to_all[structure.hard[:, 1]] = True
    return Lists(structure.hard, queries), open_to_all


def sharing(structure: Structure, documents: int) -> Tensor:
    """(query, documents + other query) for queries that a positive of the first answers too, itself included."""
    answered = Lists(structure.known.flip(1), documents)
    places, others = answered.of(structure.terms[:, 1])
    shared = torch.stack([structure.terms[places, 0], documents + others], 1)
    alone = structure.terms[:, 0].unique()
    return torch.cat([shared, torch.stack([alone, documents + alone], 1)])


def _one_way(
    a: Tensor,
    c: Tensor,
    terms: Tensor,
    weights: Tensor,
    temperature: float,
    masks: Masks,
    tile: int,
    grad_a: Tensor,
    grad_c: Tensor,
) -> Tensor:
    """Anchors a (A, D) against candidates c (C, D); adds to both gradients. Gradient of a row of scores:
    weight / temperature * (softmax - one-hot). One (t, C) block is written over in place, and never scaled:
    what is scaled is the (t, D) side, since passes over the other are what costs beside the products.
    The positive's own entry, softmax - 1, is minus the sum of all others: no digits are lost where it is nearly 0."""
    loss = torch.zeros((), dtype=a.dtype, device=a.device)
    block = a.new_empty(min(tile, len(terms)), len(c))
    for start in range(0, len(terms), tile):
        anchors, positives = terms[start : start + tile].T
        weight, at = weights[start : start + tile, None], positives[:, None]
        anchor = a[anchors].div_(temperature)  # (t, D)
        scores = torch.mm(anchor, c.T, out=block[: len(anchors)])  # (t, C)
        target = scores.gather(1, at)
        masks.apply(scores, anchors, positives)
        scores.scatter_(1, at, -torch.inf)
        top = torch.maximum(scores.amax(1, keepdim=True), target)
        others = scores.sub_(top).exp_().sum(1, keepdim=True)
        total = others + (target - top).exp()
        loss += (weight * (total.log() + top - target)).sum()
        scores.scatter_(1, at, -others)
        share = weight / total
        grad_a.index_add_(0, anchors, (scores @ c).mul_(share / temperature))
        grad_c.addmm_(scores.T, anchor.mul_(share))
    return loss
