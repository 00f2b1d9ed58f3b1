"""--guard: what a model has forgotten of its base, by the neighbours of texts or by examples."""

from __future__ import annotations

import random

import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

WORDS = "owl tide iron bread sea violin glacier python chess honey volcano paper opera".split()


@pytest.fixture
def texts(write):
    """40 different texts of random words, one of them twice, and a blank one."""
    generator = random.Random(0)
    rows = [
        {"id": f"x{number}", "text": f"{number}: " + " ".join(generator.choices(WORDS, k=6))}
        for number in range(40)
    ]
    rows += [{"id": "again", "text": rows[3]["text"]}, {"id": "blank", "text": " "}]
    return write("texts.jsonl", rows)


def ndcg(ranking: list[str], truth: list[str]) -> float:
    """nDCG@10 with grades 10, 9 … 1 for the true neighbours."""
    import math

    gains = [max(10 - truth.index(name), 0) if name in truth else 0 for name in ranking[:10]]
    ideal = sum((10 - rank) / math.log2(2 + rank) for rank in range(10))
    return sum(gain / math.log2(2 + rank) for rank, gain in enumerate(gains)) / ideal


def neighbours(folder: str, texts: list[str]) -> dict[str, list[str]]:
    """The ten nearest other texts of each text, by sentence-transformers alone."""
    model = SentenceTransformer(folder, device="cpu")
    vectors = model.encode(texts, normalize_embeddings=True)
    scores = vectors @ vectors.T
    return {
        text: [texts[number] for number in (-row).argsort() if texts[number] != text][:10]
        for text, row in zip(texts, scores)
    }


def test_the_baseline_keeps_all_of_its_neighbours_and_a_destroyed_model_few(
    model, destroyed, evaluate, measures, examples, write, texts
):
    command = [f"worse={destroyed}", f"base={model}", "--baseline", "base", "--guard", texts]
    command += ["--examples", write("t.jsonl", examples), "--bm25", "-o", "out.jsonl"]
    ran = evaluate(*command, "--per-query", "q.parquet", "--results", "r")
    assert ran.rc == 0, ran.err
    assert (
        "guard, 40 queries, 40 documents\n  the 10 nearest texts by base are the truth" in ran.text
    )
    by_key = measures("out.jsonl")
    names = ["ndcg_at_10", "recall_at_10", "recall_at_100"]
    assert [by_key["base", "guard", name]["value"] for name in names] == [1.0, 1.0, 1.0]
    assert {run for run, task, _ in by_key if task == "guard"} == {"base", "worse"}
    rows = pq.read_table("q.parquet", filters=[("task", "==", "guard")]).to_pylist()
    shown = sorted({row["query"] for row in rows})
    assert len(shown) == 40
    truth, after = neighbours(model, shown), neighbours(destroyed, shown)
    expected = [ndcg(after[text], truth[text]) for text in shown]
    overlap = [len({*after[text]} & {*truth[text]}) / 10 for text in shown]
    value = by_key["worse", "guard", "ndcg_at_10"]["value"]
    assert value == pytest.approx(sum(expected) / 40, abs=1e-4) and value < 0.9
    assert by_key["worse", "guard", "recall_at_10"]["value"] == pytest.approx(sum(overlap) / 40)
    assert next(iter(by_key))[0] == "worse", "models remain in the order of the command line"

    again = evaluate(*command, "--results", "r", "--max-loss", "guard=0.01")
    assert again.rc == 1 and "worse changes nDCG@10 on guard by -0." in again.err
    assert "base on guard: taken from r" in again.err
    assert "allows a loss of 0.01" in again.err
    kept = evaluate(
        *command, "--results", "r", "--max-loss", "guard=1", "--require-gain", "ndcg_at_10=-1"
    )
    assert kept.rc == 0, kept.err


def test_the_sample_depends_on_texts_and_seed_and_not_on_the_order_of_rows(
    model, evaluate, texts, write
):
    import json

    from fletching.io import Reader
    from fletching.report import Report
    from mteb_eval.data.guard_texts import sample_texts

    def sample(path, **choice):
        reader = Reader(Report("t", quiet=True), [path], "texts", count=False)
        return sample_texts(reader, **choice).texts

    rows = [json.loads(line) for line in open(texts, encoding="utf-8")]
    backwards = write("backwards.jsonl", rows[::-1])
    assert len(sample(texts, size=12, seed=0)) == 12
    assert sample(texts, size=12, seed=0) == sample(backwards, size=12, seed=0)
    assert sample(texts, size=12, seed=0).items() <= sample(texts, size=20, seed=0).items()
    assert sample(texts, size=12, seed=0) != sample(texts, size=12, seed=1)
    assert len(sample(texts, size=100, seed=0)) == 40  # no text twice, no blank one
    ran = evaluate(f"m={model}", "--guard", texts, "--guard-texts", 12)
    assert "guard, 12 queries, 12 documents" in ran.text  # the guard alone is enough


def test_the_neighbours_are_those_of_the_variant_that_is_the_baseline(
    model, evaluate, measures, texts
):
    command = [f"m={model}", "--guard", texts, "--dims", "32,8", "--baseline", "m@8"]
    assert evaluate(*command, "-o", "out.jsonl").rc == 0
    assert measures("out.jsonl")["m@8", "guard", "ndcg_at_10"]["value"] == 1.0
    assert measures("out.jsonl")["m", "guard", "ndcg_at_10"]["value"] < 1.0


def test_examples_as_guard_are_a_task_that_need_not_gain(
    model, destroyed, evaluate, measures, examples, write
):
    path = write("g.jsonl", examples)
    command = [f"base={model}", f"same={model}", "--guard", path, "-o", "out.jsonl"]
    ran = evaluate(*command, "--max-loss", "guard=0")
    assert ran.rc == 0, ran.err
    assert measures("out.jsonl")["base", "guard", "mrr_at_10"]["count"] == 12
    refused = evaluate(*command, "--require-gain", "ndcg_at_10=0")
    assert refused.rc == 2 and "every task is under --max-loss" in refused.err
    twice = evaluate(*command, "--examples", f"guard={path}")
    assert twice.rc == 2 and "two data sets are called guard" in twice.err


def test_a_guard_of_too_few_texts_is_refused_before_a_model_is_loaded(model, evaluate, write):
    path = write("few.jsonl", [{"id": str(n), "text": f"text {n % 10}"} for n in range(30)])
    ran = evaluate(f"m={model}", "--guard", path)
    assert ran.rc == 1
    assert "few.jsonl holds 10 different texts, too few for 10 neighbours" in ran.err
    assert "loading" not in ran.err
