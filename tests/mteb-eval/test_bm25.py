"""BM25 beside the models, and fused with them: the published formulas, and the rows that show it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mteb_eval.bm25 import Bm25Index, WordRanking, tokenize
from mteb_eval.scoring.rank_fusion import falling, reciprocal_rank_fusion

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

WORDS = st.lists(st.sampled_from(["owl", "tide", "iron", "bread", "sea"]), max_size=6)


def lucene(documents: list[list[str]], query: list[str]) -> list[float]:
    """Σ idf · tf / (tf + k1 (1 - b + b |d| / mean |d|)), idf = ln(1 + (N - n + ½) / (n + ½))."""
    k1, b = 1.5, 0.75
    size = len(documents)
    mean_length = sum(map(len, documents)) / size
    containing = Counter(word for words in documents for word in set(words))
    scores = []
    for words in documents:
        counts = Counter(words)
        norm = k1 * (1 - b + b * len(words) / mean_length)
        scores.append(
            sum(
                math.log(1 + (size - containing[word] + 0.5) / (containing[word] + 0.5))
                * counts[word]
                / (counts[word] + norm)
                for word in query
                if counts[word]
            )
        )
    return scores


@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=8), WORDS)
def test_scores_are_those_of_lucenes_formula(documents, query):
    index = Bm25Index([" ".join(words) for words in documents])
    expected = lucene(documents, query) if any(documents) else [0.0] * len(documents)
    assert index.scores(query) == pytest.approx(expected, abs=1e-5)


def test_words_are_lower_cased_and_signs_of_unspaced_scripts_count_one_by_one():
    texts = ["The OWL, I-beam x2; naïve", "フクロウは夜 owl狩り", "นกฮูก", "!?"]
    assert tokenize(texts) == [
        ["the", "owl", "beam", "x2", "naïve"],
        [*"フクロウは夜", "owl", *"狩り"],
        [*"นกฮูก"],
        [],
    ]


def test_a_fusion_computed_by_hand_is_that_of_cormack_clarke_and_büttcher():
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "d", "a"]], depth=10)
    assert fused == pytest.approx(
        {"a": 1 / 61 + 1 / 63, "c": 1 / 63 + 1 / 61, "b": 1 / 62, "d": 1 / 62}
    )
    assert fused["a"] == fused["c"] and list(fused) == ["c", "a", "d", "b"]  # ties by falling id
    assert list(reciprocal_rank_fusion([["a", "b", "c"], ["c", "d", "a"]], depth=1)) == ["c"]
    assert falling({"a": 1.0, "c": 1.0, "b": 2.0}) == ["b", "c", "a"]


@settings(max_examples=60)
@given(st.lists(st.permutations("abcdef"), min_size=1, max_size=3), st.integers(1, 6))
def test_a_fusion_is_the_plain_sum_whatever_the_depth(rankings, depth):
    sums = {
        name: sum(1 / (60 + ranking.index(name) + 1) for ranking in rankings) for name in "abcdef"
    }
    fused = reciprocal_rank_fusion(rankings, depth)
    assert len(fused) == depth
    assert sorted(fused.values(), reverse=True) == pytest.approx(
        sorted(sums.values())[::-1][:depth]
    )


def test_documents_without_a_common_word_have_no_rank_by_bm25():
    ranking = WordRanking(["a", "b", "c"], np.array([2, 0]), np.array([0.5, 0.0], np.float32))
    assert ranking.matching() == ["c"]
    assert ranking.as_scores() == {"c": 0.5, "a": 0.0}


# --- through the command -------------------------------------------------------------------------


@pytest.fixture
def ties(write):
    """Queries of which two have the same words, one has no word of any document, one is a document."""
    rows = [
        {"query": "owl tide", "pos": ["owl tide sea"], "pos_ids": ["d1"]},
        {"query": "tide owl?", "pos": ["owl tide sky"], "pos_ids": ["d2"]},
        {"query": "zzz", "pos": ["iron is smelted"], "pos_ids": ["d3"]},
        {"query": "bread of old", "pos": ["bread of the old sea"], "pos_ids": ["d4"]},
        {"query": "owl tide sea", "pos": ["bread"], "pos_ids": ["d5"]},
    ]
    return f"t={write('ties.jsonl', rows)}"


def test_bm25_and_fused_rows_stand_beside_the_models_in_every_output(
    model, destroyed, evaluate, measures, ties
):
    command = [f"m={model}", f"worse={destroyed}", "--examples", ties, "--bm25", "--dims", "32,8"]
    ran = evaluate(*command, "-o", "out.jsonl", "--html", "page.html", "--per-query", "q.parquet")
    assert ran.rc == 0, ran.err
    names = ["m", "m@8", "worse", "worse@8", "BM25"]
    names += [f"{name} + BM25" for name in names[:4]]
    shown = re.findall(r"^  ((?:m|worse|BM25)\S*(?: \+ BM25)?) ", ran.text, re.MULTILINE)
    assert shown[: len(names)] == names  # then come the queries that moved
    assert "+ BM25 against" not in ran.text
    by_key = measures("out.jsonl")
    assert list(dict.fromkeys(run for run, _, _ in by_key)) == names
    assert by_key["BM25", "t", "ndcg_at_10_change"]["p"] <= 1
    settings = json.loads(by_key["m + BM25", "t", "ndcg_at_10"]["settings"])
    assert settings["rank_fusion_k"] == 60 and settings["bm25"]["k1"] == 1.5
    assert "fingerprint" in settings
    assert "fingerprint" not in json.loads(by_key["BM25", "t", "ndcg_at_10"]["settings"])
    page = open("page.html", encoding="utf-8").read()
    assert "worse@8 + BM25" in page and "reciprocal rank fusion" in page
    # Ties rank by falling id; what has no word in common is not retrieved; nobody finds itself.
    rows = pq.read_table("q.parquet").to_pylist()
    top = {row["query"]: row["top_ids"] for row in rows if row["run"] == "BM25"}
    ranks = {row["query"]: row["rank"] for row in rows if row["run"] == "BM25"}
    assert top["owl tide"] == top["tide owl?"] == ["d2", "d1"]
    assert (ranks["owl tide"], ranks["tide owl?"]) == (2, 1)
    assert top["zzz"] == [] and ranks["zzz"] == 0
    assert "d1" not in top["owl tide sea"]
    # The fused ranking is that of the two rankings.
    rankings = {
        run: {row["query"]: row["top_ids"] for row in rows if row["run"] == run} for run in names
    }
    for query in top:
        by_hand = reciprocal_rank_fusion([rankings["m"][query], top[query]], depth=10)
        assert rankings["m + BM25"][query] == list(by_hand)


def test_candidates_are_ranked_by_words_alone_with_ties_against_bm25(
    model, evaluate, measures, write
):
    rows = [{"query": text, "pos": [text.upper()]} for text in ("owl tide", "iron", "bread sea")]
    rows.append({"query": "zzz", "pos": ["nothing of it"]})
    path = write("c.jsonl", rows)
    ran = evaluate(
        f"m={model}", "--examples", path, "--mrr-candidates", 4, "--bm25", "-o", "o.jsonl"
    )
    assert ran.rc == 0, ran.err
    # Three find their document first; of the fourth all four candidates score 0.
    value = measures("o.jsonl")["BM25", "c-4", "mrr_pessimistic"]["value"]
    assert value == pytest.approx((3 + 1 / 4) / 4)


def test_results_of_bm25_are_kept_and_fused_with_a_model_that_comes_later(
    model, destroyed, evaluate, measures, ties
):
    command = ["--examples", ties, "--bm25", "--results", "r"]
    assert evaluate(f"m={model}", *command).rc == 0
    second = evaluate(f"m={model}", f"w={destroyed}", *command, "-o", "later.jsonl")
    assert "BM25 on t: taken from r" in second.err and "m + BM25 on t: taken from r" in second.err
    assert evaluate(f"m={model}", f"w={destroyed}", *command[:-2], "-o", "anew.jsonl").rc == 0
    assert measures("later.jsonl") == measures("anew.jsonl")


def test_other_kinds_of_tasks_have_no_such_rows_and_demands_are_made_of_models_alone(
    model, evaluate, measures, ties
):
    with open("sts.tsv", "w", encoding="utf-8") as file:
        file.write(
            "sentence1\tsentence2\tscore\nowl\ttide\t1\niron\tiron ore\t4\nsea\tthe sea\t5\n"
        )
    command = [f"m={model}", "--examples", ties, "--sts", "s=sts.tsv", "--bm25", "-o", "out.jsonl"]
    ran = evaluate(*command, "--require-gain", "ndcg_at_10=0.9", "--max-loss", "t=0")
    assert ran.rc == 0, ran.err
    assert {run for run, task, _ in measures("out.jsonl") if task == "s"} == {"m"}
    assert {run for run, task, _ in measures("out.jsonl") if task == "t"} == {
        "m",
        "BM25",
        "m + BM25",
    }


def test_bm25_can_be_the_baseline_where_every_task_has_it(model, evaluate, measures, ties):
    ran = evaluate(
        f"m={model}", "--examples", ties, "--bm25", "--baseline", "BM25", "-o", "o.jsonl"
    )
    assert ran.rc == 0, ran.err
    assert ("m", "t", "ndcg_at_10_change") in measures("o.jsonl")
    without = evaluate(f"m={model}", "--examples", ties, "--baseline", "BM25")
    assert without.rc == 2 and "--baseline BM25 is none of the models" in without.err


def test_a_missing_package_and_a_model_of_that_name_are_refused(model, evaluate, ties, monkeypatch):
    clash = evaluate(f"BM25={model}", "--examples", ties, "--bm25")
    assert clash.rc == 2 and "a model is called BM25" in clash.err
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "bm25s" else find(name, *more),
    )
    missing = evaluate(f"m={model}", "--examples", ties, "--bm25")
    assert missing.rc == 2
    assert "--bm25 needs the package bm25s" in missing.err
    assert "pip install 'fletching-mteb-eval[bm25]'" in missing.err
    assert "loading" not in missing.err
