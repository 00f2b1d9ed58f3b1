"""The gradient of a global batch from micro-batches (GradCache, Gao et al. 2021). Needs torch alone.

Pass 1 embeds all texts without keeping activations. The loss over all vectors gives the gradient for
each vector. Pass 2 embeds each micro-batch again, under the random numbers of pass 1, and sends these
gradients through it. Activations of one micro-batch stand in memory, the gradient is that of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Embed = Callable[[Tensor], Tensor]  # numbers of texts (n,) -> vectors (n, D)
PAD_TO = 8  # micro-batches are this many tokens wide, or a multiple


def micro_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Text numbers, longest first, cut where rows x width would pass the token budget."""
    order = lengths.argsort(descending=True, stable=True)
    width = (lengths[order] + PAD_TO - 1) // PAD_TO * PAD_TO
    parts, start = [], 0
    while start < len(order):
        rows = max(budget // int(width[start]), 1)
        parts.append(order[start : start + rows])
        start += rows
    return parts


def padded(tokens: Tensor, lengths: Tensor, texts: Tensor, pad_id: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (n, width), of these texts out of the flat token ids."""
    starts = lengths.cumsum(0) - lengths
    count = lengths[texts][:, None]
    width = -(-int(count.max()) // PAD_TO) * PAD_TO
    place = torch.arange(width, device=tokens.device).expand(len(texts), width)
    if left:
        place = place - (width - count)
    mask = (place >= 0) & (place < count)
    ids = torch.where(mask, tokens[(starts[texts][:, None] + place).clamp(0, len(tokens) - 1)], pad_id)
    return ids, mask.long()


class _Replay:
    """The random state of one forward pass, to run it again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)


def global_loss(
    embed: Embed,
    parts: Sequence[Tensor],
    texts: int,
    loss: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device,
    *,
    keep: int = 1,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """A scalar; its `backward()` leaves the gradient of the whole batch in the model's parameters.

    parts: the micro-batches (all of them, on every rank: ranks share them out). texts: their number of
    texts, N. loss: vectors (N, D) -> (value, gradient (N, D)). keep: so many micro-batches keep their
    activations and need no second pass; with one process alone. no_sync: DDP's, for all backward passes
    but the last. Across ranks the vectors meet in one collective and each rank computes the whole loss.
    """
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    mine = list(parts[dist.get_rank() :: ranks]) if ranks > 1 else list(parts)
    # A rank without a share still joins DDP's reduction, with a text whose gradient is zero.
    idle = not mine
    mine = mine or [parts[0][:1]]
    keep = keep if ranks == 1 and torch.is_grad_enabled() else 0
    kept = [embed(part) for part in mine[:keep]]
    replays, pieces = [], [vectors.detach() for vectors in kept]
    with torch.no_grad():
        for part in mine[keep:]:
            replays.append(_Replay(device))
            pieces.append(embed(part))
        vectors = pieces[0].new_zeros(texts, pieces[0].shape[1])
        if not idle:
            vectors[torch.cat(mine)] = torch.cat(pieces)
        if ranks > 1:
            dist.all_reduce(vectors)  # each row is zero on all ranks but one
        value, gradient = loss(vectors)
    if not torch.is_grad_enabled():
        return value
    # DDP takes the mean over ranks; the gradient of the batch is the sum.
    gradient = gradient * (0.0 if idle else float(ranks))

    def backward(scale: Tensor) -> None:
        if kept:
            torch.autograd.backward(kept, [(gradient[part] * scale).to(vectors) for part, vectors in zip(mine, kept)])
            kept.clear()
        after = _Replay(device)
        for number, (part, replay) in enumerate(zip(mine[keep:], replays)):
            with no_sync() if number < len(replays) - 1 else nullcontext(), torch.enable_grad():
                replay.restore()
                again = embed(part)
                again.backward((gradient[part] * scale).to(again))
        after.restore()

    result = value.detach().float().requires_grad_()
    result.register_hook(backward)
    return result
