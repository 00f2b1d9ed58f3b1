"""The model card: what the encoder was made of and how well it predicts masked tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fletching.protocols import Lineage
from fletching.train import model_card as cards

USAGE = "vectors = model.encode([...])"
ATTENTION = """\
Every token attends to all others (`is_causal: false` in config.json, which transformers 5.2 and later obey).
Its vectors are a start for contrastive training rather than an end."""


def card(
    *,
    name: str,
    base: str,
    dimension: int,
    step: Lineage,
    plan: Sequence[str],
    measures: Mapping[int, Mapping[str, float]],
) -> str:
    """The card as Markdown.

    step: the node of this tool in the lineage. plan: a phrase for each fact about the run.
    measures: of held-out texts, by training step.
    """
    by_step = {str(number): values for number, values in measures.items()}
    sections = [ATTENTION, "## Training", cards.bullet_list(plan)]
    sections += cards.measures_section("Held-out texts", by_step, label="step")
    final = measures[max(measures)] if measures else {}
    base_name = cards.short_name(base)
    content = cards.CardContent(
        name=name,
        summary=(
            f"A bidirectional text encoder of {dimension} dimensions, "
            f"made from the decoder `{base_name}` with mntp."
        ),
        usage=USAGE,
        sections=sections,
        lineage_node=step,
        base=base,
        results=cards.held_out_results(final, dataset="held-out texts", task="fill-mask"),
    )
    return content.render()
