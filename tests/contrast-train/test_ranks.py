"""The command under torchrun: the model of one process, one voice, an exact resume."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from conftest import write_rows
from safetensors.torch import load_file, save_file
from several import ALONE, furthest, plain, said, tensors
from suite import start

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


@pytest.mark.slow
def test_processes_train_the_model_of_one(
    command: Any,
    forked: Any,
    copied: Any,
    run: Any,
    tmp_path: Path,
    data: str,
    model: str,
    examples: list[dict[str, Any]],
) -> None:
    texts = [{"text": row["query"]} for row in examples]
    write_rows(tmp_path / "corpus.jsonl", texts)
    added = ("--teacher-vectors", model, "--spread-out", 0.1)
    ranked = ("--eval-corpus", tmp_path / "corpus.jsonl", "--patience", 9)
    layer = (
        "--matryoshka",
        "8,48",
        "--matryoshka-layer",
        "--learn-temperature",
    )  # what is no part of the base model
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
        *added,
        *ranked,
    )
    one, two = forked(1, "one", *argv), run(command(2, "ddp", *argv), env=ALONE)
    assert one.rc == two.rc == 0, two.err
    assert "12 of --eval-corpus" in one.err and "no step was better" not in one.err
    assert two.out == b""
    # Each line once, the same as in one process but for the seconds.
    assert plain(two.err) == plain(one.err)
    assert "12 in, 12 out" in said(two.err)[-1]
    assert furthest(tmp_path / "one", tmp_path / "ddp") < 1e-5

    fsdp = copied(2, "fsdp", *argv, "--fsdp")
    assert fsdp.rc == 0, fsdp.err
    assert furthest(tmp_path / "one", tmp_path / "fsdp") < 1e-5
    assert any("Dense" in name for name in tensors(tmp_path / "fsdp"))
    assert (tmp_path / "fsdp" / "config.json").read_text() == (
        tmp_path / "one" / "config.json"
    ).read_text()
    # Weights and optimiser stand whole in a checkpoint of sharded processes: one process can go on from it.
    again = forked(1, "fsdp-copy", *argv)
    assert "resuming from step 2" in again.err
    assert furthest(tmp_path / "one", tmp_path / "fsdp-copy") < 1e-5


def test_a_learned_temperature_of_sharded_processes_stays_at_its_floor(
    copied: Any, data: str, examples: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each query is its own positive, so that every step wants a lower temperature, by far."""
    write_rows(Path(data), [row | {"pos": [row["query"]]} for row in examples])
    argv = ("--learn-temperature", "--temperature", 0.02, "--lr", 1.0, "--warmup", 0)
    done = copied(2, "out", *argv, "--epochs", 1, "--dropout", 0, "--fsdp")
    assert done.rc == 0, done.err
    weights = load_file(tmp_path / "out-copy.run" / "checkpoint-2" / "weights.safetensors")
    assert weights["log_temperature"].item() == pytest.approx(math.log(0.01), abs=1e-6)
    assert "0.02 at the start, 0.0100 at the end" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_a_run_of_two_that_goes_on_ends_in_the_same_weights(
    forked: Any, copied: Any, tmp_path: Path
) -> None:
    argv = ("--dropout", 0.3, "--epochs", 2)
    whole = copied(2, "whole", *argv)
    again = forked(2, "whole-copy", *argv)
    assert whole.rc == again.rc == 0, whole.err + again.err
    assert "resuming from step 2" in again.err
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "whole-copy" / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "row", "message"),
    [
        (("--batsch", "3"), None, "--batsch"),  # before the processes meet
        ((), {"query": " ", "pos": ["p"]}, "no row to train on"),  # in all at once
    ],
)
def test_a_failure_is_told_once(
    command: Any, run: Any, write: Any, tmp_path: Path, data: str, argv: Any, row: Any, message: str
) -> None:
    rows = write(tmp_path / "bad.jsonl", [row]) if row else data
    done = run(command(2, "tuned", *argv, rows=rows), env=ALONE)
    assert done.rc == 1  # torchrun's own, whatever the exit code of its processes
    assert [message in line for line in said(done.err)].count(True) == 1, done.err
    assert done.err.count("fix:") == 1
    assert not (tmp_path / "tuned").exists()


def test_a_process_that_must_be_silent_does_not_end_before_the_first_has_spoken(
    command: Any, tmp_path: Path
) -> None:
    """torchrun ends all when one ends, and the first may be late."""
    words = ["contrast-train", *command(1, "tuned", "--batsch", 3)[1:]]
    second = start(words, tmp_path, env={"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"})
    second.process.join(3)
    assert second.process.is_alive()
    os.kill(second.pid, signal.SIGTERM)
    assert second.wait() == -signal.SIGTERM and second.err.read_text() == ""


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_is_not_shared_is_refused_once(
    forked: Any, tmp_path: Path, is_there: bool
) -> None:
    """The second process has another folder of that name, as on two machines without a shared disk."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    if is_there:
        (folders[1] / "tuned.run").mkdir()
    done = forked(2, "unused", "-o", "tuned", cwd=lambda rank: folders[rank])
    assert done.rc == 1
    assert [line for line in said(done.err) if "not seen by every process: not by 1 on" in line]
    assert done.err.count("fix:") == 1 and not list(folders[0].iterdir())


def other_model(folder: Path, model: str) -> str:
    """A copy of the model with other weights."""
    shutil.copytree(model, folder / "other")
    path = folder / "other" / "model.safetensors"
    weights = load_file(path)
    name = min(weights)
    save_file({**weights, name: weights[name] * 2}, path, {"format": "pt"})
    return str(folder / "other")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", 6), "process 1 on {host} has other options than process 0: batch is 5, there 6"),
        (("--model", "other"), "process 1 on {host} has other data or models than process 0: model is "),
        (("--batch-tokens", 32), "batch_tokens is 64, there 32"),
        (("--eval", "missing.jsonl"), "missing.jsonl"),
        (("--model", "/nowhere"), "--model /nowhere is no folder"),
    ],
)  # fmt: skip
def test_machines_that_differ_are_refused_once(
    forked: Any, tmp_path: Path, model: str, words: Any, message: str
) -> None:
    """Two machines of one process each."""
    if "other" in words:
        words = ("--model", other_model(tmp_path, model))
    done = forked(2, "out", machines=2, more=lambda rank: words if rank else ())
    assert done.rc == 1
    assert message.format(host=socket.gethostname()) in done.err, done.err
    assert done.err.count("fix:") == 1 and not list(tmp_path.glob("out*"))


def test_a_wrong_word_on_one_machine_is_told_there(forked: Any, tmp_path: Path) -> None:
    """The first process waits for the second, which has ended before it could join."""
    patience = {"fletching.train.distributed.process_group:SECONDS_FOR_FIRST_REPORT": 0.5}

    def watch(running: list[Any]) -> None:
        running[1].process.join(60)
        running[0].process.kill()

    done = forked(
        2, "out", machines=2, more=lambda rank: ["--batsch"] * rank, watch=watch, constants=patience
    )
    assert [line for line in said(done.err) if "--batsch" in line], done.err
    assert done.err.count("fix:") == 1


@pytest.mark.parametrize("engine", ["DEEPSPEED", "FSDP"])
def test_engines_that_accelerate_would_put_around_the_model_are_refused(
    command: Any, run: Any, engine: str
) -> None:
    """ZeRO-2 and 3 fail in the second pass of GradCache; accelerate's FSDP on CPUs is DDP without a word."""
    done = run(command(1, "tuned"), env={f"ACCELERATE_USE_{engine}": "true"})
    assert done.rc == 2
    assert engine in done.err
    assert "torchrun" in done.err
