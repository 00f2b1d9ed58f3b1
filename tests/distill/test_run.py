"""Whole runs of the command, with a tiny teacher: what comes out, what is refused, what survives a kill."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import suite

from fletching_distill import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = ("--batch", "5", "--lr", "3e-3", "--dtype", "float32")


@pytest.fixture
def learn(
    invoke: Any, model: str, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> Any:
    """learn("--epochs", 2, rows=…, out="student"): a run of the command on the subjects' questions and answers."""

    def learn(
        *argv: Any,
        rows: list[dict[str, Any]] = examples,
        out: str = "student",
        teacher: bool = True,
    ) -> Any:
        path = write(tmp_path / "rows.parquet", rows)
        return invoke(
            cli.main,
            path,
            *(("--teacher", model) if teacher else ()),
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )

    return learn


def weights(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.safetensors")))


def values(folder: Path, name: str) -> list[float]:
    return [
        row["value"]
        for row in pq.read_table(folder / "measures.parquet").to_pylist()
        if row["name"] == name
    ]


def encode(folder: Any, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts)


@pytest.mark.parametrize(
    "kind",
    [
        ("--student-layers", "1"),
        ("--student", "static"),
        ("--student", "static", "--student-dim", "12"),
    ],
)
def test_a_student_comes_near_its_teacher_and_loads_without_fletching(
    learn: Any,
    run: Any,
    tmp_path: Path,
    model: str,
    examples: list[dict[str, Any]],
    kind: tuple[str, ...],
) -> None:
    done = learn("--epochs", "25", *kind)
    assert done.rc == 0, done.err
    assert "12 in, 24 out (+12 positives and negatives)" in done.err
    loss = values(tmp_path / "student", "loss")
    assert len(loss) == 25 * 5
    assert sum(loss[-5:]) < 0.7 * sum(loss[:5])
    texts = [row["query"] for row in examples]
    ours, theirs = encode(tmp_path / "student", texts), encode(model, texts)
    assert ours.shape == theirs.shape
    assert (ours * theirs).sum(1).mean() > (
        0.6 if "--student-dim" in kind else 0.8
    )  # 12 dimensions of 32
    names = {path.name for path in (tmp_path / "student").rglob("*") if path.is_file()}
    assert {
        "model.safetensors",
        "modules.json",
        "README.md",
        "measures.parquet",
        "tokenizer.json",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert {path.name for path in tmp_path.iterdir()} == {"student", "rows.parquet"}
    script = "import sys; sys.modules['fletching'] = sys.modules['fletching_distill'] = None\n"
    script += "from sentence_transformers import SentenceTransformer\n"
    script += (
        f"v = SentenceTransformer({str(tmp_path / 'student')!r}, device='cpu').encode({texts!r})\n"
    )
    script += "import json; print(json.dumps(v.tolist()))"
    again = run([sys.executable, "-c", script])
    assert again.rc == 0, again.err
    assert np.allclose(json.loads(again.text), ours, atol=1e-6)


def test_layers_are_dropped_evenly_and_the_student_begins_as_the_teacher_with_them_left_out(
    learn: Any, tmp_path: Path, model: str
) -> None:
    assert learn("--steps", "1", "--lr", "1e-12", "--student-layers", "1").rc == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    from sentence_transformers import SentenceTransformer

    whole, small = (
        SentenceTransformer(str(path), device="cpu")[0].model
        for path in (model, tmp_path / "student")
    )
    assert all(
        (a - b).abs().max() < 1e-6
        for a, b in zip(whole.encoder.layer[0].parameters(), small.encoder.layer[0].parameters())
    )
    assert learn("--student-layers", "3", out="more").rc == 2


@pytest.mark.parametrize(("projection", "dimension"), [("keep", 64), ("drop", 32), ("auto", 64)])
def test_the_projection_to_a_wider_teacher_is_kept_or_dropped(
    learn: Any, tmp_path: Path, model: str, projection: str, dimension: int
) -> None:
    done = learn(
        "--teacher", model, "--projection", projection, "--steps", "2"
    )  # twice the same: 64 dimensions
    assert done.rc == 0, done.err
    vectors = encode(tmp_path / "student", ["owl", "bread"])
    assert vectors.shape == (2, dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_without_a_projection_only_similarities_can_be_learned(learn: Any, model: str) -> None:
    assert "--cosine-weight 0" in learn("--teacher", model, "--projection", "none").err
    assert (
        learn("--teacher", model, "--projection", "none", "--cosine-weight", "0", "--steps", "1").rc
        == 0
    )


def test_targets_concatenate_teachers_by_their_weights(
    invoke: Any, tmp_path: Path, model: str, write: Any, examples: list[dict[str, Any]]
) -> None:
    """Targets of weight 3 and 1: similarities are the weighted mean of the teachers'."""
    from fletching.report import Report
    from fletching_distill.targets import write_targets
    from fletching_distill.text_dataset import TextDataset, open_reader, write_distinct_texts
    from fletching_distill.vector_files import ArrayTeacher

    report = Report("test", quiet=True)
    path = write(tmp_path / "texts.jsonl", [{"text": row["query"]} for row in examples])
    rows_path = str(tmp_path / "rows.arrow")
    summary = write_distinct_texts(open_reader(report, (path,), None), rows_path, report)
    noise = np.random.default_rng(0)
    arrays = [noise.normal(size=(12, dim)).astype(np.float32) for dim in (6, 4)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    teachers = [
        ArrayTeacher(str(tmp_path / f"{number}.npy"), None, rows=summary.rows, is_row_aligned=True)
        for number in (0, 1)
    ]
    targets = write_targets(
        str(tmp_path / "targets" / "f16"),
        TextDataset(rows_path),
        teachers,
        weights=[3.0, 1.0],
        report=report,
    ).astype(np.float32)
    units = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in arrays]
    expected = 0.75 * units[0] @ units[0].T + 0.25 * units[1] @ units[1].T
    assert targets.shape == (12, 10)
    assert np.allclose(targets @ targets.T, expected, atol=2e-3)


def start(tmp_path: Path, model: str, *argv: str) -> suite.Running:
    rows, folder = tmp_path / "rows.parquet", tmp_path / "killed"
    return suite.start(["distill", rows, "--teacher", model, "-o", folder, *FAST, *argv], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [("--student-layers", "1", "--dropout", "0.2"), ("--student", "static")]
)
def test_a_killed_run_ends_in_the_same_weights(
    learn: Any, tmp_path: Path, model: str, kind: tuple[str, ...]
) -> None:
    import torch

    long = ("--epochs", "60", *kind)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the child
    try:
        assert learn(*long, out="whole").rc == 0
        child = start(tmp_path, model, *long, "--save-every", "3")
        deadline = time.monotonic() + 90
        while not (tmp_path / "killed.run" / "checkpoint-6").exists():
            assert child.process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert not (tmp_path / "killed").exists()
        different = learn(*long, "--cosine-weight", "3", out="killed")
        assert different.rc == 1
        assert "cosine_weight was 10.0, now 3.0" in different.err
        again = learn(*long, "--save-every", "50", out="killed")
    finally:
        torch.set_num_threads(threads)
    assert again.rc == 0, again.err
    assert "resuming from step" in again.err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert values(tmp_path / "killed", "loss") == values(tmp_path / "whole", "loss")
    assert not (tmp_path / "killed.cache").exists()


def test_the_same_command_gives_the_same_weights(learn: Any, tmp_path: Path) -> None:
    for out, seed in (("one", 0), ("two", 0), ("three", 1)):
        assert learn("--steps", "3", "--seed", seed, out=out).rc == 0
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "three")


def test_the_gradient_does_not_depend_on_micro_batches_or_on_recomputed_activations(
    learn: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    for out, tokens, memory in (("one", 10**6, 1), ("two", 16, 1), ("three", 16, 0)):
        assert (
            learn("--steps", "2", "--batch-tokens", tokens, "--activations", memory, out=out).rc
            == 0
        )
    one, two, three = (
        load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "three")
    )
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().max() < 1e-3
    assert all((tensor - three[name]).abs().max() < 1e-6 for name, tensor in two.items())


def test_a_dry_run_reports_the_plan_and_trains_nothing(
    learn: Any, invoke: Any, tmp_path: Path, model: str
) -> None:
    learn("--steps", "1")
    (tmp_path / "rows.parquet").rename(tmp_path / "texts.parquet")
    done = invoke(
        cli.main,
        tmp_path / "texts.parquet",
        "--teacher",
        model,
        "--dry-run",
        "--batch",
        "7",
        "--doc-length",
        "4",
    )
    assert done.rc == 0, done.err
    assert "24 texts, teacher vectors of 32 dimensions, student of 32" in done.err
    assert "4 steps of up to 7 texts" in done.err
    assert "50.0% of texts truncated" in done.err
    assert "minutes on" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"student", "texts.parquet"}


def test_blank_and_repeated_texts_are_dropped_and_counted(learn: Any) -> None:
    rows = [
        {"id": str(i), "text": text}
        for i, text in enumerate(["owl", "owl", " ", "tide", "iron", "bread"])
    ]
    done = learn("--steps", "1", "--batch", "2", rows=rows)
    assert "6 in, 2 out (1 blank, 2 not reached by --steps, 1 repeated)" in done.err
    assert "no text to learn on" in learn(rows=[{"id": "1", "text": " "}], out="none").err


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(learn: Any, tmp_path: Path) -> None:
    done = learn("--lr", "1e30", "--clip", "0", "--warmup", "0", "--epochs", "9")
    assert done.rc == 1, done.err
    assert "at step 2; rows of the batch: " in done.err
    assert not (tmp_path / "student").exists()


OPTIONS = """
--cosine-weight 0
--similarity-weight 0
--ranking-weight 0
--mse-weight 1
--kl-weight 5
--matryoshka 8,32
--ranking-margin 0.3
--kl-weight 5 --temperature 0.5
--projection keep
--epochs 0.2
--schedule cosine
--warmup 0.9
--weight-decay 0.9
--clip 0.01
--dropout 0.5
--lr 1e-3
--batch 3
--student static
--student-layers 1
--doc-length 5
--query-length 4
--doc-prompt "iron "
--query-prompt "tide "
--teacher-doc-prompt "iron "
--teacher-query-prompt "tide "
--teacher-length 4
--dtype bfloat16
"""


@pytest.fixture(scope="module")
def plain() -> dict[str, bytes]:
    return {}


@pytest.mark.parametrize("option", OPTIONS.strip().splitlines())
def test_each_option_changes_the_weights(
    learn: Any, tmp_path: Path, plain: dict[str, bytes], option: str
) -> None:
    steps = () if "--epochs" in option else ("--steps", "3")
    if not plain:
        assert learn("--steps", "3", out="plain").rc == 0
        plain["weights"] = weights(tmp_path / "plain")
    done = learn(*steps, *shlex.split(option), out="other")
    assert done.rc == 0, done.err
    assert weights(tmp_path / "other") != plain["weights"]


def test_temperature_and_dimension_and_decay_change_what_they_belong_to(
    learn: Any, tmp_path: Path
) -> None:
    pairs = [
        (("--kl-weight", "5"), ("--temperature", "0.5")),
        (("--student", "static"), ("--student-dim", "8")),
        (("--student", "static"), ("--weight-decay", "0.5")),
    ]
    for number, (base, more) in enumerate(pairs):
        for name, argv in (("a", base), ("b", base + more)):
            assert learn("--steps", "2", *argv, out=f"{name}{number}").rc == 0
        assert weights(tmp_path / f"a{number}") != weights(tmp_path / f"b{number}")


def test_a_student_that_cannot_be_is_refused_before_the_teacher_works(
    learn: Any, tmp_path: Path
) -> None:
    done = learn("--student-layers", "3", "--cache", tmp_path / "cache")
    assert done.rc == 2 and "the model has 2 layers" in done.err
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").rglob("*.arrow"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--epochs", "1", "--steps", "2"), "both say"),
        (("--dtype", "float16"), "float16"),
        (("--student", "static", "--student-layers", "1"), "--student-layers"),
        (("--student-dim", "8"), "--student-dim"),
        (("--matryoshka", "33"), "--matryoshka 33"),
        (("--matryoshka", "8", "--projection", "drop"), "--projection keep"),
        (("--teacher-weights", "1,2"), "--teacher-weights"),
        (("--teacher-weights", "0"), "--teacher-weights"),
        (("--base-url", "http://localhost:1/v1"), "--model M"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    learn: Any, tmp_path: Path, argv: tuple[str, ...], message: str
) -> None:
    done = learn(*argv)
    assert done.rc == 2
    assert message in done.err
    assert not (tmp_path / "student.run").exists()
