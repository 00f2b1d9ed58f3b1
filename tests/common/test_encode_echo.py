"""Echo embeddings against plain transformers by hand: the text twice, pooled over the second time."""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

import bare_models
import numpy as np
import pytest
import torch

from fletching.errors import UsageError
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

TEXTS = [
    "owls fly at night",
    "a",
    "Why does a glacier move with the tide?",
    "猫 🐈\n    def f():",
    "a",
]
PROMPT, BETWEEN = "Query: ", " Query again: "


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """decoder("mean"): a causal sentence-transformers folder; its tokenizer puts <s> and </s> around a text."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import processors

    root = tmp_path_factory.mktemp("decoders")
    bare_models.build(root / "bare", "llama")
    framed = bare_models.tokenizer()
    framed.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    framed.save_pretrained(root / "bare")

    def decoder(pooling: str) -> str:
        folder = root / pooling
        if not folder.exists():
            transformer = Transformer(str(root / "bare"))
            pool = Pooling(transformer.get_embedding_dimension(), pooling)
            SentenceTransformer(modules=[transformer, pool], device="cpu").save_pretrained(
                str(folder)
            )
        return str(folder)

    return decoder


def encoder(model: str, **options: Any) -> Any:
    from fletching.encode import Encoder

    return Encoder(
        EncodingOptions(**{"model": model, "dtype": "float32", "device": "cpu"} | options),
        Report("t", quiet=True),
    )


def by_hand(
    folder: str, text: str, prompt: str, pooling: str, keep: int | None = None
) -> np.ndarray:
    """One text, one token a byte, without padding. keep: bytes of the text, both times."""
    import transformers

    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ids(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    cut = ids(text)[:keep]
    whole = [1, *ids(prompt), *cut, *ids(BETWEEN), *cut, 2]
    with torch.no_grad():
        states = network(torch.tensor([whole])).last_hidden_state[0, -len(cut) - 1 :]
    vector = {
        "mean": states.mean(0),
        "lasttoken": states[-1],
        "cls": states[0],
        "max": states.max(0).values,
    }[pooling]
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["mean", "lasttoken", "cls", "max"])
def test_the_vectors_are_those_of_the_second_time(decoder: Any, pooling: str, side: str) -> None:
    folder = decoder(pooling)
    with encoder(folder, query_prompt=PROMPT, query_echo=BETWEEN, doc_echo=BETWEEN) as made:
        made.model[0].tokenizer.padding_side = side
        for role, prompt in (("query", PROMPT), ("document", "")):
            expected = np.stack([by_hand(folder, text, prompt, pooling) for text in TEXTS])
            assert np.abs(made.encode(TEXTS, role) - expected).max() < 1e-5


def test_each_role_echoes_by_its_own_option(decoder: Any) -> None:
    folder = decoder("mean")
    with encoder(folder) as plain, encoder(folder, query_echo=BETWEEN) as echoed:
        np.testing.assert_array_equal(
            plain.encode(TEXTS, "document"), echoed.encode(TEXTS, "document")
        )
        assert np.abs(plain.encode(TEXTS, "query") - echoed.encode(TEXTS, "query")).max() > 1e-3
        assert "echoes" not in plain.settings and echoed.settings["echoes"] == {
            "query": BETWEEN,
            "document": None,
        }


def test_both_times_are_cut_alike_and_counted(decoder: Any) -> None:
    folder, text = decoder("mean"), "abcdefghij" * 5
    room = 64 - 2 - len(PROMPT) - len(BETWEEN)
    report = Report("t", quiet=True)
    made = encoder(folder, query_prompt=PROMPT, query_echo=BETWEEN, query_length=64)
    made.report = report
    with made:
        found = made.encode([text, "owl"], "query")
    assert np.abs(found[0] - by_hand(folder, text, PROMPT, "mean", keep=room // 2)).max() < 1e-5
    assert np.abs(found[1] - by_hand(folder, "owl", PROMPT, "mean")).max() < 1e-5
    counts = made.preprocessor.counts
    assert (counts["query"].truncated, counts["document"].truncated) == (1, 0)


def test_an_echo_without_room_is_refused(decoder: Any) -> None:
    with (
        encoder(decoder("mean"), query_echo=BETWEEN, query_length=17) as made,
        pytest.raises(UsageError, match="leaves no room"),
    ):
        made.encode(["owls"], "query")


def test_a_batch_of_one_gives_what_a_batch_of_many_gives(decoder: Any) -> None:
    with (
        encoder(decoder("mean"), doc_echo="", batch_tokens=1) as one,
        encoder(decoder("mean"), doc_echo="") as many,
    ):
        assert np.abs(one.encode(TEXTS, "document") - many.encode(TEXTS, "document")).max() < 1e-6


def test_an_encoder_whose_batches_are_packed_can_echo(model: str) -> None:
    with encoder(model, query_echo=" ") as echoed, encoder(model) as plain:
        assert plain.forward_pass.first_position == 0 and echoed.forward_pass.first_position is None
        assert np.abs(echoed.encode(TEXTS, "query") - plain.encode(TEXTS, "query")).max() > 1e-3


def test_the_cache_tells_echoes_from_plain_vectors_and_from_each_other(
    decoder: Any, tmp_path: Path
) -> None:
    folder, cache = decoder("mean"), str(tmp_path / "cache")
    settings = [{}, {"doc_echo": ""}, {"doc_echo": " "}, {"doc_echo": " ", "doc_prompt": "ow"}]
    texts = ["owls", "ls"]  # the last prompt makes "owls" of "ls"
    for options in settings * 2:
        with encoder(folder, **options) as fresh, encoder(folder, cache=cache, **options) as kept:
            np.testing.assert_allclose(
                kept.encode(texts, "document"), fresh.encode(texts, "document"), atol=1e-6
            )
    assert len(os.listdir(cache)) == 3


def test_a_model_that_prepares_its_own_input_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = bare_models.tokenizer().backend_tokenizer
    SentenceTransformer(
        modules=[StaticEmbedding(words, embedding_dim=8)], device="cpu"
    ).save_pretrained(str(tmp_path / "static"))
    with pytest.raises(UsageError, match="prepares its own input"):
        encoder(str(tmp_path / "static"), doc_echo=" ")


def test_a_score_of_simfilter_is_the_cosine_of_echoed_vectors(
    decoder: Any, invoke: Any, write: Any, tmp_path: Path
) -> None:
    import simfilter.cli

    folder, out = decoder("mean"), tmp_path / "scored.jsonl"
    rows = write(
        tmp_path / "rows.jsonl", [{"id": "a", "query": "owls", "pos": ["they fly at night"]}]
    )
    words = ("--model", folder, "--score-only", "--dtype", "float32", "--device", "cpu", "-o", out)
    done = invoke(
        simfilter.cli.main,
        rows,
        "--query-prompt",
        PROMPT,
        "--query-echo",
        BETWEEN,
        "--doc-echo",
        BETWEEN,
        *words,
    )
    assert done.rc == 0, done.err
    expected = by_hand(folder, "owls", PROMPT, "mean") @ by_hand(
        folder, "they fly at night", "", "mean"
    )
    assert json.loads(out.read_text())["pos_scores"] == pytest.approx([float(expected)], abs=1e-5)


@pytest.mark.parametrize("option", ["--query-echo", "--doc-echo"])
@pytest.mark.parametrize("tool", ["hnmine", "simfilter"])
def test_given_vectors_cannot_be_echoed(tool: str, option: str, invoke: Any) -> None:
    main = importlib.import_module(f"{tool}.cli").main
    done = invoke(main, "in.jsonl", "--vectors", "v.parquet", option, " ", "-o", "out.jsonl")
    assert done.rc == 2, done.err
    assert re.search("--vectors are (used|taken) as they are", done.err)


def test_hnmine_mines_by_echoed_vectors(
    decoder: Any, invoke: Any, write: Any, examples: Any, tmp_path: Path
) -> None:
    import hnmine.cli

    rows, found = write(tmp_path / "rows.jsonl", examples), []
    for number, argv in enumerate([(), ("--query-echo", BETWEEN), ("--doc-echo", BETWEEN)]):
        out = tmp_path / f"{number}.jsonl"
        done = invoke(
            hnmine.cli.main,
            rows,
            "--model",
            decoder("mean"),
            "--negatives",
            2,
            "--max-ratio",
            0,
            *argv,
            "-o",
            out,
        )
        assert done.rc == 0, done.err
        found.append([json.loads(line)["pos_scores"] for line in out.read_text().splitlines()])
    assert found[0] != found[1] != found[2] != found[0]
