"""Attention for training on a CPU: texts end to end, one text at a time, in float32.

The scores of one text (heads, L, L) stay in the processor's cache from the softmax to the last
product, no padding is computed, and no mask is read. Fused attention of torch does not take
dropout on a CPU, and plain attention goes through main memory six times. Products are float32
under autocast too: for heads this small, bfloat16 is no faster (AMX, torch 2.13), and each new
length costs it the compilation of a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fletching.encode import padding_free
from fletching.train.block_dropout import keep_mask

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ATTENTION_NAME = "fletching_packed_training"  # under which transformers knows `attention`
SCORES_TOGETHER = 1 << 18  # of short texts of equal length, taken in one product: 1 MB


def prepare(model: SentenceTransformer) -> int | None:
    """Make a model take packed batches while it trains: its first position id, or None.

    Batches with padding still work. None: the architecture cannot be packed.
    """
    if not padding_free.is_supported(model):
        return None
    AttentionInterface.register(ATTENTION_NAME, attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _mask)
    transformer: Any = model[0]
    transformer.model.set_attn_implementation(ATTENTION_NAME)
    return padding_free.first_position(model)


def _mask(attention_mask: Tensor | None = None, **settings: Any) -> Tensor | None:  # noqa: ANN401
    """The mask of a padded batch; none for a packed one."""
    if attention_mask is None:
        return None
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **settings)
    return mask


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    runs: Sequence[tuple[int, int]] | None = None,
    **settings: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention inside each text, with the signature of transformers' attention functions.

    query, key, value: (1, heads, tokens, d). runs: (texts, length) of each run of texts of equal
    length; None: a padded batch. settings: `scaling` and `dropout` among others. Returns
    (1, tokens, heads, d) and no weights.
    """
    if runs is None:
        padded: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **settings
        )
        return padded
    scaling, dropout = settings.get("scaling"), settings.get("dropout", 0.0)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    states = [_tokens_first(query) * scaling, _tokens_first(key), _tokens_first(value)]
    blocks = split_blocks(runs, heads=query.shape[1])
    with torch.autocast("cpu", enabled=False):
        attended = PackedAttention.apply(*states, blocks, dropout)  # type: ignore[no-untyped-call]
    return attended.to(query.dtype)[None], None


def _tokens_first(states: Tensor) -> Tensor:
    """(1, heads, tokens, d) to (tokens, heads, d), float32 or float64."""
    states = states[0].transpose(0, 1)
    return states if states.dtype == torch.float64 else states.float()


class Block(NamedTuple):
    """Texts of equal length that are taken in one product, and where they start."""

    start: int
    texts: int
    length: int

    @property
    def tokens(self) -> slice:
        """Their tokens."""
        return slice(self.start, self.start + self.texts * self.length)

    def split(self, states: Tensor) -> Tensor:
        """Their states, of (tokens, heads, d), as (texts x heads, length, d)."""
        heads, size = states.shape[1:]
        rows = states[self.tokens].view(self.texts, self.length, heads, size)
        return rows.transpose(1, 2).reshape(-1, self.length, size)

    def join(self, states: Tensor, output: Tensor) -> None:
        """Write (texts x heads, length, d) to their rows of `output` (tokens, heads, d)."""
        heads, size = output.shape[1:]
        rows = output[self.tokens].view(self.texts, self.length, heads, size)
        rows.transpose(1, 2).copy_(states.view(self.texts, heads, self.length, size))


def split_blocks(runs: Sequence[tuple[int, int]], heads: int) -> list[Block]:
    """Blocks whose scores fit into the cache, in order.

    >>> split_blocks([(3, 300), (1, 2)], heads=4)[1:]
    [Block(start=300, texts=1, length=300), Block(start=600, texts=1, length=300), \
Block(start=900, texts=1, length=2)]
    """
    blocks = []
    start = 0
    for texts, length in runs:
        together = max(SCORES_TOGETHER // (heads * length * length), 1)
        for first in range(0, texts, together):
            block = Block(start, min(together, texts - first), length)
            blocks.append(block)
            start = block.tokens.stop
    return blocks


class PackedAttention(torch.autograd.Function):
    """softmax(Q K^T) V in each text, with dropout of the probabilities; queries are scaled."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: list[Block],
        dropout: float,
    ) -> Tensor:
        """(tokens, heads, d), as the three of them."""
        output = torch.empty_like(value)
        heads = query.shape[1]
        scores = [block.texts * heads * block.length**2 for block in blocks]
        masks = torch.split(keep_mask(sum(scores), dropout), scores) if dropout else ()
        kept_share = 1 - dropout
        probabilities = []
        for number, block in enumerate(blocks):
            products = torch.bmm(block.split(query), block.split(key).transpose(1, 2))
            probability = torch.softmax(products, -1)
            probabilities.append(probability)
            if dropout:
                kept = torch.mul(probability, _as_factor(masks[number], products), out=products)
                probability = kept.div_(kept_share)
            block.join(torch.bmm(probability, block.split(value)), output)
        context.blocks, context.kept_share = blocks, kept_share
        context.save_for_backward(query, key, value, *probabilities, *masks)
        return output

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> Any:  # noqa: ANN401
        """The gradients of queries, keys and values."""
        query, key, value, *saved = context.saved_tensors
        blocks: list[Block] = context.blocks
        probabilities, masks = saved[: len(blocks)], saved[len(blocks) :]
        query_gradient, key_gradient, value_gradient = (
            torch.empty_like(states) for states in (query, key, value)
        )
        for number, (block, probability) in enumerate(zip(blocks, probabilities)):
            gradient = block.split(gradients[0])
            slope = torch.bmm(gradient, block.split(value).transpose(1, 2))
            used = probability
            if masks:
                factor = _as_factor(masks[number], slope).div_(context.kept_share)
                slope.mul_(factor)
                used = factor.mul_(probability)
            block.join(torch.bmm(used.transpose(1, 2), gradient), value_gradient)
            slope = _softmax_slope(slope, probability)
            block.join(torch.bmm(slope, block.split(key)), query_gradient)
            block.join(torch.bmm(slope.transpose(1, 2), block.split(query)), key_gradient)
        return query_gradient, key_gradient, value_gradient, None, None


def _as_factor(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of bytes as zeros and ones of the shape and dtype of `like`."""
    return mask.view(like.shape).to(like.dtype)


def _softmax_slope(slope: Tensor, probability: Tensor) -> Tensor:
    """The gradient before the softmax, of the one after it, which is overwritten."""
    slope.mul_(probability)
    return slope.addcmul_(probability, slope.sum(-1, keepdim=True), value=-1)
