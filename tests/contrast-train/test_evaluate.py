"""Held-out quality against hand-made rankings."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from contrast_train.training import evaluation_corpus
from contrast_train.training.retrieval_evaluator import (
    EvaluationPrompts,
    RetrievalEvaluator,
    Standing,
    ndcg,
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
    assert evaluator.queries == [("q: ", "a"), ("x: ", "b")]
    assert evaluator.documents == [("", text) for text in ("p1", "p2", "n1", "p3")]
    documents = torch.eye(4)
    queries = torch.tensor(
        [[0.5, 0.1, 0.9, 0.0], [0.3, 0.2, 0.1, 0.0]]
    )  # ranks: p1 2nd, p2 3rd; p3 4th
    values = evaluator.measure(lambda texts, role: queries if role == "query" else documents)
    first = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert values["ndcg_at_10"] == pytest.approx((first + 1 / math.log2(5)) / 2)
    assert values["mrr_at_10"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    unit = (queries / queries.norm(dim=1, keepdim=True)).tolist()
    # The second query's own document has cosine 0.
    assert values["margin"] == pytest.approx((unit[0][1] - unit[0][2] + 0 - unit[1][0]) / 2)


def test_the_margin_is_that_of_the_worst_positive_to_the_best_other_document() -> None:
    scores = torch.tensor([0.9, 0.2, 0.6, 0.1])
    assert Standing.among(scores, [0, 2]).margin == pytest.approx(0.4)
    assert Standing.among(scores, [1]).margin == pytest.approx(-0.7)
    assert Standing.among(scores[:1], [0]).margin == 0


def test_of_equal_scores_the_earlier_document_stands_first() -> None:
    standing = Standing.among(torch.tensor([1.0, 2.0, 1.0, 1.0]), [0, 2, 3])
    assert standing.ranks.tolist() == [2, 3, 4]
    standing.add(torch.tensor([1.0, 1.5]))
    assert standing.ranks.tolist() == [3, 4, 5]


def test_hits_beyond_ten_count_nothing() -> None:
    assert ndcg([11, 40]) == 0.0
    assert ndcg(list(range(1, 30))) == pytest.approx(1.0)


def test_a_corpus_is_more_documents_that_answer_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of three: the figures are those of one ranking over all documents."""
    monkeypatch.setattr(evaluation_corpus, "CHUNK", 3)
    rows = {"query": ["a", "b"], "pos": [["p1", "p2"], ["p3"]], "pos_ids": [["1", "2"], ["3"]]}
    evaluator = RetrievalEvaluator(pa.table(rows).to_batches(), "dev", EvaluationPrompts())
    others = [f"other {number}" for number in range(10)]
    texts = pa.table(
        {
            "id": [str(number) for number in range(10, 24)],
            "text": ["P1 ", " ", "another form of p3", *others, others[0]],
        }
    )
    texts = texts.set_column(0, "id", pa.array(["10", "11", "3", *texts["id"].to_pylist()[3:]]))
    path = str(tmp_path / "corpus.arrow")
    own = [text for _, text in evaluator.documents]
    stats = evaluation_corpus.write(texts.to_batches(), path, own_texts=own, own_ids=evaluator.ids)
    assert (stats.kept, stats.in_rows, stats.repeated, stats.blank) == (10, 2, 1, 1)
    vectors = torch.randn(15, 4, generator=torch.Generator().manual_seed(0))
    numbers = {text: number for number, text in enumerate(["a", "b", *own, *others])}

    def embed(prompted: list[tuple[str, str]], role: str) -> torch.Tensor:
        assert len(prompted) <= 3
        assert {prompt for prompt, text in prompted if text in others} <= {"d: "}
        return vectors[[numbers[text] for _, text in prompted]]

    evaluator.corpus = evaluation_corpus.EvaluationCorpus(path, "d: ")
    unit = torch.nn.functional.normalize(vectors, dim=1)
    ranking = [scores.argsort(descending=True).tolist() for scores in unit[:2] @ unit[2:].T]
    ranks = [[ranking[0].index(0) + 1, ranking[0].index(1) + 1], [ranking[1].index(2) + 1]]
    values = evaluator.measure(embed)
    assert values["ndcg_at_10"] == pytest.approx(sum(map(ndcg, ranks)) / 2)
    scores = unit[:2] @ unit[2:].T
    margins = [scores[0, :2].min() - scores[0, 2:].max()]
    margins += [scores[1, 2] - torch.cat([scores[1, :2], scores[1, 3:]]).max()]
    assert values["margin"] == pytest.approx(float(sum(margins)) / 2, abs=1e-6)


def test_a_query_that_is_a_document_does_not_find_itself(tmp_path: Path) -> None:
    """As rows of one category are: each is the query of the other, and lies in the corpus."""
    rows = {"query": ["a", "b", "c"], "pos": [["b"], ["a"], ["c"]]}
    evaluator = RetrievalEvaluator(pa.table(rows).to_batches(), "dev", EvaluationPrompts())
    vectors = {"a": [1.0, 0.0, 0.0], "b": [0.8, 0.6, 0.0], "c": [0.0, 0.0, 1.0]}
    vectors["d"] = [0.9, 0.1, 0.0]  # nearer to "a" than its answer

    def embed(prompted: list[tuple[str, str]], role: str) -> torch.Tensor:
        return torch.tensor([vectors[text] for _, text in prompted])

    values = evaluator.measure(embed)
    assert (values["ndcg_at_10"], values["mrr_at_10"]) == (1, 1)  # "c" is its own answer
    own = [text for _, text in evaluator.documents if text != "a"]
    path = str(tmp_path / "corpus.arrow")
    texts = pa.table({"text": ["a", "d"]})
    evaluation_corpus.write(texts.to_batches(), path, own_texts=own, own_ids=set())
    evaluator.corpus = evaluation_corpus.EvaluationCorpus(path, "")
    assert evaluator.measure(embed)["mrr_at_10"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
