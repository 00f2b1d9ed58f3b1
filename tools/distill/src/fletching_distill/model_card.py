"""The model card: whose student the model is and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching.protocols import Lineage
from fletching.train import model_card as cards

USAGE = "vectors = model.encode_query([...]), model.encode_document([...])"


@dataclass(frozen=True, kw_only=True)
class StudentCard:
    """What the card of a student says.

    origin: what the student is and whose vectors it learned. dims: prefixes of the vectors that can
    be used alone. step: the node of this tool in the lineage. losses: (name, mean over the first
    steps, over the last).
    """

    name: str
    origin: str
    dimension: int
    dims: Sequence[int]
    step: Lineage
    plan: str
    prompts: Mapping[str, str]
    loss: str
    losses: Sequence[tuple[str, float, float]]

    def render(self) -> str:
        """The card as Markdown."""
        sections = []
        if self.dims:
            prefixes = ", ".join(map(str, self.dims))
            sections.append(f"Its vectors can be cut to their first {prefixes} numbers.")
        sections += cards.prompts_section(self.prompts)
        sections += ["## Training", f"{self.plan}. Loss: {self.loss}."]
        rows = [[name, f"{first:.4g}", f"{last:.4g}"] for name, first, last in self.losses]
        sections.append(cards.markdown_table(["loss", "first steps", "last steps"], rows))
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A text-embedding model of {self.dimension} dimensions, "
                f"made with distill: {self.origin}."
            ),
            usage=USAGE,
            sections=sections,
            lineage_node=self.step,
            tags=("distillation",),
        )
        return content.render()
