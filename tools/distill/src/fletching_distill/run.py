"""One run from options to model folder."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fletching import cli
from fletching.encode import model as models
from fletching.encode.temporary_cache import TemporaryCache
from fletching.io import Reader
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import hardware
from fletching.train.batch_order import BatchOrder, plan_batches
from fletching.train.distributed import process_group
from fletching.train.metrics_log import MetricsLog
from fletching.train.run_dir import ROWS, VECTORS, RunDir, checkpoint_step
from fletching_distill import static_embeddings, student
from fletching_distill.losses import DistillLoss
from fletching_distill.objective import DistillCollator, DistillObjective
from fletching_distill.options import Options
from fletching_distill.publishing import StudentPublisher
from fletching_distill.resolved_options import (
    learning_rate,
    loss_weights,
    softmax_temperature,
    temporary_cache,
    weight_decay,
)
from fletching_distill.student import Student
from fletching_distill.targets import write_targets
from fletching_distill.teacher import Teacher
from fletching_distill.teachers import load_teachers
from fletching_distill.text_dataset import (
    DatasetSummary,
    TextDataset,
    open_reader,
    write_distinct_texts,
)

if TYPE_CHECKING:
    from fletching_distill.trainer import DistillTrainer

SAMPLE = 2_000  # texts whose lengths are measured
NO_LIMIT = 1 << 20  # tokens


class DistillRun:
    """Resolved inputs of a run: texts, teachers' vectors, student, loss. `train` does the work."""

    def __init__(self, options: Options, report: Report, tool: cli.Tool, *, run_path: str) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.reader: Reader | None = None
        self.temporary_cache: TemporaryCache | None = None
        torch.manual_seed(options.seed)  # a new projection is random
        rows_path = os.path.join(run_path, ROWS)
        self.summary = self._write_texts(rows_path)
        self.texts = TextDataset(rows_path)
        with self._without_empty_cache_on_failure():
            self.teachers = self._load_teachers()
            self.target_dimension: int = process_group.broadcast(
                sum(teacher.dimension for teacher in self.teachers)
            )
            # Before the teachers work for hours, since it may be refused.
            self.student = self._prepare_student()
            self.targets = self._targets(os.path.join(run_path, VECTORS, "targets.f16"))
        self.order: BatchOrder = plan_batches(
            len(self.texts),
            batch=options.batch,
            seed=options.seed,
            epochs=options.epochs,
            steps=options.steps,
        )
        self.objective = self._objective()

    @property
    def base_model(self) -> str:
        """The model that the student is made of."""
        return self.options.model or self.options.teacher[0]

    def _write_texts(self, path: str) -> DatasetSummary:
        """The first process alone reads the input; the others map what it wrote."""
        if process_group.is_main():
            self.reader = open_reader(self.report, self.options.inputs, self.options.limit)
            summary = write_distinct_texts(
                self.reader, path, self.report, prompt_template=self.options.prompt_template
            )
            return process_group.broadcast(summary)
        summary_of_main: DatasetSummary | None = process_group.broadcast(None)
        assert summary_of_main is not None
        return summary_of_main

    @contextlib.contextmanager
    def _without_empty_cache_on_failure(self) -> Iterator[None]:
        """Vectors are kept for the next run; a cache without any goes with a run that fails."""
        try:
            yield
        except BaseException:
            if self.temporary_cache:
                self.temporary_cache.close(succeeded=False)
            raise

    def _load_teachers(self) -> list[Teacher]:
        """On the first process alone, which writes the targets for all."""
        if not process_group.is_main():
            return []
        cache = self.options.cache
        beside_output = temporary_cache(self.options)
        if beside_output is not None:
            self.temporary_cache = TemporaryCache(beside_output)
            cache = beside_output
        return load_teachers(self.options, self.report, texts=self.summary, cache=cache)

    def _targets(self, path: str) -> npt.NDArray[np.float16]:
        """(texts, dimension of all teachers), one file for all processes."""
        if process_group.is_main():
            write_targets(
                path,
                self.texts,
                self.teachers,
                weights=self.options.teacher_weights,
                report=self.report,
            )
        process_group.barrier()
        shape = (len(self.texts), self.target_dimension)
        return np.memmap(path, np.float16, "r", shape=shape)

    def _prepare_student(self) -> Student:
        options = self.options
        model = models.load(self.base_model, trust_remote_code=options.trust_remote_code)
        if options.student == "static":
            student.check_transformer(model, self.base_model)
            static, axes = static_embeddings.static_model(
                model.float(),
                self._plain_texts(),
                dimension=options.student_dim,
                report=self.report,
            )
            return student.prepare(
                options, static, self.target_dimension, is_static=True, axes=axes
            )
        if options.student_layers:
            student.drop_layers(model, options.student_layers)
        prepared = student.prepare(options, model, self.target_dimension, is_static=False)
        if options.dropout is not None:
            hardware.set_dropout(prepared.model, options.dropout)
        if prepared.device.type == "cpu":
            hardware.prepare_cpu(prepared.model)
        return prepared

    def _plain_texts(self) -> Iterator[list[str]]:
        for part in self.texts.parts():
            yield [text.text for text in part]

    def _objective(self) -> DistillObjective:
        options, learner = self.options, self.student
        learner.model.to(learner.device)
        loss = DistillLoss(
            loss_weights(options),
            dims=options.matryoshka,
            margin=options.ranking_margin,
            temperature=softmax_temperature(options),
        )
        default_tokens = 1024 if learner.device.type == "cpu" else 32_768
        keep_tokens = 0
        if not learner.is_static:
            keep_tokens = hardware.tokens_that_fit(options.activations or 0, learner.model)
        return DistillObjective(
            learner,
            loss,
            batch_tokens=options.batch_tokens or default_tokens,
            keep_tokens=keep_tokens,
        )

    @property
    def manifest(self) -> Lineage:
        """What must be equal for a run to resume from a checkpoint."""
        options = cli.row_options(self.options)
        options.pop("model", None)  # a path; the fingerprint says which one it is
        teachers = {str(number): teacher.identity for number, teacher in enumerate(self.teachers)}
        return {
            "version": self.tool.version,
            "data": self.summary.digest,
            "teachers": teachers,
            "student": self.student.fingerprint,
            "dtype": models.dtype_name(self.student.autocast),
            "options": options,
        }

    @functools.cached_property
    def _publisher(self) -> StudentPublisher:
        assert self.reader is not None
        return StudentPublisher(
            options=self.options,
            report=self.report,
            tool=self.tool,
            reader=self.reader,
            texts=self.texts,
            order=self.order,
            student=self.student,
            teachers=self.teachers,
            manifest=self.manifest,
        )

    def _report_plan(self) -> None:
        """Report the plan and what training sees of the data."""
        order, texts = self.order, self.texts
        epochs = order.steps / order.epoch_steps
        dimension = self.student.model.get_embedding_dimension()
        tokens, is_truncated = self._sample_lengths()
        notes = [
            f"{len(texts):,} texts, teacher vectors of {self.target_dimension} dimensions, "
            f"student of {dimension}",
            f"{order.steps:,} steps of up to {order.batch:,} texts, "
            f"{order.epoch_steps:,} an epoch; each text seen {epochs:.3g} times",
            f"tokens: mean {tokens.mean():.0f}, median {np.median(tokens):.0f}, "
            f"longest {tokens.max():,}; {is_truncated.mean():.1%} of texts truncated",
        ]
        for note in notes:
            self.report.note(note)
        self.report.measures |= {
            "texts": len(texts),
            "steps": order.steps,
            "tokens_mean": float(tokens.mean()),
            "cut": float(is_truncated.mean()),
        }

    def _sample_lengths(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """(tokens, are they more than the student reads?) of texts spread over the input."""
        texts, learner = self.texts, self.student
        numbers = np.linspace(0, len(texts) - 1, min(SAMPLE, len(texts)))
        sample = [texts[int(number)] for number in numbers]
        prompted = [text.prompted(learner.prompts) for text in sample]
        ids = learner.tokenize(prompted, [NO_LIMIT] * len(sample))
        tokens = np.array([len(ids_of_text) for ids_of_text in ids])
        limits = np.array([learner.lengths[text.role] for text in sample])
        return tokens, tokens > limits

    def dry_run(self) -> None:
        """Report the plan, and the time of all steps by that of one real batch."""
        self._report_plan()
        collate = DistillCollator(self.texts, self.targets, self.student)
        batch = collate(self.order.epoch(0)[0].tolist())
        on_device = {name: tensor.to(self.student.device) for name, tensor in batch.items()}
        seconds = min(self._time_step(on_device) for _ in range(2)) * self.order.steps
        self.report.measures["estimated_seconds"] = seconds
        self.report.note(f"about {seconds / 60:.1f} minutes on {self.student.device}")

    def _time_step(self, batch: dict[str, torch.Tensor]) -> float:
        """Seconds of one forward and backward pass."""
        start = time.monotonic()
        self.objective(**batch).backward()
        return time.monotonic() - start

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the model."""
        step = checkpoint_step(newest)
        if process_group.is_main():
            self._publisher.rehearse()
        if newest:
            self.report.note(f"resuming from step {step:,} of {self.order.steps:,}")
        else:
            self._report_plan()
        log_path = folder.path_to("measures.jsonl")
        with self.report.progress("training", self.order.steps - step, "steps") as progress:
            log = MetricsLog(log_path, progress, step)
            self._trainer(folder, log).train(resume_from_checkpoint=newest)
        log.close()
        if process_group.is_main():
            if self.temporary_cache:  # first: a run killed behind this line knows no more of it
                self.temporary_cache.close(succeeded=True)
            self._publisher.publish(folder, log_path)

    def _trainer(self, folder: RunDir, log: MetricsLog) -> DistillTrainer:
        hardware.silence_libraries()
        from fletching.train.trainer import IntervalCallback, TrainingSetup, training_arguments
        from fletching_distill.trainer import DistillTrainer

        options, steps = self.options, self.order.steps
        setup = TrainingSetup(
            rows=range(len(self.texts)),
            plan=self.order,
            collate=DistillCollator(self.texts, self.targets, self.student),
            run_dir=folder,
            metrics_log=log,
            intervals=IntervalCallback.from_options(options, steps, evaluates=False),
            row_names=lambda rows: [self.texts[row].id for row in rows],
        )
        args = training_arguments(
            options,
            steps=steps,
            folder=folder.path,
            device=self.student.device,
            learning_rate=learning_rate(options),
            weight_decay=weight_decay(options),
        )
        trainer = DistillTrainer(setup, objective=self.objective, args=args)
        ranks = process_group.world_size()
        if ranks > 1:  # each rank draws another dropout
            torch.manual_seed(options.seed * ranks + process_group.rank())
        return trainer
