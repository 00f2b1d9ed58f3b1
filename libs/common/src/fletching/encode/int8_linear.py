"""Linear layers in int8 on CPUs: weights by output channel, activations by token.

The activations of a token are divided by their own largest one as they come (vector-wise
quantisation, Dettmers et al. 2022), and whole numbers add up exactly. So what a layer gives for a
token depends on that token alone: on no other text of its batch, no shard and no calibration set.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fletching.encode.instruction_set import has_vnni
from fletching.errors import UsageError

STEPS = 127  # of an int8 on each side of 0
# Without VNNI two products are added in 16 bits, which 8 bits times 8 bits would overflow.
WEIGHT_STEPS_WITHOUT_VNNI = 63
ROWS = 512  # multiplied at a time, so that what is between two steps stays in the cache
OFFSET = 128  # of activations: oneDNN's fast kernels take unsigned ones
TINY = 1e-30  # instead of a largest activation of 0
OPERATOR = "qlinear_pointwise"  # of oneDNN in torch


def check(devices: Sequence[str]) -> None:
    """Raise UsageError where the layers cannot run."""
    if set(devices) != {"cpu"}:
        raise UsageError(
            f"--dtype int8 is for CPUs, and --device is {','.join(devices)}",
            "pass --device cpu, or leave --dtype out: bfloat16 is faster on GPUs",
        )
    backend: Any = torch.backends.mkldnn  # untyped
    if not (backend.is_available() and hasattr(torch.ops.onednn, OPERATOR)):
        raise UsageError(
            f"--dtype int8 needs oneDNN, which torch {torch.__version__} is built without here",
            "leave --dtype out",
        )


def number_type() -> str:
    """The name of the weights' number type here, for caches and lineage."""
    return "int8" if has_vnni() else "int8-of-7-bits"


class Int8Linear(nn.Module):
    """A linear layer of float32 activations whose products are taken in int8."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # A later torch may lack it, as its warning says; nothing else is as fast.
        warnings.filterwarnings("ignore", message=".*quantize_per_tensor")
        weight = linear.weight.detach().float()
        weight_steps = STEPS if has_vnni() else WEIGHT_STEPS_WITHOUT_VNNI
        scales = weight.abs().amax(1).clamp_min(TINY) / weight_steps
        whole = torch.round(weight / scales[:, None]).to(torch.int8)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        operators: Any = torch.ops.onednn
        # No buffers: a packed weight has a layout that nothing but its operator reads.
        self.packed = operators.qlinear_prepack(whole, None)
        self.scales = scales
        self.zero_points = torch.zeros(len(weight), dtype=torch.long)
        self.bias = bias

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        rows = states.reshape(-1, states.shape[-1])
        output = rows.new_empty(len(rows), len(self.bias))
        for part, result in zip(torch.split(rows, ROWS), torch.split(output, ROWS)):
            # Of both ends, not of `abs`, which would write all of them once more.
            low, high = part.amin(1, keepdim=True), part.amax(1, keepdim=True)
            steps = torch.maximum(high, low.neg_()).clamp_min_(TINY).div_(STEPS)
            products = self._multiply(_rounded(part / steps))
            # Not addcmul: with two broadcast factors it takes three times as long.
            torch.add(products.mul_(steps), self.bias, out=result)
        return output.view(*states.shape[:-1], -1)

    def _multiply(self, unsigned: Tensor) -> Tensor:
        """Whole numbers (n, in) to their products with the weights, (n, out)."""
        products: Tensor = torch.ops.onednn.qlinear_pointwise(
            qx=unsigned,
            x_scale=1.0,  # `steps`, one a token, are multiplied in below
            x_zero_point=OFFSET,
            qw=self.packed,
            w_scale=self.scales,
            w_zero_point=self.zero_points,
            bias=None,
            output_scale=1.0,
            output_zero_point=0,
            output_dtype=torch.float32,
            post_op_name="none",
            post_op_args=[],
            post_op_algorithm="",
        )
        return products


def _rounded(values: Tensor) -> Tensor:
    """Numbers of -127 to 127 as unsigned whole ones, above OFFSET where they are above 0."""
    return torch.quantize_per_tensor(values, 1.0, OFFSET, torch.quint8).int_repr()


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Those that can be int8, by name.

    Classes derived from nn.Linear are left out: their owners read the weights themselves.
    """
    return {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}


def quantise_layers(model: nn.Module, names: Collection[str]) -> None:
    """Replace these linear layers of a model by int8 ones, in place."""
    layers = linear_layers(model)
    for name in names:
        model.set_submodule(name, Int8Linear(layers[name]))
