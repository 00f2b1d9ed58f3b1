"""From rows of examples to queries, documents and judgements."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fletching.errors import InputError
from fletching.report import Report
from mteb_eval.data.examples_collection import read_examples


def build(write, path, rows, **options):
    return read_examples(Report("test", quiet=True), "t", [write(path, rows)], **options)


def by_text(collection):
    """The judgements as {query text: texts of its documents}."""
    return {
        collection.queries[query]: {collection.documents[document] for document in grades}
        for query, grades in collection.relevant.items()
    }


texts = st.text("abc ", min_size=1, max_size=3)
rows = st.lists(
    st.fixed_dictionaries({"query": texts, "pos": st.lists(texts, min_size=1, max_size=3)}),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows)
def test_every_positive_of_every_row_is_judged_once_and_nothing_else_is(rows, write, tmp_path):
    collection = build(write, tmp_path / "t.jsonl", rows)
    expected: dict[str, set[str]] = {}
    for row in rows:
        expected.setdefault(row["query"], set()).update(row["pos"])
    assert by_text(collection) == expected
    assert sorted(collection.documents.values()) == sorted(
        {text for row in rows for text in row["pos"]}
    )


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows, random=st.randoms())
def test_the_order_of_the_rows_does_not_change_the_digest(rows, random, write, tmp_path):
    before = build(write, tmp_path / "a.jsonl", rows).digest()
    random.shuffle(rows)
    assert build(write, tmp_path / "b.jsonl", rows).digest() == before


def test_the_digest_sees_every_change(write, tmp_path):
    one = [{"query": "a", "pos": ["b"]}, {"query": "c", "pos": ["d"]}]
    variants = [
        one,
        one[:1],
        [{"query": "a", "pos": ["d"]}, {"query": "c", "pos": ["b"]}],
        [one[0] | {"prompt": "p"}, one[1]],
    ]
    digests = [
        build(write, tmp_path / f"{number}.jsonl", rows).digest()
        for number, rows in enumerate(variants)
    ]
    digests.append(build(write, tmp_path / "r.jsonl", one, reverse=True).digest())
    assert len(set(digests)) == len(digests)


def test_ids_of_the_data_join_rows_and_corpus(write, tmp_path):
    corpus = write(
        tmp_path / "corpus.jsonl",
        [{"id": "d1", "title": "T", "text": "whole"}, {"id": "d2", "text": "more"}],
    )
    rows = [
        {"query": "q", "pos": ["part of it"], "pos_ids": ["d1"], "neg": ["n"], "neg_ids": ["d9"]},
        {"query": "r", "pos": ["more"]},
    ]
    collection = build(write, tmp_path / "t.jsonl", rows, corpus=[corpus], with_negatives=True)
    assert collection.documents == {"d1": "T whole", "d2": "more", "d9": "n"}
    assert by_text(collection) == {"q": {"T whole"}, "r": {"more"}}


def test_a_query_among_the_documents_is_not_counted_as_finding_itself(
    evaluate, measures, model, examples, write
):
    """Pairs of a category stand in both directions: each query is a document too, and the nearest one."""
    both = [
        {"query": one, "pos": [two]}
        for row in examples
        for one, two in ((row["query"], row["pos"][0]), (row["pos"][0], row["query"]))
    ]
    ran = evaluate(f"m={model}", "--examples", write("t.jsonl", both), "-o", "out.jsonl")
    assert ran.rc == 0, ran.err
    assert "24 queries are documents too" in ran.err
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(model, device="cpu")
    vectors = plain.encode([row["query"] for row in both])
    scores = vectors @ vectors.T
    answer = [number ^ 1 for number in range(len(both))]
    ranks = [
        1 + sum(scores[q, d] > scores[q, answer[q]] for d in range(len(both)) if d != q)
        for q in range(len(both))
    ]
    expected = sum(1 / rank for rank in ranks if rank <= 10) / len(ranks)
    assert measures("out.jsonl")["m", "t", "mrr_at_10"]["value"] == pytest.approx(
        expected, abs=1e-4
    )


def test_a_query_that_is_its_own_answer_may_find_it(evaluate, measures, model, examples, write):
    rows = [{"query": row["query"], "pos": [row["query"]]} for row in examples]
    assert evaluate(f"m={model}", "--examples", write("t.jsonl", rows), "-o", "out.jsonl").rc == 0
    assert measures("out.jsonl")["m", "t", "mrr_at_10"]["value"] == 1.0


def test_two_prompts_for_one_query_are_refused(write, tmp_path):
    rows = [
        {"query": "q", "pos": ["a"], "prompt": "one"},
        {"query": "q", "pos": ["b"], "prompt": "two"},
    ]
    with pytest.raises(InputError, match="two prompts"):
        build(write, tmp_path / "t.jsonl", rows)
