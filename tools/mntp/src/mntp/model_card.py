"""The model card: what the encoder was made of and how well it predicts masked tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching.protocols import Lineage
from fletching.train import model_card as cards

USAGE = "vectors = model.encode([...])"
ATTENTION = """\
Every token attends to all others (`is_causal: false` in config.json, which transformers 5.2 and
later obey). Its vectors are a start for contrastive training rather than an end."""


@dataclass(frozen=True, kw_only=True)
class MntpCard:
    """What the card of a bidirectional encoder says.

    step: the node of this tool in the lineage. plan: a phrase for each fact about the run.
    measures: of held-out texts, by training step.
    """

    name: str
    base: str
    dimension: int
    step: Lineage
    plan: Sequence[str]
    measures: Mapping[int, Mapping[str, float]]

    def render(self) -> str:
        """The card as Markdown."""
        by_step = {str(number): values for number, values in self.measures.items()}
        sections = [ATTENTION, "## Training", cards.bullet_list(self.plan)]
        sections += cards.measures_section("Held-out texts", by_step, label="step")
        final = self.measures[max(self.measures)] if self.measures else {}
        base_name = cards.short_name(self.base)
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A bidirectional text encoder of {self.dimension} dimensions, "
                f"made from the decoder `{base_name}` with mntp."
            ),
            usage=USAGE,
            sections=sections,
            lineage_node=self.step,
            base=self.base,
            results=cards.held_out_results(final, dataset="held-out texts", task="fill-mask"),
        )
        return content.render()
