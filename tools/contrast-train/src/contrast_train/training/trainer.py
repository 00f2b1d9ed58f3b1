"""SentenceTransformerTrainer, led by the plan (fletching.train.trainer), with what contrastive training adds.

The model card callback is left out (ours is written from the lineage), a learned temperature does not decay, the
best weights on held-out examples are kept, and a collapse is told.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import nn

from contrast_train.data.collator import PREFIX
from contrast_train.training.collapse_monitor import Alarm
from contrast_train.training.objective import Objective
from contrast_train.training.retrieval_evaluator import BEST_BY
from fletching.train import trainer
from fletching.train.trainer import PlannedTrainer, TrainingSetup

TEMPERATURE_RATE = 50  # times --lr: Adam moves the logarithm by about one rate a step


class ContrastTrainer(PlannedTrainer, SentenceTransformerTrainer):
    """One run."""

    advice = "look at these rows; try a lower --lr, a higher --temperature or --dtype float32"

    def __init__(
        self,
        setup: TrainingSetup,
        *,
        objective: Objective,
        args: SentenceTransformerTrainingArguments,
    ) -> None:
        self.alarm = Alarm()
        self.loss: Objective  # type: ignore[assignment]
        super().__init__(setup, model=objective.model, args=args, loss=objective)

    def rows_and_tokens(self, inputs: dict[str, Any]) -> tuple[list[int], int]:
        return inputs[PREFIX + "rows"].tolist(), len(inputs[PREFIX + "input_ids"])

    def probe_output(self) -> torch.Tensor:
        four = torch.ones(4, dtype=torch.long, device=self.accelerator.device)
        return self.loss.embed(
            four, torch.tensor([4], device=four.device), torch.tensor([0], device=four.device)
        )

    def trained_module(self) -> nn.Module:
        self.loss.model = self.model  # type: ignore[assignment]  # bare: no names of wrappers in a checkpoint
        return self.loss

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        return [
            name
            for name in super().get_decay_parameter_names(model)
            if "log_temperature" not in name
        ]

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def step_measures(self) -> dict[str, float]:
        return {"mean_cosine": self.loss.mean_cosine.item()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if "grad_norm" in logs and (told := self.alarm.see(self.step_measures()["mean_cosine"])):
            self.metrics_log.progress.report.note(f"step {self.state.global_step:,}: {told}")

    def after_evaluation(self, values: dict[str, float]) -> None:
        if self.state.best_metric is None or values[BEST_BY] > self.state.best_metric:
            self.state.best_metric, self.state.best_global_step = (
                values[BEST_BY],
                self.state.global_step,
            )
            self.control.should_save = True

    def load_best(self) -> int | None:
        """Put the best weights into the model; the step they are of, where an evaluation chose one."""
        best = self.state.best_global_step
        if best is not None and best != self.state.global_step:
            self._load_from_checkpoint(self.setup.run_dir.checkpoint_path(best))
        return best


def training_arguments(
    options: Any, *, steps: int, folder: str, device: torch.device
) -> Any:
    """Our options as SentenceTransformerTrainer wants them."""
    return trainer.training_arguments(
        options,
        steps=steps,
        folder=folder,
        device=device,
        kind=SentenceTransformerTrainingArguments,
        gradient_accumulation_steps=options.accumulate,
        learning_rate_mapping={"log_temperature": TEMPERATURE_RATE * options.lr}
        if options.learn_temperature
        else {},
    )
