"""Which ranks are mined, against a brute-force reference in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairwise import cosine, random_units

from fletching import text_keys
from fletching.encode import memmap_buffer
from fletching.text import normalise
from hnmine import bf16_topk, search


def pool_keys(domain: str | None, texts: list[str]) -> np.ndarray:
    """Ties go by these: content alone."""
    return text_keys.mix(
        text_keys.hash_texts(pa.array([domain], pa.string())),
        text_keys.hash_texts(pa.array(texts, pa.string())),
    )


def reference(
    rows: list[dict], vectors: dict[str, Any], corpus: list[dict], raw: bool = False
) -> list[list[str]]:
    """For each row all texts of its domain by falling cosine, without its own positives unless `raw`."""
    ranked = []
    for row in rows:
        domain = row.get("domain")
        inside = [text for other in rows if other.get("domain") == domain for text in other["pos"]]
        inside += [document["text"] for document in corpus if document.get("domain") == domain]
        texts = list({normalise(text): text for text in reversed(inside)}.values())
        known_answers = {normalise(row["query"])}
        known_answers |= {
            normalise(text)
            for other in rows
            if normalise(other["query"]) == normalise(row["query"])
            and other.get("domain") == domain
            for text in other["pos"]
        }
        ties = dict(zip(texts, pool_keys(domain, texts).tolist()))
        order = sorted(
            texts,
            key=lambda text: (
                -np.float32(cosine(vectors[row["query"]], vectors[text])),
                ties[text],
            ),
        )
        ranked.append([text for text in order if raw or normalise(text) not in known_answers])
    return ranked


def world(
    seed: int, rows: int = 12, documents: int = 40, domains: tuple[Any, ...] = (None,)
) -> tuple[list[dict], dict[str, Any], list[dict]]:
    """Rows, vectors and a corpus, in which every fourth document has the vector of another one: exact ties."""
    draw = np.random.default_rng(seed)
    names = (
        [f"query {i}" for i in range(rows)]
        + [f"answer {i}" for i in range(rows)]
        + [f"text {i}" for i in range(documents)]
    )
    vectors = dict(zip(names, np.round(random_units(len(names), seed=seed), 2)))
    for i in range(0, documents - 1, 4):
        vectors[f"text {i + 1}"] = vectors[f"text {i}"]
    examples = [
        {
            "id": str(i),
            "query": f"query {i}",
            "pos": [f"answer {i}"],
            "domain": domains[draw.integers(len(domains))],
        }
        for i in range(rows)
    ]
    return (
        examples,
        vectors,
        [
            {"id": f"d{i}", "text": f"text {i}", "domain": domains[draw.integers(len(domains))]}
            for i in range(documents)
        ],
    )


OPEN = ("--max-ratio", 0, "--near-copy", 1.01, "--sample", "top")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), low=st.integers(1, 6), width=st.integers(2, 9))
def test_the_range_counts_ranks_as_a_full_sort_does_ties_by_content(run_hnmine, seed, low, width):
    rows, vectors, corpus = world(seed, domains=("a", "b"))
    mined, _ = run_hnmine(
        rows,
        vectors,
        *OPEN,
        "--range",
        f"{low}-{low + width - 1}",
        "--negatives",
        width,
        corpus=corpus,
    )
    expected = [ranked[low - 1 : low - 1 + width] for ranked in reference(rows, vectors, corpus)]
    assert [row["neg"] for row in mined] == expected
    for row in mined:
        assert row["neg_scores"] == pytest.approx(
            [cosine(vectors[row["query"]], vectors[text]) for text in row["neg"]], abs=1e-6
        )
        assert row["pos_scores"] == pytest.approx(
            [cosine(vectors[row["query"]], vectors[row["pos"][0]])], abs=1e-6
        )


def test_raw_range_is_flagembeddings_slice_of_the_ranking_with_positives_in_it(run_hnmine):
    rows, vectors, corpus = world(7)
    mined, _ = run_hnmine(
        rows, vectors, *OPEN, "--raw-range", "--range", "2-8", "--negatives", 6, corpus=corpus
    )
    expected = [
        [text for text in ranked[2:8] if text not in row["pos"]]
        for row, ranked in zip(rows, reference(rows, vectors, corpus, raw=True))
    ]
    assert [row["neg"] for row in mined] == expected


def test_many_positives_before_the_window_do_not_shorten_it(run_hnmine):
    texts = (
        {f"p{i}": [1, 0.001 * i] for i in range(60)}
        | {f"n{i}": [0.5, 1 + i] for i in range(5)}
        | {"q": [1, 0]}
    )
    rows = [{"query": "q", "pos": [f"p{i}"]} for i in range(60)]
    mined, _ = run_hnmine(
        rows,
        texts,
        *OPEN,
        "--range",
        "1-5",
        "--negatives",
        5,
        corpus=[{"text": f"n{i}"} for i in range(5)],
    )
    assert all(row["neg"] == ["n0", "n1", "n2", "n3", "n4"] for row in mined)


def test_the_corpus_alone_can_hold_the_negatives_and_its_ids_are_written(run_hnmine):
    rows, vectors, corpus = world(3)
    for row in rows:
        row["pos_ids"] = ["p" + row["id"]]
    mined, _ = run_hnmine(rows, vectors, *OPEN, "--negatives", 3, corpus=corpus)
    named = {document["text"]: document["id"] for document in corpus} | {
        row["pos"][0]: row["pos_ids"][0] for row in rows
    }
    assert all(row["neg_ids"] == [named[text] for text in row["neg"]] for row in mined)


def test_titles_stand_before_the_text(run_hnmine):
    vectors = {"q": [1, 0], "p": [1, 0.1], "A title a text": [0, 1]}
    mined, _ = run_hnmine(
        [{"query": "q", "pos": ["p"]}],
        vectors,
        *OPEN,
        "--negatives",
        1,
        corpus=[{"title": "A title", "text": "a text"}],
    )
    assert mined[0]["neg"] == ["A title a text"]


def test_blocks_of_documents_change_nothing(run_hnmine, monkeypatch):
    rows, vectors, corpus = world(5)
    whole, _ = run_hnmine(rows, vectors, *OPEN, "--negatives", 8, corpus=corpus)
    monkeypatch.setattr(bf16_topk, "available", lambda: False)
    monkeypatch.setattr(search, "DOCUMENT_BLOCK", 7)
    monkeypatch.setattr(search, "QUERY_BLOCK", 5)
    assert run_hnmine(rows, vectors, *OPEN, "--negatives", 8, corpus=corpus)[0] == whole


@pytest.fixture(params=["tiles", "faiss", "torch"])
def way(request, monkeypatch):
    """Each way to search on a CPU; bf16 products are right, if slow, without tiles too."""
    monkeypatch.setattr(bf16_topk, "available", lambda: request.param == "tiles")
    if request.param == "torch":
        monkeypatch.setattr(search, "_faiss", search._torch)
    return request.param


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), count=st.integers(3, 900), k=st.integers(1, 60))
def test_every_way_to_search_finds_the_exact_best(way, seed, count, k):
    queries, documents = random_units(9, 24, seed), random_units(count, 24, seed + 1)
    numbers, cosines = search.exact_finder(queries, documents, "cpu")(np.arange(9), k)
    exact = memmap_buffer.block_dot(queries, documents, np.tile(np.arange(count), (9, 1)))
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    assert (numbers == order).all() and (cosines == np.take_along_axis(exact, order, 1)).all()


def test_blocks_of_tiles_change_nothing_and_rising_scores_are_all_seen(monkeypatch):
    documents = random_units(1000, 24, 1)
    documents = documents[np.argsort(documents @ documents[0])]  # the best come last
    expected = np.argsort(
        -memmap_buffer.block_dot(documents[-1:], documents, np.arange(1000)[None]), kind="stable"
    )[0, :20]
    monkeypatch.setattr(bf16_topk, "available", lambda: True)
    for queries, size, piece, keys_held in (
        (256, 32_768, 4096, 1 << 22),
        (2, 192, 48, 100),
        (1, 64, 32, 1),
        (3, 1000, 16, 1),
    ):
        monkeypatch.setattr(bf16_topk, "QUERY_BLOCK", queries)
        monkeypatch.setattr(bf16_topk, "DOCUMENT_BLOCK", size)
        monkeypatch.setattr(bf16_topk, "TILE", piece)
        monkeypatch.setattr(bf16_topk, "SELECTION_KEYS", keys_held)
        numbers, _ = search.exact_finder(documents[-3:], documents, "cpu")(np.arange(3), 20)
        assert (numbers[2] == expected).all()


def test_what_tiles_do_not_find_stays_below_their_bound():
    queries, documents = random_units(40, 64, seed=3), random_units(500, 64, seed=4)
    bound, numbers = bf16_topk.top(queries, documents, 30)
    exact = queries.astype(float) @ documents.T.astype(float)
    exact[np.arange(40)[:, None], numbers] = -1
    assert (exact.max(1) < bound).all() and (bound - exact.max(1)).max() < 0.05


def test_scores_below_zero_keep_their_order(monkeypatch):
    monkeypatch.setattr(bf16_topk, "TILE", 32)
    documents = random_units(400, 24, seed=6)
    queries = -documents[:2] - documents.mean(0)
    chosen = documents[(queries @ documents.T < -0.01).all(0)]
    assert len(chosen) > 60
    _, numbers = bf16_topk.top(queries, chosen, 20)
    exact = queries @ chosen.T
    assert (
        np.take_along_axis(exact, numbers, 1).min(1) >= np.sort(exact, axis=1)[:, -20] - 0.01
    ).all()


def test_a_limit_of_onednn_turns_the_tiles_off(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert bf16_topk.available()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert not bf16_topk.available()


def test_a_block_of_queries_shrinks_with_what_is_kept_of_each():
    assert (
        search.block_size(100) == search.QUERY_BLOCK
        and search.block_size(2000) == search.BLOCK_RESULTS // 2000
    )
    assert search.block_size(10**6) == 1024


def test_more_ties_than_are_searched_for_still_go_by_content():
    documents = np.repeat(random_units(3, seed=4), 200, axis=0)
    numbers, _ = search.exact_finder(documents[:1], documents, "cpu")(np.arange(1), 10)
    assert numbers[0].tolist() == list(range(10))
