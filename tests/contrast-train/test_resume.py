"""What a run resumes from: the newest whole checkpoint, of the same models and data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import SUBJECTS, build_model, write_rows
from safetensors.torch import load_file, save_file

from contrast_train import cli
from fletching.errors import InputError
from fletching.train.run_dir import RunDir

pytestmark = pytest.mark.slow  # as a whole: each test loads models

FAST = ("--batch", "4", "--lr", "1e-3", "--steps", "6", "--save-every", "2", "--device", "cpu")


def stop(self: RunDir, built: str) -> NoReturn:
    """In place of publishing: the run ends as if it were killed, with its checkpoints."""
    raise InputError("stopped", "")


@pytest.fixture(scope="module")
def stopped(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, held-out rows, a guide and a run that was stopped at its end."""
    folder = tmp_path_factory.mktemp("stopped")
    rows = [{"query": query, "pos": [answer]} for query, answer in SUBJECTS.values()]
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "dev.jsonl", rows[:4])
    shutil.copytree(model, folder / "guide")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDir, "publish", stop)
        assert cli.main(words(folder, model, folder / "out")) == 1
    return folder


def words(folder: Path, model: str, output: Path, *more: str) -> list[str]:
    data = ["--eval", str(folder / "dev.jsonl"), "--guide", str(folder / "guide")]
    return [str(folder / "rows.jsonl"), "--model", model, "-o", str(output), *data, *FAST, *more]


@pytest.fixture
def resume(invoke: Any, model: str, stopped: Path, tmp_path: Path) -> Any:
    """resume(): the command again, on a copy of the run. resume.run: its folder."""

    def resume() -> Any:
        return invoke(cli.main, *words(stopped, model, tmp_path / "out"))

    resume.run = tmp_path / "out.run"  # type: ignore[attr-defined]
    shutil.copytree(stopped / "out.run", tmp_path / "out.run")
    return resume


def test_another_guide_of_the_same_name_is_refused(resume: Any, stopped: Path) -> None:
    shutil.move(stopped / "guide", stopped / "first")
    build_model(stopped / "guide", seed=1)
    try:
        done = resume()
    finally:
        shutil.rmtree(stopped / "guide")
        shutil.move(stopped / "first", stopped / "guide")
    assert done.rc == 1
    assert "holds a run of other data or options: --guide was" in done.err


def test_a_guide_that_lacks_weights_is_named_by_its_option(resume: Any, stopped: Path) -> None:
    path = stopped / "guide" / "model.safetensors"
    content = path.read_bytes()
    weights = load_file(path)
    weights.pop(next(name for name in sorted(weights) if "attention" in name))
    save_file(weights, path, {"format": "pt"})
    done = resume()
    path.write_bytes(content)
    assert done.rc == 1
    assert f"--guide {stopped / 'guide'} cannot be used: its weights lack" in done.err


def test_other_held_out_rows_of_the_same_name_are_refused(resume: Any, stopped: Path) -> None:
    path = stopped / "dev.jsonl"
    content = path.read_text()
    path.write_text("".join(content.splitlines(keepends=True)[:3]))
    done = resume()
    path.write_text(content)
    assert done.rc == 1
    assert "held-out examples was" in done.err


def test_another_number_type_is_refused(resume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fletching.encode.instruction_set import multiplies_bf16

    has_units = multiplies_bf16()
    monkeypatch.setattr("fletching.encode.model.multiplies_bf16", lambda: not has_units)
    done = resume()
    assert done.rc == 1
    assert "dtype was" in done.err and "bfloat16" in done.err


@pytest.fixture(scope="module")
def whole(model: str, stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nobody stopped."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert cli.main(words(stopped, model, output)) == 0
    return (output / "model.safetensors").read_bytes()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights.safetensors", cut),
        ("optimizer.pt", lambda path: path.write_bytes(b"")),
        ("optimizer.pt", flip),
        ("scheduler.pt", cut),
        ("rng_state.pth", Path.unlink),
        ("trainer_state.json", lambda path: path.write_text("{")),
        ("trainer_state.json", lambda path: path.write_text(path.read_text() + " ")),
        ("weights.safetensors", flip),
    ],
)
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(
    resume: Any, whole: bytes, name: str, change: Callable[[Path], Any]
) -> None:
    newest = max(resume.run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    change(newest / name)
    done = resume()
    assert done.rc == 0, done.err
    assert f"{newest} is broken: " in done.err
    assert "resuming from step" in done.err
    assert (resume.run.with_name("out") / "model.safetensors").read_bytes() == whole


def test_no_whole_checkpoint_and_odd_names_are_refused(resume: Any) -> None:
    for path in resume.run.glob("checkpoint-*"):
        (path / "optimizer.pt").write_bytes(b"")
    done = resume()
    assert done.rc == 1
    assert "no checkpoint is whole" in done.err and "rm -r" in done.err
    for path in resume.run.glob("checkpoint-*"):
        path.rename(path.with_name(path.name + " (copy)"))
    done = resume()
    assert done.rc == 1
    assert "is no name of a checkpoint" in done.err
    assert list(resume.run.glob("checkpoint-*"))


def test_a_stamp_of_a_foreign_program_fails_no_run(
    invoke: Any, model: str, stopped: Path, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in (stopped / "rows.jsonl").read_text().splitlines()]
    stamp = json.dumps({"schema": "examples", "version": "1.0", "step": {"from": [{"x": 1}]}})
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"fletching": stamp})
    pq.write_table(table, tmp_path / "foreign.parquet")
    argv = ("--model", model, "-o", tmp_path / "out", "--batch", "4", "--epochs", "0.5")
    done = invoke(cli.main, tmp_path / "foreign.parquet", *argv)
    assert done.rc == 0, done.err
    assert "unknown program" in (tmp_path / "out" / "README.md").read_text()
    assert "not reached by --epochs" in done.err


def test_a_learned_temperature_stays_at_its_floor_and_comes_back() -> None:
    import torch

    from contrast_train.training.objective import LOWEST_TEMPERATURE, ContrastObjective
    from contrast_train.training.trainer import TemperatureFloor

    module = torch.nn.Linear(1, 1)
    objective = ContrastObjective(module, lambda *_: None, learned_temperature=0.02)  # type: ignore[arg-type,return-value]
    assert objective.log_temperature is not None
    optimizer = torch.optim.SGD([objective.log_temperature], lr=1.0)
    for slope in (5.0, 5.0, -1.0):
        objective.log_temperature.grad = torch.tensor(slope)
        optimizer.step()
        TemperatureFloor(objective).on_optimizer_step()
        if slope > 0:
            assert objective.temperature == pytest.approx(LOWEST_TEMPERATURE)
    assert objective.temperature == pytest.approx(LOWEST_TEMPERATURE * 2.71828, rel=1e-3)


def test_the_trainer_clamps_after_each_step(
    invoke: Any, model: str, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrast_train.training.objective import ContrastObjective

    steps: list[int] = []
    monkeypatch.setattr(ContrastObjective, "clamp_temperature", lambda self: steps.append(1))
    argv = ("--model", model, "-o", tmp_path / "out", "--batch", "4", "--steps", "2")
    done = invoke(cli.main, stopped / "rows.jsonl", *argv, "--learn-temperature")
    assert done.rc == 0, done.err
    assert len(steps) == 2
