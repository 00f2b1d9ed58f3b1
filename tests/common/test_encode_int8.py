"""--dtype int8: vectors near those of float32, of each text alone, kept apart, at a cost that is told."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import torch
from conftest import SUBJECTS
from torch import nn

from fletching.encode import Encoder, int8_linear
from fletching.encode.instruction_set import has_vnni
from fletching.encode.int8_linear import Int8Linear
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: torch

TEXTS = [f"{text} " * (1 + number % 5) for number, text in enumerate(sum(SUBJECTS.values(), ()))]


@dataclass(frozen=True, kw_only=True)
class Options(EncodingOptions):
    output: str | None = None


def encoder_of(folder: str, **options: object) -> Encoder:
    settings = {"model": folder, "dtype": "int8"} | options
    return Encoder(Options(**settings), Report("test", quiet=True))


def test_a_layer_is_that_of_whole_numbers_scaled_by_row_and_channel():
    """Against numpy in float64: what is rounded is rounded, the sums are exact."""
    generator = np.random.default_rng(0)
    linear = nn.Linear(50, 7)
    scales = 10.0 ** np.arange(5)[:, None]
    states = (generator.normal(size=(2, 5, 50)) * scales).astype(np.float32)
    states[0, 0] = 0  # a token without activations
    with torch.no_grad():
        output = Int8Linear(linear)(torch.from_numpy(states)).numpy()
    weight = linear.weight.detach().numpy().astype(np.float64)
    channel = np.abs(weight).max(1) / (127 if has_vnni() else 63)
    row = np.abs(states).max(-1, keepdims=True).astype(np.float64) / 127
    whole = np.rint(states / np.maximum(row, 1e-30))
    expected = whole @ np.rint(weight / channel[:, None]).T * channel * row
    expected += linear.bias.detach().numpy()
    assert np.allclose(output, expected, rtol=1e-4, atol=1e-4 * row)
    plain = linear(torch.from_numpy(states)).detach().numpy()
    assert np.linalg.norm(output - plain) / np.linalg.norm(plain) < 0.02


def test_a_layer_without_a_bias_is_one_too():
    linear = nn.Linear(8, 3, bias=False)
    states = torch.eye(8)
    with torch.no_grad():
        assert (Int8Linear(linear)(states) - linear(states)).abs().max() < 0.01


def test_vectors_are_near_those_of_float32_and_of_unit_length(model):
    int8 = encoder_of(model).encode(TEXTS, "document")
    float32 = encoder_of(model, dtype="float32").encode(TEXTS, "document")
    assert (int8 != float32).any()
    assert (int8 * float32).sum(1).min() > 0.99  # tiny random weights; a real model is above
    assert np.abs(np.linalg.norm(int8, axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("settings", [{}, {"batch_tokens": 30}, {"batch_tokens": 100_000}])
def test_a_text_has_the_same_bytes_alone_and_in_any_batch(model, settings):
    alone = encoder_of(model)
    each = np.concatenate([alone.encode([text], "document") for text in TEXTS])
    assert (encoder_of(model, **settings).encode(TEXTS, "document") == each).all()


def test_padded_batches_are_as_near_as_packed_ones(model, monkeypatch):
    packed = encoder_of(model).encode(TEXTS, "document")
    monkeypatch.setattr("fletching.encode.padding_free.prepare", lambda *_: None)
    padded = encoder_of(model)
    assert padded.forward_pass.first_position is None
    assert (padded.encode(TEXTS, "document") * packed).sum(1).min() > 0.999


def test_a_cache_keeps_int8_and_float32_apart(model, tmp_path, monkeypatch):
    kept = {
        dtype: encoder_of(model, dtype=dtype, cache=str(tmp_path)) for dtype in ("float32", "int8")
    }
    for encoder in kept.values():
        with encoder:
            encoder.encode(TEXTS, "document")
    assert len({path.name for path in tmp_path.iterdir()}) == 2
    assert kept["int8"].settings["dtype"] == kept["int8"].int8_choice.number_type
    with encoder_of(model, cache=str(tmp_path)) as again:
        monkeypatch.setattr(again.forward_pass, "vectors", None)  # nothing is left to encode
        assert (again.encode(TEXTS, "document") == kept["int8"].encode(TEXTS, "document")).all()


def test_the_cost_is_told_once_for_each_role(model, capsys):
    report = Report("test")
    with Encoder(Options(model=model, dtype="int8", query_length=4), report) as encoder:
        for _ in range(2):
            encoder.encode(TEXTS[:9], "document")
            encoder.encode(["why does the tide follow the moon", *TEXTS[9:12]], "query")
    notes = [line for line in report.notes if "int8" in line and "cosine" in line]
    assert len(notes) == 2 and "documents have a cosine of " in notes[0]
    assert "(9 texts)" in notes[0] and "queries" in notes[1]
    figures = report.measures["int8_cosine"]
    assert 0.99 < figures["document"]["min"] <= figures["document"]["mean"] <= 1
    # Twice four: the sample is not counted again.
    assert "8 query texts (100.0%) cut after 4 tokens" in capsys.readouterr().err


def test_the_costliest_layers_stay_float32_but_for_half_of_the_products(model):
    encoder = encoder_of(model)
    choice = encoder.int8_choice
    assert choice == encoder_of(model).int8_choice  # of the model, not of any data
    layers = int8_linear.linear_layers(encoder.reference.transformer)
    groups = [*choice.int8, *choice.float32]
    assert sorted(layers) == sorted(name for group in groups for name in group.layers)
    products = {group.name: group.products for group in groups}
    in_float32 = sum(group.products for group in choice.float32)
    assert 0 < in_float32 <= 0.5 * sum(products.values())
    # Whatever is int8 costs less for its products, or there was no room for it.
    products_left = 0.5 * sum(products.values()) - in_float32
    least = min(group.loss / group.products for group in choice.float32)
    assert all(
        group.loss / group.products <= least or group.products > products_left
        for group in choice.int8
    )
    kinds = {name: type(layer) for name, layer in encoder.model[0].named_modules()}
    assert all(kinds[name] is Int8Linear for name in choice.layers)


def test_layers_that_read_outliers_stay_float32(model, tmp_path):
    """A channel that no result depends on takes the steps of int8 from all the others."""
    from sentence_transformers import SentenceTransformer

    skewed = SentenceTransformer(model, device="cpu")
    for layer in skewed[0].model.encoder.layer:
        with torch.no_grad():
            layer.intermediate.dense.bias[0] = 500
            layer.output.dense.weight[:, 0] = 0
    skewed.save(str(tmp_path / "skewed"))
    usual, choice = (encoder_of(path).int8_choice for path in (model, str(tmp_path / "skewed")))
    losses = [
        {group.name.removeprefix("model.encoder.layer.*."): group.loss for group in all_groups}
        for all_groups in ((*each.int8, *each.float32) for each in (usual, choice))
    ]
    assert losses[1]["output.dense"] > 100 * losses[0]["output.dense"]
    assert choice.float32[0].name.endswith("layer.*.output.dense")


def test_what_cannot_be_int8_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match="--dtype int8 is for CPUs"):
        int8_linear.check(["cuda:0"])
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = SentenceTransformer(model, device="cpu").tokenizer.backend_tokenizer
    table = StaticEmbedding(tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[table], device="cpu").save(str(tmp_path / "static"))
    with pytest.raises(InputError, match="no linear layers"):
        encoder_of(str(tmp_path / "static"))


# --- the commands


def test_every_command_that_encodes_takes_it_and_tells_its_cost(
    run, write, examples, model, tmp_path
):
    source = str(write(tmp_path / "rows.jsonl", examples))
    lines = {
        "texts2vectors": [source, "-o", str(tmp_path / "v.parquet")],
        "simfilter": [source, "--score-only", "-o", str(tmp_path / "s.jsonl")],
        "mteb-eval": [model, "--examples", source],
    }
    for name, words in lines.items():
        summary = tmp_path / f"{name}.json"
        asked = words if name == "mteb-eval" else [*words, "--model", model]
        done = run([name, *asked, "--dtype", "int8", "--json-summary", str(summary)])
        assert done.rc == 0, done.err
        assert "--dtype int8: documents have a cosine of " in done.err
        assert json.loads(summary.read_text("utf-8"))["measures"]["int8_cosine"]["document"]


def test_hnmine_tells_how_many_of_the_nearest_texts_stay(run, write, model, tmp_path):
    words = [f"{first} and {second}" for first in SUBJECTS for second in SUBJECTS]
    rows = [{"query": f"what of {text}?", "pos": [text]} for text in words[:40]]
    source = str(write(tmp_path / "rows.jsonl", rows))
    line = ["hnmine", source, "--model", model, "--dtype", "int8", "--negatives", "1"]
    done = run([*line, "-o", str(tmp_path / "out.jsonl")])
    assert done.rc == 0, done.err
    assert "of the nearest 10 texts by float32 (on 4 queries)" in done.err


def test_a_server_or_a_file_of_vectors_has_no_number_type(run, write, examples, tmp_path):
    source = str(write(tmp_path / "rows.jsonl", examples))
    for words in (
        ["--vectors", "v.parquet"],
        ["--base-url", "http://localhost:1/v1", "--model", "m"],
    ):
        done = run(["simfilter", source, *words, "--dtype", "int8", "--min-sim", "0"])
        assert done.rc == 2 and "--dtype int8 is for a model that runs in this process" in done.err


def test_files_of_two_number_types_are_not_joined(run, write, examples, model, tmp_path):
    source = str(write(tmp_path / "rows.jsonl", examples))
    files = {dtype: str(tmp_path / f"{dtype}.parquet") for dtype in ("float32", "int8")}
    for dtype, path in files.items():
        line = ["texts2vectors", source, "--model", model, "--dtype", dtype, "-o", path]
        assert run(line).rc == 0
    done = run(["simfilter", source, "--vectors", ",".join(files.values()), "--min-sim", "0"])
    assert done.rc == 1 and "another model" in done.err
