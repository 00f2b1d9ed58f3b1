"""Where scores come from, what they may overwrite, and what is told of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pairwise import read, write_vectors

from fletching.io import parquet
from simfilter import cli

PLANE = {"q": [1, 0], "near": [0.8, 0.6], "far": [0, 1], "away": [-1, 0]}


def test_cosines_are_those_of_sentence_transformers(sift, examples, model):
    from sentence_transformers import SentenceTransformer

    encode = SentenceTransformer(model, device="cpu").encode
    expected = [float(encode(row["query"]) @ encode(row["pos"][0])) for row in examples]
    kept, _, _ = sift(examples, None, "--model", model, "--dtype", "float32", "--score-only")
    assert [row["pos_scores"][0] for row in kept] == pytest.approx(expected, abs=1e-5)


def test_given_vectors_need_no_unit_length_and_know_prompts(sift):
    vectors = {"ask: q": [3, 0], "own: q": [0, 2], "doc: near": [4, 3]}
    rows = [{"query": "q", "pos": ["near"]}]
    kept, _, _ = sift(
        rows, vectors, "--score-only", "--query-prompt", "ask: ", "--doc-prompt", "doc: "
    )
    assert kept[0]["pos_scores"] == pytest.approx([0.8])
    vectors = {"own: q": [0, 2], "doc: near": [4, 3]}
    kept, _, _ = sift(
        [rows[0] | {"prompt": "own: "}], vectors, "--score-only", "--doc-prompt", "doc: "
    )
    assert kept[0]["pos_scores"] == pytest.approx([0.6])


def test_a_cache_of_the_suite_can_be_given_as_vectors(invoke, write, examples, model, tmp_path):
    given = [write(tmp_path / "in.jsonl", examples), "--score-only"]
    assert (
        invoke(
            cli.main,
            *given,
            "--model",
            model,
            "--cache",
            tmp_path / "cache",
            "-o",
            tmp_path / "a.jsonl",
        ).rc
        == 0
    )
    (folder,) = (tmp_path / "cache").iterdir()
    ran = invoke(cli.main, *given, "--vectors", folder, "-o", tmp_path / "b.jsonl")
    assert ran.rc == 0, ran.err
    assert np.allclose(
        [row["pos_scores"] for row in read(tmp_path / "a.jsonl")],
        [row["pos_scores"] for row in read(tmp_path / "b.jsonl")],
        atol=1e-6,
    )


def test_a_reranker_judges_in_the_place_of_the_cosine(sift, examples, cross_encoder):
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    expected = CrossEncoder(cross_encoder, device="cpu").predict(
        [(row["query"], row["pos"][0]) for row in examples], activation_fn=Identity()
    )
    bound = float(np.median(expected))
    kept, gone, summary = sift(
        examples, None, "--reranker", cross_encoder, "--dtype", "float32", "--min-sim", bound
    )
    assert [row["id"] for row in kept] == [
        row["id"] for row, score in zip(examples, expected) if score >= bound
    ] and len(gone) == 6
    assert [row["pos_scores"][0] for row in kept] == pytest.approx(
        [score for score in expected if score >= bound], abs=1e-4
    )
    assert {row["pos_score_kind"] for row in kept} == {"reranker"} and summary["measures"][
        "score_kind"
    ] == "reranker"


def test_scores_of_the_rows_are_used_without_a_model(sift):
    rows = [
        {
            "id": "a",
            "query": "q",
            "pos": ["x", "y"],
            "pos_scores": [4.0, 1.0],
            "pos_score_kind": "judge",
        },
        {"id": "b", "query": "q", "pos": ["z"], "pos_scores": [2.5], "pos_score_kind": "judge"},
    ]
    kept, gone, _ = sift(rows, None, "--use-scores", "--min-sim", 3)
    assert [(row["pos"], row["pos_scores"], row["pos_score_kind"]) for row in kept] == [
        (["x"], [4.0], "judge")
    ]
    assert gone[0]["reject_reason"] == "below 3"


def test_use_scores_refuses_a_row_without_scores(invoke, write, tmp_path):
    rows = [
        {"id": "a", "query": "q", "pos": ["x"], "pos_scores": [1.0]},
        {"id": "bare", "query": "q", "pos": ["x"]},
    ]
    ran = invoke(
        cli.main,
        write(tmp_path / "in.jsonl", rows),
        "--use-scores",
        "--min-sim",
        0,
        "-o",
        tmp_path / "o.jsonl",
    )
    assert (
        ran.rc == 1
        and "row 'bare' has no `pos_scores`" in ran.err
        and not (tmp_path / "o.jsonl").exists()
    )


@pytest.mark.parametrize(
    "kind, stays", [("label", True), ("reranker", True), ("judge", True), ("cosine", False)]
)
def test_better_scores_than_a_cosine_stay_unless_replaced(sift, kind, stays):
    rows = [{"query": "q", "pos": ["near"], "pos_scores": [7.0], "pos_score_kind": kind}]
    kept, _, _ = sift(rows, PLANE, "--min-sim", 0.5)
    assert (kept[0]["pos_scores"], kept[0]["pos_score_kind"]) == (
        ([7.0], kind) if stays else ([pytest.approx(0.8)], "cosine")
    )
    kept, _, _ = sift(rows, PLANE, "--min-sim", 0.5, "--replace-scores")
    assert (kept[0]["pos_scores"], kept[0]["pos_score_kind"]) == ([pytest.approx(0.8)], "cosine")


def test_the_summary_has_histograms_of_all_and_of_each_domain(sift):
    rows = [
        {"query": "q", "pos": ["near", "far"], "domain": "x"},
        {"query": "q", "pos": ["away", "q"], "domain": "y"},
        {"query": "q", "pos": ["near"]},
    ]
    measures = sift(rows, PLANE, "--score-only")[2]["measures"]
    assert measures["score_histogram"] == {"-1": 1, "0": 1, "0.8": 2, "0.9": 1}
    assert measures["score_histogram_by_domain"] == {
        "(none)": {"0.8": 1},
        "x": {"0": 1, "0.8": 1},
        "y": {"-1": 1, "0.9": 1},
    }


def test_pairs_are_written_in_the_seeds_shape(sift):
    rows = [{"query": "q", "pos": ["near", "far"]}, {"query": "q", "pos": ["away"]}]
    kept, _, summary = sift(rows, PLANE, "--min-sim", -0.1, "--as-pairs")
    assert kept == [
        {"query": "q", "document": "near", "cos_sim": pytest.approx(0.8)},
        {"query": "q", "document": "far", "cos_sim": pytest.approx(0)},
    ]
    assert (
        summary["rows_in"] == 2
        and summary["rows_out"] == 2
        and summary["added"] == {"further positives of a row": 1}
    )


def test_unknown_columns_reach_output_and_rejects(sift):
    rows = [
        {"query": "q", "pos": ["near"], "source": "s1"},
        {"query": "q", "pos": ["away"], "source": "s2"},
    ]
    kept, gone, _ = sift(rows, PLANE, "--min-sim", 0.5)
    assert kept[0]["source"] == "s1" and gone[0]["source"] == "s2"


def test_limit_reads_the_first_rows_alone(sift):
    rows = [{"query": "q", "pos": ["near"]}, {"query": "q", "pos": ["far"]}]
    assert len(sift(rows, PLANE, "--score-only", "--limit", 1)[0]) == 1


# --- shards, kills, evaluation sets ------------------------------------------------------------------


def test_shards_in_order_are_the_whole_byte_for_byte(
    invoke, write, examples, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("simfilter.positive_units.UNIT", 2)
    given = [
        write(tmp_path / "in.jsonl", examples),
        "--model",
        model,
        "--min-sim",
        0.3,
        "--rank-within",
        3,
    ]
    assert invoke(cli.main, *given, "-o", tmp_path / "whole.jsonl").rc == 0
    for i in range(4):
        ran = invoke(cli.main, *given, "--shard", f"{i}/4", "-o", tmp_path / f"{i}.jsonl")
        assert ran.rc == 0 and "in other shards" in ran.err
    assert (
        b"".join((tmp_path / f"{i}.jsonl").read_bytes() for i in range(4))
        == (tmp_path / "whole.jsonl").read_bytes()
    )


def test_scored_shards_and_one_keep_top_are_keep_top_of_the_whole(
    invoke, write, examples, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("simfilter.positive_units.UNIT", 2)
    source = write(tmp_path / "in.jsonl", examples)
    assert (
        invoke(
            cli.main, source, "--model", model, "--keep-top", 0.5, "-o", tmp_path / "whole.jsonl"
        ).rc
        == 0
    )
    parts = [tmp_path / f"{i}.parquet" for i in range(3)]
    for i, path in enumerate(parts):
        assert (
            invoke(
                cli.main, source, "--model", model, "--score-only", "--shard", f"{i}/3", "-o", path
            ).rc
            == 0
        )
    assert (
        invoke(
            cli.main, *parts, "--use-scores", "--keep-top", 0.5, "-o", tmp_path / "merged.jsonl"
        ).rc
        == 0
    )
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_that_was_killed_encodes_little_again_and_gives_the_same_bytes(
    run, write, model, tmp_path
):
    rows = [
        {"id": str(i), "query": f"how {i}", "pos": [f"so {i} " * (1 + i % 9)]} for i in range(2500)
    ]
    source = write(tmp_path / "in.jsonl", rows)
    line = ["simfilter", source, "--model", model, "--min-sim", "0", "-o"]
    # The killed run dies by its own hand after 90 % of the forward passes, as a machine does: no handler runs.
    kill = (
        "import os, signal, sys\nfrom fletching.encode import cache, encoder\ncache.SHARD_SECONDS = 0\nseen = 0\nforward = encoder.Encoder._forward\n"
        "def counted(self, device, rows, *rest):\n    global seen\n    seen += len(rows)\n    print('passed', len(rows), file=sys.stderr)\n"
        "    if seen > 4500 and '--kill' in sys.argv:\n        os.kill(os.getpid(), signal.SIGKILL)\n    return forward(self, device, rows, *rest)\n"
        "encoder.Encoder._forward = counted\nfrom simfilter import cli\nsys.exit(cli.main([word for word in sys.argv[1:] if word != '--kill']))"
    )
    killed = run(["python", "-c", kill, *line[1:], tmp_path / "a.jsonl", "--kill"])
    assert (
        killed.rc == -9
        and not (tmp_path / "a.jsonl").exists()
        and (tmp_path / "a.jsonl.cache").exists()
    )
    again = run(["python", "-c", kill, *line[1:], tmp_path / "a.jsonl"])
    assert again.rc == 0, again.err
    encoded = sum(
        int(told.split()[1]) for told in again.err.splitlines() if told.startswith("passed")
    )
    assert encoded < 0.2 * 5000  # a tenth was left, and the pass that died
    assert not (tmp_path / "a.jsonl.cache").exists()
    assert run([*line, tmp_path / "b.jsonl"]).rc == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


EVAL = [
    {
        "query": "What is  Ｒust?",
        "pos": ["a systems programming language for safe and fast programs"],
    }
]


def clean(sift, write, tmp_path, rows, *options, eval_rows=EVAL):
    vectors = {text: [1, 0] for row in rows for text in (row["query"], *row["pos"])}
    return sift(
        rows, vectors, "--decontaminate", write(tmp_path / "eval.jsonl", eval_rows), *options
    )


def test_rows_that_stand_in_an_evaluation_set_are_dropped_by_name(sift, write, tmp_path):
    rows = [
        {"id": "1", "query": "what is rust?", "pos": ["iron oxide"]},
        {
            "id": "2",
            "query": "fast",
            "pos": ["other", "A systems programming language for safe and fast  programs"],
        },
        {"id": "3", "query": "what is rust", "pos": ["iron"]},
    ]
    kept, gone, summary = clean(sift, write, tmp_path, rows)
    assert [row["id"] for row in kept] == ["3"]
    assert summary["dropped"] == {
        "its query stands in an evaluation set": 1,
        "a positive stands in an evaluation set": 1,
    }
    assert [row["reject_reason"] for row in gone] == [
        "its query stands in an evaluation set",
        "a positive stands in an evaluation set",
    ]


def test_an_evaluation_set_can_be_texts(sift, write, tmp_path):
    rows = [{"id": "1", "query": "a", "pos": ["b"]}, {"id": "2", "query": "c", "pos": ["d"]}]
    kept, _, _ = clean(sift, write, tmp_path, rows, eval_rows=[{"id": "x", "text": "D"}])
    assert [row["id"] for row in kept] == ["1"]


def test_each_evaluation_file_has_its_own_count(sift, write, tmp_path):
    rows = [
        {"id": str(i), "query": query, "pos": ["p"]}
        for i, query in enumerate(("a", "b", "c", "one two three"))
    ]
    vectors = {text: [1, 0] for row in rows for text in (row["query"], "p")}
    files = {"first": ["A", "b"], "second": ["b", "one two"], "third": ["nowhere"]}
    paths = [
        write(tmp_path / f"{name}.jsonl", [{"text": text} for text in texts])
        for name, texts in files.items()
    ]
    options = [part for path in paths for part in ("--decontaminate", path)]
    kept, _, summary = sift(rows, vectors, *options, "--ngram", 2)
    assert [row["id"] for row in kept] == ["2"]
    assert summary["measures"]["rows_in_evaluation_file"] == {
        str(path): rows for path, rows in zip(paths, (2, 2, 0))
    }  # b counts twice
    assert sum(summary["dropped"].values()) == 3
    assert summary["notes"] == [f"2 rows stand in {path}" for path in paths[:2]]


def test_words_in_a_row_are_enough_with_ngram(sift, write, tmp_path):
    rows = [
        {"id": "1", "query": "x", "pos": ["It is a language for SAFE and fast things"]},
        {"id": "2", "query": "y", "pos": ["fast and safe, for a language"]},
        {"id": "3", "query": "and", "pos": ["fast programs are"]},
    ]
    assert len(clean(sift, write, tmp_path, rows)[0]) == 3
    kept, gone, _ = clean(sift, write, tmp_path, rows, "--ngram", 4)
    assert [row["id"] for row in kept] == ["2", "3"] and gone[0][
        "reject_reason"
    ] == "sharing 4 words in a row with an evaluation set"
    assert not clean(sift, write, tmp_path, [rows[2]], "--ngram", 2)[0]


def test_memory_does_not_grow_with_the_rows_under_a_threshold(run, tmp_path):
    """Three times the rows, at most 15 MB more (all rows would be 64): they pass in batches. Vectors are given, so that rows alone count."""
    write_vectors(tmp_path / "v.jsonl", {"q": [1.0, 0], "p" * 400: [1.0, 0.5]})
    row = json.dumps({"query": "q", "pos": ["p" * 400]}) + "\n"
    code = "import sys\nfrom simfilter import cli\nassert cli.main(sys.argv[1:]) == 0\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    peak = {}
    for rows in (80_000, 240_000):
        (tmp_path / f"{rows}.jsonl").write_text(row * rows)
        ran = run(
            [
                "python",
                "-c",
                code,
                tmp_path / f"{rows}.jsonl",
                "--vectors",
                tmp_path / "v.jsonl",
                "--min-sim",
                "0",
                "-o",
                tmp_path / f"{rows}.parquet",
            ]
        )
        assert ran.rc == 0, ran.err
        peak[rows] = int(ran.text.split()[1]) / 1024
    assert peak[240_000] < peak[80_000] + 15, peak


def test_the_model_is_not_loaded_where_it_is_not_needed(sift, tmp_path):
    rows = [{"query": "q", "pos": ["x"], "pos_scores": [0.4]}]
    assert (
        len(sift(rows, None, "--use-scores", "--min-sim", 0.3, "--model", tmp_path / "none")[0])
        == 1
    )


def test_output_and_rejects_appear_together_or_not_at_all(invoke, write, tmp_path, monkeypatch):
    rows = [{"query": "owl", "pos": ["owl"]}, {"query": "owl", "pos": ["iron"]}]
    vectors = write_vectors(tmp_path / "v.jsonl", {"owl": [1, 0], "iron": [0, 1]})
    line = [write(tmp_path / "in.jsonl", rows), "--vectors", vectors, "--min-sim", 0.5]
    outputs = [tmp_path / "kept.parquet", tmp_path / "rejects.parquet"]
    close = parquet.ParquetSink.close

    def full(self, end):
        if (
            end["rows"] and "reject_reason" not in self.writer.schema.names
        ):  # the disk is full when the main output ends
            raise OSError(28, "No space left on device")
        close(self, end)

    with monkeypatch.context() as broken:
        broken.setattr(parquet.ParquetSink, "close", full)
        ran = invoke(cli.main, *line, "-o", outputs[0], "--rejects", outputs[1])
    assert ran.rc == 1
    assert "no space left" in ran.err
    assert not [path for path in outputs if path.exists()]
    assert invoke(cli.main, *line, "-o", outputs[0], "--rejects", outputs[1]).rc == 0
    assert all(path.exists() for path in outputs)
