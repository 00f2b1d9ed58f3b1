"""Whole runs of the command on tiny decoders: what comes out, what is refused, what survives a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import bare_models
import pyarrow.parquet as pq
import pytest
import suite
import torch
from conftest import SUBJECTS

from mntp import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "4",
    "--length",
    "64",
    "--lr",
    "3e-3",
    "--dtype",
    "float32",
    "--batch-tokens",
    "128",
)
TEXTS = [
    {"id": name, "text": f"{question}\n    {answer}"}
    for name, (question, answer) in SUBJECTS.items()
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """bare("qwen3"): the folder of a tiny language model, built once."""
    root = tmp_path_factory.mktemp("bare")

    def bare(kind: str = "llama") -> str:
        return (
            str(root / kind)
            if (root / kind).exists()
            else bare_models.build(root / kind, kind, head=True)
        )

    return bare


@pytest.fixture
def train(invoke: Any, bare: Any, tmp_path: Path, write: Any) -> Any:
    """train("--steps", 3, out="encoder"): a run of the command on a dozen texts."""

    def train(*argv: Any, rows: Any = TEXTS, out: str = "encoder", base: str | None = None) -> Any:
        path = write(tmp_path / "texts.jsonl", rows) if isinstance(rows, list) else rows
        return invoke(
            cli.main,
            *([path] if path else []),
            "--model",
            base or bare(),
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )

    return train


def load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def measures(folder: Path, name: str) -> list[float]:
    return [
        row["value"]
        for row in pq.read_table(folder / "measures.parquet").to_pylist()
        if row["name"] == name
    ]


LOAD_PLAINLY = """
import sys
sys.modules['fletching'] = sys.modules['mntp'] = None
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({folder!r}, device='cpu')
one, other = (model.encode([text], output_value='token_embeddings')[0] for text in ('owls fly.', 'owls fly!'))
long, alone = model.encode(['owls', 'a far longer text about owls'], batch_size=2)[0], model.encode('owls')
print(int((one[0] - other[0]).abs().max() > 1e-5), int(abs(long - alone).max() < 1e-5), model[1].pooling_mode)
"""


@pytest.fixture
def load_plainly(run: Any) -> Any:
    """load_plainly(folder): what sentence-transformers makes of it in a process without Fletching."""

    def load_plainly(folder: Path) -> list[str]:
        done = run([sys.executable, "-c", LOAD_PLAINLY.format(folder=str(folder))])
        assert done.rc == 0, done.err
        return done.text.split()

    return load_plainly


def test_the_loss_falls_and_a_plain_bidirectional_folder_is_left(
    train: Any, load_plainly: Any, tmp_path: Path, write: Any
) -> None:
    held_out = write(tmp_path / "held.jsonl", TEXTS[:4])
    done = train("--steps", 24, "--no-lora", "--lr", "2e-2", "--eval", held_out, "--eval-every", 8)
    assert done.rc == 0, done.err
    assert done.out == b"" and "12 in, 12 out" in done.err
    assert "weights train" in done.err and "language-model head does not" in done.err
    losses = measures(tmp_path / "encoder", "mntp_loss")
    assert len(losses) == 4 and losses[-1] < losses[0] - 0.1
    assert measures(tmp_path / "encoder", "mntp_accuracy")[-1] > 0.05
    assert load_plainly(tmp_path / "encoder") == ["1", "1", "mean"]
    names = {path.name for path in (tmp_path / "encoder").rglob("*") if path.is_file()}
    assert {"model.safetensors", "modules.json", "README.md", "fletching.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["is_causal"] is False
    assert not [
        name for name in load_names(tmp_path / "encoder") if "lm_head" in name or "lora" in name
    ]


def load_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


def test_lora_leaves_all_but_linear_layers_and_full_training_leaves_the_head(
    train: Any, bare: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    before = load_file(Path(bare()) / "model.safetensors")
    for argv, out in ((("--lora-dropout", 0), "lora"), (("--no-lora",), "full")):
        done = train("--steps", 2, *argv, out=out)
        assert done.rc == 0, done.err
        after = load_file(tmp_path / out / "model.safetensors")
        moved = {
            name for name, tensor in after.items() if not tensor.equal(before[f"model.{name}"])
        }
        if out == "lora":
            assert moved == {name for name in after if name.endswith("_proj.weight")}
            count = sum(16 * sum(after[name].shape) for name in moved)
            assert f"{count:,} of" in done.err
        else:
            assert moved == set(after)


def test_the_adapter_beside_its_base_is_the_merged_model(
    train: Any, load_plainly: Any, tmp_path: Path
) -> None:
    assert train("--steps", 3, "--lr", "1e-2").rc == 0
    done = train("--steps", 3, "--lr", "1e-2", "--no-lora-merge", out="apart")
    assert done.rc == 0, done.err
    assert (tmp_path / "apart" / "base" / "model.safetensors").exists() and not (
        tmp_path / "apart" / "model.safetensors"
    ).exists()
    assert load_plainly(tmp_path / "apart") == ["1", "1", "mean"]
    one, other = (load(tmp_path / name).encode("owls") for name in ("encoder", "apart"))
    assert one == pytest.approx(other, abs=1e-5)


def test_no_steps_make_the_model_bidirectional_and_train_nothing(
    train: Any, load_plainly: Any, bare: Any, tmp_path: Path
) -> None:
    done = train("--steps", 0, "--pooling", "weighted", rows="")
    assert done.rc == 0, done.err
    from safetensors.torch import load_file

    before = load_file(Path(bare()) / "model.safetensors")
    assert all(
        tensor.equal(before[f"model.{name}"])
        for name, tensor in load_file(tmp_path / "encoder" / "model.safetensors").items()
    )
    assert load_plainly(tmp_path / "encoder") == ["1", "1", "weightedmean"]


def test_published_adapters_are_merged_in_their_order(
    train: Any, load_plainly: Any, bare: Any, tmp_path: Path
) -> None:
    """As LLM2Vec publishes them: an adapter on the decoder without its head, and one on top of it."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    network = transformers.AutoModel.from_pretrained(bare())
    network.config.is_causal = False
    for number in (1, 2):
        torch.manual_seed(number)
        wrapped = get_peft_model(
            network,
            LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
        )
        wrapped.save_pretrained(tmp_path / f"adapter{number}")
        network = wrapped.merge_and_unload()
    ids = load(Path(bare()))[0].tokenizer("owls", return_tensors="pt")
    with torch.no_grad():
        expected = network(**ids).last_hidden_state.mean(1)[0].numpy()
    done = train(
        "--steps", 0, "--adapters", tmp_path / "adapter2", rows="", base=str(tmp_path / "adapter1")
    )
    assert done.rc == 0, done.err
    assert load(tmp_path / "encoder").encode("owls") == pytest.approx(expected, abs=1e-5)
    other = transformers.AutoModel.from_config(
        transformers.LlamaConfig(**bare_models.SIZES | {"hidden_size": 16})
    )
    get_peft_model(other, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "narrow"
    )
    wrong = train("--steps", 0, "--adapters", tmp_path / "narrow", rows="", out="wrong")
    assert wrong.rc == 1 and "does not fit the model" in wrong.err, wrong.err


@pytest.mark.parametrize(
    ("argv", "changes"),
    [
        (("--seed", 1), True), (("--mask-prob", 0.5), True), (("--masking", "all"), True), (("--mask-token", "a"), True),
        (("--no-pack",), True), (("--lr", "1e-3"), True), (("--length", 32), True), (("--warmup", 2), True), (("--schedule", "constant"), True),
        (("--weight-decay", 0.9), True), (("--clip", 0.01), True), (("--lora-rank", 2), True), (("--lora-alpha", 1), True),
        (("--lora-dropout", 0), True), (("--lora-targets", "q_proj"), True), (("--limit", 5), True), (("--dtype", "bfloat16"), True),
        ((), False), (("--keep-checkpoints", 1, "--save-every", 1), False),
    ],
)  # fmt: skip
def test_every_option_changes_the_weights_or_is_known_not_to(
    train: Any, reference: bytes, tmp_path: Path, argv: Any, changes: bool
) -> None:
    done = train("--steps", 3, *argv)
    assert done.rc == 0, done.err
    assert (weights(tmp_path / "encoder") != reference) is changes


def test_a_service_that_is_unknown_is_wrong_usage(train: Any) -> None:
    done = train("--steps", 1, "--report-to", "pigeon")
    assert done.rc == 2 and "--report-to pigeon is unknown" in done.err


@pytest.fixture(scope="module")
def reference(bare: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from conftest import write_rows

    folder = tmp_path_factory.mktemp("reference")
    path = write_rows(folder / "texts.jsonl", TEXTS)
    assert (
        cli.main([path, "--model", bare(), "-o", str(folder / "out"), *FAST, "--steps", "3"]) == 0
    )
    return weights(folder / "out")


def test_kernels_widths_and_checkpointing_change_rounding_alone(train: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    same = [(), ("--batch-tokens", 8), ("--attention", "sdpa"), ("--gradient-checkpointing",)]
    runs = []
    for number, argv in enumerate(same):
        done = train(
            "--steps",
            2,
            "--lora-dropout",
            0,
            "--no-lora",
            "--lr",
            "1e-3",
            *argv,
            out=f"out{number}",
        )
        assert done.rc == 0, done.err
        runs.append(load_file(tmp_path / f"out{number}" / "model.safetensors"))
    for other in runs[1:]:
        assert (
            max(float((tensor - other[name]).abs().max()) for name, tensor in runs[0].items())
            < 3e-4
        )


def test_a_new_mask_token_is_saved_and_reported(train: Any, tmp_path: Path) -> None:
    done = train("--steps", 1, "--mask-token", "<blank>")
    assert done.rc == 0 and "mask token <blank>: added" in done.err, done.err
    model = load(tmp_path / "encoder")
    assert model[0].tokenizer.mask_token == "<blank>"
    assert model.encode("owls <blank>").shape == (32,)


def test_plain_text_files_are_texts_and_examples_are_queries_and_positives(
    train: Any, tmp_path: Path, write: Any
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("def f(x):\n    return x\n\n", "utf-8")
    whole, lines = (
        train("--steps", 1, rows=str(folder)),
        train("--steps", 9, "--lines", rows=str(folder), out="lines"),
    )
    assert "3 in, 3 out" in whole.err and "9 in, 6 out (3 without text)" in lines.err
    rows = [{"id": "a", "query": "owls?", "pos": ["owls.", "birds"]}]
    done = train("--steps", 1, rows=write(tmp_path / "e.jsonl", rows), out="examples")
    assert "1 in, 1 out" in done.err and "15 tokens" in done.err, done.err
    (folder / "bad.txt").write_bytes(b"fine\n\xff")
    assert "bad.txt, line 2: not UTF-8" in train("--steps", 1, rows=str(folder), out="bad").err


def test_a_dry_run_reports_the_plan_and_writes_nothing(train: Any, tmp_path: Path) -> None:
    done = train("--dry-run")
    assert done.rc == 0, done.err
    assert "minutes on cpu" in done.err and "% full" in done.err
    assert not (tmp_path / "encoder").exists() and not (tmp_path / "encoder.run").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--steps", 0), "--steps 0 trains on nothing"), (("--length", 1000), "above the 128 positions"),
        (("--lora-targets", "nothing"), "--lora-targets nothing"), (("--no-lora", "--lora-alpha", 1), "beside --no-lora"),
        (("--eval-every", 2), "nothing to evaluate on"), (("--dtype", "float16"), "float16"), (("--lines",), "--lines is for"),
        (("--adapters", "/nowhere"), "is no folder"), (("--device", "cuda:9"), "--device cuda:9 cannot be used"),
        (("--fsdp",), "start it by torchrun"),
        (("--deepspeed", "zero2"), "start it by torchrun"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_a_fix(
    train: Any, tmp_path: Path, argv: Any, message: str
) -> None:
    done = train(*argv)
    assert done.rc in (1, 2) and message in done.err and "fix:" in done.err, done.err
    assert not (tmp_path / "encoder").exists()


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaModel):
    config_class = OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("merge", ["--lora-merge", "--no-lora-merge"])
def test_python_of_a_model_folder_runs_on_demand_alone_and_the_encoder_says_that_it_needs_it(
    train: Any, tmp_path: Path, merge: str
) -> None:
    base = Path(bare_models.build(tmp_path / "own", "llama", head=True))
    (base / "own.py").write_text(OWN_CODE)
    config = json.loads((base / "config.json").read_text())
    kinds = {
        "AutoConfig": "own.OwnConfig",
        "AutoModel": "own.OwnModel",
        "AutoModelForCausalLM": "own.OwnForCausalLM",
    }
    (base / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": kinds}))
    done = train("--steps", 1, merge, base=str(base))
    assert (
        done.rc == 1
        and "brings its own Python code" in done.err
        and "--trust-remote-code" in done.err
    ), done.err
    done = train("--steps", 1, merge, "--trust-remote-code", base=str(base))
    assert done.rc == 0 and "SentenceTransformer(path, trust_remote_code=True)" in done.err, (
        done.err
    )
    assert "trust_remote_code=True" in (tmp_path / "encoder" / "README.md").read_text()


def test_frozen_weights_come_out_as_they_went_in(train: Any, bare: Any, tmp_path: Path) -> None:
    """In training they are bfloat16, where the hardware is faster so."""
    from safetensors.torch import load_file

    assert train("--steps", 1, "--lr", 0, "--dtype", "bfloat16").rc == 0
    base = load_file(Path(bare()) / "model.safetensors")
    saved = load_file(tmp_path / "encoder" / "model.safetensors")
    assert len(saved) == len(base) - 1  # the head
    for name, tensor in saved.items():
        assert torch.equal(tensor, base[f"model.{name}"]), name


def test_so_many_checkpoints_are_kept(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.train.run_dir import RunDir

    kept: list[list[str]] = []
    publish = RunDir.publish

    def record_and_publish(folder: RunDir, built: str) -> None:
        kept.append(
            sorted(name for name in os.listdir(folder.path) if name.startswith("checkpoint-"))
        )
        publish(folder, built)

    monkeypatch.setattr(RunDir, "publish", record_and_publish)
    for number in (1, 3):
        assert (
            train("--steps", 5, "--save-every", 1, "--keep-checkpoints", number, out=f"{number}").rc
            == 0
        )
    assert kept == [["checkpoint-4"], ["checkpoint-2", "checkpoint-3", "checkpoint-4"]]


def test_a_model_without_its_head_is_refused(train: Any, tmp_path: Path) -> None:
    headless = bare_models.build(tmp_path / "headless", "qwen3")
    assert "lacks lm_head.weight" in train(base=headless).err


def test_a_tokenizer_that_gives_no_tokens_is_named(train: Any, bare: Any, tmp_path: Path) -> None:
    mute = tmp_path / "mute"
    shutil.copytree(bare(), mute)
    tokenizer = json.loads((mute / "tokenizer.json").read_text())
    everything = {"type": "Replace", "pattern": {"Regex": r"[\s\S]"}, "content": ""}
    (mute / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": everything}))
    done = train(base=str(mute))
    assert done.rc == 1
    assert "the tokenizer of --model gives no token for any of 12 texts" in done.err


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(
    train: Any, bare: Any, tmp_path: Path
) -> None:
    done = train("--no-lora", "--lr", "1e30", "--clip", 0, "--steps", 9)
    assert done.rc == 1
    assert "at step 2; rows of the batch: " in done.err and "lower --lr" in done.err


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(train: Any, bare: Any, tmp_path: Path) -> None:
    import torch

    argv = ("--steps", "60", "--save-every", "5")
    train("--dry-run")  # writes texts.jsonl
    words = ["mntp", tmp_path / "texts.jsonl", "--model", bare(), "-o", tmp_path / "killed"]
    child = suite.start([*words, *FAST, *argv], tmp_path)
    while not (tmp_path / "killed.run" / "checkpoint-10").exists():
        assert child.process.is_alive()
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed").exists()
    other = train(*argv, "--mask-prob", 0.3, out="killed")
    assert "mask_prob was 0.2, now 0.3" in other.err
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the child
    try:
        again, whole = train(*argv, out="killed"), train(*argv, out="whole")
    finally:
        torch.set_num_threads(threads)
    assert "resuming from step" in again.err and whole.rc == again.rc == 0, again.err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert measures(tmp_path / "killed", "loss") == measures(tmp_path / "whole", "loss")
