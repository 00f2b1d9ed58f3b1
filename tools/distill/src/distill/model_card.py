"""The model card: whose student it is and how it was made."""

from __future__ import annotations

from typing import Any

from fletching.train import model_card as cards


def card(
    *,
    name: str,
    origin: str,
    dimension: int,
    dims: tuple[int, ...],
    step: dict[str, Any],
    plan: str,
    prompts: dict[str, str],
    loss: str,
    losses: list[tuple[str, float, float]],
) -> str:
    """losses: (name, first, last)."""
    cut = (
        [f"Its vectors can be cut to their first {', '.join(map(str, dims))} numbers."]
        if dims
        else []
    )
    values = [[part, f"{first:.4g}", f"{last:.4g}"] for part, first, last in losses]
    course = cards.table(["loss", "first steps", "last steps"], values)
    return cards.card(
        name,
        f"A text-embedding model of {dimension} dimensions, made with distill: {origin}.",
        [*cut, *cards.prompts(prompts), "## Training", f"{plan}. Loss: {loss}.", course],
        step=step,
        tags=("distillation",),
        call="vectors = model.encode_query([...]), model.encode_document([...])",
    )
