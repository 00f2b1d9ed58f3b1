"""The model card: what the model was made of and how well it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching.protocols import Lineage
from fletching.train import model_card as cards

BASE_IS_BEST = (
    "No step was better than the base model on the held-out examples: these are the weights of "
    "the base model."
)
USAGE = "vectors = model.encode_query([...]), model.encode_document([...])"


@dataclass(frozen=True, kw_only=True)
class ContrastCard:
    """What the card of a tuned model says.

    step: the node of this tool in the lineage. plan: a phrase for each fact about the batches.
    measures: held-out quality by model, `base` and `tuned`. is_base: no step was better, and the
    weights are those of the base.
    """

    name: str
    base: str
    dimension: int
    step: Lineage
    plan: Sequence[str]
    lengths: Mapping[str, int]
    prompts: Mapping[str, str]
    measures: Mapping[str, Mapping[str, float]]
    loss: str
    is_base: bool = False

    def render(self) -> str:
        """The card as Markdown."""
        query_length, document_length = self.lengths["query"], self.lengths["document"]
        truncation = (
            f"Trained on queries of up to {query_length} tokens "
            f"and documents of up to {document_length}."
        )
        sections = ["## Texts", truncation, *cards.prompts_section(self.prompts)]
        sections += ["## Training", f"Loss: {self.loss}.", cards.bullet_list(self.plan)]
        sections += [BASE_IS_BEST] if self.is_base else []
        sections += cards.measures_section("Held-out quality", self.measures, label="model")
        base_name = cards.short_name(self.base)
        published = self.measures.get("base" if self.is_base else "tuned", {})
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A text-embedding model of {self.dimension} dimensions, "
                f"tuned from `{base_name}` with contrast-train."
            ),
            usage=USAGE,
            sections=sections,
            lineage_node=self.step,
            base=self.base,
            results=cards.held_out_results(published, dataset="held-out examples"),
        )
        return content.render()
