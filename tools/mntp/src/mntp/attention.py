"""Bidirectional attention in a decoder, and the proof that the loaded model has it.

transformers (5.2 and later) reads `is_causal` of the configuration at every forward pass and saves
it in config.json. Not every architecture obeys: some ignore it, some obey only where a batch has
padding, and in hybrids the layers without attention stay causal. A list of names would rot, so the
loaded model itself is probed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fletching.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 12  # of a probe
LAYER_LISTS = ("layers", "h", "blocks")  # the attribute of a decoder that holds its layers
WHOLE = "the model"
ATTENDING = "such as Llama, Mistral, Qwen2, Qwen3, Gemma or Phi3"
InputAndOutput = tuple[Tensor, Tensor]  # of a part of the model, (rows, tokens, width) each


def make_bidirectional(model: PreTrainedModel) -> None:
    """Let every token attend to all others, in place, in a decoder with its head or without."""
    base_model: Any = model.base_model
    for config in (model.config, model.config.get_text_config(), base_model.config):
        config.is_causal = False


def check(model: PreTrainedModel) -> None:
    """Raise InputError where a part of the model is causal, or where padding changes states."""
    kind, was_training = model.config.model_type, model.training
    model.train(False)  # dropout would change every state
    for is_padded in (False, True):
        part = causal_part(model, is_padded=is_padded)
        if part is not None:
            padding = "with" if is_padded else "without"
            raise InputError(
                f"{kind} stays causal: {part} does not attend to later tokens {padding} padding",
                f"use a model all of whose layers attend, {ATTENDING}",
            )
    change = change_by_padding(model)
    if change > tolerance(model):
        raise InputError(
            f"{kind} gives other states when the batch has padding (by {change:.2g} of their size)",
            "use another model",
        )
    model.train(was_training)


def check_packing(model: PreTrainedModel, length: int) -> None:
    """Raise InputError where texts that share a block of `length` tokens change each other."""
    change = change_by_packing(model)
    if change > tolerance(model):
        raise InputError(
            f"{model.config.model_type} gives texts that share a block other states "
            f"(by {change:.2g})",
            "pass --no-pack",
        )
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window and window < length:
        raise InputError(
            f"--length {length} is above the window of the model's attention, {window}",
            "pass --no-pack",
        )


def causal_part(model: PreTrainedModel, *, is_padded: bool) -> str | None:
    """The first part of the model whose output at a token does not depend on its input at the next.

    By gradients: where attention is masked they are exactly zero.
    is_padded: probe in a batch with a shorter row.
    """
    ids = probe_ids(model).repeat(2, 1)
    mask = torch.ones_like(ids)
    if is_padded:
        mask[1, TOKENS // 2 :] = 0
    with torch.enable_grad(), recorded(model) as recording:
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    width = recording.parts[WHOLE][1].shape[-1]
    projection = torch.randn(width, generator=torch.Generator().manual_seed(0)).to(ids.device)
    for name, (part_input, part_output) in recording.parts.items():
        value = (part_output[:, 0].float() @ projection).sum()
        (gradient,) = torch.autograd.grad(value, part_input, retain_graph=True, allow_unused=True)
        if gradient is None or (gradient[:, 1] == 0).all(-1).any():
            return name
    return None


@dataclass
class Recording:
    """What goes into and comes out of each layer and of the whole model, in one forward pass."""

    parts: dict[str, InputAndOutput] = field(default_factory=dict)
    embeddings: Tensor | None = None

    def keep_embeddings(self, module: nn.Module, args: object, output: Tensor) -> Tensor:
        """Hook of the embedding layer: the leaf of the gradients."""
        self.embeddings = output.detach().requires_grad_()
        return self.embeddings

    def keep_whole(self, module: nn.Module, args: object, output: tuple[Tensor, ...]) -> None:
        """Hook of the whole decoder."""
        assert self.embeddings is not None
        self.parts[WHOLE] = (self.embeddings, output[0])

    def hook_layer(self, layer: nn.Module, name: str) -> RemovableHandle:
        """Record one layer, whose input comes by position or as `hidden_states`."""

        def keep(
            module: nn.Module,
            args: tuple[Tensor, ...],
            kwargs: dict[str, Tensor],
            output: Tensor | tuple[Tensor, ...],
        ) -> None:
            """Hook of the layer."""
            layer_input = args[0] if args else kwargs["hidden_states"]
            layer_output = output[0] if isinstance(output, tuple) else output
            self.parts[name] = (layer_input, layer_output)

        return layer.register_forward_hook(keep, with_kwargs=True)


@contextmanager
def recorded(model: PreTrainedModel) -> Iterator[Recording]:
    """Record the forward pass within the block."""
    recording = Recording()
    embeddings: nn.Module = model.get_input_embeddings()
    hooks = [
        embeddings.register_forward_hook(recording.keep_embeddings),
        model.base_model.register_forward_hook(recording.keep_whole),
    ]
    for number, layer in enumerate(layers(model)):
        hooks.append(recording.hook_layer(layer, f"layer {number}"))
    try:
        yield recording
    finally:
        for hook in hooks:
            hook.remove()


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks of the decoder, in order; [] for an architecture that names them otherwise."""
    for name in LAYER_LISTS:
        blocks = getattr(model.base_model, name, None)
        if isinstance(blocks, nn.ModuleList):
            return list(blocks)
    return []


def probe_ids(model: PreTrainedModel) -> Tensor:
    """Token ids (1, TOKENS), all different where the vocabulary allows."""
    embeddings: Any = model.get_input_embeddings()
    numbers = torch.arange(TOKENS, device=model.device) * 7 + 5
    ids: Tensor = numbers[None] % embeddings.num_embeddings
    return ids


@torch.no_grad()
def states(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, *, positions: Tensor | None = None
) -> Tensor:
    """Last hidden states, float32 (rows, tokens, width)."""
    more = {} if positions is None else {"position_ids": positions}
    output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **more)
    hidden: Tensor = output[0]
    return hidden.float()


def states_of_text(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Last hidden states of one text (1, tokens) alone, float32 (tokens, width)."""
    return states(model, ids, torch.ones_like(ids))[0]


def change_by_padding(model: PreTrainedModel) -> float:
    """Relative distance of the states of a text to those in a batch with padding at its right."""
    ids, half = probe_ids(model), TOKENS // 2
    mask = torch.ones_like(ids).repeat(2, 1)
    mask[1, half:] = 0
    in_batch = states(model, ids.repeat(2, 1), mask)
    return max(
        distance(in_batch[0], states_of_text(model, ids)),
        distance(in_batch[1, :half], states_of_text(model, ids[:, :half])),
    )


def change_by_packing(model: PreTrainedModel) -> float:
    """Relative distance of the states of two texts that share a block to those of each alone."""
    ids, first = probe_ids(model), TOKENS // 3  # tokens of the first text
    texts = (torch.arange(TOKENS, device=ids.device) >= first).long()[None]
    positions = torch.cat([torch.arange(first), torch.arange(TOKENS - first)])
    mask = block_mask(model, texts)
    packed = states(model, ids, mask, positions=positions.to(ids.device)[None])[0]
    return max(
        distance(packed[:first], states_of_text(model, ids[:, :first])),
        distance(packed[first:], states_of_text(model, ids[:, first:])),
    )


def block_mask(model: PreTrainedModel, texts: Tensor) -> Tensor:
    """The attention mask that keeps each text of a block to itself, (rows, 1, tokens, tokens).

    texts: (rows, tokens) the number of the text that each token belongs to.
    Position ids that start anew are not enough: transformers derives the texts from them only for
    causal models.
    """
    is_allowed = (texts[:, None, :, None] == texts[:, None, None, :]).contiguous()
    if model.config._attn_implementation == "sdpa":
        return is_allowed
    lowest = torch.finfo(model.dtype).min
    bias = torch.zeros(is_allowed.shape, dtype=model.dtype, device=texts.device)
    return bias.masked_fill_(~is_allowed, lowest)


def distance(one: Tensor, other: Tensor) -> float:
    """‖one − other‖ / ‖other‖."""
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


def tolerance(model: PreTrainedModel) -> float:
    """The largest distance that rounding may cause, by the number type of the weights."""
    return 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
