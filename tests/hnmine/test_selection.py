"""Seeds, sampling, old negatives, padding, shards, and what must not matter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pairwise import random_units, read, write_vectors

from hnmine import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

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


def test_the_same_seed_draws_the_same_and_another_seed_others(run_hnmine):
    rows, vectors, corpus = many()
    one, again, other = (
        run_hnmine(rows, vectors, *OPEN, "--seed", seed, corpus=corpus)[0] for seed in (1, 1, 2)
    )
    assert one == again != other


def test_random_draws_every_rank_of_the_range_about_equally_often(run_hnmine):
    _, vectors, corpus = line()
    rows = [{"id": str(i), "query": "q", "pos": ["p"]} for i in range(400)]
    mined, _ = run_hnmine(rows, vectors, *OPEN, "--range", "3-12", "--negatives", 2, corpus=corpus)
    drawn = np.bincount([int(text[1:]) for row in mined for text in row["neg"]], minlength=30)
    assert drawn[:2].sum() == drawn[12:].sum() == 0
    assert drawn[2:12].min() > 50 and drawn[2:12].max() < 115  # 80 expected, s = 8
    assert all(len(set(row["neg"])) == 2 for row in mined)


def test_weighted_draws_follow_the_scores_as_the_temperature_says(run_hnmine):
    vectors = {"q": [1, 0], "p": [1, 0.01], "a": [0.8, 0.6], "b": [0.6, 0.8]}
    rows = [{"id": str(i), "query": "q", "pos": ["p"]} for i in range(600)]
    for temperature in (0.1, 0.5):
        mined, _ = run_hnmine(
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
        share = np.mean([row["neg"] == ["a"] for row in mined])
        assert share == pytest.approx(1 / (1 + np.exp(-0.2 / temperature)), abs=0.07)


def test_negatives_stand_nearest_first_and_as_many_as_asked(run_hnmine):
    rows, vectors, corpus = many()
    mined, _ = run_hnmine(rows, vectors, *OPEN, "--negatives", 7, corpus=corpus)
    assert all(
        len(row["neg"]) == 7 and row["neg_scores"] == sorted(row["neg_scores"], reverse=True)
        for row in mined
    )


def test_permuting_the_corpus_or_the_rows_permutes_nothing(run_hnmine):
    rows, vectors, corpus = many()
    corpus += [
        {"id": "x", "text": "D0"},
        {"id": "a", "text": "d0"},
    ]  # a copy and an equal: which one stands for all is content's choice
    vectors |= {"D0": vectors["d0"]}
    straight, _ = run_hnmine(rows, vectors, "--negatives", 4, corpus=corpus)
    turned, _ = run_hnmine(rows[::-1], vectors, "--negatives", 4, corpus=corpus[::-1])
    assert turned[::-1] == straight


def test_shards_in_order_are_the_whole(run_hnmine, invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("fletching.table.row_units.UNIT", 8)
    rows, vectors, corpus = many()
    whole, _ = run_hnmine(rows, vectors, corpus=corpus)
    parts = [run_hnmine(rows, vectors, "--shard", f"{i}/3", corpus=corpus) for i in range(3)]
    assert [row for mined, _ in parts for row in mined] == whole
    assert [summary["dropped"]["in other shards"] for _, summary in parts] == [32, 24, 24]


def test_shards_encode_by_model_to_the_same_bytes(
    invoke, write, examples, corpus, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("fletching.table.row_units.UNIT", 4)
    arguments = [
        write(tmp_path / "in.jsonl", examples),
        "--model",
        model,
        "--corpus",
        write(tmp_path / "c.jsonl", corpus),
        "--max-ratio",
        0,
    ]
    assert invoke(cli.main, *arguments, "-o", tmp_path / "whole.jsonl").rc == 0
    for i in range(2):
        assert (
            invoke(cli.main, *arguments, "--shard", f"{i}/2", "-o", tmp_path / f"{i}.jsonl").rc == 0
        )
    parts = [row for i in range(2) for row in read(tmp_path / f"{i}.jsonl")]
    assert parts == read(tmp_path / "whole.jsonl")


def test_old_negatives_are_replaced_unless_kept(run_hnmine):
    rows, vectors, corpus = line()
    rows[0]["neg"] = ["d9"]
    mined, summary = run_hnmine(
        rows, vectors, *OPEN, "--sample", "top", "--negatives", 2, corpus=corpus
    )
    assert mined[0]["neg"] == ["d0", "d1"] and "1 rows had negatives" in summary["err"]


def test_kept_negatives_stand_in_front_scored_and_are_not_mined_again(run_hnmine):
    rows, vectors, corpus = line()
    rows[0]["neg"] = ["d0", "old"]
    vectors["old"] = [0.6, 0.8]
    mined, _ = run_hnmine(
        rows, vectors, *OPEN, "--sample", "top", "--negatives", 2, "--keep-neg", corpus=corpus
    )
    assert mined[0]["neg"] == ["d0", "old", "d1", "d2"]
    assert mined[0]["neg_scores"][1] == pytest.approx(0.6)


def test_kept_negatives_join_the_pool_of_other_rows(run_hnmine):
    rows, vectors, _ = line()
    rows = [rows[0] | {"neg": ["d3"]}, {"id": "s", "query": "d1", "pos": ["d2"], "neg": None}]
    mined, _ = run_hnmine(rows, vectors, *OPEN, "--sample", "top", "--keep-neg")
    assert "d3" in mined[1]["neg"]
    mined, _ = run_hnmine(rows, vectors, *OPEN, "--sample", "top")
    assert "d3" not in mined[1]["neg"]


def test_rows_short_of_negatives_are_counted_and_padded_on_request_alone(run_hnmine):
    rows, vectors, corpus = line()
    short, summary = run_hnmine(
        rows, vectors, *OPEN, "--range", "1-5", "--negatives", 5, "--max-score", 0.95, corpus=corpus
    )
    assert len(short[0]["neg"]) == 2 and "neg_padded" not in short[0]
    assert (
        summary["measures"]["rows_short_of_negatives"] == 1
        and "1 rows have fewer than 5 negatives" in summary["err"]
    )
    padded, summary = run_hnmine(
        rows,
        vectors,
        *OPEN,
        "--range",
        "1-5",
        "--negatives",
        5,
        "--max-score",
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


def test_better_scores_of_positives_stay_unless_replaced(run_hnmine):
    rows, vectors, corpus = line()
    rows[0] |= {"pos_scores": [7.0], "pos_score_kind": "label"}
    mined, _ = run_hnmine(rows, vectors, corpus=corpus)
    assert (mined[0]["pos_scores"], mined[0]["pos_score_kind"]) == ([7.0], "label")
    mined, _ = run_hnmine(rows, vectors, "--replace-scores", corpus=corpus)
    assert (mined[0]["pos_scores"], mined[0]["pos_score_kind"]) == (
        [pytest.approx(0.99995, abs=1e-4)],
        "cosine",
    )


def test_a_teachers_scores_without_a_kind_stay_and_negatives_get_none_beside_them(run_hnmine):
    rows, vectors, corpus = line()
    rows[0] |= {"pos_scores": [98.2], "neg": ["d9"], "neg_scores": [82.3]}
    (mined,), summary = run_hnmine(rows, vectors, *OPEN, corpus=corpus)
    assert mined["pos_scores"] == [pytest.approx(98.2)] and len(mined["neg"]) == 5
    for name in ("pos_score_kind", "neg_scores", "neg_score_kind"):
        assert mined.get(name) is None
    assert "1 rows keep `pos_scores` that are no cosine scores" in summary["err"]
    (mined,), _ = run_hnmine(rows, vectors, *OPEN, "--replace-scores", corpus=corpus)
    assert mined["pos_score_kind"] == mined["neg_score_kind"] == "cosine"


def test_kept_negatives_with_a_teachers_scores_are_refused(invoke, write, run_hnmine, tmp_path):
    rows, vectors, corpus = line()
    rows[0] |= {"neg": ["d9"], "neg_scores": [82.3]}
    source, files = write(tmp_path / "in.jsonl", rows), tmp_path / "v.jsonl"
    options = [source, "--vectors", write_vectors(files, vectors), "--keep-neg"]
    ran = invoke(cli.main, *options, "-o", tmp_path / "o.jsonl")
    assert ran.rc == 1 and "row 'r' has `neg_scores` that are no cosines" in ran.err
    assert "--replace-scores" in ran.err
    (mined,), _ = run_hnmine(rows, vectors, *OPEN, "--keep-neg", "--replace-scores", corpus=corpus)
    assert mined["neg"][0] == "d9" and mined["neg_score_kind"] == "cosine"


# --- the corpus alone -----------------------------------------------------------------------------


def test_the_pool_alone_is_mined_and_positives_keep_their_scores(run_hnmine):
    rows, vectors, corpus = many()
    rows[0]["pos"] = ["D0"]  # in the pool, but for its spelling
    vectors["D0"] = vectors["d0"]
    options = (*OPEN, "--sample", "top", "--negatives", 100, "--range", "1-100")
    mined, summary = run_hnmine(rows, vectors, *options, "--pool-only", corpus=corpus)
    texts = {document["text"] for document in corpus}
    assert set(mined[0]["neg"]) == texts - {"d0"}
    assert all(set(row["neg"]) == texts for row in mined[1:])
    assert all(row["neg_ids"] == row["neg"] for row in mined)  # ids of the corpus, its texts here
    assert summary["measures"]["pool"] == len(texts)
    every, _ = run_hnmine(rows, vectors, *options, corpus=corpus)
    assert [row["pos_scores"] for row in mined] == [row["pos_scores"] for row in every]
    assert any(text.startswith("p") for row in every for text in row["neg"])


def test_a_pool_of_an_empty_corpus_is_refused_by_name(invoke, write, tmp_path):
    rows, vectors, _ = line()
    (tmp_path / "c.jsonl").write_text("")
    files = ["--vectors", write_vectors(tmp_path / "v.jsonl", vectors)]
    files += ["--corpus", tmp_path / "c.jsonl", "-o", tmp_path / "o.jsonl"]
    ran = invoke(cli.main, write(tmp_path / "in.jsonl", rows), *files, "--pool-only")
    assert ran.rc == 1 and "the pool is empty" in ran.err and "give --corpus texts" in ran.err


def test_an_input_without_rows_gives_an_output_without_rows(run_hnmine):
    _, vectors, corpus = line()
    for options in ((), ("--keep-neg", "--pad"), ("--shard", "0/2")):
        mined, summary = run_hnmine([], vectors, *options, corpus=corpus)
        assert mined == [] and (summary["rows_in"], summary["rows_out"]) == (0, 0)


def test_a_row_whose_domain_has_no_text_in_the_pool_gets_no_negatives(run_hnmine):
    rows, vectors, corpus = many(rows=2)
    rows[0]["domain"] = "elsewhere"
    mined, summary = run_hnmine(rows, vectors, *OPEN, "--pool-only", corpus=corpus)
    assert mined[0]["neg"] == [] and len(mined[1]["neg"]) == 5
    assert "1 rows are of a domain of which the pool has no text" in summary["err"]
    assert summary["measures"]["rows_short_of_negatives"] == 1


def test_a_model_mines_what_its_vectors_say(invoke, write, examples, corpus, model, tmp_path):
    """The whole path by model equals the path by vectors that sentence-transformers itself made."""
    from sentence_transformers import SentenceTransformer

    texts = [row["query"] for row in examples] + [text for row in examples for text in row["pos"]]
    encoded = dict(zip(texts, SentenceTransformer(model, device="cpu").encode(texts)))
    arguments = [
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
            cli.main, *arguments, "--model", model, "--dtype", "float32", "-o", tmp_path / "a.jsonl"
        ).rc
        == 0
    )
    assert (
        invoke(
            cli.main,
            *arguments,
            "--vectors",
            write_vectors(tmp_path / "v.jsonl", encoded),
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


def test_prompts_reach_queries_and_documents(run_hnmine):
    vectors = {"ask: q": [1, 0], "doc: p": [1, 0.1], "doc: n": [0, 1]}
    mined, _ = run_hnmine(
        [{"query": "q", "pos": ["p"]}],
        vectors,
        "--query-prompt",
        "ask: ",
        "--doc-prompt",
        "doc: ",
        corpus=[{"text": "n"}],
    )
    assert mined[0]["neg"] == ["n"]


def test_limit_reads_the_first_rows_alone(run_hnmine):
    rows, vectors, corpus = many()
    assert len(run_hnmine(rows, vectors, "--limit", 3, corpus=corpus)[0]) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        (("--range", "5"), "--range 5 is not LO-HI"),
        (("--range", "9-3"), "--range 9-3 is not LO-HI"),
        (("--range", "1-3", "--negatives", "4"), "has fewer ranks"),
        (("--range", "1-4", "--raw-range", "--negatives", "4"), "has fewer ranks"),
        (("--min-score", "0.5", "--max-score", "0.2"), "nothing can pass"),
        (("--shard", "3/3"), "--shard 3/3 is no part of a whole"),
        (("--score-all",), "--score-all has no --reranker"),
        (("--pool-only",), "there is no --corpus"),
        (("--model", "m"), "exclude each other"),
    ],
)
def test_options_that_cannot_work_are_refused_as_usage(invoke, options, message):
    ran = invoke(cli.main, "in.jsonl", "--vectors", "v.jsonl", *options, "-o", "out.jsonl")
    assert ran.rc == 2 and message in ran.err


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
