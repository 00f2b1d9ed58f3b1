"""transformers' Trainer, led by a plan: our data path, schedule, checkpoints and log.

Needs transformers. A plain loop would be as short, but devices, fused optimisers, DDP and what
accelerate brings come with the Trainer. What it overrides, and why: the dataloader (whole
global batches on every rank, and resuming is a skip), the schedule (the Trainer's own warmup
gives the first step a rate of zero), the gradient norm (a non-finite one stops the run), log
(no prints), evaluation, saving and loading (atomic, weights as safetensors, no pickled
arguments).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from fletching.errors import InputError
from fletching.train import experiment_loggers
from fletching.train.arguments import training_arguments
from fletching.train.distributed import deepspeed_engine, fsdp, process_group
from fletching.train.intervals import IntervalCallback
from fletching.train.metrics_log import MetricsLog
from fletching.train.run_dir import RunDir

if TYPE_CHECKING:
    from fletching.train.distributed.deepspeed_config import Config

__all__ = ["IntervalCallback", "PlannedTrainer", "TrainingSetup", "training_arguments"]

WEIGHTS = "weights.safetensors"
TRAINER_STATE = "trainer_state.json"
ROWS_SHOWN = 20  # in an error

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """What a run trains on, and what watches it.

    rows: a data set. plan: its batch sampler, for the whole run. collate: a batch of rows to
    tensors. row_names: what the user calls rows, by their numbers. evaluate: the held-out
    quality of the model as it is now. deepspeed_config: of deepspeed_config.resolve, where
    DeepSpeed shards the model.
    """

    rows: Any
    plan: Iterable[Sequence[Any]]
    collate: Callable[[list[Any]], Batch]
    run_dir: RunDir
    metrics_log: MetricsLog
    intervals: IntervalCallback
    row_names: Callable[[list[int]], list[str]]
    evaluate: Callable[[], dict[str, float]] | None = None
    deepspeed_config: Config | None = None


class PlannedTrainer(Trainer):
    """One run of a TrainingSetup.

    A tool derives from it, says which rows and tokens a batch has, and may compute the step
    itself.
    """

    advice = "look at these rows; try a lower --lr or --dtype float32"
    draws_by_rank = True  # do random numbers of a step depend on the rank and on earlier steps?

    def __init__(self, setup: TrainingSetup, **trainer_arguments: Any) -> None:  # noqa: ANN401
        self.setup = setup
        self.metrics_log = setup.metrics_log
        self.current_rows: list[int] = []
        self.engine: deepspeed_engine.DeepSpeedEngine | None = None
        experiment_loggers.check(trainer_arguments["args"].report_to, setup.run_dir.output)
        super().__init__(
            data_collator=setup.collate, callbacks=[setup.intervals], **trainer_arguments
        )
        self.remove_callback(PrinterCallback)
        processes = self.accelerator.num_processes
        if processes != process_group.world_size():
            raise InputError(
                f"{processes} processes train, {process_group.world_size()} were started",
                "start all of them by one torchrun",
            )

    # --- what a tool overrides ---

    def rows_and_tokens(self, inputs: Batch) -> tuple[list[int], int]:
        """(the numbers of the rows of this batch, its tokens)."""
        raise NotImplementedError

    def step_loss(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The loss of a global batch, whose gradient is then in the parameters."""
        return super().training_step(model, inputs, num_items_in_batch)

    def probe_output(self) -> Tensor:
        """Some output of the model that depends on every parameter that the loss depends on."""
        raise NotImplementedError

    def trained_module(self) -> nn.Module:
        """What a checkpoint holds: its parameters that train."""
        return self._bare_model

    def step_measures(self) -> dict[str, float]:
        """What else to log of a step."""
        return {}

    def after_evaluation(self, values: dict[str, float]) -> None:
        """Called with the measures of each evaluation."""

    def create_accelerator_and_postprocess(self) -> None:
        """The Trainer's accelerator. Without DeepSpeed, its `unwrap_model` imports none.

        accelerate's imports DeepSpeed where it is installed, in use or not: a second or two.
        """
        super().create_accelerator_and_postprocess()  # type: ignore[no-untyped-call]
        if not self.setup.deepspeed_config:
            self.accelerator.unwrap_model = unwrap_replicas

    # --- data, optimiser, schedule ---

    @property
    def _bare_model(self) -> nn.Module:
        """The model without wrappers."""
        assert self.model is not None
        model: nn.Module = self.model
        return model

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All batches of the run: one epoch to the Trainer, so that resuming is a skip.

        The plan knows the real epochs.
        """
        return DataLoader(
            self.setup.rows,
            batch_sampler=self.setup.plan,  # type: ignore[arg-type]  # any iterable of batches
            collate_fn=self.setup.collate,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW; under DeepSpeed, the engine's update over it."""
        plain: torch.optim.Optimizer = super().create_optimizer(model)
        if self.setup.deepspeed_config and self.engine is None:
            self.engine = self._create_engine(plain)
            self.optimizer = self.engine.updates
        assert self.optimizer is not None
        return self.optimizer

    def _create_engine(self, plain: torch.optim.Optimizer) -> deepspeed_engine.DeepSpeedEngine:
        model = self._bare_model
        model.eval()  # no dropout: no random number is drawn
        reachable = deepspeed_engine.reachable_parameters(model, self.probe_output())
        return deepspeed_engine.DeepSpeedEngine(
            model.train(),
            plain,
            settings=self.setup.deepspeed_config or {},
            reachable=reachable,
            on_norm=self._check_norm,
        )

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """The learning rates of the setup's intervals."""
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            assert optimizer is not None
            self.lr_scheduler = self.setup.intervals.scheduler(optimizer)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # --- a step ---

    def training_step(
        self,
        model: nn.Module,
        inputs: Batch,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of a global batch. Raises InputError where it is not finite."""
        self.current_rows, tokens = self.rows_and_tokens(inputs)
        self.metrics_log.tokens += tokens
        loss = self.step_loss(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:  # noqa: ANN401
        if self.engine is not None:
            return None  # its update clips
        return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:  # noqa: ANN401
        if self.engine is not None:
            return self.engine.updates.norm  # of the update that comes now, which fills it in
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        if isinstance(norm, Tensor):
            norm = fsdp.full_tensor(norm)
        return self._check_norm(float(norm))

    def _check_norm(self, norm: float) -> float:
        is_finite = norm - norm == 0.0
        if not is_finite:
            self._stop(f"the gradient norm is {norm}")
        return norm

    def _stop(self, reason: str) -> NoReturn:
        """Raise InputError, which names the rows of the current batch."""
        names = self.setup.row_names(self.current_rows)
        shown = ", ".join(names[:ROWS_SHOWN])
        if len(names) > ROWS_SHOWN:
            shown += f" and {len(names) - ROWS_SHOWN} more"
        step = self.state.global_step + 1
        raise InputError(f"{reason} at step {step}; rows of the batch: {shown}", self.advice)

    # --- log and evaluation ---

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the measures of a step; nothing is printed."""
        if "grad_norm" not in logs:
            return
        values = self.step_measures()
        step = self.state.global_step
        self.metrics_log.log_values(step, values)
        self.metrics_log.log_step(
            step,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            gradient_norm=logs["grad_norm"],
        )
        self._report_to(logs | values)

    def _report_to(self, logs: dict[str, float]) -> None:
        """Send measures to the experiment loggers of --report-to."""
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _evaluate(
        self,
        trial: object,
        ignore_keys_for_eval: list[str] | None,
        skip_scheduler: bool = False,
    ) -> dict[str, float]:
        assert self.setup.evaluate is not None
        # The Trainer asks again at the end of its one epoch.
        self.control.should_evaluate = False
        values = self.setup.evaluate()
        self.metrics_log.log_evaluation(self.state.global_step, values)
        self._report_to({f"eval_{name}": value for name, value in values.items()})
        self.after_evaluation(values)
        return values

    # --- several processes ---

    def _prepare_for_training(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Raises InputError where each of several processes would train its own model."""
        is_sharded = fsdp.is_sharded(self._bare_model)
        self._skip_ddp(skip=is_sharded or bool(self.setup.deepspeed_config))
        prepared = super()._prepare_for_training(*arguments)  # type: ignore[no-untyped-call]
        self._skip_ddp(skip=False)
        if self.engine is not None:
            self.model_wrapped = self.engine
            return self.engine, *prepared[1:]
        shares_gradients = fsdp.is_sharded(prepared[0]) or hasattr(prepared[0], "no_sync")
        if process_group.world_size() > 1 and not shares_gradients:
            raise InputError(
                "the processes share no gradients", "report this; start one process meanwhile"
            )
        return prepared

    def _skip_ddp(self, *, skip: bool) -> None:
        """Should the Trainer leave the model without DDP around it?

        It has no option for that. It does so for a model that transformers loaded in parts,
        which places itself and reduces its own gradients, as FSDP2 and DeepSpeed do; this
        attribute is how it knows. It is set while the model is wrapped and at no other time,
        since it means more than that.
        """
        self.is_distributed_loading_by_transformers = skip

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        if self.engine is None:  # which reduces all of them itself
            super()._sync_replicated_trainable_parameters(model)

    # --- checkpoints ---

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        weights = fsdp.full_weights(self.trained_module())
        optimizer_state = fsdp.full_optimizer_state(self.optimizer)
        scheduler_state = self.lr_scheduler.state_dict()

        def fill(folder: str) -> None:
            if self.draws_by_rank or process_group.is_main():
                self._save_rng_state(folder)
            if process_group.is_main():
                save_file(weights, os.path.join(folder, WEIGHTS))
                torch.save(optimizer_state, os.path.join(folder, OPTIMIZER_NAME))
                torch.save(scheduler_state, os.path.join(folder, SCHEDULER_NAME))
                self.state.save_to_json(os.path.join(folder, TRAINER_STATE))

        self.setup.run_dir.save(
            self.state.global_step,
            fill,
            keep=self.setup.intervals.keep,
            best=self.state.best_global_step,
        )

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if not self.draws_by_rank:
            return
        super()._load_rng_state(checkpoint)  # type: ignore[no-untyped-call]
        processes = process_group.world_size()
        own_state = f"rng_state_{process_group.rank()}.pth" if processes > 1 else "rng_state.pth"
        if checkpoint and not os.path.isfile(os.path.join(checkpoint, own_state)):
            report = self.metrics_log.progress.report
            report.note(
                "the checkpoint is of another number of processes: dropout draws other random "
                "numbers from here on"
            )

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        weights = load_file(os.path.join(resume_from_checkpoint, WEIGHTS))
        fsdp.load_full_weights(self.trained_module(), weights)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        optimizer_path = os.path.join(checkpoint, OPTIMIZER_NAME)
        optimizer_state = torch.load(optimizer_path, weights_only=True)
        if self.engine is not None:
            self.engine.updates.load_state_dict(optimizer_state)
        else:
            fsdp.load_full_optimizer_state(self.optimizer, optimizer_state)
        scheduler_path = os.path.join(checkpoint, SCHEDULER_NAME)
        self.lr_scheduler.load_state_dict(torch.load(scheduler_path, weights_only=True))


def unwrap_replicas(model: nn.Module, *_: object, **__: object) -> nn.Module:
    """The model without DDP around it. FSDP2 shards in place and wraps nothing."""
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        model = model.module
    return model
