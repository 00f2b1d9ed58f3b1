"""SentenceTransformerTrainer with our data path, schedule, checkpoints and watching.

What it overrides, and why: the dataloader (batches come from the plan, whole on every rank), the model
card callback (ours is written from the lineage), log (no prints), the gradient norm (a non-finite one
stops the run), evaluation (held-out examples) and saving and loading of checkpoints (atomic, weights as
safetensors, no pickled arguments).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from contrast_train import sharding
from contrast_train.collapse import Alarm
from contrast_train.collate import PREFIX, Collator
from contrast_train.evaluate import BEST_BY
from contrast_train.objective import Objective
from contrast_train.plan import Plan
from contrast_train.rows import Rows
from fletching.errors import Refused, Usage
from fletching.train import ranks, schedule
from fletching.train.folder import RunFolder
from fletching.train.watch import Watch

WEIGHTS = "weights.safetensors"


class ContrastTrainer(SentenceTransformerTrainer):
    """One run. measure: the held-out quality of the model as it stands, or None."""

    def __init__(
        self,
        *,
        objective: Objective,
        args: SentenceTransformerTrainingArguments,
        rows: Rows,
        plan: Plan,
        collator: Collator,
        folder: RunFolder,
        watch: Watch,
        rhythm: Rhythm,
        measure: Callable[[], dict[str, float]] | None,
    ) -> None:
        self.rows, self.plan, self.collator = rows, plan, collator
        self.folder, self.watch, self.rhythm, self.measure = folder, watch, rhythm, measure
        self.current: list[int] = []
        self.alarm = Alarm()
        self.loss: Objective  # type: ignore[assignment]
        check_services(list(args.report_to or []))
        super().__init__(
            model=objective.model,  # type: ignore[arg-type]
            args=args,
            loss=objective,
            data_collator=collator,  # type: ignore[arg-type]
            callbacks=[rhythm],
        )
        self.remove_callback(PrinterCallback)
        if self.accelerator.num_processes != ranks.count():
            raise Refused(
                f"{self.accelerator.num_processes} processes train, {ranks.count()} were started", "start all of them by one torchrun"
            )

    def get_train_dataloader(self) -> DataLoader:
        # The whole run is one epoch to the Trainer: our plan knows the real ones, and resuming is a skip.
        return DataLoader(self.rows, batch_sampler=self.plan, collate_fn=self.collator)  # type: ignore[arg-type]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        # The Trainer's own warmup gives the first step a rate of zero.
        share = functools.partial(schedule.share, steps=self.rhythm.steps, warmup=self.rhythm.warmup, kind=self.rhythm.schedule)
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: share(step))  # type: ignore[arg-type]
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        return [name for name in super().get_decay_parameter_names(model) if "log_temperature" not in name]

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self.current = inputs[PREFIX + "rows"].tolist()
        self.watch.tokens += len(inputs[PREFIX + "input_ids"])
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        norm = float(sharding.whole(super()._get_grad_norm(model, grad_norm)))
        if norm - norm != 0.0:
            self._stop(f"the gradient norm is {norm}")
        return norm

    def _stop(self, what: str) -> None:
        ids = [self.rows.raw(row)["id"] for row in self.current]
        shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
        raise Refused(
            f"{what} at step {self.state.global_step + 1}; rows of the batch: {shown}",
            "look at these rows; try a lower --lr, a higher --temperature or --dtype float32",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "grad_norm" not in logs:
            return
        cosine = self.loss.mean_cosine.item()
        self.watch.put(self.state.global_step, None, {"mean_cosine": cosine})
        self.watch.step(self.state.global_step, logs["loss"], logs["learning_rate"], logs["grad_norm"])
        if told := self.alarm.see(cosine):
            self.watch.progress.report.note(f"step {self.state.global_step:,}: {told}")
        self._report_to({**logs, "mean_cosine": cosine})

    def _report_to(self, logs: dict[str, float]) -> None:
        """To the services of --report-to."""
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        assert self.measure
        self.control.should_evaluate = False  # the Trainer asks again at the end of its one epoch
        values = self.measure()
        self.watch.evaluation(self.state.global_step, values)
        self._report_to({f"eval_{name}": value for name, value in values.items()})
        if self.state.best_metric is None or values[BEST_BY] > self.state.best_metric:
            self.state.best_metric, self.state.best_global_step = values[BEST_BY], self.state.global_step
            self.control.should_save = True
        return values

    def _prepare_for_training(self, *arguments: Any) -> Any:
        """Raises Refused where several processes would each train a model of its own."""
        # The Trainer's word for a model that places itself and reduces its own gradients: no DDP around it.
        self.is_distributed_loading_by_transformers = sharding.is_sharded(self.model)
        prepared = super()._prepare_for_training(*arguments)
        self.is_distributed_loading_by_transformers = False
        if ranks.count() > 1 and not (sharding.is_sharded(prepared[0]) or hasattr(prepared[0], "no_sync")):
            raise Refused("the processes share no gradients", "report this; start one process meanwhile")
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.loss.model = self.model  # type: ignore[assignment]  # bare: no names of wrappers in a checkpoint
        weights = sharding.weights(self.loss)
        assert self.optimizer and self.lr_scheduler
        rates = self.lr_scheduler.state_dict()
        optimizer = sharding.optimizer_state(self.optimizer)

        def fill(folder: str) -> None:
            self._save_rng_state(folder)
            if ranks.first():
                save_file(weights, os.path.join(folder, WEIGHTS))
                torch.save(optimizer, os.path.join(folder, OPTIMIZER_NAME))
                torch.save(rates, os.path.join(folder, SCHEDULER_NAME))
                self.state.save_to_json(os.path.join(folder, "trainer_state.json"))

        self.folder.save(self.state.global_step, fill, self.rhythm.keep, self.state.best_global_step)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        self.loss.model = self.model  # type: ignore[assignment]
        sharding.put_weights(self.loss, load_file(os.path.join(checkpoint_path, WEIGHTS)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            assert self.optimizer and self.lr_scheduler
            states = (torch.load(os.path.join(checkpoint, name), weights_only=True) for name in (OPTIMIZER_NAME, SCHEDULER_NAME))
            sharding.put_optimizer_state(self.optimizer, next(states))
            self.lr_scheduler.load_state_dict(next(states))

    def load_best(self) -> int | None:
        """Put the best weights into the model; the step they are of, where an evaluation chose one."""
        best = self.state.best_global_step
        if best is not None and best != self.state.global_step:
            self._load_from_checkpoint(self.folder.checkpoint(best))
        return best


def check_services(names: list[str]) -> None:
    """Raises Usage where a service of --report-to is unknown or not installed."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise Usage(f"--report-to {name} is unknown", "choose from " + ", ".join(sorted(INTEGRATION_TO_CALLBACK)))
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except Exception as error:  # each raises its own
            raise Usage(f"--report-to {name}: {str(error).splitlines()[0]}", "install it, or leave --report-to out") from None


class Rhythm(TrainerCallback):
    """When to evaluate and to save, and at which learning rate to step.

    eval_every: None for never; else the last step is evaluated too. warmup: steps.
    """

    def __init__(self, steps: int, *, save_every: int, eval_every: int | None, keep: int, warmup: int, schedule: schedule.Kind) -> None:
        self.steps, self.save_every, self.eval_every, self.keep = steps, save_every, eval_every, keep
        self.warmup, self.schedule = warmup, schedule

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = state.global_step == self.steps
        control.should_log = True
        control.should_evaluate = self.eval_every is not None and (last or state.global_step % self.eval_every == 0)
        control.should_save = not last and state.global_step % self.save_every == 0
        control.should_training_stop = last
