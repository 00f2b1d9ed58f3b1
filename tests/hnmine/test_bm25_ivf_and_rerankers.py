"""BM25, inverted lists, and a cross-encoder as a guard and as a scorer."""

from __future__ import annotations

import sys

import bm25s
import numpy as np
import pytest
from pairwise import random_units, write_vectors
from scipy.stats import zscore

from hnmine import bf16_topk, cli, faiss_library, search

pytestmark = pytest.mark.slow  # as a whole: seconds of draws and runs

TEXTS = [
    "the owl hunts at night",
    "the owl sleeps by day",
    "iron is smelted with coke",
    "honey is made by bees",
    "a night at the opera",
]
QUERY = "when does the owl hunt at night"
FLAT = ("--max-ratio", 0, "--near-copy", 1.01, "--sample", "top")


@pytest.fixture
def words():
    """Vectors that rank against the words: by words text 1 is near, by vectors text 3."""
    rows = [{"id": "r", "query": QUERY, "pos": [TEXTS[0]]}]
    vectors = {
        QUERY: [1, 0],
        TEXTS[0]: [1, 0.1],
        TEXTS[1]: [-1, 0.5],
        TEXTS[2]: [0.2, 1],
        TEXTS[3]: [0.9, 0.5],
        TEXTS[4]: [0.1, 1],
    }
    return rows, vectors, [{"text": text} for text in TEXTS]


def test_bm25_alone_ranks_by_words_and_writes_cosines(run_hnmine, words):
    rows, vectors, corpus = words
    mined, _ = run_hnmine(rows, vectors, *FLAT, "--bm25", "alone", corpus=corpus)
    assert set(mined[0]["neg"]) == {TEXTS[1], TEXTS[4]}  # the others share no word with the query
    assert mined[0]["neg_score_kind"] == "cosine" and min(mined[0]["neg_scores"]) == pytest.approx(
        -0.894, abs=1e-3
    )


def test_fusion_ranks_by_the_sum_of_reciprocal_ranks(run_hnmine, words):
    rows, vectors, corpus = words
    by_words = [
        TEXTS.index(text)
        for text in run_hnmine(rows, vectors, *FLAT, "--bm25", "alone", corpus=corpus)[0][0]["neg"]
    ]
    by_vectors = [
        TEXTS.index(text) for text in run_hnmine(rows, vectors, *FLAT, corpus=corpus)[0][0]["neg"]
    ]
    worth = np.zeros(5)
    for ranking in ([0, *by_words], [0, *by_vectors]):  # the positive stands first in both
        for rank, number in enumerate(ranking, 1):
            worth[number] += 1 / (60 + rank)
    expected = sorted(range(1, 5), key=lambda number: -worth[number])
    mined, _ = run_hnmine(rows, vectors, *FLAT, "--bm25", "fused", corpus=corpus)
    assert [TEXTS.index(text) for text in mined[0]["neg"]] == expected


def test_hybrid_scores_are_cosines_plus_bm25_in_their_unit(run_hnmine, words):
    rows, vectors, corpus = words
    options = (*FLAT, "--bm25", "fused", "--scores", "hybrid", "--bm25-weight", 0.7)
    mined, _ = run_hnmine(rows, vectors, *options, corpus=corpus)
    index = bm25s.BM25()
    index.index(bm25s.tokenize(TEXTS, stopwords=None, show_progress=False), show_progress=False)
    [query_words] = bm25s.tokenize([QUERY], stopwords=None, return_ids=False, show_progress=False)
    by_words = index.get_scores(query_words)
    cosines = np.array([vectors[text][0] / np.linalg.norm(vectors[text]) for text in TEXTS])
    expected = cosines + 0.7 * cosines.std() * zscore(by_words)
    [row] = mined
    written = dict(
        zip([*row["pos"], *row["neg"]], [*row["pos_scores"], *row["neg_scores"]], strict=True)
    )
    assert written == pytest.approx(dict(zip(TEXTS, expected, strict=True)), abs=1e-5)
    assert row["pos_score_kind"] == row["neg_score_kind"] == "reranker"


def test_a_query_that_shares_no_word_with_the_pool_is_scored_by_its_cosines(run_hnmine, words):
    rows, vectors, corpus = words
    strange = "?!"
    rows = [{**rows[0], "query": strange}]
    vectors = {**vectors, strange: [1, 0]}
    options = (*FLAT, "--bm25", "fused", "--scores", "hybrid")
    [row], _ = run_hnmine(rows, vectors, *options, corpus=corpus)
    cosines = np.array([vectors[text][0] / np.linalg.norm(vectors[text]) for text in TEXTS])
    assert row["pos_scores"] == pytest.approx([cosines[0]], abs=1e-5)


@pytest.mark.parametrize("options", [("alone",), ("fused",), ("fused", "--scores", "hybrid")])
@pytest.mark.parametrize("texts", [[], ["...", "--", "?"], ["..."], ["owls", "--", "iron"]])
def test_words_may_lack_in_any_pool(run_hnmine, words, texts, options):
    vectors = {QUERY: [1, 0], "owls": [1, 0.1], "iron": [0.5, 1]}
    vectors |= {"...": [1, 0.2], "--": [0.9, 0.5], "?": [0.2, 1]}
    rows = [{"id": "r", "query": QUERY, "pos": [text]} for text in texts[:1]]
    corpus = [{"text": text} for text in texts]
    mined, summary = run_hnmine(
        rows, vectors, *FLAT, "--bm25", *options, corpus=corpus, name="words"
    )
    assert summary["rows_in"] == len(rows) == len(mined)
    # No text shares a word with the query, so that a ranking by words alone has none.
    expected = set() if options == ("alone",) else set(texts[1:])
    assert {text for row in mined for text in row["neg"]} == expected


def test_without_bm25s_the_error_says_what_to_install(invoke, write, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    rows, vectors, _ = words
    ran = invoke(
        cli.main,
        write(tmp_path / "in.jsonl", rows),
        "--vectors",
        write_vectors(tmp_path / "v.jsonl", vectors),
        "--bm25",
        "alone",
        "-o",
        tmp_path / "o.jsonl",
    )
    assert ran.rc == 2 and "bm25s" in ran.err and "pip install" in ran.err


def test_inverted_lists_print_their_recall_and_more_probes_find_more(run_hnmine):
    names = (
        [f"q{i}" for i in range(30)] + [f"p{i}" for i in range(30)] + [f"d{i}" for i in range(2000)]
    )
    vectors = dict(zip(names, random_units(len(names))))
    rows = [{"id": str(i), "query": f"q{i}", "pos": [f"p{i}"]} for i in range(30)]
    corpus = [{"text": f"d{i}"} for i in range(2000)]
    exact, _ = run_hnmine(rows, vectors, *FLAT, "--range", "1-10", corpus=corpus)
    shares = []
    for probes in (1, 10_000):
        mined, summary = run_hnmine(
            rows,
            vectors,
            *FLAT,
            "--range",
            "1-10",
            "--index",
            "ivf",
            "--probes",
            probes,
            corpus=corpus,
        )
        shares.append(summary["measures"]["ivf_recall"][0]["recall"])
        assert f"finds {shares[-1]:.1%} of the nearest 10" in summary["err"]
    assert shares[0] < 0.9 and shares[1] == 1
    assert mined == exact


ROWS = [{"id": "r", "query": "q", "pos": ["p"]}]
VECTORS = {"q": [1, 0], "p": [1, 0.1], "n": [0, 1]}


@pytest.fixture
def refused(invoke, write, tmp_path):
    """refused("--index", "ivf"): what the command says where it cannot work."""

    def refused(*options):
        rows = write(tmp_path / "in.jsonl", ROWS)
        vectors = write_vectors(tmp_path / "v.jsonl", VECTORS)
        line = [rows, "--vectors", vectors, *options, "-o", tmp_path / "o.jsonl"]
        ran = invoke(cli.main, *line)
        assert ran.rc == 2
        return ran.err

    return refused


def test_without_faiss_the_error_names_the_extras_and_the_exact_search_goes_on(
    run_hnmine, refused, monkeypatch
):
    monkeypatch.setattr(faiss_library, "is_installed", lambda: False)
    monkeypatch.setattr(bf16_topk, "available", lambda: False)
    told = refused("--index", "ivf")
    assert "--index ivf needs FAISS, which is not installed" in told
    assert "pip install 'fletching-hnmine[cpu]', or [gpu]" in told
    mined, _ = run_hnmine(ROWS, VECTORS, *FLAT, corpus=[{"text": "n"}])
    assert mined[0]["neg"] == ["n"]


def test_two_faiss_packages_in_one_folder_are_refused(refused, monkeypatch):
    monkeypatch.setattr(
        faiss_library, "_is_distribution_installed", lambda name: name in ("faiss-cpu", "faiss-gpu")
    )
    told = refused("--index", "ivf")
    assert "faiss-cpu and faiss-gpu are both installed" in told and "pip uninstall -y" in told


@pytest.fixture
def ranked(model, cross_encoder, examples):
    """The cross-encoder's score of every query with every answer."""
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    judge = CrossEncoder(cross_encoder, device="cpu")
    pairs = [(row["query"], other["pos"][0]) for row in examples for other in examples]
    return judge.predict(pairs, activation_fn=Identity()).reshape(len(examples), len(examples))


def test_the_reranker_rejects_what_it_scores_above_the_positive_and_its_scores_are_kept(
    run_hnmine, examples, model, cross_encoder, ranked
):
    options = (
        "--model",
        model,
        "--dtype",
        "float32",
        *FLAT,
        "--negatives",
        11,
        "--reranker",
        cross_encoder,
    )
    mined, summary = run_hnmine(examples, None, *options)
    texts = [row["pos"][0] for row in examples]
    for i, row in enumerate(mined):
        assert row["pos_score_kind"] == row["neg_score_kind"] == "reranker"
        assert row["pos_scores"] == pytest.approx([ranked[i, i]], abs=1e-4)
        assert {texts.index(text) for text in row["neg"]} == {
            j for j in range(12) if j != i and ranked[i, j] <= ranked[i, i]
        }
        assert row["neg_scores"] == pytest.approx(
            [ranked[i, texts.index(text)] for text in row["neg"]], abs=1e-4
        )
    rejected = sum(int((ranked[i] > ranked[i, i]).sum()) for i in range(12))
    assert summary["measures"]["removed_by_guard"]["positive to --reranker"] == rejected > 0


def test_a_reranker_margin_rejects_more(run_hnmine, examples, model, cross_encoder):
    options = ("--model", model, *FLAT, "--negatives", 11, "--reranker", cross_encoder)
    counts = [
        sum(
            len(row["neg"])
            for row in run_hnmine(examples, None, *options, "--reranker-margin", margin)[0]
        )
        for margin in (-100, 0, 1)
    ]
    assert counts[0] == 12 * 11 > counts[1] > counts[2]


def test_score_all_scores_every_pair_and_mines_nothing(run_hnmine, examples, cross_encoder, ranked):
    rows = [row | {"neg": [examples[0]["pos"][0]] * (i % 2 + 1)} for i, row in enumerate(examples)]
    rows[3]["neg"] = None
    rows[4] |= {"pos_scores": [0.5], "pos_score_kind": "judge"}
    options = ("--score-all", "--reranker", cross_encoder, "--dtype", "float32")
    mined, summary = run_hnmine(rows, None, *options)
    assert [row.get("neg") for row in mined] == [row["neg"] for row in rows]
    for i, row in enumerate(mined):
        if i != 4:
            assert (
                row["pos_scores"] == pytest.approx([ranked[i, i]], abs=1e-4)
                and row["pos_score_kind"] == "reranker"
            )
        if i not in (3, 4):  # beside a judge's score a reranker's would mean nothing
            assert row["neg_scores"] == pytest.approx([ranked[i, 0]] * len(row["neg"]), abs=1e-4)
    assert (mined[4]["pos_scores"], mined[4]["pos_score_kind"]) == ([0.5], "judge") and summary[
        "measures"
    ]["pos_scores_kept"] == 1
    assert mined[3].get("neg_score_kind") is mined[4].get("neg_scores") is None
    assert "1 rows keep scores that are no cosines" in summary["err"]
    replaced, _ = run_hnmine(rows, None, *options, "--replace-scores")
    assert replaced[4]["pos_scores"] == pytest.approx([ranked[4, 4]], abs=1e-4)
    assert replaced[4]["neg_score_kind"] == "reranker"


def test_a_folder_that_is_no_cross_encoder_is_refused(invoke, write, examples, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")
    ran = invoke(
        cli.main,
        write(tmp_path / "in.jsonl", examples),
        "--score-all",
        "--reranker",
        tmp_path / "none",
        "-o",
        tmp_path / "o.jsonl",
    )
    assert ran.rc == 1 and "cannot be loaded" in ran.err


def test_finders_of_a_domain_smaller_than_the_range_give_what_there_is():
    documents = random_units(3, seed=2)
    numbers, cosines = search.exact_finder(documents, documents, "cpu")(np.arange(3), 50)
    assert numbers.shape == cosines.shape == (3, 3)
