"""Linear layers on CPUs by oneDNN: weights laid out once, GELU in the same pass.

torch multiplies float32 by MKL, which lays the weights out anew in each product, as oneDNN does in
bfloat16, and goes over its result once more for GELU.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from fletching.encode.instruction_set import multiplies_bf16

OPERATORS = ("_linear_pointwise", "_reorder_linear_weight")  # of oneDNN in torch
X86 = ("x86_64", "amd64")
# Of BERT and its descendants: what the first half of a feed-forward layer, `dense`, goes through.
ACTIVATION = "intermediate_act_fn"
EXACT_GELU = "GELUActivation"  # of transformers


class PackedLinear(nn.Module):
    """A linear layer, and GELU behind it where `gelu`; for inference alone."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        weight = linear.weight.detach()
        operators: Any = torch.ops.mkldnn
        # No buffer: nothing but oneDNN reads its layout. None: for any number of rows.
        self.packed: Tensor = operators._reorder_linear_weight(weight, None)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.out_features = len(weight)
        self.activation = "gelu" if gelu else "none"

    @property
    def weight(self) -> Tensor:
        """A copy of the weights (out, in), for models that read them beside calling the layer."""
        return self.packed.to_dense()

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        rows = states.reshape(-1, states.shape[-1])
        if not len(rows):  # of an expert that no token asks, which oneDNN refuses
            return rows.new_empty(*states.shape[:-1], self.out_features)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.packed, self.bias, self.activation, [], "none"
        )
        return output.view(*states.shape[:-1], self.out_features)


def is_available() -> bool:
    """Are oneDNN's operators there, on a processor that it is written for?"""
    backend: Any = torch.backends.mkldnn  # untyped
    has_operators = all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    return platform.machine().lower() in X86 and bool(backend.is_available()) and has_operators


def pack_layers(model: nn.Module) -> None:
    """Replace the linear layers of a model on a CPU, in place; in bfloat16 where it has units.

    Classes derived from nn.Linear stay: their owners read the weights themselves.
    """
    dtypes = {torch.float32, *([torch.bfloat16] if multiplies_bf16() else [])}
    for parent in list(model.modules()):
        applies_gelu = type(getattr(parent, ACTIVATION, None)).__name__ == EXACT_GELU
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.dtype in dtypes:
                fuses = applies_gelu and name == "dense"
                setattr(parent, name, PackedLinear(child, gelu=fuses))
                if fuses:
                    setattr(parent, ACTIVATION, nn.Identity())
