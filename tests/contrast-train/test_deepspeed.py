"""--deepspeed under torchrun: the model of one process, states that any other run goes on from, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from several import ALONE, furthest, plain

from contrast_train import cli
from fletching.errors import UsageError
from fletching.parsing import parse
from fletching.train.distributed import deepspeed_config

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

OURS = SimpleNamespace(batch=128, clip=1.0, lr=1e-4, weight_decay=0.01, accumulate=1)


@pytest.mark.slow
def test_the_stages_train_the_model_of_one_process(
    forked: Any, copied: Any, tmp_path: Path, data: str
) -> None:
    layer = ("--matryoshka", "8,48", "--matryoshka-layer")  # what is no part of the base model
    argv = (
        "--dropout",
        0,
        "--epochs",
        4,
        "--accumulate",
        2,
        "--eval",
        data,
        "--eval-every",
        3,
        *layer,
    )
    one = forked(1, "one", *argv)
    whole = tmp_path / "ds.json"  # the model is so small that ZeRO-3 would leave it whole
    whole.write_text(
        json.dumps({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}})
    )

    zero3 = copied(2, "zero3", *argv, "--deepspeed", whole)
    assert zero3.rc == one.rc == 0, zero3.err
    assert plain(zero3.err) == plain(one.err)
    assert furthest(tmp_path / "one", tmp_path / "zero3") < 1e-5
    # Weights and optimiser stand whole in its checkpoint: one process goes on from it.
    again = forked(1, "zero3-copy", *argv)
    assert "resuming from step 2" in again.err
    assert furthest(tmp_path / "one", tmp_path / "zero3-copy") < 1e-5


@pytest.mark.slow
def test_a_run_that_goes_on_ends_in_the_same_weights(
    command: Any, copied: Any, run: Any, tmp_path: Path
) -> None:
    argv = ("--dropout", 0.3, "--epochs", 2, "--deepspeed", "zero2")
    whole = copied(2, "whole", *argv)
    again = run(command(2, "whole-copy", *argv), env=ALONE)
    assert whole.rc == again.rc == 0 and again.out == whole.out == b"", whole.err + again.err
    assert "resuming from step 2" in again.err
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "whole-copy" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("ranks", "argv", "message", "fix"),
    [
        (1, (), "this is the only one", "torchrun"),
        (2, ("--fsdp",), "--fsdp and --deepspeed", "leave one of them out"),
        (2, ("--learn-temperature",), "--learn-temperature", "--fsdp"),
        (2, ("--lora", "--lora-4bit"), "--lora-4bit", "leave the other out"),
    ],
)
def test_what_does_not_go_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, ranks: int, argv: Any, message: str, fix: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    words = ["x", "--model", "m", "-o", "tuned", "--deepspeed", "zero2", *argv]
    with pytest.raises(UsageError) as refused:
        cli.check(parse(cli.Options, words))
    assert message in refused.value.what and fix in refused.value.fix


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train_batch_size": 64}, "train_batch_size is 64, --batch is 128"),
        ({"train_micro_batch_size_per_gpu": 4}, "which is for --batch-tokens to say"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps is 2, --accumulate is 1"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5, --clip is 1.0"),
        ({"optimizer": {"params": {"lr": 1e-3}}}, "optimizer.params.lr is 0.001, --lr is 0.0001"),
        (
            {"optimizer": {"type": "Lamb"}},
            'optimizer.type is "Lamb", the optimiser here is "AdamW"',
        ),
        (
            {"optimizer": {"params": {"betas": [0.9, 0.95]}}},
            "optimizer.params.betas is [0.9, 0.95], which is for --lr and --weight-decay",
        ),
        ({"scheduler": {"type": "WarmupLR"}}, "which is for --schedule and --warmup to say"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is true, which is for --dtype to say"),
        (
            {"zero_optimization": {"stage": 3, "zero_quantized_gradients": True}},
            "zero_quantized_gradients is true, which is not tried",
        ),
        (
            {"zero_optimization": {"stage": 3, "overlap_comm": True}},
            "overlap_comm needs stage 2, and the stage is 3",
        ),
        ({"zero_optimization": {"stage": 0}}, "stage is 0"),
        ({}, "stage is 0"),
    ],
)
def test_a_config_that_contradicts_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}} | config if config else {}))
    with pytest.raises(UsageError) as refused:
        deepspeed_config.resolve(str(path), OURS)
    assert str(path) in refused.value.what and message in refused.value.what


def test_a_config_that_says_what_we_say_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    zero = {
        "stage": 2,
        "overlap_comm": True,
        "reduce_bucket_size": 1000,
        "allgather_bucket_size": "auto",
    }
    agreed = {
        "train_batch_size": 128,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "eps": "auto"}},
    }
    path.write_text(
        json.dumps(
            agreed
            | {
                "zero_optimization": zero,
                "bf16": {"enabled": "auto"},
                "wall_clock_breakdown": False,
            }
        )
    )
    assert deepspeed_config.resolve(str(path), OURS) == deepspeed_config.BASE_CONFIG | {
        "zero_optimization": deepspeed_config.ZERO_DEFAULTS
        | {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 1000},
        "gradient_clipping": 1.0,
        "wall_clock_breakdown": False,
    }


def test_a_stage_that_is_none_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        deepspeed_config.resolve("zero4", OURS)
    assert "zero4" in refused.value.what and "zero1, zero2, zero3" in refused.value.fix


def test_deepspeed_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="deepspeed is not installed") as refused:
        deepspeed_config.resolve("zero2", OURS)
    assert "--fsdp" in refused.value.fix
