"""SentenceTransformerTrainer led by the batch plan, with what contrastive training adds.

Over `fletching.train.trainer`: no model card callback (ours is written from the lineage), no
weight decay of a learned temperature, the best weights on held-out examples are kept, and a
collapse is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import nn
from transformers import TrainerCallback

from contrast_train.data.collator import PREFIX
from contrast_train.options import Options
from contrast_train.training.collapse_monitor import CollapseMonitor
from contrast_train.training.objective import ContrastObjective
from contrast_train.training.retrieval_evaluator import BEST_BY
from fletching import seeded_random
from fletching.train import trainer
from fletching.train.trainer import PlannedTrainer, TrainingSetup

TEMPERATURE_RATE = 50  # times --lr: Adam moves the logarithm by about one rate a step
PROBE_TOKENS = 4


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When a run stops before its last step.

    patience: evaluations in a row without a new best measure. every: steps between evaluations.
    base_metric: the measure of the base model, which is step 0. Nothing is counted from step
    to step, so a run that resumes needs no memory of it.
    """

    patience: int
    every: int
    base_metric: float

    @classmethod
    def from_options(
        cls, options: Options, every: int | None, base_metric: float
    ) -> EarlyStopping | None:
        """As --patience says; None without it, or without evaluations."""
        if options.patience is None or every is None:
            return None
        return cls(patience=options.patience, every=every, base_metric=base_metric)

    def is_due(self, step: int, best_step: int) -> bool:
        """Has the measure not been better than at `best_step` for `patience` evaluations?"""
        return step // self.every - best_step // self.every >= self.patience


class ContrastTrainer(PlannedTrainer, SentenceTransformerTrainer):
    """One run."""

    advice = "look at these rows; try a lower --lr, a higher --temperature or --dtype float32"
    draws_by_rank = False

    def __init__(
        self,
        setup: TrainingSetup,
        *,
        objective: ContrastObjective,
        args: SentenceTransformerTrainingArguments,
        stopping: EarlyStopping | None = None,
    ) -> None:
        self.collapse_monitor = CollapseMonitor()
        self.stopping = stopping
        self.batch_number = -1  # of the newest global batch, in the whole run
        self.is_empty = self.had_empty_batch = False  # is the newest one without a row, was any?
        self.loss: ContrastObjective  # type: ignore[assignment]
        super().__init__(setup, model=objective.model, args=args, loss=objective)
        self.add_callback(TemperatureFloor(objective))

    def rows_and_tokens(self, inputs: dict[str, Any]) -> tuple[list[int], int]:
        """(the numbers of the rows of this batch, its tokens)."""
        return inputs[PREFIX + "rows"].tolist(), len(inputs[PREFIX + "input_ids"])

    def step_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        """The loss of a global batch, under dropout that depends on its number alone."""
        first = self.state.global_step * self.args.gradient_accumulation_steps
        self.batch_number = max(first, self.batch_number + 1)
        key = f"dropout {self.batch_number}"
        self.loss.step_seed = next(seeded_random.numbers(self.args.seed, key))
        self.is_empty = not len(inputs[PREFIX + "rows"])
        if self.is_empty:
            self._note_empty_batch()
        return super().step_loss(model, inputs, num_items_in_batch)

    def _note_empty_batch(self) -> None:
        """Only the first one: a file may be full of rows that a loss cannot use."""
        if self.had_empty_batch:
            return
        self.had_empty_batch = True
        self.metrics_log.progress.report.note(
            f"step {self.state.global_step + 1:,}: no row of a batch can be trained: it adds "
            "nothing to its update; later ones are not told"
        )

    def probe_output(self) -> torch.Tensor:
        """The vector of one short text: it depends on every parameter that the loss depends
        on.
        """
        device = self.accelerator.device
        batch = {
            "input_ids": torch.ones(PROBE_TOKENS, dtype=torch.long, device=device),
            "lengths": torch.tensor([PROBE_TOKENS], device=device),
        }
        return self.loss.embed(batch, torch.tensor([0], device=device))

    def trained_module(self) -> nn.Module:
        """What a checkpoint holds: the objective over the bare model, without names of
        wrappers.
        """
        self.loss.model = cast(nn.Module, self.model)
        return self.loss

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Those of the Trainer, without the temperature."""
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if "log_temperature" not in name]

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: the card is written from the lineage."""

    def step_measures(self) -> dict[str, float]:
        """The mean cosine between different texts of the batch; none of a batch without a row."""
        return {} if self.is_empty else {"mean_cosine": self.loss.mean_cosine.item()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, and warn when the vectors have collapsed."""
        super().log(logs, start_time)
        if "grad_norm" not in logs or self.is_empty:
            return
        warning = self.collapse_monitor.update(self.step_measures()["mean_cosine"])
        if warning:
            report = self.metrics_log.progress.report
            report.note(f"step {self.state.global_step:,}: {warning}")

    def after_evaluation(self, values: dict[str, float]) -> None:
        """Keep a checkpoint of the best weights so far."""
        best = self.state.best_metric
        if best is None or values[BEST_BY] > best:
            self.state.best_metric = values[BEST_BY]
            self.state.best_global_step = self.state.global_step
            self.control.should_save = True
        if self.stopping is not None:
            self._stop_early(self.stopping)

    def _stop_early(self, stopping: EarlyStopping) -> None:
        """Stop where the patience is at an end.

        No checkpoint of this step: a run that resumes decides it again, by the same figures.
        """
        step, best = self.state.global_step, self.state.best_metric or 0.0
        best_step = self.state.best_global_step or 0
        if best <= stopping.base_metric:
            best, best_step = stopping.base_metric, 0
        if step == self.state.max_steps or not stopping.is_due(step, best_step):
            return
        self.control.should_training_stop = True
        self.control.should_save = False
        self.metrics_log.progress.report.note(
            f"stopped at step {step:,} of {self.state.max_steps:,}: {BEST_BY} has not been above "
            f"{best:.4f} (step {best_step:,}) for {stopping.patience} evaluations"
        )

    def load_best(self) -> int | None:
        """Load the best weights; their step, where an evaluation chose one."""
        best = self.state.best_global_step
        if best is not None and best != self.state.global_step:
            self._load_from_checkpoint(self.setup.run_dir.checkpoint_path(best))
        return best


class TemperatureFloor(TrainerCallback):
    """Clamps a learned temperature right after each update, before anything is saved."""

    def __init__(self, objective: ContrastObjective) -> None:
        self.objective = objective

    def on_optimizer_step(self, *arguments: object, **_: object) -> None:
        """Called after the optimiser's step."""
        self.objective.clamp_temperature()


def training_arguments(
    options: Options, *, steps: int, folder: str, device: torch.device
) -> SentenceTransformerTrainingArguments:
    """Our options as SentenceTransformerTrainer takes them."""
    rates = {"log_temperature": TEMPERATURE_RATE * options.lr} if options.learn_temperature else {}
    arguments = trainer.training_arguments(
        options,
        steps=steps,
        folder=folder,
        device=device,
        kind=SentenceTransformerTrainingArguments,
        gradient_accumulation_steps=options.accumulate,
        learning_rate_mapping=rates,
    )
    return arguments
