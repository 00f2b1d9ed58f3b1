"""Reciprocal rank fusion: one ranking of two, by the ranks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OFFSET = 60  # k of the paper


def falling(scores: Mapping[str, float]) -> list[str]:
    """The documents by falling score; those of equal score by falling id, as in trec_eval."""
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], depth: int) -> dict[str, float]:
    """Σ 1 / (60 + rank) over the rankings that hold a document: the best `depth`, best first.

    Ranks count from 1; a ranking that lacks a document adds nothing. Equal sums rank by falling
    id. Cormack, Clarke & Büttcher (SIGIR 2009), with their k of 60.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (OFFSET + rank)
    return {name: scores[name] for name in falling(scores)[:depth]}
