"""Layers laid out for oneDNN: the same results as torch's own, whatever the architecture."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import torch
from conftest import SUBJECTS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fletching.encode import Encoder, instruction_set, packed_linear
from fletching.encode import model as models
from fletching.encode.packed_linear import PackedLinear
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = [
    pytest.mark.slow,  # as a whole: torch
    pytest.mark.skipif(not packed_linear.is_available(), reason="no oneDNN on this processor"),
]

NEEDS_BF16 = pytest.mark.skipif(not instruction_set.multiplies_bf16(), reason="no units for bf16")
TEXTS = [f"{text} " * (1 + number % 5) for number, text in enumerate(sum(SUBJECTS.values(), ()))]


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    fan_in=st.integers(1, 70),
    fan_out=st.integers(1, 70),
    has_bias=st.booleans(),
    gelu=st.booleans(),
)
def test_a_layer_is_that_of_float64(shape, fan_in, fan_out, has_bias, gelu):
    linear = nn.Linear(fan_in, fan_out, bias=has_bias)
    states = torch.randn(*shape, fan_in)
    with torch.inference_mode():
        packed = PackedLinear(linear, gelu=gelu)
        assert (packed.weight == linear.weight).all()  # Mamba and T5 read it
        output = packed(states)
        expected = linear.double()(states.double())
        expected = nn.functional.gelu(expected) if gelu else expected
    assert output.shape == expected.shape and output.dtype == torch.float32
    assert torch.allclose(output.double(), expected, rtol=1e-5, atol=1e-5)


@NEEDS_BF16
@pytest.mark.parametrize("gelu", [False, True])
def test_a_layer_in_bfloat16_is_that_of_float64(gelu):
    """GELU included: float64 is within a step of bfloat16."""
    linear = nn.Linear(70, 50).bfloat16()
    states = torch.randn(33, 70).bfloat16()
    with torch.inference_mode():
        packed = PackedLinear(linear, gelu=gelu)
        assert (packed.weight == linear.weight).all()
        output = packed(states)
        expected = linear.double()(states.double())
        expected = nn.functional.gelu(expected) if gelu else expected
    assert output.dtype == torch.bfloat16
    assert torch.allclose(output.double(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("limit", ["AVX512_CORE_VNNI", "AVX2"])
def test_without_units_bfloat16_stays_with_torch(limit, monkeypatch):
    """oneDNN refuses it, or multiplies slower than float32."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).bfloat16())
    packed_linear.pack_layers(model)
    assert [type(layer) for layer in model] == [PackedLinear, nn.Linear]
    assert models.resolve_dtype("auto", "cpu") == torch.float32


def test_gelu_is_fused_where_it_is_exact_and_nowhere_else():
    from transformers import BertConfig, BertModel

    def intermediate(activation: str) -> nn.Module:
        config = BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, hidden_act=activation,
        )  # fmt: skip
        model = BertModel(config).eval()
        states = torch.randn(3, 8)
        layer = model.encoder.layer[0].intermediate
        with torch.inference_mode():
            before = layer(states)
            packed_linear.pack_layers(model)
            assert torch.allclose(layer(states), before, atol=1e-5)
        return layer

    assert intermediate("gelu").dense.activation == "gelu"
    for activation in ("relu", "gelu_new", "gelu_pytorch_tanh", "silu"):
        assert intermediate(activation).dense.activation == "none"


@pytest.mark.parametrize(
    ("dtype", "closeness"),
    [
        ("float32", 1e-5),
        pytest.param(
            "bfloat16",
            2e-2,
            marks=NEEDS_BF16,
        ),
    ],
)
def test_an_encoder_gives_the_vectors_of_sentence_transformers(model, dtype, closeness):
    from sentence_transformers import SentenceTransformer

    encoder = Encoder(EncodingOptions(model=model, dtype=dtype), Report("test", quiet=True))
    kinds = {type(module) for module in encoder.model[0].modules()}
    assert PackedLinear in kinds and nn.Linear not in kinds
    expected = SentenceTransformer(model, device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(encoder.encode(TEXTS, "document") - expected).max() < closeness


@pytest.mark.parametrize(
    ("dtype", "closeness"),
    [
        (torch.float32, 1e-5),
        pytest.param(
            torch.bfloat16,
            0.1,
            marks=NEEDS_BF16,
        ),
    ],
    ids=["float32", "bfloat16"],
)
@pytest.mark.parametrize(
    "name", ["T5", "DistilBert", "MPNet", "ModernBert", "Qwen3", "Mixtral", "Mamba"]
)
def test_other_architectures_keep_their_results(name, dtype, closeness):
    """Real classes of transformers with tiny random weights."""
    import transformers

    sizes = {
        "vocab_size": 50, "hidden_size": 16, "d_model": 16, "dim": 16, "num_hidden_layers": 2,
        "num_layers": 2, "n_layers": 2, "num_attention_heads": 2, "num_heads": 2, "n_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "intermediate_size": 32, "d_ff": 32,
        "hidden_dim": 32, "num_local_experts": 4, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "state_size": 4, "time_step_rank": 2,
    }  # fmt: skip
    config_class = getattr(transformers, f"{name}Config")
    known = config_class().to_dict()
    config = config_class(**{key: value for key, value in sizes.items() if key in known})
    model_class = getattr(transformers, "T5EncoderModel" if name == "T5" else f"{name}Model")
    model = model_class(config).eval().to(dtype)
    ids = torch.randint(3, 50, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(input_ids=ids).last_hidden_state
        packed_linear.pack_layers(model)
        after = model(input_ids=ids).last_hidden_state
    assert any(isinstance(module, PackedLinear) for module in model.modules())
    assert torch.allclose(after, before, atol=closeness)
