"""The texts of a global batch cut into micro-batches, and one of them as what a model reads.

Padded: rows of one width, with a mask. Packed: all texts end to end in one row, for a model whose
attention knows where each starts (`fletching.train.packed_attention`). Needs torch alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PAD_TO = 8  # padded micro-batches are this many tokens wide, or a multiple
MANY_PER_RANK = 4  # micro-batches: the ranks that have one fewer wait for a fifth of a step
FILL_TO = 64  # packed ones in bfloat16: a kernel is compiled for each number of tokens


def split_micro_batches(
    lengths: Tensor, budget: int, group: Tensor | None = None, *, packed: bool = False
) -> list[Tensor]:
    """Text numbers, longest first, cut where rows x width would exceed the token budget.

    group (texts,): texts of different groups are in different micro-batches. packed: without
    padding, so cut where the sum of the lengths would exceed it.
    """
    order = lengths.argsort(descending=True, stable=True)
    group_ends = [len(order)]
    if group is not None:
        order = order[group[order].argsort(stable=True)]
        sorted_group = group[order]
        changes = torch.nonzero(sorted_group[1:] != sorted_group[:-1]).flatten() + 1
        group_ends = [*changes.tolist(), len(order)]
    pad_to = 1 if packed else PAD_TO
    widths = ((lengths[order] + pad_to - 1) // pad_to * pad_to).tolist()
    micro_batches = []
    start = 0
    for end in group_ends:
        while start < end:
            fits = _rows_that_fit if packed else _padded_rows_that_fit
            stop = start + max(fits(widths[start:end], budget), 1)
            micro_batches.append(order[start:stop])
            start = stop
    return micro_batches


def split_among_ranks(
    lengths: Tensor,
    budget: int,
    group: Tensor | None = None,
    *,
    ranks: int,
    packed: bool = False,
) -> list[Tensor]:
    """As `split_micro_batches`, with so small a budget that all ranks are busy to the end.

    Their number becomes a multiple of `ranks` where it can. Where there are many a rank, it is
    left alone: a rank without the last one waits for a small part of the step.
    """
    micro_batches = split_micro_batches(lengths, budget, group, packed=packed)
    count = len(micro_batches)
    if count % ranks == 0 or count >= MANY_PER_RANK * ranks:
        return micro_batches
    target = -(-count // ranks) * ranks
    low, high = max(int(lengths.sum()) // target, 1), budget  # of the budgets that may do
    while low < high:
        middle = (low + high) // 2
        smaller = split_micro_batches(lengths, middle, group, packed=packed)
        if len(smaller) > target:
            low = middle + 1
        else:
            high, micro_batches = middle, smaller
    return micro_batches


def _padded_rows_that_fit(widths: Sequence[int], budget: int) -> int:
    """widths: falling, so that the first one is the width of all."""
    return min(budget // widths[0], len(widths))


def _rows_that_fit(widths: Sequence[int], budget: int) -> int:
    sums = itertools.accumulate(widths)
    return sum(1 for _ in itertools.takewhile(lambda total: total <= budget, sums))


def pad_texts(
    tokens: Tensor, lengths: Tensor, texts: Tensor, *, pad_id: int, left: bool = False
) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (n, width), of these texts out of the flat token ids.

    Two texts of 3 and 1 tokens at width 4: positions [[0, 1, 2, 3], [0, 1, 2, 3]], of which
    those below the length are tokens; with padding on the left [[-1, 0, 1, 2], [-3, -2, -1,
    0]], those from 0 on.
    """
    starts = lengths.cumsum(0) - lengths
    length = lengths[texts][:, None]
    width = -(-int(length.max()) // PAD_TO) * PAD_TO
    position = torch.arange(width, device=tokens.device).expand(len(texts), width)
    if left:
        position = position - (width - length)
    is_token = (position >= 0) & (position < length)
    source = (starts[texts][:, None] + position).clamp(0, len(tokens) - 1)
    input_ids = torch.where(is_token, tokens[source], pad_id)
    return input_ids, is_token.long()


def pack_texts(
    tokens: Tensor, lengths: Tensor, texts: Tensor, *, first_position: int, fill_to: int = 1
) -> dict[str, Any]:
    """These texts out of the flat token ids as one row, as a SentenceTransformer reads it.

    first_position: the position id of a text's first token. fill_to: the row is filled up to a
    multiple of it by one text more, of any tokens; the model gives a vector for it too.
    """
    starts = lengths.cumsum(0) - lengths
    chosen = lengths[texts]
    offset = _offsets(chosen)
    input_ids = tokens[starts[texts].repeat_interleave(chosen) + offset]
    filler = -len(input_ids) % fill_to
    input_ids = torch.nn.functional.pad(input_ids, (0, filler))[None]
    positions = torch.nn.functional.pad(offset, (0, filler)) + first_position
    widths = [*chosen.tolist(), *([filler] if filler else [])]
    return {
        "input_ids": input_ids,
        "position_ids": positions[None],
        "token_type_ids": torch.zeros_like(input_ids),
        "cu_seq_lens_q": torch.tensor([0, *widths], device=tokens.device).cumsum(0),
        # Read by the attention: (texts, length) of each run of texts of equal length.
        "runs": [(len(list(group)), width) for width, group in itertools.groupby(widths)],
        "modality": "text",
    }


def _offsets(lengths: Tensor) -> Tensor:
    """The number of each token in its text: (3, 2) gives 0, 1, 2, 0, 1."""
    ends = lengths.cumsum(0)
    numbers = torch.arange(int(lengths.sum()), device=lengths.device)
    return numbers - (ends - lengths).repeat_interleave(lengths)
