"""The model card: what the encoder was made of and how well it predicts masked tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching.protocols import Lineage
from fletching.train import model_card as cards

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

USAGE = "vectors = model.encode([...])"
ATTENTION = """\
Every token attends to all others (`is_causal: false` in config.json, which transformers 5.2 and
later obey; a server that does not obey it gives other vectors)."""
ADAPTED = """\
Pre-trained further by masked language modelling on texts of a domain
([arXiv 2004.10964](https://arxiv.org/abs/2004.10964)); pooling and modules are the base model's."""
LIMITS = (
    "A base for contrastive training (`contrast-train`): its vectors are a start, and untrained "
    "for search.",
    "It has learned to predict masked tokens of its training texts; other languages and domains "
    "were not measured.",
)


@dataclass(frozen=True, kw_only=True)
class MntpCard:
    """What the card of a bidirectional encoder says.

    base: the card of the decoder; base_name: as --model says. model: None before it is saved.
    step: the node of this tool in the lineage. plan: a phrase for each fact about the run.
    measures: of held-out texts, by training step. log: the path of the metrics log; "" without
    training. is_encoder: the base model was one before, so that the loss is MLM.
    """

    name: str
    base: cards.BaseCard
    base_name: str
    dimension: int
    model: SentenceTransformer | None
    step: Lineage
    plan: Sequence[str]
    hyperparameters: Sequence[str]
    measures: Mapping[int, Mapping[str, float]]
    rows: int
    datasets: Sequence[str]
    log: str
    is_encoder: bool = False

    def render(self) -> str:
        """The card as Markdown."""
        by_step = {str(number): values for number, values in self.measures.items()}
        about = ADAPTED if self.is_encoder else ATTENTION
        sections = ["## Uses and limits", cards.bullet_list([*LIMITS, about])]
        sections += cards.measures_section("Held-out texts", by_step, label="step")
        sections += ["## Training", cards.bullet_list(self.plan)]
        if self.log:
            sections += self.hyperparameters
            sections += cards.training_log(self.log)
        sections += cards.versions_section()
        final = self.measures[max(self.measures)] if self.measures else {}
        base_name = self.base.name or cards.short_name(self.base_name)
        kind = "encoder" if self.is_encoder else "decoder"
        content = cards.CardContent(
            name=self.name,
            summary=(
                f"A bidirectional text encoder of {self.dimension} dimensions, "
                f"made from the {kind} `{base_name}` with mntp."
            ),
            usage=USAGE,
            sections=sections,
            lineage_node=self.step,
            model=self.model,
            base=self.base,
            loss=("mlm" if self.is_encoder else "mntp") if self.log else "",
            rows=self.rows if self.log else None,
            datasets=self.datasets,
            results=cards.held_out_results(final, dataset="held-out texts", task="fill-mask"),
        )
        return content.render()
