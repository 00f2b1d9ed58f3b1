"""--document-vectors through the command: queries are trained against documents that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_rows
from pairwise import random_units, write_vectors
from several import furthest

from contrast_train import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models

FAST = (
    *("--batch", "6", "--batch-tokens", "64", "--lr", "3e-3", "--dtype", "float32"),
    *("--dropout", "0", "--steps", "4"),
)
KL = ("--loss", "kl", "--teacher-temperature", "0.05")


@pytest.fixture
def rows(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with a hard negative and a teacher's scores of both."""
    return [
        row
        | {"neg": [examples[i - 1]["pos"][0]], "pos_scores": [0.9], "neg_scores": [0.2]}
        | {"pos_score_kind": "reranker", "neg_score_kind": "reranker"}
        for i, row in enumerate(examples)
    ]


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, write: Any, rows: list[dict[str, Any]]) -> Any:
    def train(*argv: Any, out: str = "tuned", data: list[dict[str, Any]] = rows) -> Any:
        path = write(tmp_path / "train.jsonl", data)
        return invoke(cli.main, path, "--model", model, "-o", tmp_path / out, *FAST, *argv)

    return train


def encode(folder: Any, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)


@pytest.mark.parametrize("loss", [("--loss", "infonce"), KL])
def test_queries_move_towards_documents_wherever_those_are(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, model: str, loss: tuple[str, ...]
) -> None:
    """Vectors that no model gives its documents: only the queries can come nearer to them."""
    texts = [row["pos"][0] for row in rows]
    vectors = random_units(len(texts), dimension=32)
    file = write_vectors(tmp_path / "vectors.jsonl", dict(zip(texts, vectors)))
    done = train("--document-vectors", file, "--steps", 100, "--lr", "1e-3", *loss)
    assert done.rc == 0, done.err
    queries = [row["query"] for row in rows]
    before, after = (
        (encode(folder, queries) @ vectors.T) for folder in (model, tmp_path / "tuned")
    )
    right = np.arange(len(rows))
    assert (after.argmax(1) == right).mean() > (before.argmax(1) == right).mean()
    assert np.diag(after).mean() > np.diag(before).mean() + 0.1


def test_vectors_of_the_model_in_a_file_are_those_that_it_gives_itself(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, model: str
) -> None:
    texts = [row["pos"][0] for row in rows]
    file = write_vectors(tmp_path / "vectors.jsonl", dict(zip(texts, encode(model, texts))))
    by_file = train("--document-vectors", file, *KL, out="file")
    by_model = train("--document-vectors", model, *KL, out="model")
    assert by_file.rc == by_model.rc == 0, by_file.err + by_model.err
    texts = [row["query"] for row in rows]  # the model's vectors may be bfloat16
    tuned = [encode(tmp_path / out, texts) for out in ("file", "model")]
    assert (tuned[0] * tuned[1]).sum(1).min() > 0.9999
    assert not (tmp_path / "model.run").exists()
    assert f"{len(rows)} in, {len(rows)} out" in by_file.err


def test_two_processes_train_the_model_of_one(
    command: Any, forked: Any, copied: Any, tmp_path: Path, model: str
) -> None:
    argv = ("--document-vectors", model, "--dropout", 0, "--epochs", 2, "--teacher-vectors", model)
    one, two = forked(1, "one", *argv), copied(2, "two", *argv)
    assert one.rc == two.rc == 0, one.err + two.err
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-5


def test_a_forecast_encodes_no_document(train: Any, tmp_path: Path) -> None:
    """The file has no vector of any text: a dry run does not look them up."""
    file = write_vectors(tmp_path / "vectors.jsonl", {"another text": random_units(1, 32)[0]})
    done = train("--document-vectors", file, "--dry-run")
    assert done.rc == 0, done.err
    assert "query tokens" in done.err and "document tokens" not in done.err
    assert train("--document-vectors", file).rc == 1


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ("--document-vectors no.parquet", 1, "no.parquet"),
        ("--document-vectors ./no/model", 1, "--document-vectors ./no/model is no folder"),
        ("--document-vectors MODEL --similarity dot", 2, "dot products compare lengths too"),
        ("--document-vectors MODEL --stream", 2, "needs the vectors of all documents"),
        ("--document-vectors MODEL --loss simcse --dropout 0.1", 2, "compares two views of a text"),
        ("--document-vectors SHORT", 1, "has 7 dimensions, and the model's queries 32"),
        ("--document-vectors LACKING", 1, "has no vector for the document"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    train: Any,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    model: str,
    argv: str,
    code: int,
    message: str,
) -> None:
    texts = [row["pos"][0] for row in rows]
    files = {
        "MODEL": model,
        "SHORT": write_vectors(tmp_path / "s.jsonl", dict(zip(texts, random_units(len(texts), 7)))),
        "LACKING": write_vectors(
            tmp_path / "l.jsonl", dict(zip(texts[1:], random_units(len(texts), 32)))
        ),
    }
    done = train(*(files.get(word, word) for word in argv.split()))
    assert done.rc == code, done.err
    assert message in done.err
    assert not (tmp_path / "tuned").exists()


def test_texts_alone_have_no_documents(
    invoke: Any, model: str, tmp_path: Path, corpus: list[dict[str, Any]]
) -> None:
    path = write_rows(tmp_path / "texts.jsonl", corpus)
    argv = ("--model", model, "-o", tmp_path / "tuned", "--document-vectors", model)
    done = invoke(cli.main, path, *argv)
    assert done.rc == 2
    assert "compares two views of a text" in done.err
