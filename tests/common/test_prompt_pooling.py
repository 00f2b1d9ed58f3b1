"""Prompts that are not pooled: their tokens are told from the text's by characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bare_models
import numpy as np
import pytest

from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test loads models

PROMPT = "q: "


def joining_tokenizer() -> Any:
    """A byte-level tokenizer that joins a blank with the letter after it, as GPT-2's does."""
    import json

    import tokenizers

    whole = bare_models.tokenizer()
    content = json.loads(whole.backend_tokenizer.to_str())
    for letter in "ao":
        content["model"]["vocab"]["Ġ" + letter] = len(content["model"]["vocab"])
    content["model"]["merges"] = [["Ġ", "o"], ["Ġ", "a"]]
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    return type(whole)(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", model_max_length=128
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model over that tokenizer that pools the text alone."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    path = tmp_path_factory.mktemp("model")
    bare_models.build(path / "bare", "modernbert")
    joining_tokenizer().save_pretrained(path / "bare")
    modules = [Transformer(str(path / "bare")), Pooling(32, include_prompt=False)]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save_pretrained(str(path / "whole"), create_model_card=False)
    return path / "whole"


def encode(folder: Path, texts: list[str], **options: Any) -> np.ndarray:
    from fletching.encode import Encoder

    settings = EncodingOptions(
        model=str(folder), dtype="float32", device="cpu", query_prompt=PROMPT, **options
    )
    with Encoder(settings, Report("t", quiet=True)) as encoder:
        return encoder.encode(texts, "query")


def mean_of_text(folder: Path, text: str) -> np.ndarray:
    """The mean over the tokens of the text behind the prompt, of unit length."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    encoded = model.tokenizer(PROMPT + text, return_offsets_mapping=True, return_tensors="pt")
    is_text = encoded.pop("offset_mapping")[0][:, 1] > len(PROMPT)
    with torch.no_grad():
        states = model[0].model(**encoded).last_hidden_state[0]
    return torch.nn.functional.normalize(states[is_text].mean(0), dim=0).numpy()


def test_no_token_of_the_text_is_left_out(folder: Path) -> None:
    texts = ["owl", "o", "an owl hunts", "o o"]
    wanted = np.stack([mean_of_text(folder, text) for text in texts])
    assert np.abs(encode(folder, texts) - wanted).max() < 1e-5


def test_a_text_of_which_nothing_is_pooled_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no token of the text 'owl' is left behind the prompt"):
        encode(folder, ["owl"], query_length=2)


def test_a_tokenizer_without_tokens_is_refused(folder: Path) -> None:
    from fletching.encode import Encoder

    settings = EncodingOptions(model=str(folder), device="cpu")
    with (
        Encoder(settings, Report("t", quiet=True)) as encoder,
        pytest.raises(InputError, match="gives no token for the text ''"),
    ):
        encoder.encode(["owl", ""], "document")


def test_the_trainer_counts_as_the_encoder_and_says_what_others_do(folder: Path) -> None:
    from contrast_train.cli import Options
    from contrast_train.model import backbone
    from fletching.cli import parse

    argv = ["--model", str(folder), "-o", "x", "--dtype", "float32", "--query-prompt", PROMPT]
    loaded = backbone.load(parse(Options, argv))
    assert loaded.prompt_tokens([(PROMPT, "owl"), (PROMPT, "an"), ("", "owl")]) == [2, 2, 0]
    [line] = loaded.describe_prompts()
    assert line.startswith("the prompt 'q: ' is ")
    with pytest.raises(InputError, match="gives no token"):
        loaded.tokenize([""], 8)
