"""The model card: what the model was made of, how well it does, and what it was not tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fletching.protocols import Lineage
from fletching.train import model_card as cards

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BASE_IS_BEST = (
    "No step was better than the base model on the held-out examples: these are the weights of "
    "the base model."
)
DocumentSide = Literal["trained", "fixed by the base", "fixed by others"]
FIXED_DOCUMENTS: dict[DocumentSide, str] = {
    "fixed by the base": (
        "Its queries alone were trained, against the base model's vectors of the documents: an "
        "index of those can stay as it is, or be made anew by this model."
    ),
    "fixed by others": (
        "Its queries alone were trained, against vectors of documents that this model does not "
        "make: search an index of those."
    ),
}
USAGE = """\
queries = model.encode_query(["..."])
documents = model.encode_document(["...", "..."])
print(model.similarity(queries, documents))"""

USAGE_OF_QUERIES = """\
queries = model.encode_query(["..."])  # for an index of the vectors that it was trained against"""


@dataclass(frozen=True, kw_only=True)
class ContrastCard:
    """What the card of a tuned model says.

    base: of its model; base_name: as --model says. step: the node of this tool in the lineage.
    plan: a phrase for each fact about the batches; settings: of the optimiser, in words. measures:
    held-out quality by model, `base` and `tuned`. log: the path of the metrics log. loss: in
    words. document_side: what gave the vectors that queries were trained against. best_step: that
    of the published weights; 0: those of the base.
    """

    name: str
    base: cards.BaseCard
    base_name: str
    dimension: int
    model: SentenceTransformer
    step: Lineage
    plan: Sequence[str]
    hyperparameters: Sequence[str]
    lengths: Mapping[str, int]
    prompts: Mapping[str, str]
    measures: Mapping[str, Mapping[str, float]]
    loss: str
    loss_name: str
    document_side: DocumentSide
    rows: int
    datasets: Sequence[str]
    log: str
    best_step: int | None

    def render(self) -> str:
        """The card as Markdown."""
        is_base = self.best_step == 0
        sections = ["## Uses and limits", cards.bullet_list(self._limits())]
        sections += cards.measures_section("Held-out quality", self.measures, label="model")
        sections += [BASE_IS_BEST] if is_base else []
        sections += ["## Training", f"Loss: {self.loss}.", cards.bullet_list(self.plan)]
        sections += self.hyperparameters
        sections += cards.training_log(self.log, best_step=self.best_step)
        sections += cards.versions_section()
        published = self.measures.get("base" if is_base else "tuned", {})
        base_name = self.base.name or cards.short_name(self.base_name)
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A text-embedding model of {self.dimension} dimensions, "
                f"tuned from `{base_name}` with contrast-train."
            ),
            usage=USAGE_OF_QUERIES if self.document_side == "fixed by others" else USAGE,
            sections=sections,
            lineage_node=self.step,
            model=self.model,
            base=self.base,
            loss=self.loss_name,
            rows=self.rows,
            datasets=self.datasets,
            results=cards.held_out_results(published, dataset="held-out examples"),
        )
        return content.render()

    def _limits(self) -> list[str]:
        """What the model is for, and what nobody has measured."""
        query_length, document_length = self.lengths["query"], self.lengths["document"]
        lines = [
            "For search: queries like those of its training rows find texts like their answers.",
            f"Trained on queries of up to {query_length} tokens and documents of up to "
            f"{document_length}; what lies behind is not read.",
        ]
        if self.document_side in FIXED_DOCUMENTS:
            lines.append(FIXED_DOCUMENTS[self.document_side])
        if any(self.prompts.values()):
            lines.append("Without the prompts above, its vectors are worse.")
        if self.measures:
            lines.append(
                "The figures below are of held-out examples of one kind, which also chose the step "
                "that is published. Other domains and languages were not measured, and tuning may "
                "have cost quality there: compare with the base before you use it elsewhere."
            )
        else:
            lines.append(
                "No held-out examples were given: how good it is, and whether it is better than "
                "its base, was not measured."
            )
        return lines
