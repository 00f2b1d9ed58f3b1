"""Three texts whose vectors tell two models apart: before and after merging, trained and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PROBE = ["a", "What is the capital of France?", "def add(a, b):\n    return a + b\n" * 3]


def vectors(model: SentenceTransformer) -> torch.Tensor:
    """Vectors (3, D) of three texts of different kinds, to compare two models by."""
    encoded: Any = model.encode(PROBE, convert_to_tensor=True, show_progress_bar=False)
    return torch.as_tensor(encoded).float()


def largest_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest ‖after − before‖ / ‖before‖ of vectors (n, D).

    Relative, because nothing normalises the states of a decoder, which are tens of units long.
    """
    change = torch.linalg.vector_norm(after - before, dim=1)
    return float((change / torch.linalg.vector_norm(before, dim=1).clamp_min(1e-12)).max())
