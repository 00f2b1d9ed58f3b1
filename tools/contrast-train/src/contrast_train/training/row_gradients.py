"""Gradients of token embeddings, row by row.

A step reads a few thousand rows of a table of tens of thousands. torch gives each micro-batch a
gradient of the whole table, 47 MB for MiniLM, which is filled with zeros and added to the sum.
Here the sum is filled with zeros once a step, and each micro-batch adds the rows that it has
read. The sum is a dense tensor, as clipping and the optimiser want it.

For one process with whole weights: DDP and FSDP reduce the gradient that autograd hands them.
"""

from __future__ import annotations

import torch
from torch import nn

SMALLEST = 1 << 20  # numbers in a table; below it, a dense gradient costs nothing


class RowGradients:
    """The large embedding tables of a model that are trained; they get row-sparse gradients."""

    def __init__(self, model: nn.Module) -> None:
        tables = [each for each in model.modules() if type(each) is nn.Embedding]
        self.tables = [each for each in tables if _is_large(each.weight)]
        for table in self.tables:
            table.sparse = True

    def prepare(self) -> None:
        """Before the backward pass: a dense sum for the rows to be added to."""
        for table in self.tables:
            if table.weight.grad is None:
                table.weight.grad = torch.zeros_like(table.weight)


def _is_large(weight: torch.Tensor) -> bool:
    return weight.requires_grad and weight.numel() >= SMALLEST
