"""Dropout whose random numbers are drawn in blocks, for training on a CPU.

torch draws a Bernoulli number for each activation, 7 ns each, which is a tenth of a step of a
small encoder in float32 and a third of it in bfloat16. Here 16 bits of numpy's SFC64 decide each
one, at a tenth of that; the probability is exact to 1/65536. SFC64 is seeded by torch's own
generator, so seeds, checkpoints and a second forward pass under the same state work as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 1 << 16  # of a 16-bit number
SEEDS = 1 << 62
NUMBERS_PER_WORD = 4


def keep_mask(count: int, probability: float) -> Tensor:
    """(count,) uint8: 0 with this probability, else 1; seeded by torch's generator of the CPU."""
    seed = int(torch.randint(SEEDS, ()))
    words = np.random.SFC64(seed).random_raw(-(-count // NUMBERS_PER_WORD))
    numbers = np.asarray(words).view(np.uint16)[:count]
    threshold = min(round(probability * LEVELS), LEVELS - 1)
    return torch.from_numpy(np.greater_equal(numbers, np.uint16(threshold)).view(np.uint8))


class BlockDropout(nn.Dropout):
    """nn.Dropout on a CPU, by `keep_mask`; on other devices torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, with activations dropped while training."""
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu":
            return super().forward(input)
        dropped: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, states: Tensor, probability: float) -> Tensor:  # noqa: ANN401
        mask = keep_mask(states.numel(), probability).view(states.shape)
        context.scale = 1 / (1 - probability)
        context.save_for_backward(mask)
        factor = mask.to(states.dtype).mul_(context.scale)
        return factor.mul_(states)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> Any:  # noqa: ANN401
        (mask,) = context.saved_tensors
        return mask.to(gradients[0].dtype).mul_(context.scale).mul_(gradients[0]), None


def replace_dropout(model: nn.Module) -> None:
    """Put BlockDropout in place of each nn.Dropout of a model, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, BlockDropout(child.p).train(child.training))
