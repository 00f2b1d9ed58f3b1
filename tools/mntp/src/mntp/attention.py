"""Bidirectional attention in a decoder, and the proof that it is there.

transformers (5.2 and later) reads `is_causal` of the configuration at every forward pass and saves it in
config.json. Not every architecture obeys: some ignore it, some only where a batch has padding, and hybrids turn
in their attention layers alone. A list of names would rot, so the loaded model itself is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fletching.errors import InputError

TOKENS = 12  # of a probe
Pair = tuple[
    Tensor, Tensor
]  # what goes into a part of the model and what comes out, (rows, tokens, width) each


def turn(model: Any) -> None:
    """Let every token see all others, in place. model: any transformers decoder, with its head or without."""
    for config in (model.config, model.config.get_text_config(), model.base_model.config):
        config.is_causal = False


def check(model: Any) -> None:
    """Raises InputError where a part of the model is causal, or where padding changes states."""
    kind, training = model.config.model_type, model.training
    model.eval()  # dropout would move every state
    for padded in (False, True):
        part = causal_part(model, padded)
        if part is not None:
            raise InputError(
                f"{kind} stays causal: {part} does not hear later tokens {'with' if padded else 'without'} padding",
                "use a model all of whose layers attend, such as Llama, Mistral, Qwen2, Qwen3, Gemma or Phi3",
            )
    moved = padding_moves(model)
    if moved > tolerance(model):
        raise InputError(
            f"{kind} gives other states when the batch has padding (by {moved:.2g} of their size)",
            "use another model",
        )
    model.train(training)


def causal_part(model: Any, padded: bool) -> str | None:
    """The first part of the model whose output at a token does not depend on its input at the next one.

    By gradients: where attention is masked they are exactly zero. padded: in a batch with a shorter row.
    """
    ids = probe(model).repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[1, TOKENS // 2 :] = 1 - int(padded)
    with torch.enable_grad(), recorded(model) as parts:
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    projection = torch.randn(
        parts["the model"][1].shape[-1], generator=torch.Generator().manual_seed(0)
    ).to(ids.device)
    for name, (given, output) in parts.items():
        value = (output[:, 0].float() @ projection).sum()
        (slope,) = torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)
        if slope is None or (slope[:, 1] == 0).all(-1).any():
            return name
    return None


@contextmanager
def recorded(model: Any) -> Iterator[dict[str, Pair]]:
    """Fills with what goes in and comes out of each layer, and of the whole model, in the forward pass within."""
    found: dict[str, Pair] = {}
    embedded: list[Tensor] = []

    def embed(module: Any, args: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    def whole(module: Any, args: Any, output: Any) -> None:
        found["the model"] = (embedded[0], output[0])

    hooks = [
        model.get_input_embeddings().register_forward_hook(embed),
        model.base_model.register_forward_hook(whole),
    ]
    for number, layer in enumerate(layers(model)):

        def keep(module: Any, args: Any, kwargs: Any, output: Any, number: int = number) -> None:
            given = args[0] if args else kwargs["hidden_states"]
            found[f"layer {number}"] = (given, output[0] if isinstance(output, tuple) else output)

        hooks.append(layer.register_forward_hook(keep, with_kwargs=True))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layers(model: Any) -> list[Any]:
    """The blocks of the decoder, in order; [] where it names them in a way of its own."""
    found = (getattr(model.base_model, name, None) for name in ("layers", "h", "blocks"))
    return next((list(each) for each in found if isinstance(each, torch.nn.ModuleList)), [])


def probe(model: Any) -> Tensor:
    """Token ids (1, TOKENS), all different where the vocabulary allows."""
    words = model.get_input_embeddings().num_embeddings
    return (torch.arange(TOKENS, device=model.device) * 7 + 5)[None] % words


@torch.no_grad()
def states(model: Any, ids: Tensor, mask: Tensor, positions: Tensor | None = None) -> Tensor:
    """Last hidden states (rows, tokens, width), float32."""
    placed = {} if positions is None else {"position_ids": positions}
    return model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **placed)[
        0
    ].float()


def padding_moves(model: Any) -> float:
    """How far the states of a text stand from those in a batch with padding at its right."""
    ids = probe(model)
    half = ids[:, : TOKENS // 2]
    mask = torch.ones_like(ids).repeat(2, 1)
    mask[1, TOKENS // 2 :] = 0
    together = states(model, ids.repeat(2, 1), mask)
    alone = states(model, ids, mask[:1]), states(model, half, mask[:1, : TOKENS // 2])
    return max(
        distance(together[0], alone[0][0]), distance(together[1, : TOKENS // 2], alone[1][0])
    )


def packing_moves(model: Any) -> float:
    """How far the states of texts that share a block stand from those of the texts alone."""
    ids, third = probe(model), TOKENS // 3
    texts = (torch.arange(TOKENS, device=ids.device) >= third).long()[None]
    positions = torch.cat([torch.arange(third), torch.arange(TOKENS - third)]).to(ids.device)[None]
    block = states(model, ids, block_mask(model, texts), positions)[0]
    alone = [
        states(model, part, torch.ones_like(part))[0] for part in (ids[:, :third], ids[:, third:])
    ]
    return max(distance(block[:third], alone[0]), distance(block[third:], alone[1]))


def block_mask(model: Any, texts: Tensor) -> Tensor:
    """Attention within texts alone, (rows, 1, tokens, tokens). texts: (rows, tokens) the text that each token is of.

    Positions that start anew are not enough: once a model is not causal, transformers does not read texts off them.
    """
    allowed = (texts[:, None, :, None] == texts[:, None, None, :]).contiguous()
    if model.config._attn_implementation == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=model.dtype, device=texts.device).masked_fill_(
        ~allowed, torch.finfo(model.dtype).min
    )


def distance(one: Tensor, other: Tensor) -> float:
    """‖one − other‖ / ‖other‖."""
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


def tolerance(model: Any) -> float:
    """What rounding may move, by the number type of the weights."""
    return 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
