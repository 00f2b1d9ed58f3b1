"""mntp -> contrast-train -> mteb-eval: the model is bidirectional at every stage, and at the end without Fletching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bare_models
import pytest
import torch
import transformers
from conftest import SUBJECTS
from decoders import CONVERTIBLE
from suite import ROOT

import contrast_train.cli
import mntp.cli
import mteb_eval.cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


def sees_ahead(folder: Path) -> bool:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    one, other = (
        model.encode([text], output_value="token_embeddings")[0]
        for text in ("owls fly.", "owls fly!")
    )
    return bool((one[0] - other[0]).abs().max() > 1e-6)


@pytest.fixture(scope="module")
def trained(write: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """trained("llama"): the folder of an encoder that two steps of mntp made of a causal decoder.

    Each is trained once.
    """
    root = tmp_path_factory.mktemp("encoders")

    def trained(name: str) -> Path:
        folder = root / name
        if folder.exists():
            return folder / "encoder"
        torch.manual_seed(0)
        config = CONVERTIBLE[name]()
        config.max_position_embeddings = 128
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "decoder")
        tokenizer = bare_models.tokenizer()
        tokenizer.chat_template = "{% for m in messages %}chat {{ m['content'] }}{% endfor %}"
        tokenizer.save_pretrained(folder / "decoder")
        assert not sees_ahead(folder / "decoder")
        argv = [texts(write, folder), "--model", str(folder / "decoder")]
        argv += ["--length", "64", "--batch", "4", "--steps", "2", "--dtype", "float32"]
        argv += ["--no-pack"] if name == "gemma3" else []  # its window is shorter
        assert mntp.cli.main([*argv, "-o", str(folder / "encoder")]) == 0
        assert sees_ahead(folder / "encoder")
        saved = json.loads((folder / "encoder/sentence_bert_config.json").read_text())
        assert list(saved["modality_config"]) == ["text"], "it would read texts as chats"
        return folder / "encoder"

    return trained


def texts(write: Any, folder: Path) -> str:
    return write(
        folder / "texts.jsonl",
        [{"id": key, "text": answer} for key, (_, answer) in SUBJECTS.items()],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma3"])
def test_an_encoder_stays_bidirectional_along_the_chain(
    name: str, trained: Any, invoke: Any, write: Any, examples: Any, tmp_path: Path
) -> None:
    encoder, rows = trained(name), write(tmp_path / "train.jsonl", examples)
    for lora, out in ((("--lora",), "tuned"), (("--lora", "--no-lora-merge"), "adapter")):
        steps = ("--batch", "4", "--steps", "2", "--dtype", "float32")
        done = invoke(
            contrast_train.cli.main, rows, "--model", encoder, "-o", tmp_path / out, *steps, *lora
        )
        assert done.rc == 0, done.err
        assert sees_ahead(tmp_path / out)
    done = invoke(mteb_eval.cli.main, encoder, tmp_path / "tuned", "--examples", f"own={rows}")
    assert done.rc == 0, done.err
    assert "nDCG@10" in done.text


@pytest.mark.parametrize("lora", [(), ("--lora",)], ids=["full", "lora"])
def test_simcse_on_texts_is_the_third_step(
    lora: Any, trained: Any, invoke: Any, write: Any, examples: Any, tmp_path: Path
) -> None:
    """A decoder has no dropout by default: the two views of a text need --dropout to differ."""
    encoder, path = trained("llama"), texts(write, tmp_path)
    rows = write(tmp_path / "test.jsonl", examples)
    steps = ("--batch", "6", "--steps", "4", "--lr", "3e-3", "--dtype", "float32", *lora)
    done = invoke(
        contrast_train.cli.main, path, "--model", encoder, "-o", tmp_path / "simcse", *steps
    )
    assert done.rc == 1 and "--dropout" in done.err, done.err
    done = invoke(
        contrast_train.cli.main,
        path,
        "--model",
        encoder,
        "-o",
        tmp_path / "simcse",
        *steps,
        "--dropout",
        "0.2",
    )
    assert done.rc == 0 and "simcse" in done.err, done.err
    assert sees_ahead(tmp_path / "simcse")
    step = json.loads((tmp_path / "simcse" / "fletching.json").read_text())["step"]
    assert step["options"]["loss"] == "simcse"
    done = invoke(
        mteb_eval.cli.main,
        encoder,
        tmp_path / "simcse",
        "--examples",
        f"own={rows}",
        "-o",
        tmp_path / "measures.jsonl",
    )
    assert done.rc == 0, done.err
    measures = [json.loads(line) for line in (tmp_path / "measures.jsonl").read_text().splitlines()]
    assert {row["run"] for row in measures} == {"encoder", "simcse"}


def test_a_block_longer_than_the_attention_window_is_refused(
    invoke: Any, write: Any, tmp_path: Path
) -> None:
    transformers.AutoModelForCausalLM.from_config(CONVERTIBLE["gemma3"]()).save_pretrained(
        tmp_path / "decoder"
    )
    bare_models.tokenizer().save_pretrained(tmp_path / "decoder")
    texts = write(tmp_path / "texts.jsonl", [{"id": "a", "text": "owls"}])
    done = invoke(
        mntp.cli.main,
        texts,
        "--model",
        tmp_path / "decoder",
        "-o",
        tmp_path / "encoder",
        "--length",
        64,
    )
    assert (
        done.rc == 1
        and "above the window of the model's attention, 8" in done.err
        and "--no-pack" in done.err
    ), done.err


RECIPES = sorted((ROOT / "examples" / "recipes").glob("mntp-*.json"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_on_a_tiny_model(
    recipe: Path, invoke: Any, write: Any, tmp_path: Path
) -> None:
    decoder = bare_models.build(
        tmp_path / "decoder", "mistral" if "mistral" in recipe.stem else "llama", head=True
    )
    texts = write(
        tmp_path / "texts.jsonl", [{"id": "a", "text": "def owl(night):\n    return _\n"}]
    )
    small = ("--model", decoder, "--steps", 1, "--batch", 2, "--length", 64, "--dtype", "float32")
    done = invoke(mntp.cli.main, texts, "--config", recipe, *small, "-o", tmp_path / "encoder")
    assert done.rc == 0, done.err
    options = json.loads((tmp_path / "encoder" / "fletching.json").read_text())["step"]["options"]
    assert options["masking"] == ("all" if "mistral" in recipe.stem else "mlm")
    assert options["seed"] == 42


def test_the_recipes_are_those_of_the_published_models() -> None:
    assert [path.stem for path in RECIPES] == [
        "mntp-codegemma-2b",
        "mntp-llama-2-7b-chat",
        "mntp-llama-3-8b-instruct",
        "mntp-llama-3.1-8b-instruct",
        "mntp-mistral-7b-instruct-v0.2",
        "mntp-sheared-llama-1.3b",
    ]
