"""Every architecture by every kernel: a later token changes an earlier state, padding and neighbours do not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as t
from decoders import CONVERTIBLE, PARTLY_CAUSAL

from fletching.errors import InputError
from mntp import attention

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


def build(config: Any, kernel: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    try:
        return (
            t.AutoModelForCausalLM.from_config(config, attn_implementation=kernel).to(dtype).eval()
        )
    except ValueError as error:
        pytest.skip(str(error)[:80])


def first_state(model: Any, last: int, padding: int = 0) -> torch.Tensor:
    """State of the first of eight tokens, the eighth being `last`; without the module under test."""
    ids = torch.tensor([[11, 12, 13, 14, 15, 16, 17, last] + [0] * padding])
    mask = (torch.arange(8 + padding) < 8).long()[None]
    with torch.no_grad():
        return model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)[0][0, 0]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Flex attention without compilation, which on a CPU writes beyond its memory on texts this short
    (torch 2.13)."""
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


KERNELS = ["eager", "sdpa", "flex_attention"]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_a_later_token_changes_an_earlier_state_and_padding_does_not(
    name: str, kernel: str
) -> None:
    model = build(CONVERTIBLE[name](), kernel)
    assert torch.equal(first_state(model, 18), first_state(model, 19)), (
        "the model is not causal to begin with"
    )
    attention.make_bidirectional(model)
    for padding in (0, 4):
        assert (
            first_state(model, 18, padding) - first_state(model, 19, padding)
        ).abs().max() > 1e-4
    assert (first_state(model, 18) - first_state(model, 18, padding=4)).abs().max() < 1e-4


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_texts_that_share_a_block_do_not_change_each_other(name: str, kernel: str) -> None:
    model = build(CONVERTIBLE[name](), kernel)
    attention.make_bidirectional(model)
    assert attention.change_by_packing(model) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_the_check_passes_bidirectional_models_and_refuses_causal_ones(
    name: str, kernel: str, dtype: torch.dtype
) -> None:
    model = build(CONVERTIBLE[name](), kernel, dtype)
    with pytest.raises(InputError, match="stays causal"):
        attention.check(model)
    attention.make_bidirectional(model)
    attention.check(model)
    assert attention.change_by_packing(model) < attention.tolerance(model)


@pytest.mark.parametrize("name", PARTLY_CAUSAL)
def test_what_stays_causal_in_any_part_is_refused(name: str) -> None:
    kernel, config = PARTLY_CAUSAL[name]
    model = build(config(), kernel)
    attention.make_bidirectional(model)
    with pytest.raises(InputError, match=f"{name} stays causal"):
        attention.check(model)


def test_a_causal_layer_in_the_middle_is_found_and_named() -> None:
    """The layers beside it attend to later tokens, so that the states of the whole model do not
    show it."""
    model = build(CONVERTIBLE["llama"](), "eager")
    attention.make_bidirectional(model)
    inner = model.model.layers[1].self_attn
    forward = inner.forward

    def causal(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        size = kwargs["hidden_states"].shape[1]
        mask = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)[None, None]
        return forward(*args, attention_mask=mask, **kwargs)

    inner.forward = causal
    assert attention.causal_part(model, is_padded=False) == "layer 1"


def test_positions_that_start_anew_alone_would_leak_between_texts() -> None:
    """Why a block mask is needed: the control of `change_by_packing`."""
    model = build(CONVERTIBLE["qwen3"](), "sdpa")
    attention.make_bidirectional(model)
    ids = attention.probe_ids(model)
    positions = torch.tensor([[0, 1, 2, 3, *range(8)]])
    leaking = attention.states(model, ids, torch.ones_like(ids), positions=positions)[0]
    alone = attention.states(model, ids[:, :4], torch.ones(1, 4, dtype=torch.long))[0]
    assert attention.distance(leaking[:4], alone) > 0.01
