"""The model card of a trained model, by huggingface_hub. It quotes no training text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.card_lineage import lineage_section
from fletching.train.card_sections import (
    hyperparameters_section,
    licence_in_words,
    model_section,
    prompts_section,
    training_log,
    usage_section,
    versions_section,
)
from fletching.train.markdown import (
    bullet_list,
    code,
    markdown_table,
    plain_text,
    printable,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "TAGS",
    "TASK",
    "BaseCard",
    "CardContent",
    "bullet_list",
    "code",
    "held_out_results",
    "hub_datasets",
    "hyperparameters_section",
    "licence_in_words",
    "markdown_table",
    "measures_section",
    "note_licence",
    "plain_text",
    "printable",
    "prompts_section",
    "read_base_card",
    "short_name",
    "training_log",
    "versions_section",
]

TASK = "sentence-similarity"
TAGS = ("sentence-transformers", TASK, "feature-extraction", "dense")
HUB_DATASETS = "hf://datasets/"
Measures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """What a tool says about its model; `render` adds the front matter that the hub reads.

    summary: one sentence. usage: the lines of Python that encode. model: described and served;
    None before training. sections: Markdown, headings included, in the order of the card. base:
    of the model that it was made of. loss: its name. rows: of the training data. datasets: their
    names on the hub. results: held-out measures of this model. merged: hub names of the models
    that went into a blend.
    """

    name: str
    summary: str
    usage: str
    sections: Sequence[str]
    lineage_node: Lineage
    model: SentenceTransformer | None = None
    base: BaseCard = field(default_factory=BaseCard)
    merged: Sequence[str] = ()
    tags: Sequence[str] = ()
    loss: str = ""
    rows: int | None = None
    datasets: Sequence[str] = ()
    results: Sequence[EvalResult] = ()

    def render(self) -> str:
        """The card as Markdown with front matter."""
        described = [] if self.model is None else model_section(self.model, self.base)
        body = [
            f"# {self.name}",
            self.summary,
            *([f"**Licence:** {self.base.restriction}"] if self.base.restriction else []),
            *usage_section(self.name, self.usage, self.model),
            *described,
            *self.sections,
            *lineage_section(self.lineage_node),
        ]
        text = "\n\n".join(body)
        card = ModelCard(f"---\n{self.metadata().to_yaml()}\n---\n\n{text}\n")
        return str(card.content)

    def metadata(self) -> ModelCardData:
        """The front matter."""
        names = list(self.merged) or ([self.base.name] if self.base.name else [])
        return ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag=TASK,
            tags=[*TAGS, *self._training_tags(), *self.tags],
            base_model=(names[0] if len(names) == 1 else names) or None,
            base_model_relation="merge" if self.merged else None,
            license=self.base.license or None,
            license_name=self.base.license_name or None,
            license_link=self.base.link or None,
            language=list(self.base.languages) or None,
            datasets=list(self.datasets) or None,
            model_name=self.name if self.results else None,
            eval_results=list(self.results) or None,
        )

    def _training_tags(self) -> list[str]:
        """As sentence-transformers' trainer writes them."""
        tags = []
        if self.rows is not None:
            tags += ["generated_from_trainer", f"dataset_size:{self.rows}"]
        return [*tags, f"loss:{self.loss}"] if self.loss else tags


def note_licence(report: Report, base: BaseCard) -> None:
    """Say on stderr what the base's licence forbids or demands."""
    if base.restriction:
        report.note(base.restriction)


def hub_datasets(inputs: Iterable[str]) -> list[str]:
    """The data sets of the hub among the inputs, `hf://datasets/USER/NAME/…`, each once."""
    names = []
    for path in inputs:
        if path.startswith(HUB_DATASETS):
            parts = path.removeprefix(HUB_DATASETS).split("/")
            names.append("/".join(parts[:2]).partition("@")[0])
    return list(dict.fromkeys(names))


def short_name(model: str) -> str:
    """The name of a model without the folder it lies in."""
    return os.path.basename(model.rstrip("/"))


def measures_section(title: str, rows: Mapping[str, Measures], *, label: str) -> list[str]:
    """One section with a line of measures for each key, or none. label: what the keys are."""
    if not rows:
        return []
    names = list(next(iter(rows.values())))
    cells = [
        [plain_text(key), *(f"{values[name]:.4f}" for name in names)]
        for key, values in rows.items()
    ]
    return [f"## {title}", markdown_table([label, *names], cells)]


def held_out_results(
    measures: Measures,
    *,
    dataset: str,
    task: str = TASK,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[EvalResult]:
    """Measures of the model on held-out data, as the hub shows them beside it.

    dataset: what the held-out data is called in the card; task: the hub's name of what was
    measured; intervals: the 95 % intervals of measures, by name.
    """
    results = []
    for name, value in measures.items():
        ends = (intervals or {}).get(name)
        low_and_high = None if ends is None else {"interval_95": [round(end, 4) for end in ends]}
        results.append(
            EvalResult(
                task_type=task,
                dataset_type="held-out",
                dataset_name=dataset,
                metric_type=name,
                metric_value=round(value, 4),
                metric_args=low_and_high,
            )
        )
    return results
