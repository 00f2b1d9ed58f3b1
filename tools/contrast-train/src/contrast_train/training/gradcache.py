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


def micro_batches(lengths: Tensor, budget: int, group: Tensor | None = None) -> list[Tensor]:
    """Text numbers, longest first, cut where rows x width would pass the token budget.

    group (texts,): texts of different groups stand in different micro-batches.
    """
    order = lengths.argsort(descending=True, stable=True)
    if group is not None:
        order = order[group[order].argsort(stable=True)]
        kinds = group[order]
        ends = [*(torch.nonzero(kinds[1:] != kinds[:-1]).flatten() + 1).tolist(), len(order)]
    else:
        ends = [len(order)]
    width = (lengths[order] + PAD_TO - 1) // PAD_TO * PAD_TO
    parts, start = [], 0
    for end in ends:
        while start < end:
            stop = min(start + max(budget // int(width[start]), 1), end)
            parts.append(order[start:stop])
            start = stop
    return parts


def padded(
    tokens: Tensor, lengths: Tensor, texts: Tensor, pad_id: int, left: bool = False
) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (n, width), of these texts out of the flat token ids."""
    starts = lengths.cumsum(0) - lengths
    count = lengths[texts][:, None]
    width = -(-int(count.max()) // PAD_TO) * PAD_TO
    place = torch.arange(width, device=tokens.device).expand(len(texts), width)
    if left:
        place = place - (width - count)
    mask = (place >= 0) & (place < count)
    ids = torch.where(
        mask, tokens[(starts[texts][:, None] + place).clamp(0, len(tokens) - 1)], pad_id
    )
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


def count_ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def dealt(parts: Sequence[Tensor]) -> tuple[list[Tensor], bool]:
    """(this rank's micro-batches, whether the last of them is another rank's text).

    All ranks get the same number: forward and backward passes of sharded models are collectives, and DDP
    waits for every rank. Who has none left takes one text whose vector and gradient count as zero.
    """
    ranks = count_ranks()
    if ranks == 1:
        return list(parts), False
    mine = list(parts[dist.get_rank() :: ranks])
    idle = len(mine) < -(-len(parts) // ranks)
    return ([*mine, parts[0][:1]] if idle else mine), idle


def together(mine: Sequence[Tensor], pieces: Sequence[Tensor], idle: bool, texts: int) -> Tensor:
    """Vectors (texts, D) of all ranks, on every rank, from those of this rank's micro-batches."""
    vectors = pieces[0].new_zeros(texts, pieces[0].shape[1])
    for part, piece in zip(mine[: len(mine) - idle], pieces):
        vectors[part] = piece
    if count_ranks() > 1:
        dist.all_reduce(vectors)  # each row is zero on all ranks but one
    return vectors


def global_loss(
    embed: Embed,
    parts: Sequence[Tensor],
    texts: int,
    loss: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device,
    *,
    keep: int = 1,
    no_sync: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Tensor:
    """A scalar; its `backward()` leaves the gradient of the whole batch in the model's parameters.

    parts: the micro-batches (all of them, on every rank: `dealt` shares them out). texts: their number of
    texts, N. loss: vectors (N, D) -> (value, gradient (N, D)). keep: so many micro-batches keep their
    activations and need no second pass. no_sync: DDP's; passes in it stay out of the reduction, which
    comes with the last one. Without it each backward pass is reduced (FSDP, where the memory of a whole
    gradient is what one cannot have). Across ranks the vectors meet in one collective and each rank
    computes the whole loss.
    """
    ranks = count_ranks()
    mine, idle = dealt(parts)
    local = no_sync or nullcontext
    if not torch.is_grad_enabled():
        keep = 0
    elif ranks > 1 and len(mine) > 1:
        keep = (
            min(keep, len(mine) - 1) if no_sync else 0
        )  # DDP reduces with the pass that it saw last
    kept = []
    for part in mine[:keep]:
        with local() if len(mine) > 1 else nullcontext():
            kept.append(embed(part))
    replays, pieces = [], [vectors.detach() for vectors in kept]
    with torch.no_grad():
        for part in mine[keep:]:
            replays.append(_Replay(device))
            pieces.append(embed(part))
        vectors = together(mine, pieces, idle, texts)
        value, gradient = loss(vectors)
    if not torch.is_grad_enabled():
        return value
    # DDP and FSDP take the mean over ranks; the gradient of the batch is the sum.
    gradient = gradient * float(ranks)
    shares = [
        gradient[part] * (0.0 if idle and turn == len(mine) - 1 else 1.0)
        for turn, part in enumerate(mine)
    ]

    def backward(scale: Tensor) -> None:
        if kept:
            with local() if len(mine) > 1 else nullcontext():
                torch.autograd.backward(
                    kept, [(share * scale).to(vectors) for share, vectors in zip(shares, kept)]
                )
            kept.clear()
        after = _Replay(device)
        for turn, replay in enumerate(replays, keep):
            with local() if turn < len(mine) - 1 else nullcontext(), torch.enable_grad():
                replay.restore()
                again = embed(mine[turn])
                again.backward((shares[turn] * scale).to(again))
        after.restore()

    result = value.detach().float().requires_grad_()
    result.register_hook(backward)
    return result
