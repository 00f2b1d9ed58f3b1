"""Rows that share a text, or words, with an evaluation set."""

from __future__ import annotations

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


def test_rows_with_a_text_of_an_evaluation_set_are_dropped_by_name(sift, write, tmp_path):
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
        "its query is in an evaluation set": 1,
        "a positive is in an evaluation set": 1,
    }
    assert [row["reject_reason"] for row in gone] == [
        "its query is in an evaluation set",
        "a positive is in an evaluation set",
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
    assert summary["notes"] == [f"2 rows share a text with {path}" for path in paths[:2]]


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
    ] == "shares 4 consecutive words with an evaluation set"
    assert not clean(sift, write, tmp_path, [rows[2]], "--ngram", 2)[0]
