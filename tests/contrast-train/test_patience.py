"""What --eval decides: when a run stops, and that a base which no step beats is what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from safetensors.torch import load_file

from contrast_train import cli
from contrast_train.training.trainer import EarlyStopping
from fletching.errors import InputError
from fletching.train.run_dir import RunDir

pytestmark = pytest.mark.slow  # as a whole: each test loads models

FAST = (
    *("--batch", "4", "--batch-tokens", "64", "--lr", "3e-3", "--dtype", "float32"),
    *("--dropout", "0", "--eval-every", "1", "--save-every", "1"),
)


@pytest.fixture
def train(
    invoke: Any, model: str, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> Any:
    """train("--patience", 2, dev=rows): a run; done.measures: the figures of --json-summary."""
    summary = tmp_path / "summary.json"

    def train(*argv: Any, dev: list[dict[str, Any]], out: str = "tuned") -> Any:
        rows = write(tmp_path / "train.jsonl", examples)
        held_out = write(tmp_path / "dev.jsonl", dev)
        words = (rows, "--model", model, "-o", tmp_path / out, *FAST, "--eval", held_out, *argv)
        done = invoke(cli.main, *words, "--json-summary", summary)
        measures = json.loads(summary.read_text())["measures"] if summary.exists() else {}
        return done, measures

    return train


@pytest.fixture
def solved(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each text answers itself: no model can be better than any other."""
    return [{"query": row["query"], "pos": [row["query"]]} for row in examples]


@pytest.mark.parametrize("argv", [(), ("--lora", "--matryoshka", "8,48", "--matryoshka-layer")])
def test_a_base_that_no_step_beats_is_published_and_it_is_said(
    train: Any, solved: list[dict[str, Any]], tmp_path: Path, model: str, argv: tuple[str, ...]
) -> None:
    done, measures = train("--steps", 3, "--learn-temperature", *argv, dev=solved)
    assert done.rc == 0, done.err
    assert (
        "no step was better than the base: ndcg_at_10 1.0000 at best (step 1), 1.0000 before"
        in done.err
    )
    assert "12 in, 12 out" in done.err
    assert measures["best_step"] == 0
    assert measures["best_metric"] == measures["base_metric"] == measures["ndcg_at_10"] == 1.0
    base, published = (
        load_file(Path(path, "model.safetensors")) for path in (model, tmp_path / "tuned")
    )
    assert base.keys() == published.keys()
    assert all((base[name] == published[name]).all() for name in base)
    card = (tmp_path / "tuned/README.md").read_text()
    assert "these are the weights of the base model" in card
    assert "| step 1, not published | 1.0000" in card
    assert json.loads((tmp_path / "tuned/fletching.json").read_text())["end"]["best_step"] == 0


def test_a_run_without_a_better_evaluation_stops(train: Any, solved: list[dict[str, Any]]) -> None:
    done, measures = train("--steps", 9, "--patience", 2, dev=solved)
    assert done.rc == 0, done.err
    assert (
        "stopped at step 2 of 9: ndcg_at_10 has not been above 1.0000 (step 0) for 2 evaluations"
        in done.err
    )
    assert measures["steps"] == 2
    assert "12 in, 8 out (4 not reached before --patience ended the run)" in done.err


def test_patience_counts_from_the_best_evaluation() -> None:
    stopping = EarlyStopping(patience=3, every=5, base_metric=0.0)
    assert [step for step in range(5, 50, 5) if stopping.is_due(step, 10)] == [25, 30, 35, 40, 45]


def test_a_run_that_was_killed_after_it_stopped_publishes_the_same_model(
    train: Any, examples: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: RunDir, built: str) -> NoReturn:
        raise InputError("killed", "")

    argv = ("--steps", 40, "--patience", 3, "--lr", "1e-2")
    whole, measures = train(*argv, dev=examples)
    assert whole.rc == 0, whole.err
    assert 3 < measures["steps"] < 40 and measures["best_step"] > 0
    assert measures["steps"] == measures["best_step"] + 3
    assert measures["best_metric"] > measures["base_metric"]
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "publish", killed)
        assert train(*argv, dev=examples, out="again")[0].rc == 1
    again, resumed = train(*argv, dev=examples, out="again")
    assert again.rc == 0 and "resuming from step" in again.err, again.err
    assert resumed.items() <= measures.items()
    files = [tmp_path / out / "model.safetensors" for out in ("tuned", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_held_out_queries_are_ranked_in_a_corpus_as_in_use(
    train: Any, examples: list[dict[str, Any]], tmp_path: Path, write: Any
) -> None:
    """The figures are those of a file whose rows hold the same texts as negatives."""
    few = [{"query": row["query"], "pos": row["pos"]} for row in examples[:3]]
    texts = [row["pos"][0] for row in examples] + [row["query"] for row in few]
    corpus = write(tmp_path / "corpus.jsonl", [{"text": text} for text in texts])
    ranked, in_corpus = train("--steps", 2, "--eval-corpus", corpus, dev=few, out="corpus")
    assert ranked.rc == 0, ranked.err
    assert (
        "3 held-out queries are ranked among 15 documents: 3 of their rows and 12 of --eval-corpus "
        "(without 3 that the rows hold, 0 repeated and 0 blank)" in ranked.err
    )
    few[0]["neg"] = texts[3:]  # type: ignore[assignment]
    _, with_negatives = train("--steps", 2, dev=few, out="negatives")
    for name in ("ndcg_at_10_before", "mrr_at_10_before", "margin_before", "trained_metric"):
        assert in_corpus[name] == pytest.approx(with_negatives[name], abs=1e-6)
    assert in_corpus["mrr_at_10_before"] > 0.5, "a query that lies in the corpus found itself"


def test_patience_needs_held_out_rows(invoke: Any, tmp_path: Path) -> None:
    done = invoke(cli.main, "rows.jsonl", "--model", "m", "-o", tmp_path / "x", "--patience", 2)
    assert done.rc == 2
    assert "--patience has nothing to evaluate on" in done.err
