"""Blending with the base, the alarm of collapse, measures sent to a service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrast_train import cli
from contrast_train.model import weight_interpolation
from contrast_train.training import collapse_monitor

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "4",
    "--batch-tokens",
    "64",
    "--lr",
    "3e-3",
    "--dtype",
    "float32",
    "--dropout",
    "0",
    "--steps",
    "3",
)


@pytest.fixture
def train(
    invoke: Any, model: str, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> Any:
    def train(*argv: Any, out: str = "tuned") -> Any:
        return invoke(
            cli.main,
            write(tmp_path / "train.jsonl", examples),
            "--model",
            model,
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )

    return train


def tensors(folder: Any) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


@pytest.mark.parametrize("lora", [(), ("--lora",)])
def test_a_blend_is_the_mean_of_base_and_tuned_weights(
    train: Any, tmp_path: Path, model: str, lora: tuple[str, ...]
) -> None:
    assert train(*lora, out="tuned").rc == 0
    done = train(*lora, "--blend", "0.25", out="blended")
    assert done.rc == 0, done.err
    assert "0.25 tuned and 0.75 base" in done.err
    base, tuned, blended = (
        tensors(folder) for folder in (model, tmp_path / "tuned", tmp_path / "blended")
    )
    moved = 0.0
    for name, weight in blended.items():
        assert torch.allclose(weight, 0.75 * base[name] + 0.25 * tuned[name], atol=1e-6), name
        moved = max(moved, float((weight - base[name]).abs().max()))
    assert moved > 1e-4


def test_the_best_share_is_chosen_on_the_held_out_examples(
    train: Any, tmp_path: Path, write: Any, examples: list[dict[str, Any]], model: str
) -> None:
    dev = write(tmp_path / "dev.jsonl", examples)
    done = train("--blend", "auto", "--eval", dev, "--json-summary", tmp_path / "summary.json")
    assert done.rc == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    note = next(note for note in summary["notes"] if note.startswith("blend: "))
    by_share = {
        float(part.split()[0]): float(part.split()[2])
        for part in note.removeprefix("blend: ").split(", ")
    }
    assert tuple(by_share) == weight_interpolation.SHARES
    assert by_share[summary["measures"]["blend"]] == max(by_share.values())
    # It was put there after others: not a blend of blends.
    train("--eval", dev, out="whole")
    base, whole, blended = (
        tensors(folder) for folder in (model, tmp_path / "whole", tmp_path / "tuned")
    )
    share = summary["measures"]["blend"]
    for name, weight in blended.items():
        assert torch.allclose(weight, base[name] * (1 - share) + whole[name] * share, atol=1e-6)
    assert summary["measures"]["ndcg_at_10"] == pytest.approx(max(by_share.values()), abs=1e-4)


def test_of_equal_shares_the_one_nearest_to_the_base_is_taken() -> None:
    assert weight_interpolation.best_share(lambda share: min(share, 0.6))[0] == 0.6


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 9))
def test_the_mean_cosine_is_that_of_all_pairs(n: int, dimension: int, seed: int) -> None:
    vectors = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    pairs = (unit @ unit.T)[~torch.eye(n, dtype=torch.bool)]
    assert collapse_monitor.mean_cosine(vectors).item() == pytest.approx(
        pairs.mean().item(), abs=1e-5
    )


def test_the_alarm_speaks_once_after_enough_steps_in_a_row() -> None:
    monitor = collapse_monitor.CollapseMonitor()
    cosines = (
        [0.99] * (collapse_monitor.PATIENCE - 1) + [0.5] + [0.99] * (collapse_monitor.PATIENCE + 5)
    )
    warned = [monitor.update(cosine) is not None for cosine in cosines]
    assert [step for step, is_due in enumerate(warned) if is_due] == [
        2 * collapse_monitor.PATIENCE - 1
    ]


def test_a_collapse_is_told_with_what_to_try(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "all alike" not in train(out="sound").err
    monkeypatch.setattr(collapse_monitor, "LIMIT", -1.0)
    monkeypatch.setattr(collapse_monitor, "PATIENCE", 2)
    done = train()
    assert done.err.count("step 2: the vectors are all alike") == 1
    assert "try a lower --lr" in done.err


def test_measures_are_sent_to_tensorboard(
    train: Any, tmp_path: Path, write: Any, examples: list[dict[str, Any]], monkeypatch: Any
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    done = train(
        "--report-to",
        "tensorboard",
        "--eval",
        write(tmp_path / "dev.jsonl", examples),
        "--eval-every",
        "3",
    )
    assert done.rc == 0, done.err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {
        "train/loss",
        "train/grad_norm",
        "train/mean_cosine",
        "eval/ndcg_at_10",
        "eval/margin",
    } <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


def test_a_service_that_is_not_installed_is_wrong_usage(train: Any) -> None:
    done = train("--report-to", "swanlab")
    assert done.rc == 2
    assert "swanlab" in done.err
