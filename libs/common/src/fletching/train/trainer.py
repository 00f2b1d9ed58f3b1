"""transformers' Trainer, led by a plan: our data path, schedule, checkpoints and watching. Needs transformers.

A plain loop would be as short, but devices, fused optimisers, DDP and what accelerate brings come with the Trainer.
What it overrides, and why: the dataloader (whole global batches on every rank, and resuming is a skip), the schedule
(the Trainer's own warmup gives the first step a rate of zero), the gradient norm (a non-finite one stops the run),
log (no prints), evaluation, saving and loading (atomic, weights as safetensors, no pickled arguments).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from fletching.errors import InputError
from fletching.train import experiment_loggers, schedule
from fletching.train.distributed import deepspeed_engine, fsdp, process_group
from fletching.train.metrics_log import MetricsLog
from fletching.train.run_dir import RunDir

WEIGHTS = "weights.safetensors"
SEVERAL_TIMES = 10  # checkpoints of a run whose --save-every is not given


@dataclass(frozen=True)
class TrainingSetup:
    """What a run walks through. rows: a data set; plan: its batch sampler, the whole run long; collate: a batch to tensors.

    measure: the held-out quality of the model as it stands, or None. names: row numbers to what the user calls them.
    zero: DeepSpeed's settings, where it shares the model out.
    """

    rows: Any
    plan: Iterable[Any]
    collate: Callable[[list[Any]], dict[str, torch.Tensor]]
    run_dir: RunDir
    metrics_log: MetricsLog
    intervals: IntervalCallback
    row_names: Callable[[list[int]], list[str]]
    evaluate: Callable[[], dict[str, float]] | None = None
    deepspeed_config: dict[str, Any] | None = None


class PlannedTrainer(Trainer):
    """One run along a TrainingSetup. A tool derives from it, says what of a batch was seen, and may make the step itself."""

    advice = "look at these rows; try a lower --lr or --dtype float32"

    def __init__(self, setup: TrainingSetup, **given: Any) -> None:
        self.setup, self.metrics_log = setup, setup.metrics_log
        self.current: list[int] = []
        experiment_loggers.check(given["args"].report_to, setup.run_dir.output)
        self.engine: deepspeed_engine.DeepSpeedEngine | None = None
        super().__init__(data_collator=setup.collate, callbacks=[setup.intervals], **given)
        self.remove_callback(PrinterCallback)
        if self.accelerator.num_processes != process_group.world_size():
            raise InputError(
                f"{self.accelerator.num_processes} processes train, {process_group.world_size()} were started",
                "start all of them by one torchrun",
            )

    def rows_and_tokens(self, inputs: dict[str, Any]) -> tuple[list[int], int]:
        """(the numbers of the rows of this batch, its tokens)"""
        raise NotImplementedError

    def step_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any
    ) -> torch.Tensor:
        """The loss of a global batch, whose gradient is then in the parameters."""
        return super().training_step(model, inputs, num_items_in_batch)

    def probe_output(self) -> torch.Tensor:
        """Some output of the model that stands on every parameter which the loss stands on."""
        raise NotImplementedError

    def trained_module(self) -> nn.Module:
        """What a checkpoint holds: its parameters that train."""
        return self.model  # type: ignore[return-value]

    def step_measures(self) -> dict[str, float]:
        """What else to log of a step."""
        return {}

    def after_evaluation(self, values: dict[str, float]) -> None:
        """After an evaluation."""

    def get_train_dataloader(self) -> DataLoader:
        # The whole run is one epoch to the Trainer: the plan knows the real ones, and resuming is a skip.
        return DataLoader(
            self.setup.rows, batch_sampler=self.setup.plan, collate_fn=self.setup.collate
        )  # type: ignore[arg-type]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = super().create_optimizer(model)
        if self.setup.deepspeed_config and not self.engine:
            bare: nn.Module = self.model  # type: ignore[assignment]
            bare.eval()  # no dropout: no random number is drawn
            reached = deepspeed_engine.reachable_parameters(bare, self.probe_output())
            self.engine = deepspeed_engine.DeepSpeedEngine(
                bare.train(), made, self.setup.deepspeed_config, reached, self._finite
            )
            self.optimizer = self.engine.updates
        return self.optimizer  # type: ignore[return-value]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        intervals = self.setup.intervals
        share = functools.partial(
            schedule.learning_rate_factor, steps=intervals.steps, warmup=intervals.warmup, kind=intervals.schedule
        )
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: share(step))  # type: ignore[arg-type]
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        self.current, tokens = self.rows_and_tokens(inputs)
        self.metrics_log.tokens += tokens
        loss = self.step_loss(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        return None if self.engine else super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if self.engine:
            return (
                self.engine.updates.norm
            )  # the update that comes now clips, and says what there was
        return self._finite(float(fsdp.full_tensor(super()._get_grad_norm(model, grad_norm))))

    def _finite(self, norm: float) -> float:
        if norm - norm != 0.0:
            self._stop(f"the gradient norm is {norm}")
        return norm

    def _stop(self, what: str) -> None:
        names = self.setup.row_names(self.current)
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise InputError(
            f"{what} at step {self.state.global_step + 1}; rows of the batch: {shown}", self.advice
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "grad_norm" in logs:
            values = self.step_measures()
            self.metrics_log.log_values(self.state.global_step, None, values)
            self.metrics_log.log_step(
                self.state.global_step, logs["loss"], logs["learning_rate"], logs["grad_norm"]
            )
            self._report_to(logs | values)

    def _report_to(self, logs: dict[str, float]) -> None:
        """To the services of --report-to."""
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, float]:
        assert self.setup.evaluate
        self.control.should_evaluate = False  # the Trainer asks again at the end of its one epoch
        values = self.setup.evaluate()
        self.metrics_log.log_evaluation(self.state.global_step, values)
        self._report_to({f"eval_{name}": value for name, value in values.items()})
        self.after_evaluation(values)
        return values

    def _prepare_for_training(self, *arguments: Any) -> Any:
        """Raises InputError where several processes would each train a model of its own."""
        # The Trainer's word for a model that places itself and reduces its own gradients: no DDP around it.
        self.is_distributed_loading_by_transformers = bool(
            self.setup.deepspeed_config
        ) or fsdp.is_sharded(self.model)  # type: ignore[arg-type]
        prepared = super()._prepare_for_training(*arguments)
        self.is_distributed_loading_by_transformers = False
        if self.engine:
            self.model_wrapped = self.engine
            return self.engine, *prepared[1:]
        if process_group.world_size() > 1 and not (
            fsdp.is_sharded(prepared[0]) or hasattr(prepared[0], "no_sync")
        ):
            raise InputError(
                "the processes share no gradients", "report this; start one process meanwhile"
            )
        return prepared

    def _sync_replicated_trainable_parameters(self, model: Any) -> None:
        if not self.engine:  # it reduces all of them itself; the Trainer would do it again
            super()._sync_replicated_trainable_parameters(model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.optimizer and self.lr_scheduler
        weights = fsdp.full_weights(self.trained_module())
        optimizer, rates = fsdp.full_optimizer_state(self.optimizer), self.lr_scheduler.state_dict()

        def fill(folder: str) -> None:
            self._save_rng_state(folder)
            if process_group.is_main():
                save_file(weights, os.path.join(folder, WEIGHTS))
                torch.save(optimizer, os.path.join(folder, OPTIMIZER_NAME))
                torch.save(rates, os.path.join(folder, SCHEDULER_NAME))
                self.state.save_to_json(os.path.join(folder, "trainer_state.json"))

        self.setup.run_dir.save(
            self.state.global_step,
            fill,
            keep=self.setup.intervals.keep,
            best=self.state.best_global_step,
        )

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        fsdp.load_full_weights(self.trained_module(), load_file(os.path.join(checkpoint_path, WEIGHTS)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            assert self.optimizer and self.lr_scheduler
            states = (
                torch.load(os.path.join(checkpoint, name), weights_only=True)
                for name in (OPTIMIZER_NAME, SCHEDULER_NAME)
            )
            if self.engine:
                self.optimizer.load_state_dict(next(states))
            else:
                fsdp.load_full_optimizer_state(self.optimizer, next(states))
            self.lr_scheduler.load_state_dict(next(states))


class IntervalCallback(TrainerCallback):
    """When to evaluate and to save, and at which learning rate to step.

    eval_every: None for never; else the last step is evaluated too. warmup: steps.
    """

    def __init__(
        self,
        steps: int,
        *,
        save_every: int,
        eval_every: int | None,
        keep: int,
        warmup: int,
        schedule: schedule.Kind,
    ) -> None:
        self.steps, self.save_every, self.eval_every, self.keep = (
            steps,
            save_every,
            eval_every,
            keep,
        )
        self.warmup, self.schedule = warmup, schedule

    @classmethod
    def from_options(cls, options: Any, steps: int, *, evaluates: bool) -> IntervalCallback:
        """By the options that every training tool has; a warmup below 1 is a share of the run."""
        return cls(
            steps,
            save_every=options.save_every or max(-(-steps // SEVERAL_TIMES), 1),
            eval_every=(options.eval_every or max(-(-steps // 4), 1)) if evaluates else None,
            keep=options.keep_checkpoints,
            warmup=int(options.warmup) if options.warmup >= 1 else round(options.warmup * steps),
            schedule=options.schedule,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = state.global_step == self.steps
        control.should_log = True
        control.should_evaluate = self.eval_every is not None and (
            last or state.global_step % self.eval_every == 0
        )
        control.should_save = not last and state.global_step % self.save_every == 0
        control.should_training_stop = last


def training_arguments(
    options: Any,
    *,
    steps: int,
    folder: str,
    device: torch.device,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> Any:
    """Our options as the Trainer wants them; it neither prints nor decides when to save."""
    given = dict(
        output_dir=folder,
        use_cpu=device.type == "cpu",
        max_steps=steps,
        num_train_epochs=1,
        per_device_train_batch_size=options.batch,
        ddp_backend=("nccl" if device.type == "cuda" else "gloo")
        if process_group.world_size() > 1
        else None,
        ddp_find_unused_parameters=True,  # poolers and heads that no loss sees
        ddp_broadcast_buffers=False,  # a collective in every forward pass, and no buffer changes
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        optim="adamw_torch_fused",
        seed=options.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=list(options.report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    args = kind(**given | more)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        args._n_gpu = 1  # several GPUs are for torchrun; in one process the Trainer would fall back to DataParallel
    return args
