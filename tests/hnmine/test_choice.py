"""Seeds, sampling, old negatives, padding, shards, and what must not matter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pairwise import random_units, read, write_vectors

from hnmine import cli

OPEN = ("--max-ratio", 0, "--near-copy", 1.01)


def line(count: int = 30) -> tuple[list[dict], dict, list[dict]]:
    """One query; documents at falling cosine, d0 the nearest."""
    vectors = {"q": [1, 0], "p": [1, 0.01]} | {f"d{i}": [1, 0.1 + 0.1 * i] for i in range(count)}
    return (
        [{"id": "r", "query": "q", "pos": ["p"]}],
        vectors,
        [{"text": f"d{i}"} for i in range(count)],
    )


def many(rows: int = 40, documents: int = 60) -> tuple[list[dict], dict, list[dict]]:
    names = (
        [f"q{i}" for i in range(rows)]
        + [f"p{i}" for i in range(rows)]
        + [f"d{i}" for i in range(documents)]
    )
    vectors = dict(zip(names, random_units(len(names))))
    return (
        [{"id": str(i), "query": f"q{i}", "pos": [f"p{i}"]} for i in range(rows)],
        vectors,
        [{"id": f"d{i}", "text": f"d{i}"} for i in range(documents)],
    )


def test_the_same_seed_draws_the_same_and_another_seed_others(mine):
    rows, vectors, corpus = many()
    one, again, other = (
        mine(rows, vectors, *OPEN, "--seed", seed, corpus=corpus)[0] for seed in (1, 1, 2)
    )
    assert one == again != other


def test_random_draws_every_rank_of_the_range_about_equally_often(mine):
    _, vectors, corpus = line()
    rows = [{"id": str(i), "query": "q", "pos": ["p"]} for i in range(400)]
    found, _ = mine(rows, vectors, *OPEN, "--range", "3-12", "--negatives", 2, corpus=corpus)
    drawn = np.bincount([int(text[1:]) for row in found for text in row["neg"]], minlength=30)
    assert drawn[:2].sum() == drawn[12:].sum() == 0
    assert drawn[2:12].min() > 50 and drawn[2:12].max() < 115  # 80 expected, s = 8
    assert all(len(set(row["neg"])) == 2 for row in found)


def test_weighted_draws_follow_the_scores_as_the_temperature_says(mine):
    vectors = {"q": [1, 0], "p": [1, 0.01], "a": [0.8, 0.6], "b": [0.6, 0.8]}
    rows = [{"id": str(i), "query": "q", "pos": ["p"]} for i in range(600)]
    for temperature in (0.1, 0.5):
        found, _ = mine(
            rows,
            vectors,
            *OPEN,
            "--sample",
            "weighted",
            "--sample-temperature",
            temperature,
            "--negatives",
            1,
            corpus=[{"text": "a"}, {"text": "b"}],
        )
        share = np.mean([row["neg"] == ["a"] for row in found])
        assert share == pytest.approx(1 / (1 + np.exp(-0.2 / temperature)), abs=0.07)


def test_negatives_stand_nearest_first_and_as_many_as_asked(mine):
    rows, vectors, corpus = many()
    found, _ = mine(rows, vectors, *OPEN, "--negatives", 7, corpus=corpus)
    assert all(
        len(row["neg"]) == 7 and row["neg_scores"] == sorted(row["neg_scores"], reverse=True)
        for row in found
    )


def test_permuting_the_corpus_or_the_rows_permutes_nothing(mine):
    rows, vectors, corpus = many()
    corpus += [
        {"id": "x", "text": "D0"},
        {"id": "a", "text": "d0"},
    ]  # a copy and an equal: which one stands for all is content's choice
    vectors |= {"D0": vectors["d0"]}
    straight, _ = mine(rows, vectors, "--negatives", 4, corpus=corpus)
    turned, _ = mine(rows[::-1], vectors, "--negatives", 4, corpus=corpus[::-1])
    assert turned[::-1] == straight


def test_shards_in_order_are_the_whole(mine, invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("hnmine.pool.UNIT", 8)
    rows, vectors, corpus = many()
    whole, _ = mine(rows, vectors, corpus=corpus)
    parts = [mine(rows, vectors, "--shard", f"{i}/3", corpus=corpus) for i in range(3)]
    assert [row for found, _ in parts for row in found] == whole
    assert [summary["dropped"]["in other shards"] for _, summary in parts] == [32, 24, 24]


def test_shards_encode_by_model_to_the_same_bytes(
    invoke, write, examples, corpus, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("hnmine.pool.UNIT", 4)
    given = [
        write(tmp_path / "in.jsonl", examples),
        "--model",
        model,
        "--corpus",
        write(tmp_path / "c.jsonl", corpus),
        "--max-ratio",
        0,
    ]
    assert invoke(cli.main, *given, "-o", tmp_path / "whole.jsonl").rc == 0
    for i in range(2):
        assert invoke(cli.main, *given, "--shard", f"{i}/2", "-o", tmp_path / f"{i}.jsonl").rc == 0
    assert (tmp_path / "0.jsonl").read_bytes() + (tmp_path / "1.jsonl").read_bytes() == (
        tmp_path / "whole.jsonl"
    ).read_bytes()


def test_old_negatives_are_replaced_unless_kept(mine):
    rows, vectors, corpus = line()
    rows[0]["neg"] = ["d9"]
    found, summary = mine(rows, vectors, *OPEN, "--sample", "top", "--negatives", 2, corpus=corpus)
    assert found[0]["neg"] == ["d0", "d1"] and "1 rows had negatives" in summary["err"]


def test_kept_negatives_stand_in_front_scored_and_are_not_mined_again(mine):
    rows, vectors, corpus = line()
    rows[0]["neg"] = ["d0", "old"]
    vectors["old"] = [0.6, 0.8]
    found, _ = mine(
        rows, vectors, *OPEN, "--sample", "top", "--negatives", 2, "--keep-neg", corpus=corpus
    )
    assert found[0]["neg"] == ["d0", "old", "d1", "d2"]
    assert found[0]["neg_scores"][1] == pytest.approx(0.6)


def test_kept_negatives_join_the_pool_of_other_rows(mine):
    rows, vectors, _ = line()
    rows = [rows[0] | {"neg": ["d3"]}, {"id": "s", "query": "d1", "pos": ["d2"], "neg": None}]
    found, _ = mine(rows, vectors, *OPEN, "--sample", "top", "--keep-neg")
    assert "d3" in found[1]["neg"]
    found, _ = mine(rows, vectors, *OPEN, "--sample", "top")
    assert "d3" not in found[1]["neg"]


def test_rows_short_of_negatives_are_counted_and_padded_on_request_alone(mine):
    rows, vectors, corpus = line()
    short, summary = mine(
        rows, vectors, *OPEN, "--range", "1-5", "--negatives", 5, "--max-sim", 0.95, corpus=corpus
    )
    assert len(short[0]["neg"]) == 2 and "neg_padded" not in short[0]
    assert (
        summary["measures"]["rows_short_of_negatives"] == 1
        and "1 rows have fewer than 5 negatives" in summary["err"]
    )
    padded, summary = mine(
        rows,
        vectors,
        *OPEN,
        "--range",
        "1-5",
        "--negatives",
        5,
        "--max-sim",
        0.95,
        "--pad",
        corpus=corpus,
    )
    assert (
        padded[0]["neg"][:2] == short[0]["neg"]
        and padded[0]["neg_padded"] == 3 == summary["measures"]["padded"]
    )
    assert (
        len(set(padded[0]["neg"])) == 5
        and max(padded[0]["neg_scores"]) <= 0.95
        and "p" not in padded[0]["neg"]
    )


def test_better_scores_of_positives_stay_unless_replaced(mine):
    rows, vectors, corpus = line()
    rows[0] |= {"pos_scores": [7.0], "pos_score_kind": "label"}
    found, _ = mine(rows, vectors, corpus=corpus)
    assert (found[0]["pos_scores"], found[0]["pos_score_kind"]) == ([7.0], "label")
    found, _ = mine(rows, vectors, "--replace-scores", corpus=corpus)
    assert (found[0]["pos_scores"], found[0]["pos_score_kind"]) == (
        [pytest.approx(0.99995, abs=1e-4)],
        "cosine",
    )


def test_a_model_mines_what_its_vectors_say(invoke, write, examples, corpus, model, tmp_path):
    """The whole path by model equals the path by vectors that sentence-transformers itself made."""
    from sentence_transformers import SentenceTransformer

    texts = [row["query"] for row in examples] + [text for row in examples for text in row["pos"]]
    made = dict(zip(texts, SentenceTransformer(model, device="cpu").encode(texts)))
    given = [
        write(tmp_path / "in.jsonl", examples),
        "--max-ratio",
        0,
        "--sample",
        "top",
        "--negatives",
        4,
    ]
    assert (
        invoke(
            cli.main, *given, "--model", model, "--dtype", "float32", "-o", tmp_path / "a.jsonl"
        ).rc
        == 0
    )
    assert (
        invoke(
            cli.main,
            *given,
            "--vectors",
            write_vectors(tmp_path / "v.jsonl", made),
            "-o",
            tmp_path / "b.jsonl",
        ).rc
        == 0
    )
    left, right = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    assert [row["neg"] for row in left] == [row["neg"] for row in right]
    assert np.allclose(
        [row["neg_scores"] for row in left], [row["neg_scores"] for row in right], atol=1e-5
    )


def test_prompts_reach_queries_and_documents(mine):
    vectors = {"ask: q": [1, 0], "doc: p": [1, 0.1], "doc: n": [0, 1]}
    found, _ = mine(
        [{"query": "q", "pos": ["p"]}],
        vectors,
        "--query-prompt",
        "ask: ",
        "--doc-prompt",
        "doc: ",
        corpus=[{"text": "n"}],
    )
    assert found[0]["neg"] == ["n"]


def test_limit_reads_the_first_rows_alone(mine):
    rows, vectors, corpus = many()
    assert len(mine(rows, vectors, "--limit", 3, corpus=corpus)[0]) == 3


@pytest.mark.parametrize(
    "options, told",
    [
        (("--range", "5"), "--range 5 is no LO-HI"),
        (("--range", "9-3"), "--range 9-3 is no LO-HI"),
        (("--range", "1-3", "--negatives", "4"), "room for fewer"),
        (("--range", "1-4", "--raw-range", "--negatives", "4"), "room for fewer"),
        (("--min-sim", "0.5", "--max-sim", "0.2"), "nothing can pass"),
        (("--shard", "3/3"), "--shard 3/3 is no I/N"),
        (("--score-all",), "--score-all has no --reranker"),
        (("--model", "m"), "both given"),
    ],
)
def test_options_that_cannot_work_are_refused_as_usage(invoke, options, told):
    ran = invoke(cli.main, "in.jsonl", "--vectors", "v.jsonl", *options, "-o", "out.jsonl")
    assert ran.rc == 2 and told in ran.err


def test_no_model_is_a_wrong_usage(invoke):
    ran = invoke(cli.main, "in.jsonl", "-o", "out.jsonl")
    assert ran.rc == 2 and "--model is missing" in ran.err


def test_a_text_without_a_vector_is_refused_by_name(invoke, write, tmp_path):
    ran = invoke(
        cli.main,
        write(tmp_path / "in.jsonl", [{"query": "q", "pos": ["lost"]}]),
        "--vectors",
        write_vectors(tmp_path / "v.jsonl", {"q": [1, 0]}),
        "-o",
        tmp_path / "o.jsonl",
    )
    assert (
        ran.rc == 1
        and "no vector for the document 'lost'" in ran.err
        and not (tmp_path / "o.jsonl").exists()
    )


def test_the_lineage_names_seed_options_and_model(invoke, write, examples, model, tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "o.parquet"
    assert (
        invoke(
            cli.main,
            write(tmp_path / "in.jsonl", examples),
            "--model",
            model,
            "--seed",
            5,
            "-o",
            out,
        ).rc
        == 0
    )
    step = json.loads(pq.read_schema(out).metadata[b"fletching"])["step"]
    assert step["options"]["seed"] == 5 and step["options"]["model"]["fingerprint"]
