"""The model card: what it was made of and how well it predicts."""

from __future__ import annotations

from typing import Any

from fletching.train import model_card as cards

TURNED = """Every token sees all others (`is_causal: false` in config.json, which transformers 5.2 and later obey). Its vectors are a
start for contrastive training rather than an end."""


def card(
    *,
    name: str,
    base: str,
    dimension: int,
    step: dict[str, Any],
    plan: list[str],
    measures: dict[int, dict[str, float]],
) -> str:
    """measures: of held-out texts, by step."""
    sections = [TURNED, "## Training", cards.bullets(plan)]
    return cards.card(
        name,
        f"A bidirectional text encoder of {dimension} dimensions, made from the decoder `{cards.short(base)}` with mntp.",
        sections
        + cards.measures(
            "Held-out texts", {str(at): values for at, values in measures.items()}, "step"
        ),
        step=step,
        base=base,
        call="vectors = model.encode([...])",
    )
