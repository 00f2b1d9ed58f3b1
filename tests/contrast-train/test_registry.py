"""Adding a loss or a pooling touches one file: a toy of each, registered here, trains by the command."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bare_models
import pytest
from torch import Tensor

from contrast_train import cli
from contrast_train.losses.registry import LOSSES, Loss, loss
from contrast_train.losses.requirements import PositivePairs, ScoredLists
from contrast_train.losses.structure import Gradients, PairStructure, by_autograd
from contrast_train.options import Options
from fletching.options import describe, option
from fletching.pooling import POOLINGS, Pooling
from fletching.train import launch

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    *("--batch", "4", "--batch-tokens", "64", "--lr", "1e-3", "--dtype", "float32"),
    *("--activations", "0", "--steps", "2", "--dropout", "0"),
)


@dataclass(frozen=True, kw_only=True)
class ToyOptions(Options):
    """A new option is a field; that it belongs to the toy is declared beside the formula."""

    toy_scale: float = option(1.0, "scale of the toy loss", metavar="X", group="loss")


TOOL = dataclasses.replace(cli.TOOL, options=ToyOptions)


def toy_formula(
    q: Tensor, d: Tensor, pairs: PairStructure, *, temperature: float = 0.05, toy_scale: float = 1.0
) -> Gradients:
    """Regression of the similarity on the score."""
    scored_pairs, scores = pairs.require_scores()

    def value(q: Tensor, d: Tensor) -> Tensor:
        _, query, document = scored_pairs.T
        similarity = (q[query] * d[document]).sum(1) / temperature
        return (toy_scale * similarity - scores.to(q.dtype)).square().mean()

    return by_autograd(value, q, d)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[str, Loss]:
    """The registry; what the test registers goes with it."""
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES))
    return LOSSES._entries


@pytest.fixture
def rows(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        row | {"pos_scores": [i / 12], "pos_score_kind": "label"} for i, row in enumerate(examples)
    ]


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, write: Any) -> Any:
    def train(rows: list[dict[str, Any]], *argv: Any, out: str = "tuned", base: str = model) -> Any:
        def main(words: list[str]) -> int:
            return launch.main(TOOL, words)

        path = write(tmp_path / "train.parquet", rows)
        return invoke(main, path, "--model", base, "-o", tmp_path / out, *FAST, *argv)

    return train


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_loss_that_is_registered_trains_with_an_option_of_its_own(
    losses: dict[str, Loss], train: Any, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    toy = loss("toy", needs=ScoredLists(1), options=("toy_scale",), positives="all")(toy_formula)
    assert "toy" in describe(ToyOptions)["loss"].choices
    rows[3] |= {"pos_scores": None, "pos_score_kind": None}
    plain = train(rows, "--loss", "toy", out="plain")
    assert plain.rc == 0, plain.err
    assert "1 without scores for --loss toy" in plain.err
    scaled = train(rows, "--loss", "toy", "--toy-scale", "3", out="scaled")
    assert scaled.rc == 0, scaled.err
    assert weights(tmp_path / "plain") != weights(tmp_path / "scaled")
    card = (tmp_path / "scaled/README.md").read_text()
    assert "toy over cosines (temperature 0.05, toy scale 3.0)" in card
    assert toy.needs.reads_scores


def test_the_command_line_knows_a_registered_loss(
    losses: dict[str, Loss], train: Any, rows: list[dict[str, Any]]
) -> None:
    loss("toy", needs=ScoredLists(1), options=("toy_scale",))(toy_formula)
    assert "did you mean toy?" in train(rows, "--loss", "toi").err
    elsewhere = train(rows, "--loss", "infonce", "--toy-scale", "3")
    assert elsewhere.rc == 2
    assert "--toy-scale has no meaning with --loss infonce" in elsewhere.err
    assert "it belongs to toy" in elsewhere.err


def test_a_loss_that_declares_no_needs_is_an_error() -> None:
    with pytest.raises(TypeError, match="needs"):
        loss("toy")  # type: ignore[call-arg]


def test_a_loss_name_is_registered_once(losses: dict[str, Loss]) -> None:
    with pytest.raises(ValueError, match="kl"):
        loss("kl", needs=PositivePairs())(toy_formula)


def test_a_loss_that_reads_scores_and_does_not_say_so_is_an_error(
    losses: dict[str, Loss], train: Any, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Never a zero gradient, and a model that was trained on nothing."""
    loss("toy", needs=PositivePairs())(toy_formula)
    done = train(rows, "--loss", "toy")
    assert done.rc == 1
    assert "the batch carries no scores" in done.err
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ("--loss triplet", 1, "--loss triplet needs hard negatives, and no row has any"),
        ("--loss infonce+kl", 1, "--loss infonce+kl needs scores, and no row has any"),
        ("--loss kl", 1, "no row to train on"),
        ("--loss triplet --negatives 0", 2, "--negatives 0 leaves --loss triplet no hard"),
    ],
)
def test_a_loss_whose_needs_no_row_meets_is_an_error(
    train: Any, examples: list[dict[str, Any]], argv: str, code: int, message: str
) -> None:
    done = train(examples, *argv.split())
    assert done.rc == code
    assert message in done.err


def test_a_pooling_that_is_registered_trains(
    monkeypatch: pytest.MonkeyPatch, train: Any, examples: list[dict[str, Any]], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(POOLINGS, "_entries", dict(POOLINGS))
    POOLINGS.register("largest", Pooling("max"))
    bare = bare_models.build(tmp_path / "bare", "modernbert")
    done = train(examples, "--pooling", "largest", base=bare)
    assert done.rc == 0, done.err
    tuned: Any = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    assert tuned[1].pooling_mode == "max"
