"""--teacher-vectors through the command: a file, another model, the base itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairwise import write_vectors

from contrast_train import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models

FAST = (
    *("--batch", "6", "--batch-tokens", "64", "--lr", "3e-3", "--dtype", "float32"),
    *("--dropout", "0", "--steps", "4"),
)


@pytest.fixture
def rows(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mined = [row | {"neg": [examples[i - 1]["pos"][0]]} for i, row in enumerate(examples)]
    mined[2]["prompt"] = "find: "
    return mined


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, write: Any, rows: list[dict[str, Any]]) -> Any:
    def train(*argv: Any, out: str = "tuned", data: list[dict[str, Any]] = rows) -> Any:
        path = write(tmp_path / "train.jsonl", data)
        return invoke(cli.main, path, "--model", model, "-o", tmp_path / out, *FAST, *argv)

    return train


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def encode(folder: Any, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)


def test_the_base_as_teacher_limits_what_is_forgotten(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, model: str
) -> None:
    held = train("--teacher-vectors", model, "--teacher-weight", 20, out="held")
    assert train(out="free").rc == held.rc == 0, held.err
    texts = [text for row in rows for text in row["pos"]]
    before = encode(model, texts)
    kept, lost = (
        float((before * encode(tmp_path / out, texts)).sum(1).mean()) for out in ("held", "free")
    )
    assert lost < kept < 1
    card = (tmp_path / "held/README.md").read_text()
    assert "+ 20 teacher-cosine + 20 teacher-similarities" in card
    assert not (tmp_path / "held.run").exists()


def test_vectors_in_a_file_teach_what_their_model_teaches(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, model: str
) -> None:
    """By the hash of prompt and text, else by that of the text."""
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other/config_sentence_transformers.json").unlink()
    texts = [text for row in rows for text in (*row["pos"], row["query"])] + ["find: iron"]
    prompted = [f"find: {row['query']}" for row in rows if row.get("prompt")]
    known = [text for text in texts if text != rows[2]["query"]] + prompted
    file = write_vectors(tmp_path / "vectors.jsonl", dict(zip(known, encode(model, known))))
    argv = ("--lora", "--matryoshka", "8,32", "--spread-out", "0.5")
    by_file = train("--teacher-vectors", file, *argv, out="file")
    by_model = train("--teacher-vectors", tmp_path / "other", *argv, out="model")
    assert by_file.rc == by_model.rc == 0, by_file.err + by_model.err
    tuned = [encode(tmp_path / out, texts) for out in ("file", "model")]
    assert np.abs(tuned[0] - tuned[1]).max() < 1e-3

    lacking = dict(zip(texts, encode(model, texts)))  # without any prompt
    del lacking[rows[5]["pos"][0]]
    file = write_vectors(tmp_path / "lacking.jsonl", lacking)
    done = train("--teacher-vectors", file, out="lacking")
    assert done.rc == 1
    assert (
        f"has no vector for the document {rows[5]['pos'][0][:60]!r} of row {rows[5]['id']}"
        in done.err
    )
    assert not (tmp_path / "lacking").exists()
    lacking[rows[5]["pos"][0]] = [0.0] * 32
    done = train("--teacher-vectors", write_vectors(tmp_path / "zero.jsonl", lacking), out="zero")
    assert done.rc == 1
    assert "has a vector of zeros for the document" in done.err


def test_a_teacher_of_other_dimensions_is_told_and_texts_are_taught_too(
    train: Any, corpus: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Both views of a text (SimCSE) have its one vector."""
    file = write_vectors(
        tmp_path / "vectors.jsonl",
        {row["text"]: np.random.default_rng(i).normal(size=7) for i, row in enumerate(corpus)},
    )
    done = train("--teacher-vectors", file, "--dropout", "0.2", data=corpus)
    assert done.rc == 0, done.err
    assert "7 dimensions and the model's" in done.err


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ("--teacher-weight 2", 2, "--teacher-weight needs a teacher"),
        ("--teacher-vectors t --teacher-weight 0", 2, "leaves nothing of --teacher-vectors"),
        ("--teacher-vectors ./no/model", 1, "--teacher-vectors ./no/model is no folder"),
        ("--teacher-vectors no.parquet", 1, "no.parquet"),
    ],
)
def test_a_teacher_that_is_none_is_refused(train: Any, argv: str, code: int, message: str) -> None:
    done = train(*argv.split())
    assert done.rc == code
    assert message in done.err
