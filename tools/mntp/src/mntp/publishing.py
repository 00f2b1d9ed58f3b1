"""The model folder of a run: its encoder, card, lineage and measures."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching import cli, lineage, training_index
from fletching.encode import model as models
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import publish
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.model_card import hub_datasets, hyperparameters_section, note_licence
from fletching.train.run_dir import RunDir
from mntp import encoder, model_card
from mntp.decoder import Decoder
from mntp.documents import Documents
from mntp.options import Options

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NOT_IN_LINEAGE = ("model", "eval", "adapters")  # paths; the fingerprint says which model it is


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The input of a training, by its number of rows and digest, and what was planned with it.

    steps: 0 without training. plan: lines about it.
    """

    rows: int
    digest: str
    steps: int
    plan: list[str]


class EncoderPublisher:
    """Saves a decoder as an encoder. documents: of the input; None without training."""

    def __init__(
        self,
        options: Options,
        report: Report,
        tool: cli.Tool,
        *,
        decoder: Decoder,
        documents: Documents | None,
        trained_on: TrainedOn,
    ) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.decoder = decoder
        self.documents = documents
        self.trained_on = trained_on

    def rehearse(self, log: str) -> None:
        """Build the card before training, so that whatever fails fails early."""
        note_licence(self.report, self.base_card)
        self._card("rehearsal", plan=self.trained_on.plan, measures={}, log=log)

    def publish(self, folder: RunDir, log: str, *, rows_trained: int) -> None:
        """Build the model folder and move it to --output."""
        built = folder.path_to("model")
        os.makedirs(built, exist_ok=True)
        model = encoder.save(self.decoder, built, self.options, output=folder.output)
        plan = [*self.trained_on.plan, *self._code_needed(built)]
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        if self.trained_on.steps:
            reader = self.documents.reader if self.documents else None
            publication.write_measures(log, [reader] if reader else [])
        card = self._card(
            os.path.basename(folder.output),
            plan=plan,
            measures=self._report_evaluations(log),
            log=log,
            model=model,
        )
        publication.publish(
            lineage_node=self._lineage_node,
            end=self._lineage_end(model),
            card=card,
            rows=self.trained_on.rows,
            rows_trained=rows_trained,
            reason=publish.unreached(self.options),
        )

    def _code_needed(self, built: str) -> list[str]:
        """A line for a model that loads only with its own code, which is reported too."""
        if not encoder.needs_remote_code(built):
            return []
        line = (
            "loads only with its own Python code: SentenceTransformer(path, trust_remote_code=True)"
        )
        self.report.note(line)
        return [line]

    @property
    def _settings(self) -> Lineage:
        """The options as the lineage shows them: no path, the same on every machine."""
        options: Lineage = cli.row_options(self.options)
        settings = {name: value for name, value in options.items() if name not in NOT_IN_LINEAGE}
        return settings | {"model": {"fingerprint": self.decoder.fingerprint}}

    @property
    def _lineage_node(self) -> lineage.Node:
        inputs = self.documents.lineage if self.documents else []
        return lineage.make_node(
            self.tool.name, self.tool.version, options=self._settings, sources=inputs
        )

    @functools.cached_property
    def base_card(self) -> BaseCard:
        """What the decoder's own card says."""
        return read_base_card(self.options.model)

    def _card(
        self,
        name: str,
        *,
        plan: list[str],
        measures: dict[int, dict[str, float]],
        log: str,
        model: SentenceTransformer | None = None,
    ) -> str:
        dimension = model.get_embedding_dimension() if model is not None else 0
        steps = self.trained_on.steps
        return model_card.MntpCard(
            name=name,
            base=self.base_card,
            base_name=self.options.model,
            dimension=dimension or 0,
            model=model,
            step=self._lineage_node,
            plan=plan,
            hyperparameters=hyperparameters_section(self.options, steps=steps),
            measures=measures,
            rows=self.trained_on.rows,
            datasets=hub_datasets(self.options.inputs),
            log=log if steps else "",
            is_encoder=self.decoder.is_encoder,
        ).render()

    def _lineage_end(self, model: SentenceTransformer) -> Lineage:
        prompts: dict[str, list[str]] = {"query": [], "document": []}
        # An encoder's folder keeps its own length; blocks of --length are none of its texts.
        lengths = {role: models.role_length(model, role, None) for role in prompts}
        return {
            "rows": self.trained_on.rows,
            "digest": self.trained_on.digest,
            "base_model": self.decoder.fingerprint,
            "steps": self.trained_on.steps,
            "trained": training_index.describe_training(model, prompts, lengths),
        }

    def _report_evaluations(self, log: str) -> dict[int, dict[str, float]]:
        """Held-out measures by step; the first and the last are reported."""
        evaluations: dict[int, dict[str, float]] = publish.evaluations(log)
        if not evaluations:
            return evaluations
        for when, step in (("before", min(evaluations)), ("after", max(evaluations))):
            measures = evaluations[step]
            figures = ", ".join(f"{name} {value:.4f}" for name, value in measures.items())
            self.report.note(f"{when}: {figures} on the held-out texts")
            self.report.measures |= {f"{name}_{when}": value for name, value in measures.items()}
        return evaluations
