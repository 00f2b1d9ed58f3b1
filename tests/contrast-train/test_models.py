"""Bare Hugging Face models and adapters: training works, and what is saved gives the same vectors elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bare_models
import pyarrow.parquet as pq
import pytest

from contrast_train import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "6",
    "--batch-tokens",
    "256",
    "--lr",
    "3e-3",
    "--dtype",
    "float32",
    "--steps",
    "6",
)
CAUSAL = {"gemma3": False, "qwen3": True, "mistral": True, "llama": True, "modernbert": False}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """bare("qwen3"): the folder of a tiny one, built once."""
    root = tmp_path_factory.mktemp("bare")

    def bare(kind: str, head: bool = False) -> str:
        folder = root / f"{kind}{head}"
        return str(folder) if folder.exists() else bare_models.build(folder, kind, head=head)

    return bare


@pytest.fixture
def train(invoke: Any, tmp_path: Path, write: Any, examples: list[dict[str, Any]]) -> Any:
    def train(base: str, *argv: Any, out: str = "tuned") -> Any:
        return invoke(
            cli.main,
            write(tmp_path / "train.jsonl", examples),
            "--model",
            base,
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )

    return train


def losses(folder: Path) -> list[float]:
    return [
        row["value"]
        for row in pq.read_table(folder / "measures.parquet").to_pylist()
        if row["name"] == "loss"
    ]


def load(folder: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def sees_ahead(model: Any) -> bool:
    """Whether the last token changes the vector of the first one."""
    one, other = (
        model.encode([text], output_value="token_embeddings", convert_to_tensor=True)[0]
        for text in ("owls fly.", "owls fly!")
    )
    return not one[0].allclose(other[0], atol=1e-6)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_bare_model_of_each_class_learns_and_stays_what_it_was(
    train: Any, run: Any, bare: Any, tmp_path: Path, kind: str
) -> None:
    done = train(bare(kind, head=CAUSAL[kind]))
    assert done.rc == 0, done.err
    values = losses(tmp_path / "tuned")
    assert sum(values[-2:]) < sum(values[:2])
    model = load(tmp_path / "tuned")
    assert model[1].pooling_mode == ("lasttoken" if CAUSAL[kind] else "mean")
    assert sees_ahead(model) is not CAUSAL[kind]
    assert type(model[0].model).__name__ == type(load(bare(kind))[0].model).__name__
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]


@pytest.mark.slow
def test_the_folder_of_a_bare_decoder_loads_without_fletching(
    train: Any, run: Any, bare: Any, tmp_path: Path
) -> None:
    assert train(bare("qwen3", head=True)).rc == 0
    script = "import sys; sys.modules['fletching'] = sys.modules['contrast_train'] = None\n"
    script += "from sentence_transformers import SentenceTransformer\n"
    script += f"print(*SentenceTransformer({str(tmp_path / 'tuned')!r}, device='cpu').encode('owl').round(5)[:4])"
    done = run([sys.executable, "-c", script])
    assert [float(x) for x in done.text.split()] == pytest.approx(
        load(tmp_path / "tuned").encode("owl")[:4].tolist(), abs=2e-5
    )


def test_last_token_pooling_saves_a_tokenizer_that_ends_texts(
    train: Any, bare: Any, tmp_path: Path
) -> None:
    assert load(bare("llama"))[0].tokenizer("owl")["input_ids"][-1] != 2
    assert train(bare("llama"), "--doc-length", 8, "--query-length", 8).rc == 0
    tokenizer = load(tmp_path / "tuned")[0].tokenizer
    for text in ("", "owl", "a long text that is cut"):
        ids = tokenizer(text, truncation=True, max_length=8)["input_ids"]
        assert ids[-1] == 2
        assert ids.count(2) == 1
        assert len(ids) <= 8


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "weighted"])
def test_pooling_of_a_bare_model_is_chosen_and_saved(
    train: Any, bare: Any, tmp_path: Path, pooling: str
) -> None:
    assert train(bare("modernbert"), "--pooling", pooling, "--steps", 1).rc == 0
    names = {"cls": "cls", "mean": "mean", "last": "lasttoken", "weighted": "weightedmean"}
    assert load(tmp_path / "tuned")[1].pooling_mode == names[pooling]


def test_another_pooling_than_the_models_own_is_an_error(
    train: Any, model: str, tmp_path: Path
) -> None:
    assert train(model, "--pooling", "mean", "--steps", 1).rc == 0
    done = train(model, "--pooling", "cls", out="other")
    assert done.rc == 2
    assert "pools by mean" in done.err


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def changed(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not one[name].equal(other[name])}


def test_lora_trains_adapters_and_merges_them(train: Any, bare: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    done = train(bare("qwen3"), "--lora", "--lora-targets", "q_proj,v_proj", "--steps", 12)
    assert done.rc == 0, done.err
    assert all(line.startswith("contrast-train: ") for line in done.err.splitlines()), done.err
    assert losses(tmp_path / "tuned")[-1] < losses(tmp_path / "tuned")[0]
    before = load_file(Path(bare("qwen3")) / "model.safetensors")
    moved = changed(before, tensors(tmp_path / "tuned"))
    assert moved == {f"layers.{i}.self_attn.{name}_proj.weight" for i in range(2) for name in "qv"}


def test_adapters_kept_give_the_vectors_of_adapters_merged(
    train: Any, bare: Any, tmp_path: Path
) -> None:
    assert train(bare("mistral"), "--lora", out="merged").rc == 0
    done = train(bare("mistral"), "--lora", "--no-lora-merge", out="kept")
    assert done.rc == 0, done.err
    assert (tmp_path / "kept" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "kept" / "model.safetensors").exists()
    merged, kept = (
        load(tmp_path / out).encode(["owl", "a glacier slides"]) for out in ("merged", "kept")
    )
    assert abs(merged - kept).max() < 1e-5


def test_lora_goes_on_from_checkpoints_of_adapters_alone(
    train: Any, bare: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    from fletching.train.run_dir import RunDir

    before, sizes = RunDir.save, []

    def stop(self: Any, step: int, *rest: Any, **limits: Any) -> None:
        before(self, step, *rest, **limits)
        sizes.append(set(load_file(Path(self.checkpoint_path(step)) / "weights.safetensors")))
        if step == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDir, "save", stop)
        assert train(bare("llama"), "--lora", "--save-every", 2).rc == 130
    assert all("lora_" in name for name in sizes[0])
    assert "resuming from step 4" in train(bare("llama"), "--lora", "--save-every", 2).err
    assert train(bare("llama"), "--lora", out="whole").rc == 0
    assert not changed(tensors(tmp_path / "tuned"), tensors(tmp_path / "whole"))


LORA_WEIGHTS: dict[str, Any] = {}  # without any of these options, trained once


@pytest.mark.parametrize(
    "option",
    [("--lora-rank", "2"), ("--lora-alpha", "1"), ("--lora-targets", "q_proj"), ("--seed", "1")],
)
def test_each_option_of_lora_changes_the_weights(
    train: Any, bare: Any, tmp_path: Path, option: tuple[str, str]
) -> None:
    if not LORA_WEIGHTS:
        assert train(bare("qwen3"), "--lora", "--steps", 2, out="one").rc == 0
        LORA_WEIGHTS.update(tensors(tmp_path / "one"))
    assert train(bare("qwen3"), "--lora", "--steps", 2, *option).rc == 0
    assert changed(LORA_WEIGHTS, tensors(tmp_path / "tuned"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--lora-alpha", "3"), "without --lora"),
        (("--lora-4bit",), "pass --lora"),
        (("--lora", "--lora-targets", "nothing"), "--lora-targets nothing"),
    ],
)
def test_options_of_lora_that_cannot_work_are_wrong_usage(
    train: Any, bare: Any, argv: tuple[str, ...], message: str
) -> None:
    done = train(bare("qwen3"), *argv)
    assert done.rc == 2
    assert message in done.err


def test_four_bits_without_bitsandbytes_are_refused_with_the_way_out(
    train: Any, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    done = train(bare("qwen3"), "--lora", "--lora-4bit")
    assert done.rc == 1
    assert "pip install" in done.err


def test_layers_computed_again_give_the_same_weights(
    train: Any, bare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    passes, forward = [], Qwen3MLP.forward
    monkeypatch.setattr(
        Qwen3MLP, "forward", lambda self, x: passes.append(x.requires_grad) or forward(self, x)
    )
    counts = []
    for out, argv in (("one", ()), ("again", ("--gradient-checkpointing",))):
        passes.clear()
        assert train(bare("qwen3"), "--steps", 2, *argv, out=out).rc == 0
        counts.append(len(passes))
    assert counts[1] > counts[0]
    one, again = tensors(tmp_path / "one"), tensors(tmp_path / "again")
    assert max(float((one[name] - again[name]).abs().max()) for name in one) < 1e-5


def test_the_manifest_of_a_model_names_its_pooling(train: Any, bare: Any, tmp_path: Path) -> None:
    assert train(bare("modernbert"), "--pooling", "cls", "--steps", 1).rc == 0
    assert (
        json.loads((tmp_path / "tuned" / "fletching.json").read_text())["step"]["options"][
            "pooling"
        ]
        == "cls"
    )
