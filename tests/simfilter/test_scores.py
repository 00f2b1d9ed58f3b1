"""Where scores come from, what they may overwrite, and what is reported of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pairwise import read, write_vectors

from simfilter import cli, score_columns

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or waits for a server

PLANE = {"q": [1, 0], "near": [0.8, 0.6], "far": [0, 1], "away": [-1, 0]}


def test_cosines_are_those_of_sentence_transformers(sift, examples, model):
    from sentence_transformers import SentenceTransformer

    encode = SentenceTransformer(model, device="cpu").encode
    expected = [float(encode(row["query"]) @ encode(row["pos"][0])) for row in examples]
    kept, _, _ = sift(examples, None, "--model", model, "--dtype", "float32", "--score-only")
    assert [row["pos_scores"][0] for row in kept] == pytest.approx(expected, abs=1e-5)


def test_precomputed_vectors_need_no_unit_length_and_know_prompts(sift):
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


def test_a_cache_of_the_suite_serves_as_vectors(invoke, write, examples, model, tmp_path):
    arguments = [write(tmp_path / "in.jsonl", examples), "--score-only"]
    assert (
        invoke(
            cli.main,
            *arguments,
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
    ran = invoke(cli.main, *arguments, "--vectors", folder, "-o", tmp_path / "b.jsonl")
    assert ran.rc == 0, ran.err
    assert np.allclose(
        [row["pos_scores"] for row in read(tmp_path / "a.jsonl")],
        [row["pos_scores"] for row in read(tmp_path / "b.jsonl")],
        atol=1e-6,
    )


def test_a_cross_encoder_replaces_the_cosine(sift, examples, cross_encoder):
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    expected = CrossEncoder(cross_encoder, device="cpu").predict(
        [(row["query"], row["pos"][0]) for row in examples], activation_fn=Identity()
    )
    bound = float(np.median(expected))
    kept, gone, summary = sift(
        examples, None, "--cross-encoder", cross_encoder, "--dtype", "float32", "--min-sim", bound
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


# --- scores that are protected -------------------------------------------------------------------

TEACHER = {
    "query": "q",
    "pos": ["near"],
    "neg": ["far"],
    "pos_scores": [98.2],
    "neg_scores": [82.3],
}


def test_scores_of_flagembedding_which_name_no_kind_stay(run, write, tmp_path):
    """The command itself: a cosine beside a teacher's logit would make the negative the answer."""
    rows, vectors = write(tmp_path / "in.jsonl", [TEACHER]), tmp_path / "v.jsonl"
    line = ["simfilter", rows, "--vectors", write_vectors(vectors, PLANE), "--score-only"]
    ran = run([*line, "-o", tmp_path / "o.jsonl"])
    assert ran.rc == 0 and "1 rows keep scores that are no cosines" in ran.err
    (kept,) = read(tmp_path / "o.jsonl")
    assert kept | TEACHER == kept
    assert kept.get("pos_score_kind") is kept.get("neg_score_kind") is None


def test_who_replaces_one_side_clears_the_other(sift):
    (kept,), _, summary = sift([TEACHER], PLANE, "--score-only", "--replace-scores")
    assert (kept["pos_scores"], kept["pos_score_kind"]) == ([pytest.approx(0.8)], "cosine")
    assert kept.get("neg_scores") is None and kept["neg"] == ["far"]
    assert "1 rows lose their `neg_scores`" in summary["err"]
    assert summary["measures"]["rows_with_neg_scores_cleared"] == 1


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("pos_kind", ["absent", None, "cosine", "reranker", "label", "judge"])
@pytest.mark.parametrize("neg_kind", ["absent", None, "cosine", "reranker", "label", "judge"])
def test_both_sides_measure_the_same_after_scores_are_written(pos_kind, neg_kind, replace):
    """By rows of each kind on each side: changed or as they were, never half replaced."""
    columns = {"id": ["r"], "query": ["q"], "pos": [["near", "far"]], "neg": [["away"]]}
    for side, kind, scores in (("pos", pos_kind, [7.0, 3.0]), ("neg", neg_kind, [5.0])):
        if kind != "absent":
            columns[f"{side}_scores"] = pa.array([scores], pa.list_(pa.float32()))
            columns[f"{side}_score_kind"] = pa.array([kind], pa.string())
    rows = pa.record_batch(columns)
    for new_kind in ("cosine", "reranker"):
        schema = score_columns.scored_columns(rows.schema)
        writer = score_columns.ScoreColumns(schema, kind=new_kind, replace_scores=replace)
        (row,) = writer.write(rows, np.array([0.5, 0.25], np.float32)).to_pylist()
        before = dict.fromkeys(row) | rows.to_pylist()[0]
        is_written = row["pos_scores"] == [0.5, 0.25]
        other = row.get("neg_scores") and row["neg_score_kind"]
        if is_written:
            assert row["pos_score_kind"] == new_kind and other in (None, new_kind)
            assert writer.rows_cleared == (neg_kind not in ("absent", new_kind))
        else:
            assert row == before and not replace
            assert writer.rows_kept == 1
        is_protected = pos_kind not in ("absent", "cosine") or (
            neg_kind not in ("absent", "cosine", new_kind)
        )
        assert is_written == (replace or not is_protected)


def test_pairs_have_the_cosine_whatever_scores_the_row_keeps(sift):
    kept, _, _ = sift([TEACHER], PLANE, "--min-sim", 0.5, "--as-pairs")
    assert kept == [{"query": "q", "document": "near", "cos_sim": pytest.approx(0.8)}]


def test_a_cross_encoder_that_cannot_be_loaded_is_refused_by_its_option(invoke, write, tmp_path):
    rows = write(tmp_path / "in.jsonl", [TEACHER])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")
    line = [rows, "--cross-encoder", tmp_path / "none", "--score-only", "-o", tmp_path / "o.jsonl"]
    ran = invoke(cli.main, *line)
    assert ran.rc == 1 and f"--cross-encoder {tmp_path / 'none'} cannot be loaded" in ran.err


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
