"""mntp on an encoder: masked language modelling in place; a sentence-transformers folder keeps its modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bare_models
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import SUBJECTS

from mntp import cli
from mntp.masking import TokenMasking
from mntp.objective import NOT_PREDICTED, MntpObjective, PaddedBlocks

pytestmark = pytest.mark.slow  # as a whole: each test loads models

SIZES = dict(bare_models.SIZES, pad_token_id=0)
TEXTS = [{"text": f"{question}\n    {answer}"} for question, answer in SUBJECTS.values()]
FAST = "--batch 4 --length 64 --lr 2e-2 --dtype float32 --batch-tokens 256 --steps 12".split()


def network(kind: str) -> Any:
    import transformers as t

    configs = {
        "bert": t.BertConfig(**SIZES),
        "roberta": t.RobertaConfig(**SIZES | dict(max_position_embeddings=130)),
        "distilbert": t.DistilBertConfig(
            vocab_size=300, dim=32, n_layers=2, n_heads=4, hidden_dim=64, pad_token_id=0
        ),
        "modernbert": bare_models.configs()["modernbert"],
    }
    torch.manual_seed(1)
    return t.AutoModelForMaskedLM.from_config(configs[kind], attn_implementation="eager").eval()


def publish(folder: Path, kind: str, *, head: bool = True) -> str:
    """A tiny encoder as it is published, with its head or without."""
    model = network(kind)
    (model if head else model.base_model).save_pretrained(folder)
    tokenizer = bare_models.tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def train(invoke: Any, tmp_path: Path, write: Any) -> Any:
    """train(base, "--no-lora"): a run of the command on a dozen texts."""

    def train(base: str, *words: Any, out: str = "out") -> Any:
        texts = write(tmp_path / "texts.jsonl", TEXTS)
        return invoke(cli.main, texts, "--model", base, "-o", tmp_path / out, *FAST, *words)

    return train


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
def test_the_loss_is_the_cross_entropy_at_the_masked_token_itself(kind: str) -> None:
    """Against the loss that transformers computes of the same labels, in float64."""
    model = network(kind).double()
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15, 16, 17, 0, 0, 0]])
    texts = torch.where(ids > 0, 0, -1)
    labels = torch.full_like(ids, NOT_PREDICTED)
    labels[0, 0], labels[0, 5], labels[1, 4] = 70, 80, 90
    positions = torch.arange(8).expand(2, 8)
    blocks = PaddedBlocks(ids=ids, labels=labels, texts=texts, positions=positions)
    sums = MntpObjective(model, in_place=True)(blocks)
    expected = model(input_ids=ids, attention_mask=(ids > 0).long(), labels=labels).loss
    assert sums.tokens == 3
    assert sums.loss.item() / 3 == pytest.approx(expected.item(), rel=1e-6)


def test_the_first_token_is_masked_for_encoders_alone() -> None:
    def first(may: bool) -> bool:
        masking = TokenMasking(
            probability=1.0,
            replaced=(1.0, 0.0),
            mask_id=4,
            vocabulary=300,
            special=np.array([0]),
            seed=1,
            first=may,
        )
        _, is_target = masking.apply(np.arange(9, 15), position=0, epoch=0)
        assert is_target[1:].all()
        return bool(is_target[0])

    assert first(True) and not first(False)


def test_a_sentence_transformers_folder_keeps_its_modules_and_prompts(
    train: Any, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    bare = publish(tmp_path / "bare", "bert", head=False)
    transformer = Transformer(bare)
    transformer.max_seq_length = 48
    modules = [transformer, Pooling(32, "cls"), Normalize()]
    prompts = {"query": "query: "}
    base = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    base.save_pretrained(str(tmp_path / "base"))
    words = ("--no-lora", "--eval", tmp_path / "texts.jsonl")
    done = train(str(tmp_path / "base"), *words)
    assert done.rc == 0, done.err
    assert "bert is an encoder: masked language modelling (MLM)" in done.err
    assert "its head is new" in done.err and "(100.00%)" in done.err
    tuned = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert [type(module) for module in tuned] == [type(module) for module in base]
    assert tuned.prompts["query"] == "query: " and tuned.max_seq_length == 48
    assert tuned[1].pooling_mode == "cls"
    record = json.loads((tmp_path / "out" / "fletching.json").read_text())
    assert record["end"]["trained"]["lengths"] == {"query": 48, "document": 48}
    before, after = (dict(model[0].model.named_parameters()) for model in (base, tuned))
    assert before.keys() == after.keys()
    assert torch.equal(before["pooler.dense.weight"], after["pooler.dense.weight"])
    assert not torch.equal(
        before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"]
    )
    rows = pq.read_table(tmp_path / "out" / "measures.parquet").to_pylist()
    losses = [row["value"] for row in rows if row["name"] == "mlm_loss"]
    assert losses[-1] < losses[0] - 0.1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "masked language modelling" in card and "made from the encoder" in card
    again = train(str(tmp_path / "base"), *words, out="again")
    assert again.rc == 0
    tuned, same = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")
    )
    assert tuned == same


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
def test_an_encoder_with_its_head_trains_by_lora_and_gets_a_pooling(
    kind: str, train: Any, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    done = train(publish(tmp_path / "bare", kind))
    assert done.rc == 0, done.err
    assert "its head is new" not in done.err and "at its own place (MLM)" in done.err
    assert ("one text a block" in done.err) == (kind == "roberta")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert model[1].pooling_mode == "mean" and model.encode("owls").shape == (32,)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--no-lora-merge"], "--no-lora-merge, but"),
        (["--adapters", "BASE"], "--adapters, but"),
    ],
)
def test_what_is_for_decoders_is_refused(
    words: list[str], problem: str, train: Any, tmp_path: Path
) -> None:
    base = publish(tmp_path / "bare", "bert")
    done = train(base, *(base if word == "BASE" else word for word in words))
    assert done.rc == 2 and problem in done.err and "is an encoder" in done.err


def test_steps_0_and_a_second_pooling_are_refused(invoke: Any, train: Any, tmp_path: Path) -> None:
    base = publish(tmp_path / "bare", "bert")
    done = invoke(cli.main, "--model", base, "-o", tmp_path / "o", "--steps", 0)
    assert done.rc == 2 and "bidirectional already" in done.err
    (tmp_path / "bare" / "modules.json").write_text("[]")
    done = train(base, "--pooling", "cls")
    assert done.rc == 2 and "has a pooling, which it keeps" in done.err
