"""Whole runs of the command, with a tiny model: what comes out, what is refused, what survives a kill."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import suite

from contrast_train import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "4",
    "--batch-tokens",
    "64",
    "--lr",
    "1e-3",
    "--dtype",
    "float32",
    "--activations",
    "0",
)


@pytest.fixture
def train(
    invoke: Any, model: str, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> Any:
    """train("--epochs", 2, rows=…, out="tuned"): a run of the command on the subjects with a negative each."""
    mined = [row | {"neg": [examples[i - 1]["pos"][0]]} for i, row in enumerate(examples)]

    def train(
        *argv: Any, rows: list[dict[str, Any]] = mined, out: str = "tuned", base: str = model
    ) -> Any:
        path = write(tmp_path / "train.parquet", rows)
        return invoke(cli.main, path, "--model", base, "-o", tmp_path / out, *FAST, *argv)

    return train


def measures(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "measures.parquet").to_pylist()


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_training_lowers_the_loss_and_leaves_a_plain_folder(
    train: Any, tmp_path: Path, model: str
) -> None:
    done = train("--epochs", "12", "--temperature", "0.1")
    assert done.rc == 0, done.err
    assert done.out == b""
    assert "12 in, 12 out" in done.err
    values = [row["value"] for row in measures(tmp_path / "tuned") if row["name"] == "loss"]
    assert len(values) == 36
    assert sum(values[-3:]) < 0.8 * sum(values[:3])
    assert not (tmp_path / "tuned.run").exists()
    names = {path.name for path in (tmp_path / "tuned").rglob("*") if path.is_file()}
    assert {
        "model.safetensors",
        "modules.json",
        "README.md",
        "measures.parquet",
        "tokenizer.json",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


@pytest.mark.slow
def test_the_folder_loads_without_fletching_and_gives_the_same_vectors(
    train: Any, run: Any, tmp_path: Path
) -> None:
    assert train("--query-prompt", "query: ").rc == 0
    script = "import sys; sys.modules['fletching'] = sys.modules['contrast_train'] = None\n"
    script += "from sentence_transformers import SentenceTransformer\n"
    script += f"m = SentenceTransformer({str(tmp_path / 'tuned')!r}, device='cpu')\n"
    script += "print(m.prompts['query'], (m.encode_query('owl') @ m.encode('query: owl')).round(5), m.max_seq_length)"
    done = run([sys.executable, "-c", script])
    assert done.rc == 0, done.err
    assert done.text.split() == ["query:", "1.0", "64"]


def test_the_same_command_gives_the_same_weights(train: Any, tmp_path: Path) -> None:
    assert train(out="one").rc == train(out="two").rc == train("--seed", "1", out="three").rc == 0
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "three")


def test_training_does_not_depend_on_the_width_of_a_micro_batch(train: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for out, tokens, memory in (("one", 10**6, 0), ("two", 16, 0), ("three", 16, 1)):
        assert (
            train(
                "--dropout",
                "0",
                "--steps",
                "2",
                "--batch-tokens",
                tokens,
                "--activations",
                memory,
                out=out,
            ).rc
            == 0
        )
    one, two, three = (
        load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "three")
    )
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().max() < 1e-3
        assert (tensor - three[name]).abs().max() < 1e-3


def start(tmp_path: Path, model: str, out: str, *argv: str) -> suite.Running:
    rows, folder = tmp_path / "train.parquet", tmp_path / out
    words = ["contrast-train", rows, "--model", model, "-o", folder, *FAST, *argv]
    return suite.start(words, tmp_path)


@pytest.fixture
def killed(tmp_path: Path, model: str, train: Any) -> Any:
    """killed(*argv): a run that was killed with -9 after its second checkpoint."""

    def killed(*argv: str) -> None:
        train("--dry-run")  # writes train.parquet
        child = start(tmp_path, model, "killed", "--save-every", "3", *argv)
        deadline = time.monotonic() + 90
        while not (tmp_path / "killed.run" / "checkpoint-6").exists():
            assert child.process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert not (tmp_path / "killed").exists()

    return killed


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(train: Any, killed: Any, tmp_path: Path) -> None:
    import torch

    long = ("--epochs", "20", "--negatives", "1")
    killed(*long)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the child
    try:
        again = train(*long, "--save-every", "50", out="killed")
        assert again.rc == 0, again.err
        assert "resuming from step" in again.err
        assert train(*long, out="whole").rc == 0
    finally:
        torch.set_num_threads(threads)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    logs = [
        [
            (row["step"], row["name"], row["value"])
            for row in measures(tmp_path / out)
            if row["name"] != "tokens_per_second"
        ]
        for out in ("killed", "whole")
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 4 * 60  # loss, rate, gradient norm, mean cosine


@pytest.mark.slow
def test_other_options_on_a_killed_run_are_refused_with_the_difference(
    train: Any, killed: Any, tmp_path: Path
) -> None:
    killed("--epochs", "60")
    done = train("--epochs", "60", "--lr", "2e-3", out="killed")
    assert done.rc == 1
    assert "lr was 0.001, now 0.002" in done.err
    done = train("--epochs", "60", out="killed", rows=[{"query": "other", "pos": ["data"]}])
    assert done.rc == 1
    assert "data was" in done.err
    assert "rm -r" in done.err


def test_an_existing_folder_is_left_alone(train: Any, tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "precious").write_text("x")
    done = train()
    assert done.rc == 1
    assert "exists already" in done.err
    assert "fix:" in done.err
    assert [path.name for path in (tmp_path / "tuned").iterdir()] == ["precious"]


def test_two_runs_do_not_work_in_one_folder(train: Any, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "tuned.run").mkdir()
    with open(tmp_path / "tuned.run" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is at work" in train().err


def test_evaluation_keeps_the_best_weights(
    train: Any, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> None:
    dev = write(tmp_path / "dev.jsonl", examples)
    done = train(
        "--eval",
        dev,
        "--eval-every",
        "2",
        "--epochs",
        "4",
        "--json-summary",
        tmp_path / "summary.json",
        "--lr",
        "3e-3",
    )
    assert done.rc == 0, done.err
    by_step = {
        (row["step"], row["name"]): row["value"]
        for row in measures(tmp_path / "tuned")
        if row["split"] == "dev"
    }
    assert sorted({step for step, _ in by_step}) == [0, 2, 4, 6, 8, 10, 12]
    best = max(value for (step, name), value in by_step.items() if name == "ndcg_at_10" and step)
    summary = json.loads((tmp_path / "summary.json").read_text())["measures"]
    assert summary["ndcg_at_10"] == best
    assert summary["ndcg_at_10_before"] == by_step[0, "ndcg_at_10"]
    assert f"| tuned | {best:.4f}" in (tmp_path / "tuned" / "README.md").read_text()

    import pyarrow.compute as pc
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    scores = (
        model.encode([row["query"] for row in examples])
        @ model.encode([row["pos"][0] for row in examples]).T
    )
    rank = (scores > scores.diagonal()[:, None]).sum(1) + 1
    assert pc.mean([1 / r for r in rank.tolist()]).as_py() == pytest.approx(
        summary["mrr_at_10"], abs=0.02
    )


def test_a_dry_run_tells_the_plan_and_trains_nothing(
    train: Any, tmp_path: Path, invoke: Any, model: str
) -> None:
    train("--dry-run")
    done = invoke(
        cli.main,
        tmp_path / "train.parquet",
        "--model",
        model,
        "--dry-run",
        "--batch",
        "5",
        "--doc-length",
        "6",
    )
    assert done.rc == 0, done.err
    assert "3 steps of up to 5 rows" in done.err
    assert "cut after 6" in done.err
    assert "minutes on" in done.err
    assert "false negatives" in done.err
    assert [path.name for path in tmp_path.iterdir() if path.name != "train.parquet"] == []


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(train: Any, tmp_path: Path) -> None:
    done = train("--lr", "1e30", "--clip", "0", "--warmup", "0", "--epochs", "9")
    assert done.rc == 1, done.err
    assert "at step 2; rows of the batch: " in done.err
    assert not (tmp_path / "tuned").exists()


def test_steps_that_do_not_reach_every_row_are_accounted_for(train: Any) -> None:
    done = train("--steps", "2")
    assert "12 in, 8 out (4 not reached by --steps)" in done.err


def test_the_command_writes_nothing_to_stdout(
    run: Any, train: Any, tmp_path: Path, model: str
) -> None:
    train("--dry-run")
    done = run(
        [
            "contrast-train",
            tmp_path / "train.parquet",
            "--model",
            model,
            "-o",
            tmp_path / "tuned",
            "--steps",
            "1",
            *FAST,
        ]
    )
    assert done.rc == 0
    assert done.out == b""
    assert all(line.startswith("contrast-train: ") for line in done.err.splitlines()), done.err


OPTIONS = """
--loss triplet
--symmetric
--candidates own
--matryoshka 8,32
--positives all
--accumulate 2
--blend 0.5
--schedule cosine
--weight-decay 0.9
--clip 0.01
--warmup 0.9
--dropout 0.5
--temperature 0.5
--negatives 0
--doc-length 5
--query-length 4
--doc-prompt "iron "
"""


PLAIN: dict[str, bytes] = {}  # the weights without any of these options, trained once


@pytest.mark.parametrize("option", OPTIONS.strip().splitlines())
def test_each_option_changes_the_weights(
    train: Any, tmp_path: Path, examples: list[dict[str, Any]], option: str
) -> None:
    rows = [
        row
        | {
            "neg": [examples[i - 1]["pos"][0], examples[i - 5]["pos"][0]],
            "pos": [*row["pos"], row["query"] + " paper"],
        }
        for i, row in enumerate(examples)
    ]
    if "weights" not in PLAIN:
        assert train("--steps", "3", rows=rows, out="plain").rc == 0
        PLAIN["weights"] = weights(tmp_path / "plain")
    done = train("--steps", "3", *shlex.split(option), rows=rows, out="other")
    assert done.rc == 0, done.err
    assert weights(tmp_path / "other") != PLAIN["weights"]


def test_triplet_takes_its_margin(train: Any, tmp_path: Path) -> None:
    assert (
        train("--steps", "2", "--loss", "triplet", out="a").rc
        == train("--steps", "2", "--loss", "triplet", "--triplet-margin", "1.5", out="b").rc
        == 0
    )
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_keep_is_the_number_of_checkpoints_left_besides_the_best(tmp_path: Path) -> None:
    from fletching.train.run_dir import RunDir

    folder = RunDir(str(tmp_path / "some"))
    for step in range(1, 7):
        folder.save(step, lambda path: Path(path, "x").write_text("x") and None, keep=2, best=2)
    assert folder.checkpoint_steps() == [2, 5, 6]


def test_prompts_of_the_data_are_saved_and_a_clash_is_refused(
    train: Any, tmp_path: Path, examples: list[dict[str, Any]]
) -> None:
    from sentence_transformers import SentenceTransformer

    rows = [row | {"prompt": "find: "} for row in examples]
    assert train(rows=rows).rc == 0
    assert SentenceTransformer(str(tmp_path / "tuned"), device="cpu").prompts["query"] == "find: "
    done = train("--query-prompt", "ask: ", rows=rows, out="clash")
    assert done.rc == 1
    assert "find: " in done.err
    assert "ask: " in done.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--epochs", "1", "--steps", "2"), "both say"),
        (("--dtype", "float16"), "float16"),
        (("--eval-every", "3"), "--eval"),
        (("--loss", "triplet", "--symmetric"), "--symmetric"),
        (("--fsdp",), "torchrun"),
        (("--blend", "2"), "--blend 2"),
        (("--blend", "auto"), "--eval"),
        (("--report-to", "pigeon"), "pigeon"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    train: Any, argv: tuple[str, ...], message: str
) -> None:
    done = train(*argv)
    assert done.rc == 2
    assert message in done.err


def test_tasks_are_read_from_the_rows(train: Any, examples: list[dict[str, Any]]) -> None:
    done = train(rows=[row | {"task": "a" if i < 8 else "b"} for i, row in enumerate(examples)])
    assert done.rc == 0
    assert "task a: 8 rows" in done.err
    assert "task b: 4 rows" in done.err


def test_no_training_text_stands_in_the_folder(
    train: Any, tmp_path: Path, examples: list[dict[str, Any]]
) -> None:
    assert train().rc == 0
    for path in (tmp_path / "tuned").rglob("*"):
        if path.suffix in (".md", ".json", ".parquet") and path.name != "tokenizer.json":
            content = path.read_bytes()
            assert not any(
                row["query"].encode() in content or row["pos"][0].encode() in content
                for row in examples
            )
            assert str(tmp_path).encode() not in content


def test_a_run_that_is_refused_before_its_start_leaves_nothing(train: Any, tmp_path: Path) -> None:
    done = train(rows=[{"query": " ", "pos": ["p"]}])
    assert done.rc == 1
    assert "no row to train on" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["train.parquet"]


def test_the_files_of_the_model_can_be_read_as_the_umask_says(train: Any, tmp_path: Path) -> None:
    train("--steps", 1)
    mask = os.umask(0)
    os.umask(mask)
    for path in (tmp_path / "tuned").rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o666 & ~mask, path.name


CODE = """
from sentence_transformers.sentence_transformer.modules import Normalize

class Loud(Normalize):
    def __init__(self, **settings):
        super().__init__(**settings)
        print("code of the model ran")
"""


def test_trusted_code_of_a_model_is_saved_with_it(
    train: Any, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option no line of it runs; with it the trained folder is whole, and was reloaded."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    base = tmp_path / "foreign"
    shutil.copytree(model, base)
    (base / "loud.py").write_text(CODE)
    modules = json.loads((base / "modules.json").read_text())
    modules[-1]["type"] = "loud.Loud"
    (base / "modules.json").write_text(json.dumps(modules))
    refused = train("--steps", "1", base=str(base))
    assert (
        refused.rc == 1
        and "Traceback" not in refused.err
        and b"code of the model ran" not in refused.out
    )
    done = train("--steps", "1", "--trust-remote-code", base=str(base))
    assert done.rc == 0, done.err
    assert (tmp_path / "tuned" / "loud.py").read_text() == CODE
