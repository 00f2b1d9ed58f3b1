"""The model card: what it was made of and how well it does."""

from __future__ import annotations

from typing import Any

from fletching.train import model_card as cards


def card(
    *,
    name: str,
    base: str,
    dimension: int,
    step: dict[str, Any],
    plan: list[str],
    lengths: dict[str, int],
    prompts: dict[str, str],
    measures: dict[str, dict[str, float]],
    loss: str,
) -> str:
    """measures: held-out quality of the base model and of this one."""
    cut = f"Trained on queries of up to {lengths['query']} tokens and documents of up to {lengths['document']}."
    sections = [
        "## Texts",
        cut,
        *cards.prompts(prompts),
        "## Training",
        f"Loss: {loss}.",
        cards.bullets(plan),
    ]
    return cards.card(
        name,
        f"A text-embedding model of {dimension} dimensions, tuned from `{cards.short(base)}` with contrast-train.",
        sections + cards.measures("Held-out quality", measures, "model"),
        step=step,
        base=base,
        call="vectors = model.encode_query([...]), model.encode_document([...])",
    )
