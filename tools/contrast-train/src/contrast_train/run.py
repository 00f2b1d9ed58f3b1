"""One run, from options to model folder."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from typing import TYPE_CHECKING

from contrast_train.data import (
    loading,
    reference_identity,
    reference_vectors,
    streaming,
    task_mixing,
)
from contrast_train.data.collator import ContrastCollator
from contrast_train.data.rank_exchange import RankBatches, RankExchange
from contrast_train.data.reference_source import flag_of
from contrast_train.data.reference_vectors import ReferenceLoader, ReferenceVectors, StudentSettings
from contrast_train.data.stream_plan import StreamPlan
from contrast_train.data.streamed_dataset import StreamedDataset
from contrast_train.data.training_data import TrainingData
from contrast_train.losses import selection
from contrast_train.losses.registry import LOSSES
from contrast_train.model import backbone as backbones
from contrast_train.model import head
from contrast_train.model.chosen_weights import ChosenWeights, Measures
from contrast_train.options import Options
from contrast_train.publishing.model_folder import TrainedModel, tasks_as_json
from contrast_train.training import evaluation_setup, step_choice
from contrast_train.training.dry_run import DryRun
from contrast_train.training.objective import ContrastObjective
from contrast_train.training.retrieval_evaluator import BEST_BY, RetrievalEvaluator
from contrast_train.training.step_choice import StepChoice
from contrast_train.training.weight_choice import WeightChoice, note_quality
from fletching import cli
from fletching.encode import model as models
from fletching.report import Report
from fletching.train import agreement, hardware, publish
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.distributed import deepspeed_config, fsdp, process_group
from fletching.train.metrics_log import MetricsLog
from fletching.train.model_card import note_licence
from fletching.train.run_dir import EVAL_CORPUS, ROWS, VECTORS, RunDir, checkpoint_step

if TYPE_CHECKING:
    from contrast_train.publishing.model_card import DocumentSide
    from contrast_train.training.trainer import ContrastTrainer
    from fletching.protocols import Lineage


class ContrastRun:
    """The data set, plan, model and loss of a run, built once; `train` does the work.

    run_path: the folder of its working files.
    """

    def __init__(self, options: Options, report: Report, tool: cli.Tool, *, run_path: str) -> None:
        self.options = options
        self.report = report
        self.tool = tool
        self.tasks = task_mixing.read(options.tasks) if options.tasks else {}
        data = self._load_data(os.path.join(run_path, ROWS))
        self.inputs = data.inputs  # without --stream, of the first process alone
        self.digest, self.loss = data.digest, data.loss
        self.dataset, self.plan = data.dataset, data.plan
        self.backbone = backbones.load(options)
        self.similarity = self._apply_head_options()
        self.rows_by_prompt = task_mixing.merge_prompts(
            self.dataset.prompts(), self.tasks, options.tasks
        )
        self._set_prompts()
        self.references = reference_identity.identify_on_machines(options)
        self.reference_loader = self._reference_loader()
        if self.reference_loader:
            self.reference_loader.check_documents()
        self.evaluator: RetrievalEvaluator | None = None
        self.eval_corpus_digest = ""
        if options.eval:
            self.evaluator = evaluation_setup.open_evaluator(
                options, report, self.backbone, task_prompts=self.dataset.task_prompts
            )
        if self.evaluator and options.eval_corpus:
            self.eval_corpus_digest = evaluation_setup.add_corpus(
                self.evaluator,
                options,
                report,
                path=os.path.join(run_path, EVAL_CORPUS),
                prompt=self.backbone.prompts["document"],
            )
        self.step = self._choose_step()
        self.objective = self._objective()

    def _load_data(self, rows_path: str) -> TrainingData:
        if self.options.stream:
            return streaming.load(self.options, self.report)
        return loading.load(self.options, self.report, rows_path, tasks=self.tasks)

    def _apply_head_options(self) -> str:
        similarity = head.apply_options(self.backbone.model, self.options)
        if similarity.unnormalised:
            self.report.note(
                "the model's normalising module is left out: --similarity dot compares vectors "
                "as they are"
            )
        return similarity.name

    def _set_prompts(self) -> None:
        """Set the prompts that the model saves, checked against those of rows and tasks."""
        backbones.reconcile_prompts(self.backbone, self.rows_by_prompt, self.options.query_prompt)
        model = self.backbone.model
        model.prompts = task_mixing.saved_prompts(
            model.prompts, self.tasks, self.backbone.prompts["document"]
        )

    def _choose_step(self) -> StepChoice:
        """The kernels and settings of a step; the model goes to its device, or is sharded."""
        options, backbone = self.options, self.backbone
        first_position = step_choice.prepare(backbone, options, self.loss)
        backbone.model.to(backbone.device)
        if options.fsdp:
            fsdp.shard(backbone.model, backbone.device)
        return step_choice.choose(backbone, options, first_position)

    def _objective(self) -> ContrastObjective:
        options = self.options
        learned_temperature = None
        if options.learn_temperature:
            learned_temperature = selection.temperature(options, self.loss, self.similarity)
        return ContrastObjective(
            self.backbone.model,
            selection.configure(options, self.loss, self.similarity),
            self.step.settings,
            learned_temperature=learned_temperature,
        )

    @property
    def manifest(self) -> Lineage:
        """What must be equal for a run to resume from a checkpoint."""
        return {
            "version": self.tool.version,
            "data": self.digest,
            "model": self.backbone.fingerprint,
            "dtype": models.dtype_name(self.backbone.autocast),
            "micro-batches": self.step.batches,
            "held-out examples": self.evaluator.digest if self.evaluator else None,
            "texts of --eval-corpus": self.eval_corpus_digest,
            **{flag_of(field): each.describe() for field, each in self.references.items()},
            "options": cli.row_options(self.options) | {"tasks": tasks_as_json(self.tasks)},
        }

    @property
    def updates(self) -> int:
        """Optimiser steps: one for --accumulate global batches."""
        return -(-self.plan.steps // self.options.accumulate)

    def collator(
        self, vectors: ReferenceVectors | None = None, exchange: RankExchange | None = None
    ) -> ContrastCollator:
        """Rows to tensors, as this run's loss wants them.

        vectors: those that it learns from. exchange: the ranks that make a batch together.
        """
        vectors = vectors or ReferenceVectors()
        return self.backbone.collator(
            views=LOSSES[self.loss].views,
            guide=vectors.guide,
            teacher=vectors.teacher,
            document_vectors=vectors.documents,
            exchange=exchange,
        )

    def _reference_loader(self) -> ReferenceLoader | None:
        """Of the vectors that are not trained; None without any. --stream refuses them."""
        if not self.references or isinstance(self.dataset, StreamedDataset):
            return None
        options, backbone = self.options, self.backbone
        student = StudentSettings(
            fingerprint=backbones.untrained_fingerprint(backbone, options),
            loaded_fingerprint=backbone.loaded_fingerprint,
            prompts={"query": backbone.prompts["query"], "document": backbone.prompts["document"]},
            lengths={"query": backbone.lengths["query"], "document": backbone.lengths["document"]},
            dimension=head.dimension_of(backbone.model),
            roles=["query"] if LOSSES[self.loss].views else ["query", "document"],
            load=functools.partial(backbones.load_untrained, options),
        )
        return ReferenceLoader(
            options=options,
            dataset=self.dataset,
            report=self.report,
            student=student,
            identities=self.references,
        )

    def dry_run(self) -> None:
        """Note what training would do and how long it would take."""
        self._forecast().estimate(self.objective)

    def _forecast(self) -> DryRun:
        """Describes the plan and the step."""
        dimension = head.dimension_of(self.backbone.model)
        forecast = DryRun(
            dataset=self.dataset,
            plan=self.plan,
            backbone=self.backbone,
            collate=self.collator(reference_vectors.for_forecast(self.options, dimension)),
            report=self.report,
        )
        forecast.describe()
        self.report.note(self.step.describe())
        return forecast

    def evaluate(self) -> Measures:
        """Quality of the model on the held-out examples, as it is now."""
        assert self.evaluator
        embed = functools.partial(evaluation_setup.embed, self.objective, self.backbone)
        return self.evaluator.measure(embed, self.similarity)

    def train(self, run_dir: RunDir, checkpoint: str | None) -> None:
        """Train, from the newest checkpoint where there is one, and publish the model."""
        step = checkpoint_step(checkpoint)
        if process_group.is_main():
            note_licence(self.report, self.base_card)
            untrained = ChosenWeights(best_step=None, steps=self.updates, quality={})
            self._trained_model(untrained).rehearse(self.tool)
        self.objective.micro_batches_for = agreement.first_world_size(
            run_dir.path, resumes=checkpoint is not None
        )
        if checkpoint:
            self.report.note(f"resuming from step {step:,} of {self.updates:,}")
        elif process_group.is_main():
            self._forecast()
            for line in self.backbone.describe_prompts():
                self.report.note(line)
        vectors = None
        if self.reference_loader:  # before the first evaluation, which may be long
            vectors = self.reference_loader.load(run_dir.path_to(VECTORS))
        log_path = run_dir.path_to("measures.jsonl")
        with self.report.progress("training", self.updates - step, "steps") as progress:
            metrics_log = MetricsLog(log_path, progress, step)
            if self.evaluator and not checkpoint:
                before = self.evaluate()
                note_quality(self.report, "before", before)
                metrics_log.log_evaluation(0, before)
            before = process_group.broadcast(publish.evaluations(log_path).get(0, {}))
            base_metric = before.get(BEST_BY, 0.0)
            trainer = self.trainer(run_dir, metrics_log, vectors, base_metric=base_metric)
            trainer.train(resume_from_checkpoint=checkpoint)
        metrics_log.close()
        choice = WeightChoice(
            options=self.options,
            backbone=self.backbone,
            report=self.report,
            evaluate=self.evaluate if self.evaluator else None,
        )
        weights = choice.choose(trainer, log_path)
        if process_group.is_main():
            trained = self._trained_model(weights)
            trained.publish(run_dir, self.report, self.tool, log=log_path)

    def trainer(
        self,
        run_dir: RunDir,
        metrics_log: MetricsLog,
        vectors: ReferenceVectors | None = None,
        *,
        base_metric: float = 0.0,
    ) -> ContrastTrainer:
        """The trainer of this run. base_metric: the base's quality, which training must exceed."""
        hardware.silence_libraries()
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        from contrast_train.training.trainer import (
            ContrastTrainer,
            EarlyStopping,
            training_arguments,
        )
        from fletching.train.trainer import IntervalCallback, TrainingSetup

        options, steps = self.options, self.updates
        zero = options.deepspeed
        zero_config = deepspeed_config.resolve(zero, options) if zero else None
        intervals = IntervalCallback.from_options(
            options, steps, evaluates=self.evaluator is not None
        )
        stopping = EarlyStopping.from_options(options, intervals.eval_every, base_metric)
        exchange = RankExchange.of_this_process()
        setup = TrainingSetup(
            rows=self.dataset,
            plan=self._plan_of_rank(exchange),
            collate=self.collator(vectors, exchange),
            run_dir=run_dir,
            metrics_log=metrics_log,
            intervals=intervals,
            row_names=self.dataset.row_ids,
            evaluate=self.evaluate if self.evaluator else None,
            deepspeed_config=zero_config,
        )
        arguments = training_arguments(
            options, steps=steps, folder=run_dir.path, device=self.backbone.device
        )
        return ContrastTrainer(setup, objective=self.objective, args=arguments, stopping=stopping)

    def _plan_of_rank(self, exchange: RankExchange) -> RankBatches | StreamPlan:
        """The share of this process in each batch: of a stream, what its row groups hold."""
        if isinstance(self.plan, StreamPlan):
            return dataclasses.replace(self.plan, rank=exchange.rank, ranks=exchange.ranks)
        return RankBatches(plan=self.plan, exchange=exchange)

    @functools.cached_property
    def base_card(self) -> BaseCard:
        """What the base model's own card says."""
        return read_base_card(self.options.model)

    @property
    def _document_side(self) -> DocumentSide:
        if not self.options.document_vectors:
            return "trained"
        loader = self.reference_loader
        is_base = loader is not None and loader.has_documents_of_base()
        return "fixed by the base" if is_base else "fixed by others"

    def _trained_model(self, weights: ChosenWeights) -> TrainedModel:
        assert self.inputs
        is_base = weights.best_step == 0
        return TrainedModel(
            options=self.options,
            backbone=self.backbone,
            inputs=self.inputs,
            digest=self.digest,
            dataset=self.dataset,
            plan=self.plan,
            tasks=self.tasks,
            references=self.references,
            document_side=self._document_side,
            rows_by_prompt=self.rows_by_prompt,
            loss=self.loss,
            loss_description=selection.describe_loss(
                self.options,
                self.loss,
                self.similarity,
                learned_temperature=None if is_base else self.objective.temperature,
            ),
            weights=weights,
            base=self.base_card,
        )
