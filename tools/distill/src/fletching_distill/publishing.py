"""The model folder of a run: what a published student says of itself and its training texts."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching import cli, lineage, training_index
from fletching.io import Reader
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import metrics_log, publish
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.batch_order import BatchOrder
from fletching.train.model_card import hub_datasets, hyperparameters_section, note_licence
from fletching.train.run_dir import RunDir
from fletching.training_index import TrainingIndex
from fletching_distill import model_card, student
from fletching_distill.options import Options
from fletching_distill.resolved_options import describe_loss, learning_rate, weight_decay
from fletching_distill.teacher import Teacher
from fletching_distill.text_dataset import TextDataset

Losses = Sequence[tuple[str, float, float]]  # name, at the start, at the end


@dataclass(kw_only=True)
class StudentPublisher:
    """Saves the student of a run with its card, lineage and training index.

    manifest: of the run; what decides the student. reader: of the input, read to its end.
    """

    options: Options
    report: Report
    tool: cli.Tool
    reader: Reader
    texts: TextDataset
    order: BatchOrder
    student: student.Student
    teachers: Sequence[Teacher]
    manifest: Lineage

    def rehearse(self) -> None:
        """Build the card before training, so that whatever fails fails early."""
        for base in (self.base_card, *self.teacher_cards):
            note_licence(self.report, base)
        self._card("rehearsal", dimension=0, losses=(), log=os.devnull)

    def publish(self, folder: RunDir, log: str) -> None:
        """Build the model folder and move it to --output."""
        built = folder.path_to("model")
        os.makedirs(built, exist_ok=True)
        dimension = student.save(
            self.student, built, trust_remote_code=self.options.trust_remote_code
        )
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        publication.write_measures(log, [self.reader])
        card = self._card(
            os.path.basename(folder.output),
            dimension=dimension,
            losses=first_and_last(log),
            log=log,
        )
        texts, order = len(self.texts), self.order
        is_trained = order.row_counts() > 0
        models_used = {self.options.model, *self.options.teacher} - {None}
        index_texts(self.texts, is_trained, map(str, models_used)).save(built)
        publication.publish(
            lineage_node=self._lineage_node,
            end={"texts": texts, "digest": self.manifest["data"], "steps": order.steps},
            card=card,
            rows=texts,
            rows_trained=int(is_trained.sum()),
            reason=publish.unreached(self.options),
        )

    @functools.cached_property
    def base_card(self) -> BaseCard:
        """The card of the student's base: of --model, or of the teacher whose layers it has."""
        options = self.options
        if options.model:
            return read_base_card(options.model)
        return self.teacher_cards[0] if options.student_layers else BaseCard()

    @functools.cached_property
    def teacher_cards(self) -> list[BaseCard]:
        """The cards of the teachers that are models."""
        return [read_base_card(name) for name in self.options.teacher]

    @property
    def _settings(self) -> Lineage:
        """What decides the student, as the lineage shows it: the same on every machine."""
        settings: Lineage = dict(self.manifest["options"])
        settings["teachers"] = list(self.manifest["teachers"].values())
        settings["student_fingerprint"] = self.manifest["student"]
        return settings

    @property
    def _lineage_node(self) -> lineage.Node:
        return lineage.make_node(
            self.tool.name,
            self.tool.version,
            options=self._settings,
            sources=self.reader.lineage_nodes,
        )

    def _card(self, name: str, *, dimension: int, losses: Losses, log: str) -> str:
        texts, order, options = len(self.texts), self.order, self.options
        prompts: Any = self.student.model.prompts
        return model_card.StudentCard(
            name=name,
            origin=describe_origin(options, self.teachers),
            base=self.base_card,
            teachers=self.teacher_cards,
            dimension=dimension,
            model=self.student.model,
            dims=options.matryoshka,
            step=self._lineage_node,
            plan=f"{texts:,} texts in {order.steps:,} batches of up to {order.batch:,}",
            hyperparameters=hyperparameters_section(
                options,
                steps=order.steps,
                learning_rate=learning_rate(options),
                weight_decay=weight_decay(options),
            ),
            prompts=prompts,
            loss=describe_loss(options),
            losses=losses,
            rows=texts,
            datasets=hub_datasets(options.inputs),
            log=log,
        ).render()


def index_texts(
    texts: TextDataset, is_trained: npt.NDArray[np.bool_], models: Iterable[str]
) -> TrainingIndex:
    """Keys of the texts that were trained on.

    is_trained: (texts,). models: base model and teachers, whose own indices are included.
    """
    index = TrainingIndex()
    for start, batch in zip(texts.table.offsets, texts.table):
        is_trained_in_batch = pa.array(is_trained[start : start + len(batch)])
        index.add(batch["text"].filter(is_trained_in_batch))
    for name in models:
        before = training_index.load(name)
        if before:
            index.include(before)
    return index


def describe_origin(options: Options, teachers: Sequence[Teacher]) -> str:
    """What the student is and who taught it, for the card."""
    names = [os.path.basename(teacher.name.rstrip("/")) for teacher in teachers]
    quoted = ", ".join(f"`{name}`" for name in names)
    kind = "static token embeddings" if options.student == "static" else "a transformer"
    if options.student_layers:
        kind += f" of {options.student_layers} of its layers"
    return f"{kind} trained on the vectors of {quoted}"


def first_and_last(log: str) -> list[tuple[str, float, float]]:
    """(loss, its mean over the first tenth of the steps, over the last tenth)."""
    values_by_loss: dict[str, list[float]] = {}
    for line in metrics_log.read(log):
        if line["name"].startswith("loss"):
            name = line["name"].removeprefix("loss_")
            values_by_loss.setdefault(name, []).append(line["value"])
    means = []
    for name, values in values_by_loss.items():
        tenth = -(-len(values) // 10)
        means.append((name, float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))))
    return means
