"""Rows and batches: what is drawn, what is encoded once, what may not be a negative."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from arranged import arrange

from contrast_train.data import examples_table
from contrast_train.data.collator import ContrastCollator
from contrast_train.data.dataset import TrainingDataset, TrainingExample
from contrast_train.losses.requirements import LossRequirements, Texts
from fletching.io import Reader
from fletching.report import Report


@pytest.fixture
def opened(tmp_path: Path, write: Any) -> Any:
    """opened(rows, **sampling): the rows, written and opened as a data set."""

    def opened(rows: list[dict[str, Any]], **sampling: Any) -> TrainingDataset:
        report = Report("test", quiet=True)
        examples_table.write(
            Reader(report, [write(tmp_path / "rows.jsonl", rows)], "examples"),
            str(tmp_path / "rows.arrow"),
            report,
        )
        return TrainingDataset.open(str(tmp_path / "rows.arrow"), **sampling)

    return opened


def sampled(rows: TrainingDataset, epoch: int = 0) -> list[TrainingExample]:
    return [rows[epoch, number] for number in range(len(rows))]


def masked(rows: list[TrainingExample]) -> set[tuple[str, str]]:
    """(query, document) pairs that are no negatives although they are no positives of a row."""
    queries, documents, structure = arrange(rows, "")
    terms = {tuple(pair) for pair in structure.positive_pairs.tolist()}
    return {
        (queries[q][1], documents[d][1])
        for q, d in structure.masked_pairs.tolist()
        if (q, d) not in terms
    }


def test_negatives_are_redrawn_each_epoch_and_never_repeat_in_a_row(opened: Any) -> None:
    rows = opened(
        [{"id": "a", "query": "q", "pos": ["p"], "neg": [f"n{i}" for i in range(10)] + ["N1"]}],
        negatives=4,
    )
    draws = [rows[epoch, 0].negatives for epoch in range(30)]
    assert all(len({text.lower() for text in chosen}) == 4 for chosen in draws)
    assert len(set(draws)) > 20
    assert rows[7, 0].negatives == draws[7]
    assert {text.lower() for chosen in draws for text in chosen} == {f"n{i}" for i in range(10)}


def test_the_draw_depends_on_seed_and_id_and_not_on_the_place_of_the_row(opened: Any) -> None:
    row = {"id": "a", "query": "q", "pos": ["p"], "neg": [f"n{i}" for i in range(10)]}
    alone = opened([row], negatives=3, seed=5)[2, 0].negatives
    behind = opened([{"id": "z", "query": "other", "pos": ["x"]}, row], negatives=3, seed=5)[
        2, 1
    ].negatives
    assert alone == behind != opened([row], negatives=3, seed=6)[2, 0].negatives


def test_rows_may_have_any_number_of_negatives(opened: Any) -> None:
    rows = opened(
        [
            {"query": "a", "pos": ["p"], "neg": None},
            {"query": "b", "pos": ["r"], "neg": []},
            {"query": "c", "pos": ["s"], "neg": ["x", "y", "z"]},
        ]
    )
    assert [len(row.negatives) for row in sampled(rows)] == [0, 0, 3]


def test_a_positive_of_the_query_in_any_row_is_no_negative_of_it(opened: Any) -> None:
    rows = opened(
        [
            {"query": "Owl?", "pos": ["hunts"], "neg": ["SLEEPS ", "bread", "Hunts"]},
            {"query": " owl? ", "pos": ["sleeps"]},
        ]
    )
    assert rows[0, 0].negatives == ("bread",)
    assert ("Owl?", "sleeps") in masked(sampled(rows))
    assert (" owl? ", "hunts") in masked(sampled(rows))


def test_the_other_positives_of_a_row_are_masked_when_one_is_sampled(opened: Any) -> None:
    rows = opened(
        [{"id": "1", "query": "a", "pos": ["p", "r"]}, {"id": "2", "query": "b", "pos": ["P", "R"]}]
    )
    pairs = masked(sampled(rows))
    assert len(rows[0, 0].positives) == 1
    assert pairs == {("a", rows[0, 1].positives[0]), ("b", rows[0, 0].positives[0])}
    assert {rows[epoch, 0].positives for epoch in range(20)} == {("p",), ("r",)}


def test_the_same_document_id_is_masked_whatever_its_text(opened: Any) -> None:
    rows = opened(
        [
            {
                "query": "a",
                "pos": ["old text"],
                "pos_ids": ["d1"],
                "neg": ["other"],
                "neg_ids": ["d2"],
            },
            {"query": "b", "pos": ["new text"], "pos_ids": ["d1"], "neg": ["x"], "neg_ids": ["d3"]},
        ]
    )
    assert masked(sampled(rows)) == {("a", "new text"), ("b", "old text")}


def test_a_document_that_is_the_query_itself_is_masked(opened: Any) -> None:
    assert masked(
        sampled(opened([{"query": "same", "pos": ["p"]}, {"query": "b", "pos": ["SAME"]}]))
    ) == {("same", "SAME")}


def test_equal_texts_are_one_and_equal_pairs_weigh_double(opened: Any) -> None:
    rows = sampled(
        opened(
            [
                {"query": "a", "pos": ["p"], "neg": ["n"]},
                {"query": "a", "pos": ["p"]},
                {"query": "b", "pos": ["n"]},
            ]
        )
    )
    queries, documents, structure = arrange(rows, "")
    assert [text for _, text in queries] == ["a", "b"]
    assert documents == [("", "p"), ("", "n")]
    assert structure.positive_pairs.tolist() == [[0, 0], [1, 1]]
    assert structure.weights.tolist() == pytest.approx([2 / 3, 1 / 3])


def test_a_row_weighs_the_same_however_many_positives_it_has(opened: Any) -> None:
    rows = sampled(
        opened(
            [{"query": "a", "pos": ["p", "r", "s"]}, {"query": "b", "pos": ["t"]}],
            all_positives=True,
        )
    )
    assert sorted(arrange(rows, "")[2].weights.tolist()) == pytest.approx(
        [1 / 6, 1 / 6, 1 / 6, 1 / 2]
    )


def test_prompts_stand_before_their_own_query_and_the_documents(opened: Any) -> None:
    seen: list[tuple[list[str], int]] = []

    def tokenize(texts: list[str], length: int) -> list[list[int]]:
        seen.append((texts, length))
        return [[1] * len(text) for text in texts]

    rows = sampled(
        opened(
            [
                {"query": "a", "pos": ["p"], "prompt": "find: "},
                {"query": "a", "pos": ["p"], "prompt": None},
            ]
        )
    )
    collate = ContrastCollator(
        tokenize=tokenize,
        query_prompt="query: ",
        doc_prompt="doc: ",
        query_length=7,
        doc_length=9,
    )
    batch = collate(rows)
    assert seen == [(["find: a", "query: a"], 7), (["doc: p"], 9)]
    assert int(batch["texts_queries"]) == 2
    assert batch["texts_lengths"].tolist() == [7, 8, 6]
    assert len(batch["texts_input_ids"]) == 21
    assert batch["texts_rows"].tolist() == [0, 1]


def test_rows_that_cannot_be_trained_are_counted(tmp_path: Path) -> None:
    report = Report("test", quiet=True)
    table = pa.table(
        {"id": ["1", "2", "3"], "query": ["  ", "b", "c"], "pos": [["p"], ["", " "], ["", "p"]]}
    )
    examples_table.write(table.to_batches(), str(tmp_path / "rows.arrow"), report)
    assert dict(report.dropped) == {"with a blank query": 1, "without a positive": 1}
    assert [
        row.positives for row in sampled(TrainingDataset.open(str(tmp_path / "rows.arrow")))
    ] == [("p",)]


def test_a_positive_scored_below_the_floor_is_none_and_may_be_a_negative(opened: Any) -> None:
    graded = {
        "query": "q",
        "pos": ["good", "bad"],
        "pos_scores": [0.9, 0.1],
        "pos_score_kind": "label",
        "neg": ["bad", "n"],
    }
    rows = opened([graded, {"query": "q2", "pos": ["bad"]}], all_positives=True, min_pos_score=0.5)
    assert rows[0, 0].positives == ("good",)
    assert set(rows[0, 0].negatives) == {"bad", "n"}
    assert masked(sampled(rows)) == set()
    cosine = opened([graded | {"pos_score_kind": "cosine"}], all_positives=True, min_pos_score=0.5)
    assert set(cosine[0, 0].positives) == {"good", "bad"}


def test_the_list_of_a_row_is_its_own_scored_documents(opened: Any) -> None:
    row = {
        "query": "q",
        "pos": ["a", "b"],
        "pos_scores": [3.0, 2.0],
        "neg": ["x", "y"],
        "neg_scores": [1.0, 0.5],
    }
    rows = sampled(
        opened(
            [row, {"query": "r", "pos": ["a"], "pos_scores": [7.0]}], with_scores=True, negatives=1
        )
    )
    _, documents, structure = arrange(rows, "")
    named = [
        (r, q, documents[d][1], s)
        for (r, q, d), s in zip(structure.scored_pairs.tolist(), structure.scores.tolist())
    ]
    kept = rows[0].negatives[0]
    assert sorted(named) == sorted(
        [
            (0, 0, "a", 3.0),
            (0, 0, "b", 2.0),
            (0, 0, kept, {"x": 1.0, "y": 0.5}[kept]),
            (1, 1, "a", 7.0),
        ]
    )


def test_texts_become_queries_with_their_title(tmp_path: Path) -> None:
    report = Report("test", quiet=True)
    table = pa.table(
        {
            "id": ["1", "2", "3"],
            "text": ["body", " ", "c"],
            "title": ["Head", None, None],
            "prompt": [None, None, "p: "],
        }
    )
    requirements = LossRequirements(need=Texts(), loss="simcse")
    examples_table.write(
        table.to_batches(), str(tmp_path / "rows.arrow"), report, requirements=requirements
    )
    rows = sampled(TrainingDataset.open(str(tmp_path / "rows.arrow")))
    assert [(row.query, row.prompt, row.positives) for row in rows] == [
        ("Head body", None, ()),
        ("c", "p: ", ()),
    ]
    assert dict(report.dropped) == {"with a blank text": 1}
