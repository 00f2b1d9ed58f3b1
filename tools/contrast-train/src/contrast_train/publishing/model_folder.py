"""The folder of a trained model: weights, model card, measures, lineage and training index."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrast_train.data.batch_sampler import BatchPlan
from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.reference_identity import Identities
from contrast_train.data.stream_plan import StreamPlan
from contrast_train.data.streamed_dataset import StreamedDataset
from contrast_train.data.task_folders import TrainingInputs
from contrast_train.data.task_mixing import TaskSettings
from contrast_train.data.training_data import StreamedInputs
from contrast_train.model import backbone as backbones
from contrast_train.model import head
from contrast_train.model.backbone import Backbone
from contrast_train.model.chosen_weights import ChosenWeights
from contrast_train.options import Options
from contrast_train.publishing import model_card
from contrast_train.publishing.training_index import count_rows
from fletching import cli, lineage, training_index
from fletching.report import Report
from fletching.train.base_card import BaseCard
from fletching.train.model_card import hub_datasets, hyperparameters_section
from fletching.train.publish import Publication, unreached
from fletching.train.run_dir import RunDir

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fletching.protocols import Lineage

# Options that name files, which differ by machine.
PATHS = ("model", "eval", "eval_corpus", "guide", "teacher_vectors", "document_vectors", "tasks")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What a run has trained, and what its card and lineage state.

    references: the vectors that it learned from and did not train; document_side: whose those of
    documents are. rows_by_prompt: rows by query prompt, None for the model's. loss: its name;
    loss_description: in words. weights: those that are published. base: the card of --model.
    """

    options: Options
    backbone: Backbone
    inputs: TrainingInputs | StreamedInputs
    digest: str
    dataset: TrainingDataset | StreamedDataset
    plan: BatchPlan | StreamPlan
    tasks: Mapping[str, TaskSettings]
    references: Identities
    document_side: model_card.DocumentSide
    rows_by_prompt: Counter[str | None]
    loss: str
    loss_description: str
    weights: ChosenWeights
    base: BaseCard

    def rehearse(self, tool: cli.Tool) -> None:
        """Build before training what could fail after it: the card and the training index.

        Raises what building them raises.
        """
        node = self._lineage_node(tool)
        self._card("rehearsal", node, log=os.devnull, rows=len(self.dataset))
        training_index.load(self.options.model)

    def _lineage_node(self, tool: cli.Tool) -> lineage.Node:
        return lineage.make_node(
            tool.name, tool.version, options=self._settings, sources=self.inputs.steps
        )

    def publish(self, run_dir: RunDir, report: Report, tool: cli.Tool, *, log: str) -> None:
        """Write the folder inside the run folder, then rename it to its own name.

        log: the metrics of the run.
        """
        folder = run_dir.path_to("model")
        os.makedirs(folder, exist_ok=True)
        backbones.save(self.backbone, folder, self.options)
        node = self._lineage_node(tool)
        publication = Publication(
            run_dir=run_dir, folder=folder, report=report, tool=tool, settings=self._settings
        )
        publication.write_measures(log, self.inputs.readers)
        account = count_rows(
            self.dataset,
            is_reached=self._is_reached(self.weights.steps),
            is_seen=self._is_reached(self.weights.trained_steps),
            base=training_index.load(self.options.model),
        )
        if isinstance(self.dataset, StreamedDataset):
            self.dataset.report_drops(report)
        account.index.save(folder)
        publication.publish(
            lineage_node=node,
            end=self._end(account.rows),
            card=self._card(os.path.basename(run_dir.output), node, log=log, rows=account.rows),
            rows=account.rows,
            rows_trained=account.reached,
            reason=self._why_unreached(),
        )

    def _is_reached(self, steps: int) -> npt.NDArray[np.bool_]:
        """Which rows the first `steps` updates saw (rows,)."""
        return self.plan.is_reached(steps * self.options.accumulate)

    def _why_unreached(self) -> str:
        if self.weights.steps * self.options.accumulate < self.plan.steps:
            return "not reached before --patience ended the run"
        return unreached(self.options) if self.plan.reaches_all else "left out by the plan"

    @property
    def _settings(self) -> Lineage:
        """The options as the lineage shows them: no path, the same on every machine."""
        options = cli.row_options(self.options)
        settings = {name: value for name, value in options.items() if name not in PATHS}
        if self.tasks:
            settings["tasks"] = tasks_as_json(self.tasks)
        for field, identity in self.references.items():
            settings[field] = identity.settings
        settings["loss"] = self.loss
        settings["model"] = {
            "fingerprint": self.backbone.fingerprint,
            "lengths": self.backbone.lengths,
        }
        return settings

    def _end(self, rows: int) -> Lineage:
        """What is known once the run is over."""
        return {
            "rows": rows,
            "digest": self.digest,
            "base_model": self.backbone.fingerprint,
            "steps": self.weights.steps,
            "best_step": self.weights.best_step,
            "trained": training_index.describe_training(
                self.backbone.model, self._prompts, self.backbone.lengths
            ),
        }

    @property
    def _prompts(self) -> dict[str, list[str]]:
        """The prompts that were before queries and documents."""
        query, document = self.backbone.prompts["query"], self.backbone.prompts["document"]
        of_tasks = [task.doc_prompt for task in self.tasks.values()]
        return {
            "query": [query if prompt is None else prompt for prompt in self.rows_by_prompt],
            "document": [document, *(prompt for prompt in of_tasks if prompt is not None)],
        }

    def _card(self, name: str, node: Lineage, *, log: str, rows: int) -> str:
        return model_card.ContrastCard(
            name=name,
            base=self.base,
            base_name=self.options.model,
            dimension=head.dimension_of(self.backbone.model),
            model=self.backbone.model,
            step=node,
            plan=self.plan.describe(),
            hyperparameters=hyperparameters_section(self.options, steps=self.weights.steps),
            lengths=self.backbone.lengths,
            prompts={role: text or "" for role, text in self.backbone.model.prompts.items()},
            measures={model: dict(values) for model, values in self.weights.quality.items()},
            loss=self.loss_description,
            loss_name=self.loss,
            document_side=self.document_side,
            rows=rows,
            datasets=hub_datasets(self.options.inputs),
            log=log,
            best_step=self.weights.best_step,
        ).render()


def tasks_as_json(tasks: Mapping[str, TaskSettings]) -> Lineage:
    """The settings of each task, for lineage and manifest."""
    return {name: dataclasses.asdict(task) for name, task in tasks.items()}
