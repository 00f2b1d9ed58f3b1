"""What is in the folder of a run and of a student; code of a model runs only where it is trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching import text_keys, training_index
from fletching.errors import InputError
from fletching_distill import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = ("--batch", "4", "--dtype", "float32")
CODE = """
from sentence_transformers.sentence_transformer.modules import Normalize

class Loud(Normalize):
    def __init__(self, **settings):
        super().__init__(**settings)
        print("code of the model ran")
"""


@pytest.fixture
def learn(invoke: Any, tmp_path: Path, write: Any, corpus: list[dict[str, Any]]) -> Any:
    def learn(teacher: Any, *argv: Any) -> Any:
        argv = argv if "--epochs" in argv else ("--steps", "5", *argv)
        return invoke(
            cli.main,
            write(tmp_path / "texts.jsonl", corpus),
            "--teacher",
            teacher,
            "-o",
            tmp_path / "student",
            *FAST,
            *argv,
        )

    return learn


@pytest.mark.parametrize(
    ("argv", "kept"),
    [((), [3, 4]), (("--keep-checkpoints", "1"), [4]), (("--keep-checkpoints", "3"), [2, 3, 4])],
)
def test_so_many_checkpoints_are_kept(
    learn: Any,
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    kept: list[int],
) -> None:
    def full(*any: Any, **more: Any) -> None:
        raise InputError("the disk is full", "make room")

    with monkeypatch.context() as patch:
        patch.setattr("fletching_distill.student.save", full)
        stopped = learn(model, "--save-every", "1", *argv)
    assert stopped.rc == 1 and "the disk is full" in stopped.err
    assert sorted(path.name for path in (tmp_path / "student.run").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in kept
    ]
    again = learn(model, "--save-every", "1", *argv)
    assert "resuming from step 4 of 5" in again.err
    assert (tmp_path / "student" / "model.safetensors").exists()


def test_code_of_a_model_runs_only_where_it_is_trusted(
    learn: Any, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last module is a class from the folder. Without the option no line of it is imported."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    shutil.copytree(model, tmp_path / "foreign")
    (tmp_path / "foreign" / "loud.py").write_text(CODE)
    modules = json.loads((tmp_path / "foreign" / "modules.json").read_text())
    modules[-1]["type"] = "loud.Loud"
    (tmp_path / "foreign" / "modules.json").write_text(json.dumps(modules))
    for argv in ([tmp_path / "foreign"], [model, "--model", tmp_path / "foreign"]):
        done = learn(*argv)
        assert done.rc == 1
        assert "third-party code" in done.err and "Traceback" not in done.err
        assert b"code of the model ran" not in done.out
    assert not (tmp_path / "modules").exists()
    done = learn(tmp_path / "foreign", "--trust-remote-code")
    assert done.rc == 0, done.err
    assert b"code of the model ran" in done.out


def test_measures_are_sent_to_services_that_are_there(
    learn: Any, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    assert learn(model, "--report-to", "tensorboard").rc == 0
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {"train/loss", "train/grad_norm", "train/loss_ranking"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    shutil.rmtree(tmp_path / "student")
    unknown = learn(model, "--report-to", "pigeon")
    assert unknown.rc == 2 and "--report-to pigeon is unknown" in unknown.err


def test_the_folder_knows_what_student_and_teacher_were_trained_on(
    learn: Any, tmp_path: Path, model: str
) -> None:
    shutil.copytree(model, tmp_path / "teacher")
    before = training_index.TrainingIndex()
    before.add(pa.array(["What the teacher saw."]))
    before.save(str(tmp_path / "teacher"))
    done = learn(tmp_path / "teacher", "--epochs", "0.6", "--student-layers", "1")
    assert "12 in, 8 out (4 not reached by --epochs)" in done.err
    index = training_index.load(str(tmp_path / "student"))
    assert index and len(index.whole) == 9
    assert set(text_keys.hash_texts(pa.array(["What the teacher saw."])).tolist()) < set(
        index.whole.tolist()
    )


def test_no_training_text_and_no_path_is_in_the_folder(
    learn: Any, tmp_path: Path, model: str, corpus: list[dict[str, Any]]
) -> None:
    assert learn(model).rc == 0
    for path in (tmp_path / "student").rglob("*"):
        if path.suffix in (".md", ".json", ".parquet") and path.name != "tokenizer.json":
            content = path.read_bytes()
            assert not any(row["text"].encode() in content for row in corpus)
            assert str(tmp_path).encode() not in content
