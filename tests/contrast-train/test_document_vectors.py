"""--document-vectors through the command: queries are trained against documents that stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import bare_models
import numpy as np
import pytest
from conftest import build_model, write_rows
from pairwise import random_units, write_vectors
from several import furthest

import texts2vectors.cli
from contrast_train import cli
from contrast_train.data import reference_embeddings
from fletching.errors import InputError
from fletching.train.run_dir import RunDir

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


@pytest.fixture
def vectors_of(invoke: Any, tmp_path: Path, rows: list[dict[str, Any]]) -> Any:
    """vectors_of(model): the file in which texts2vectors states it."""

    def vectors_of(model: str, *argv: Any) -> Path:
        texts = [{"id": row["id"], "text": row["pos"][0]} for row in rows]
        path = write_rows(tmp_path / "texts.jsonl", texts)
        out = tmp_path / "stated.parquet"
        out.unlink(missing_ok=True)
        done = invoke(texts2vectors.cli.main, path, "--model", model, "-o", out, *argv)
        assert done.rc == 0, done.err
        return out

    return vectors_of


@pytest.fixture
def dev(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[str, str]:
    return "--eval", write_rows(tmp_path / "dev.jsonl", rows[:4])


@pytest.fixture
def units(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    """A file of random vectors of all documents."""
    texts = [row["pos"][0] for row in rows]
    vectors = random_units(len(texts), dimension=32)
    return write_vectors(tmp_path / "units.jsonl", dict(zip(texts, vectors)))


def encode(folder: Any, texts: list[str], prompt: str = "") -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return model.encode(texts, prompt=prompt or None, normalize_embeddings=True)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


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


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bidirectional transformer alone: by default, and for any other tool, it pools by the mean."""
    return bare_models.build(tmp_path_factory.mktemp("bare") / "modernbert", "modernbert")


@pytest.mark.parametrize("option", ["--document-vectors", "--teacher-vectors"])
@pytest.mark.parametrize(
    "head",
    [
        ("--pooling", "last"),
        ("--prompt-pooling", "exclude", "--doc-prompt", "passage: "),
        ("--matryoshka", "8,16", "--matryoshka-layer"),
    ],
    ids=lambda head: head[0],
)
def test_the_base_gives_the_vectors_of_the_model_that_is_trained(
    train: Any,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    model: str,
    bare: str,
    head: tuple[str, ...],
    option: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the pooling and head that it is trained with, before its first step."""
    monkeypatch.setattr("fletching.encode.model.multiplies_bf16", lambda: False)
    base = bare if "--pooling" in head else model
    argv = ("--model", base, *head)
    untrained = train(*argv, "--lr", "1e-12", "--steps", 1, out="untrained")
    assert untrained.rc == 0, untrained.err
    queries, documents = ([row[role] for row in rows] for role in ("query", "pos"))
    prompt = head[-1] if "--doc-prompt" in head else ""
    texts = [text for [text] in documents]
    targets = encode(tmp_path / "untrained", texts, prompt)
    if targets.shape[1] == 32:
        assert (targets * encode(base, texts, prompt)).sum(1).min() < 0.98
    vectors = dict(zip((prompt + text for text in texts), targets))
    vectors |= dict(zip(queries, encode(tmp_path / "untrained", queries)))
    file = write_vectors(tmp_path / "vectors.jsonl", vectors)
    copy = shutil.copytree(base, tmp_path / "copy")  # known by what it holds
    for name, out in ((file, "file"), (copy, "model")):
        done = train(*argv, option, name, out=out)
        assert done.rc == 0, done.err
    tuned = [encode(tmp_path / out, queries) for out in ("file", "model")]
    assert (tuned[0] * tuned[1]).sum(1).min() > 0.99999


@pytest.mark.parametrize("kind", ["file", "model"])
def test_a_model_says_that_its_documents_were_fixed(
    train: Any, tmp_path: Path, model: str, units: str, kind: str
) -> None:
    name = units if kind == "file" else model
    references = ("--document-vectors", name, "--teacher-vectors", name, "--guide", model)
    if kind == "file":
        references = references[:2]
    done = train(*references, "--loss", "infonce")
    assert done.rc == 0, done.err
    options = json.loads((tmp_path / "tuned/fletching.json").read_text())["step"]["options"]
    if kind == "file":
        assert options["document_vectors"].keys() == {"vectors"}
    else:
        identity = options["document_vectors"]
        assert identity["fingerprint"] == options["model"]["fingerprint"]
        assert identity == options["teacher_vectors"] == options["guide"]
    card = (tmp_path / "tuned/README.md").read_text()
    assert "queries alone, against fixed document vectors" in card
    assert ("search an index of those" in card) == (kind == "file")
    assert ("an index of those can stay as it is" in card) == (kind == "model")
    assert ("encode_document" in card) == (kind == "model")


def test_vectors_of_another_model_train_with_a_note_and_are_not_judged(
    train: Any, dev: tuple[str, str], tmp_path: Path, model: str, vectors_of: Any
) -> None:
    """Documents that the model encodes for --eval are not those that it is trained against."""
    other = build_model(tmp_path / "other", seed=1)
    for name in (other, vectors_of(other)):
        done = train("--document-vectors", name, out=f"by-{Path(name).name}")
        assert done.rc == 0, done.err
        assert "has vectors of another model than --model: queries are trained for" in done.err
        done = train("--document-vectors", name, *dev)
        assert done.rc == 1
        assert f"or pass --document-vectors {model}" in done.err


def test_held_out_rows_judge_by_the_models_own_documents(
    train: Any, dev: tuple[str, str], model: str, vectors_of: Any, units: str
) -> None:
    done = train("--document-vectors", units, *dev, out="unstated")
    assert done.rc == 0, done.err
    assert f"{units} does not say which model made it; --eval ranks" in done.err
    for number, name in enumerate((model, vectors_of(model))):
        done = train("--document-vectors", name, *dev, out=f"base-{number}")
        assert done.rc == 0, done.err
        assert "--eval ranks" not in done.err and "another model" not in done.err


def test_vectors_for_another_prompt_are_not_judged(
    train: Any, dev: tuple[str, str], model: str, vectors_of: Any
) -> None:
    file = vectors_of(model)
    done = train("--document-vectors", file, "--doc-prompt", "passage: ", *dev)
    assert done.rc == 1
    assert "has vectors for the prompt '', and not for 'passage: '" in done.err


def test_a_prompt_that_is_no_longer_pooled_makes_other_vectors(
    train: Any, dev: tuple[str, str], model: str, vectors_of: Any
) -> None:
    prompt = ("--doc-prompt", "passage: ")
    file = vectors_of(model, *prompt)
    argv = ("--document-vectors", file, "--prompt-pooling", "exclude", *dev)
    done = train(*argv, *prompt)
    assert done.rc == 1
    assert "has vectors of --model with another pooling" in done.err
    done = train("--document-vectors", file, "--prompt-pooling", "include", *prompt, *dev)
    assert done.rc == 0, done.err


def test_vectors_of_other_texts_change_nothing_and_are_not_kept(
    train: Any,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    units: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [row["pos"][0] for row in rows]
    vectors = dict(zip(texts, random_units(len(texts), dimension=32)))
    others = {f"another text {number}": vectors[texts[0]] for number in range(500)}
    larger = write_vectors(tmp_path / "larger.jsonl", others | vectors)
    kept = []

    class Recorded(reference_embeddings.PrecomputedEmbeddings):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            kept.append(len(self.vectors))

    monkeypatch.setattr(reference_embeddings, "PrecomputedEmbeddings", Recorded)
    for name, out in ((units, "units"), (larger, "larger")):
        done = train("--document-vectors", name, out=out)
        assert done.rc == 0, done.err
    assert weights(tmp_path / "units") == weights(tmp_path / "larger")
    assert kept == [len(texts), len(texts)]


@pytest.mark.parametrize("option", ["--document-vectors", "--teacher-vectors"])
def test_a_pattern_names_files_of_vectors(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, option: str
) -> None:
    texts = [text for row in rows for text in (row["query"], row["pos"][0])]
    vectors = list(zip(texts, random_units(len(texts), dimension=32)))
    for number in (0, 1):
        write_vectors(tmp_path / f"shard-{number}.jsonl", dict(vectors[number::2]))
    whole = write_vectors(tmp_path / "whole.jsonl", dict(vectors))
    for name, out in ((whole, "whole"), (tmp_path / "shard-*.jsonl", "shards")):
        done = train(option, name, out=out)
        assert done.rc == 0, done.err
    assert weights(tmp_path / "whole") == weights(tmp_path / "shards")
    done = train(option, tmp_path / "none-*")
    assert done.rc == 1
    assert "no file matches" in done.err


def test_a_stopped_run_resumes_with_the_same_vectors_alone(
    train: Any,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    units: str,
    dev: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(self: RunDir, built: str) -> NoReturn:
        raise InputError("stopped", "")

    argv = ("--document-vectors", units, "--save-every", 2, *dev)
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "publish", stop)
        assert train(*argv).rc == 1
    before = Path(units).read_text()
    texts = [row["pos"][0] for row in rows]
    write_vectors(Path(units), dict(zip(texts, random_units(len(texts), 32, seed=1))))
    done = train(*argv)
    assert done.rc == 1
    assert "--document-vectors was vectors " in done.err
    Path(units).write_text(before)
    done = train(*argv)
    assert done.rc == 0, done.err
    assert train(*argv, out="whole").rc == 0
    assert weights(tmp_path / "tuned") == weights(tmp_path / "whole")


def test_two_processes_train_the_model_of_one(
    command: Any, forked: Any, copied: Any, tmp_path: Path, model: str, data: str
) -> None:
    argv = ("--document-vectors", model, "--dropout", 0, "--epochs", 2, "--teacher-vectors", model)
    argv += ("--eval", data)
    one, two = forked(1, "one", *argv), copied(2, "two", *argv)
    assert one.rc == two.rc == 0, one.err + two.err
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-5


def test_a_forecast_encodes_no_document(train: Any, tmp_path: Path) -> None:
    """The file has no vector of any text: a dry run does not look them up."""
    file = write_vectors(tmp_path / "vectors.jsonl", {"another text": random_units(1, 32)[0]})
    done = train("--document-vectors", file, "--dry-run")
    assert done.rc == 0, done.err
    assert "query tokens" in done.err and "document tokens" not in done.err
    assert "0.0% of the queries are repeated" in done.err
    assert train("--dry-run").err.count("0.0% of the texts are repeated") == 0
    assert train("--document-vectors", file).rc == 1


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ("--document-vectors no.parquet", 1, "no.parquet"),
        ("--document-vectors ./no/model", 1, "--document-vectors ./no/model is no folder"),
        ("--document-vectors MODEL --similarity dot", 2, "dot products compare lengths too"),
        ("--document-vectors MODEL --stream", 2, "needs the vectors of all documents"),
        ("--document-vectors MODEL --loss simcse --dropout 0.1", 2, "compares two views of a text"),
        ("--document-vectors SHORT --eval DEV", 1, "7 dimensions, and the model's queries 32"),
        ("--document-vectors SHORT --dry-run", 1, "or a file of that model's vectors"),
        (
            "--document-vectors UNITS --matryoshka 8,16 --matryoshka-layer",
            *(1, "leave --matryoshka-layer out, or name the model: --document-vectors"),
        ),
        ("--document-vectors LACKING --eval DEV", 1, "has no vector for the document"),
        ("--document-vectors=", 2, "--document-vectors is empty"),
        ("--teacher-vectors=", 2, "--teacher-vectors is empty"),
        ("--guide=", 2, "--guide is empty"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    train: Any,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    model: str,
    units: str,
    dev: tuple[str, str],
    argv: str,
    code: int,
    message: str,
) -> None:
    texts = [row["pos"][0] for row in rows]
    files = {
        "MODEL": model,
        "UNITS": units,
        "DEV": dev[1],
        "SHORT": write_vectors(tmp_path / "s.jsonl", dict(zip(texts, random_units(len(texts), 7)))),
        "LACKING": write_vectors(
            tmp_path / "l.jsonl", dict(zip(texts[1:], random_units(len(texts), 32)))
        ),
    }
    done = train(*(files.get(word, word) for word in argv.split()))
    assert done.rc == code, done.err
    assert message in done.err
    assert "before:" not in done.err  # nothing was evaluated
    assert not (tmp_path / "tuned").exists()


def test_texts_alone_have_no_documents(
    invoke: Any, model: str, tmp_path: Path, corpus: list[dict[str, Any]]
) -> None:
    path = write_rows(tmp_path / "texts.jsonl", corpus)
    argv = ("--model", model, "-o", tmp_path / "tuned", "--document-vectors", model)
    done = invoke(cli.main, path, *argv)
    assert done.rc == 2
    assert "compares two views of a text" in done.err
