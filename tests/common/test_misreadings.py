"""Files of other programs that were misread in silence, through the real commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite import call

pytestmark = pytest.mark.slow  # each test forks a training run

ROWS = [(f"when does bird {number} hunt?", f"bird {number} hunts at night") for number in range(6)]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def train(model: str, folder: Path, *words: str) -> Any:
    line = ["contrast-train", *words, "--model", model, "--steps", "1", "--batch", "4"]
    return call([*line, "-o", str(folder / "out")])


def test_a_table_of_sentences_and_scores_trains_with_cosent(model, tmp_path):
    rows = [f"{query},{answer},{number}" for number, (query, answer) in enumerate(ROWS)]
    (tmp_path / "sts.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]) + "\n")
    done = train(model, tmp_path, str(tmp_path / "sts.csv"), "--loss", "cosent")
    assert done.rc == 0, done.err
    assert "holds rows of labelled-pair" in done.err
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_low_score_is_no_positive_of_rag_retrieval(model, tmp_path):
    rows = [
        {"query": query, "pos": [answer, "the capital of France"], "scores": [0.8, 0.2]}
        for query, answer in ROWS
    ]
    path = lines(tmp_path / "rows.jsonl", rows)
    refused = train(model, tmp_path, path, "--loss", "infonce")
    assert refused.rc == 2
    assert "positives have labels from 0.2 to 0.8" in refused.err
    assert "--min-pos-score" in refused.err
    done = train(model, tmp_path, path, "--loss", "infonce", "--min-pos-score", "0.5")
    assert done.rc == 0, done.err
    assert "reading `scores` as labels of `pos`" in done.err


def test_the_negatives_of_an_n_tuple_are_trained(model, tmp_path):
    rows = [
        {"anchor": query, "positive": answer, "negative_1": "no", "negative_2": "never"}
        for query, answer in ROWS
    ]
    done = train(model, tmp_path, lines(tmp_path / "rows.jsonl", rows))
    assert done.rc == 0, done.err
    assert "loss infonce: 6 of 6 rows carry hard negatives" in done.err


def test_a_column_that_may_say_what_a_positive_is_is_refused(model, tmp_path):
    rows = [{"query": query, "pos": [answer], "teacher_score": 0.1} for query, answer in ROWS]
    path = lines(tmp_path / "rows.jsonl", rows)
    refused = train(model, tmp_path, path)
    assert refused.rc == 1
    assert "column `teacher_score` may say which texts are positives" in refused.err
    looked = call(["arrowcat", path])
    assert looked.rc == 0
    assert "column `teacher_score` is not read" in looked.err


def test_a_folder_of_beir_is_no_folder_of_tasks(model, tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    names = [f"d{number}" for number, _ in enumerate(ROWS)]
    documents = [{"_id": name, "text": row[1]} for name, row in zip(names, ROWS)]
    queries = [{"_id": f"q{name}", "text": row[0]} for name, row in zip(names, ROWS)]
    lines(folder / "corpus.jsonl", documents)
    lines(folder / "queries.jsonl", queries)
    judgements = [f"q{name}\t{name}\t1\n" for name in names]
    content = "".join(["query-id\tcorpus-id\tscore\n", *judgements])
    (folder / "qrels" / "train.tsv").write_text(content)
    done = train(model, tmp_path, str(folder))
    assert done.rc == 0, done.err
    assert "tasks by file name" not in done.err
    assert "positives of qrels/train.tsv" in done.err
