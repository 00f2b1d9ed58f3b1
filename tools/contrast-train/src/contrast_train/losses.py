"""Losses over the vectors of one global batch, with their gradients. Needs torch alone.

All of them take raw vectors of the distinct queries (Q, D) and distinct documents (N, D) and give
(loss, gradient for the queries (Q, D), gradient for the documents (N, D)). Similarity is the cosine, in
float32 (float64 stays float64, for tests). `Structure` says which query goes with which document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Result = tuple[Tensor, Tensor, Tensor]
Candidates = str  # all | positives | own


class Structure(NamedTuple):
    """What belongs together in a batch of Q distinct queries and N distinct documents.

    terms    (T, 2) a query and one of its positives: one softmax each
    weights  (T,)   sum to 1; a row counts the same however many positives it has
    hard     (H, 2) a query and one of its own hard negatives
    known    (P, 2) a query and any document known to answer it, never a negative of it
    """

    terms: Tensor
    weights: Tensor
    hard: Tensor
    known: Tensor


class Lists:
    """Pairs (key, value) as one list of values for each key (compressed rows)."""

    def __init__(self, pairs: Tensor, keys: int) -> None:
        order = pairs[:, 0].argsort(stable=True)
        self.values = pairs[order, 1]
        counts = torch.bincount(pairs[:, 0], minlength=keys)
        self.counts = counts
        self.starts = counts.cumsum(0) - counts

    def of(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(place in `keys`, value) for every value of every key, as two flat tensors."""
        counts = self.counts[keys]
        places = torch.arange(len(keys), device=keys.device).repeat_interleave(counts)
        within = torch.arange(len(places), device=keys.device) - (counts.cumsum(0) - counts)[places]
        return places, self.values[self.starts[keys][places] + within]


def infonce(
    queries: Tensor,
    documents: Tensor,
    structure: Structure,
    *,
    temperature: float = 0.05,
    symmetric: bool = False,
    candidates: Candidates = "all",
    tile: int = 512,
) -> Result:
    """InfoNCE, exact, in tiles: memory grows with tile x N, not with Q x N.

        L = sum_t w_t [ log sum_{d in C(t)} exp(cos(q_t, d) / temperature) - cos(q_t, p_t) / temperature ]

    C(t) is p_t and the other documents of the batch, each distinct text once, without those known to
    answer q_t. `candidates`: all of them; own hard negatives and everyone's positives; own ones alone.
    symmetric: the mean of this and the same with queries and documents exchanged.
    van den Oord et al. 2018; both directions: Radford et al. 2021.
    """
    q, d = functional.normalize(exact(queries), dim=1), functional.normalize(exact(documents), dim=1)
    grad_q, grad_d = torch.zeros_like(q), torch.zeros_like(d)
    share = 0.5 if symmetric else 1.0
    weights = structure.weights.to(q.dtype) * share
    loss = _one_way(q, d, structure, weights, temperature, candidates, tile, grad_q, grad_d)
    if symmetric:
        turned = Structure(structure.terms.flip(1), weights, structure.hard.flip(1), structure.known.flip(1))
        loss += _one_way(d, q, turned, weights, temperature, "all", tile, grad_d, grad_q)
    return loss, _through_norm(queries, q, grad_q), _through_norm(documents, d, grad_d)


def exact(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def _one_way(
    a: Tensor,
    c: Tensor,
    structure: Structure,
    weights: Tensor,
    temperature: float,
    candidates: Candidates,
    tile: int,
    grad_a: Tensor,
    grad_c: Tensor,
) -> Tensor:
    """Anchors a against candidates c; adds to both gradients. Gradient of a row of scores:
    weight / temperature * (softmax - one-hot)."""
    known = Lists(structure.known, len(a))
    own = Lists(structure.hard, len(a)) if candidates != "all" else None
    everyones = torch.zeros(len(c), dtype=torch.bool, device=c.device)
    if candidates == "positives":
        everyones[structure.terms[:, 1]] = True
    loss = torch.zeros((), dtype=a.dtype, device=a.device)
    for start in range(0, len(structure.terms), tile):
        anchors, positives = structure.terms[start : start + tile].T
        weight = weights[start : start + tile, None]
        anchor = a[anchors]  # (t, D)
        scores = (anchor @ c.T).div_(temperature)  # (t, N)
        target = scores.gather(1, positives[:, None])
        if own is not None:
            allowed = everyones.repeat(len(anchors), 1)
            allowed[own.of(anchors)] = True
            scores.masked_fill_(~allowed, -torch.inf)
        scores[known.of(anchors)] = -torch.inf
        scores.scatter_(1, positives[:, None], target)
        total = scores.logsumexp(1, keepdim=True)
        loss += (weight * (total - target)).sum()
        pull = scores.sub_(total).exp_()  # (t, N)
        pull.scatter_add_(1, positives[:, None], -torch.ones_like(target))
        pull.mul_(weight / temperature)
        grad_a.index_add_(0, anchors, pull @ c)
        grad_c.addmm_(pull.T, anchor)
    return loss


def _through_norm(raw: Tensor, unit: Tensor, grad: Tensor) -> Tensor:
    """The gradient for x, given the one for x / |x|."""
    length = exact(raw).norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (grad - unit * (grad * unit).sum(1, keepdim=True)) / length


def triplet(queries: Tensor, documents: Tensor, structure: Structure, *, margin: float = 0.2) -> Result:
    """Hinge on own hard negatives: mean over a query's pairs of max(0, margin - cos(q, p) + cos(q, n)).

    L = sum_t w_t / |H(t)| sum_{n in H(t)} max(0, margin - cos(q_t, p_t) + cos(q_t, n)); a term without
    hard negatives adds nothing. Schroff et al. 2015, with the cosine.
    """

    def value(q: Tensor, d: Tensor) -> Tensor:
        places, negatives = Lists(structure.hard, len(q)).of(structure.terms[:, 0])
        of_query, of_term = structure.terms[places].T
        gap = margin - (q[of_query] * (d[of_term] - d[negatives])).sum(1)  # (pairs,)
        counts = torch.bincount(places, minlength=len(structure.terms)).to(q.dtype)
        return (structure.weights.to(q.dtype)[places] / counts[places] * gap.clamp_min(0)).sum()

    return by_autograd(value, queries, documents)


def by_autograd(value: Callable[[Tensor, Tensor], Tensor], queries: Tensor, documents: Tensor) -> Result:
    """Loss and gradients of a function of the unit vectors, by torch's own differentiation."""
    with torch.enable_grad():
        raw = [exact(vectors).detach().requires_grad_() for vectors in (queries, documents)]
        loss = value(*(functional.normalize(vectors, dim=1) for vectors in raw))
        gradients = (
            torch.autograd.grad(loss, raw, allow_unused=True, materialize_grads=True)
            if loss.requires_grad
            else [torch.zeros_like(vectors) for vectors in raw]
        )
    return loss.detach(), gradients[0], gradients[1]


def matryoshka(loss: Callable[[Tensor, Tensor], Result], dims: Sequence[int], queries: Tensor, documents: Tensor) -> Result:
    """The mean of `loss` over prefixes of the vectors: their first `dims` numbers, normalised anew.

    Kusupati et al. 2022.
    """
    total = torch.zeros((), dtype=exact(queries).dtype, device=queries.device)
    grad_q, grad_d = torch.zeros_like(exact(queries)), torch.zeros_like(exact(documents))
    for dim in dims:
        part, part_q, part_d = loss(queries[:, :dim], documents[:, :dim])
        total += part / len(dims)
        grad_q[:, :dim] += part_q / len(dims)
        grad_d[:, :dim] += part_d / len(dims)
    return total, grad_q, grad_d
