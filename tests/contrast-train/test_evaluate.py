"""Held-out quality against hand-made rankings."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from contrast_train.training.retrieval_evaluator import (
    EvaluationPrompts,
    RetrievalEvaluator,
    margin,
    ndcg,
    ranks_of,
)


def test_ndcg_and_mrr_of_a_known_ranking() -> None:
    table = pa.table(
        {
            "query": ["a", "b"],
            "pos": [["p1", "p2"], ["p3"]],
            "neg": [["n1"], None],
            "prompt": [None, "x: "],
        }
    )
    evaluator = RetrievalEvaluator(table.to_batches(), "dev", EvaluationPrompts(query="q: "))
    assert evaluator.queries == ["q: a", "x: b"]
    assert evaluator.documents == ["p1", "p2", "n1", "p3"]
    documents = torch.eye(4)
    queries = torch.tensor(
        [[0.5, 0.1, 0.9, 0.0], [0.3, 0.2, 0.1, 0.0]]
    )  # ranks: p1 2nd, p2 3rd; p3 4th
    values = evaluator.measure(lambda q, d: (queries, documents))
    first = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert values["ndcg_at_10"] == pytest.approx((first + 1 / math.log2(5)) / 2)
    assert values["mrr_at_10"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    unit = (queries / queries.norm(dim=1, keepdim=True)).tolist()
    # The second query's own document has cosine 0.
    assert values["margin"] == pytest.approx((unit[0][1] - unit[0][2] + 0 - unit[1][0]) / 2)


def test_the_margin_is_that_of_the_worst_positive_to_the_best_other_document() -> None:
    assert margin(torch.tensor([0.9, 0.2, 0.6, 0.1]), [0, 2]) == pytest.approx(0.4)
    assert margin(torch.tensor([0.9, 0.2, 0.6, 0.1]), [1]) == pytest.approx(-0.7)


def test_of_equal_scores_the_earlier_document_stands_first() -> None:
    assert ranks_of(torch.tensor([1.0, 2.0, 1.0, 1.0]), [0, 2, 3]) == [2, 3, 4]


def test_hits_beyond_ten_count_nothing() -> None:
    assert ndcg([11, 40]) == 0.0
    assert ndcg(list(range(1, 30))) == pytest.approx(1.0)
