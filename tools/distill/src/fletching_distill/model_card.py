"""The model card: whose student the model is and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching.protocols import Lineage
from fletching.train import model_card as cards

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

USAGE = "vectors = model.encode_query([...]), model.encode_document([...])"


@dataclass(frozen=True, kw_only=True)
class StudentCard:
    """What the card of a student says.

    origin: what the student is and whose vectors it learned. base: the card of the model that it
    was made of; teachers: those of the others. dims: prefixes of the vectors that can be used
    alone. step: the node of this tool in the lineage. losses: (name, mean over the first steps,
    over the last). log: the path of the metrics log.
    """

    name: str
    origin: str
    base: cards.BaseCard
    teachers: Sequence[cards.BaseCard]
    dimension: int
    model: SentenceTransformer
    dims: Sequence[int]
    step: Lineage
    plan: str
    hyperparameters: Sequence[str]
    prompts: Mapping[str, str]
    loss: str
    losses: Sequence[tuple[str, float, float]]
    rows: int
    datasets: Sequence[str]
    log: str

    def render(self) -> str:
        """The card as Markdown."""
        sections = ["## Uses and limits", cards.bullet_list(self._limits())]
        sections += ["## Training", f"{self.plan}. Loss: {self.loss}."]
        rows = [[name, f"{first:.4g}", f"{last:.4g}"] for name, first, last in self.losses]
        sections.append(cards.markdown_table(["loss", "first steps", "last steps"], rows))
        sections += self.hyperparameters
        sections += cards.training_log(self.log)
        sections += cards.versions_section()
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A text-embedding model of {self.dimension} dimensions, "
                f"made with distill: {self.origin}."
            ),
            usage=USAGE,
            sections=sections,
            lineage_node=self.step,
            model=self.model,
            base=self.base,
            tags=("distillation",),
            loss="distillation",
            rows=self.rows,
            datasets=self.datasets,
        )
        return content.render()

    def _limits(self) -> list[str]:
        """What the student is for, and what it inherits."""
        lines = [
            "For what its teacher is for, at less cost: it was trained to give the teacher's "
            "vectors on the training texts. On texts of other kinds it is further from them.",
            "How near it comes in search was not measured here: `mteb-eval` compares both.",
        ]
        if self.dims:
            prefixes = ", ".join(map(str, self.dims))
            lines.append(f"Its vectors can be cut to their first {prefixes} numbers.")
        for teacher in self.teachers:
            if teacher.restriction:
                name = cards.plain_text(teacher.name or "a teacher")
                lines.append(f"Of the teacher {name}: {teacher.restriction}")
        return lines
