"""Every figure against a hand-computed case, and against plain numpy on the model's own vectors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from mteb_eval.data.ranking import MISSED
from mteb_eval.encoder import EvaluatedModel, VectorVariant
from mteb_eval.scoring import metrics
from mteb_eval.scoring.observation import query_table

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


@pytest.fixture
def plain_vectors(model):
    """Unit vectors of texts by sentence-transformers alone, float32 (texts, d)."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu")
    return lambda texts: loaded.encode(list(texts), normalize_embeddings=True)


def scored(qrels, results):
    """The observations that come out of mteb's own scoring."""
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    scores = calculate_retrieval_scores(results, qrels, list(metrics.DEPTHS))
    return query_table(scores.all_scores, qrels, results), scores


def test_a_ranking_computed_by_hand_has_the_figures_of_the_paper_formulas():
    # q: relevant a (grade 2) at rank 2 and b (grade 1) at rank 4, of c > a > d > b
    observed, _ = scored({"q": {"a": 2, "b": 1}}, {"q": {"c": 0.9, "a": 0.8, "d": 0.7, "b": 0.6}})
    row = observed.to_pylist()[0]
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert row["rank"] == 2
    assert row["mrr_at_10"] == 0.5
    assert row["mrr_at_1"] == 0
    assert row["ndcg_at_10"] == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert row["map_at_10"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert row["recall_at_3"] == 0.5
    assert row["precision_at_3"] == pytest.approx(1 / 3)


def test_tied_documents_stand_by_falling_id_as_in_trec_eval():
    observed, scores = scored(
        {"first": {"z": 1}, "last": {"a": 1}},
        {"first": {"z": 0.5, "m": 0.5, "a": 0.5}, "last": {"z": 0.5, "m": 0.5, "a": 0.5}},
    )
    ranks = dict(zip(observed["id"].to_pylist(), observed["rank"].to_pylist()))
    assert ranks == {"first": 1, "last": 3}
    assert scores.mrr["MRR@10"] == pytest.approx((1 + 1 / 3) / 2)
    assert observed["mrr_pessimistic"].to_pylist() == pytest.approx(
        [1 / 3, 1 / 3]
    )  # ties count against the model


def test_a_query_whose_document_is_not_retrieved_has_no_rank():
    observed, _ = scored({"q": {"gone": 1}}, {"q": {"a": 0.9}})
    assert observed["rank"].to_pylist() == [MISSED]
    assert observed["mrr_at_1000"].to_pylist() == [0.0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_average_precision_with_ties_is_that_of_scikit_learn(pairs):
    labels, scores = (np.array(column, float) for column in zip(*pairs))
    expected = average_precision_score(labels, scores) if labels.any() else 0.0
    assert metrics.average_precision(labels, scores) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_with_ties_is_that_of_scipy(pairs):
    first, second = (np.array(column, float) for column in zip(*pairs))
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert metrics.spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    else:
        assert metrics.spearman(first, second) == 0.0


def test_the_command_gives_what_numpy_gives_on_the_vectors_of_sentence_transformers(
    model, evaluate, measures, examples, write
):
    """An independent path: plain encode, one matrix product, ranks by counting."""
    from sentence_transformers import SentenceTransformer

    examples[0]["pos"].append("Owls sleep by day.")
    ran = evaluate(model, "--examples", write("test.jsonl", examples), "-o", "out.jsonl")
    assert ran.rc == 0, ran.err
    documents = list(dict.fromkeys(text for row in examples for text in row["pos"]))
    plain = SentenceTransformer(model, device="cpu")
    vectors = (
        plain.encode([row["query"] for row in examples]) @ plain.encode(documents).T
    )  # (queries, documents)
    order = [[documents[number] for number in row] for row in np.argsort(-vectors, axis=1)]
    hits = [
        [rank for rank, text in enumerate(ranking, 1) if text in row["pos"]]
        for row, ranking in zip(examples, order)
    ]
    gains = [sum(1 / math.log2(1 + rank) for rank in ranks if rank <= 10) for ranks in hits]
    ideal = [sum(1 / math.log2(1 + rank) for rank in range(1, len(ranks) + 1)) for ranks in hits]
    rows_by_key = measures("out.jsonl")
    run = next(iter(rows_by_key))[0]
    assert rows_by_key[run, "test", "ndcg_at_10"]["value"] == pytest.approx(
        np.mean(np.divide(gains, ideal)), abs=2e-5
    )
    assert rows_by_key[run, "test", "mrr_at_10"]["value"] == pytest.approx(
        np.mean([1 / ranks[0] if ranks[0] <= 10 else 0 for ranks in hits]), abs=2e-5
    )


def test_scored_pairs_give_the_spearman_of_the_cosines(model, evaluate, measures, examples):
    from sentence_transformers import SentenceTransformer

    rows = [
        (row["query"], examples[number % 5]["pos"][0], number * 7 % 5)
        for number, row in enumerate(examples)
    ]
    with open("sts.tsv", "w", encoding="utf-8") as file:
        file.writelines(f"{one}\t{two}\t{score}\n" for one, two, score in rows)
    assert (
        evaluate(model, "--sts", "sts.tsv", "--pairs", "p=" + labelled(rows), "-o", "out.jsonl").rc
        == 0
    )
    plain = SentenceTransformer(model, device="cpu")
    cosines = (plain.encode([row[0] for row in rows]) * plain.encode([row[1] for row in rows])).sum(
        1
    )
    rows_by_key = {
        (task, name): row["value"] for (_, task, name), row in measures("out.jsonl").items()
    }
    assert rows_by_key["sts", "cosine_spearman"] == pytest.approx(
        spearmanr([row[2] for row in rows], cosines).statistic, abs=1e-5
    )
    assert rows_by_key["p", "cosine_ap"] == pytest.approx(
        average_precision_score([row[2] > 2 for row in rows], cosines), abs=1e-5
    )


def labelled(rows):
    import json

    with open("pairs.jsonl", "w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"sentence1": one, "sentence2": two, "label": int(score > 2)}) + "\n"
            for one, two, score in rows
        )
    return "pairs.jsonl"


def test_candidates_give_the_mean_reciprocal_rank_inside_shuffled_blocks(
    model, evaluate, measures, examples, write
):
    """Recomputed as the formula says: 1 / #{candidates of the block that score at least as high}."""
    from sentence_transformers import SentenceTransformer

    from fletching.seeded_random import permuted

    for direction in ([], ["--reverse"]):
        ran = evaluate(
            model,
            "--examples",
            write("csn.jsonl", examples),
            "--mrr-candidates",
            5,
            *direction,
            "-o",
            "out.jsonl",
        )
        assert ran.rc == 0, ran.err
        assert "2 rows beyond the last block of 5 are left out" in ran.err
        blocks = np.array(list(permuted(0, "csn", 12))[:10]).reshape(2, 5)
        plain = SentenceTransformer(model, device="cpu")
        queries, answers = (
            plain.encode([row["query"] for row in examples]),
            plain.encode([row["pos"][0] for row in examples]),
        )
        if direction:
            queries, answers = answers, queries
        scores = [queries[block] @ answers[block].T for block in blocks]
        expected = np.mean(
            [1 / (row >= row[number]).sum() for block in scores for number, row in enumerate(block)]
        )
        assert next(iter(measures("out.jsonl").values()))["value"] == pytest.approx(
            expected, abs=1e-5
        )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["float", "int8", "binary"]),
    st.sampled_from([None, 3, 8]),
)
def test_cut_vectors_have_unit_length_and_hold_only_what_the_variant_keeps(
    seed, numbers, dimensions
):
    vectors = np.random.default_rng(seed).standard_normal((5, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cut = VectorVariant(dimensions, numbers).apply(vectors)
    assert cut.shape == (5, dimensions or 12)
    assert np.linalg.norm(cut, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    kept = vectors[:, :dimensions]
    if numbers == "binary":
        assert (np.sign(cut) == np.where(kept > 0, 1, -1)).all()
        assert len(np.unique(np.abs(cut).round(6))) == 1
    else:
        aligned = (cut * kept).sum(1) / np.linalg.norm(kept, axis=1)
        assert aligned == pytest.approx(np.ones(5), abs=1e-3)


def test_the_order_by_binary_vectors_is_that_of_the_hamming_distance():
    vectors = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    cut = VectorVariant(None, "binary").apply(vectors)
    hamming = ((vectors[:1] > 0) != (vectors > 0)).sum(1)
    assert (np.argsort(-(cut @ cut[0]), kind="stable") == np.argsort(hamming, kind="stable")).all()


def test_ties_of_binary_vectors_rank_by_falling_id_as_exact_hamming_distances_do(
    model, evaluate, measures, plain_vectors
):
    """8 bits have few distances: nearly every rank is among ties, which rounding must not break."""
    texts = [f"{noun} number {number}" for number in range(40) for noun in ("owl", "tide", "iron")]
    rows = [
        {"query": f"which {text}?", "pos": [text], "pos_ids": [f"d{number:03}"]}
        for number, text in enumerate(texts)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("--examples", "r=rows.jsonl", "--quantise", "binary", "--dims", "8")
    command += ("--metrics", "mrr_at_10", "--dtype", "float32")
    ran = evaluate(f"m={model}", *command, "--results", "results", "-o", "out.jsonl")
    assert ran.rc == 0, ran.err
    queries = plain_vectors([row["query"] for row in rows])[:, :8] > 0
    documents = plain_vectors(texts)[:, :8] > 0
    hamming = (queries[:, None] != documents[None]).sum(-1)
    ids = [f"d{number:03}" for number in range(len(texts))]
    ranks = []
    for number, distances in enumerate(hamming):
        order = sorted(range(len(ids)), key=lambda i: (-distances[i], ids[i]), reverse=True)
        ranks.append(order.index(number) + 1)
    expected = np.mean([1 / rank if rank <= 10 else 0 for rank in ranks])
    assert measures("out.jsonl")["m@8-binary", "r", "mrr_at_10"]["value"] == pytest.approx(
        expected, abs=1e-9
    )


@pytest.mark.parametrize("numbers", ["binary", "int8"])
def test_cosines_of_whole_numbers_are_those_of_exact_integers(numbers):
    vectors = np.random.default_rng(0).standard_normal((40, 100)).astype(np.float32)
    variant = VectorVariant(None, numbers)
    unit = variant.apply(vectors)
    if numbers == "binary":
        exact = np.where(vectors > 0, 1, -1)
    else:
        exact = np.rint(vectors * (127 / np.abs(vectors).max(1, keepdims=True))).astype(int)
    assert (variant.whole_numbers(unit).numpy() == exact).all()
    evaluated = EvaluatedModel.__new__(EvaluatedModel)
    evaluated.variant = variant
    cosines = evaluated.similarity(unit[:10], unit).numpy()
    lengths = np.sqrt((exact**2).sum(1))
    assert cosines == pytest.approx(exact[:10] @ exact.T / lengths[:10, None] / lengths, abs=1e-6)
    dots = exact[:10] @ exact.T
    if numbers == "binary":
        assert len(np.unique(cosines)) == len(np.unique(dots))
    assert evaluated.similarity_pairwise(unit, unit).numpy() == pytest.approx(np.ones(40), abs=1e-6)
