"""transformers' Trainer with our data path, schedule, checkpoints and watching, as contrast-train has it.

A plain loop would be as short, but fused optimisers, devices and what accelerate brings come with the Trainer, and
both trainers read alike. What it overrides, and why: the dataloader (whole global batches on every rank, and
resuming is a skip), the training step (micro-batches, divided by the masked tokens of the whole step), the gradient
norm (a non-finite one stops the run), log (no prints), saving and loading (atomic, safetensors, no pickled arguments).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from fletching.errors import Refused
from fletching.train import ranks, schedule
from fletching.train.folder import RunFolder
from fletching.train.watch import Watch
from mntp.objective import Collator, Objective, masked, micro_batches, moved
from mntp.plan import Plan

WEIGHTS = "weights.safetensors"


class MntpTrainer(Trainer):
    """One run. budget: tokens of a micro-batch. measure: held-out loss and accuracy as the model stands, or None."""

    def __init__(
        self,
        *,
        objective: Objective,
        args: TrainingArguments,
        plan: Plan,
        collator: Collator,
        budget: int,
        folder: RunFolder,
        watch: Watch,
        rhythm: Rhythm,
        measure: Callable[[], dict[str, float]] | None,
    ) -> None:
        self.objective: Objective = objective
        self.plan, self.collator, self.budget = plan, collator, budget
        self.folder, self.watch, self.rhythm, self.measure = folder, watch, rhythm, measure
        self.current: list[int] = []
        super().__init__(model=objective, args=args, data_collator=self._collate, callbacks=[rhythm])  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)
        if self.accelerator.num_processes != ranks.count():
            raise Refused(
                f"{self.accelerator.num_processes} processes train, {ranks.count()} were started", "start all of them by one torchrun"
            )

    def _collate(self, batch: list[Any]) -> dict[str, torch.Tensor]:
        rows = sorted({int(self.collator.pieces.row[piece]) for _, block in batch for piece in block})
        return self.collator(batch) | {"rows": torch.tensor(rows)}

    def get_train_dataloader(self) -> DataLoader:
        # The whole run is one epoch to the Trainer: our plan knows the real ones, and resuming is a skip.
        return DataLoader(_Same(), batch_sampler=self.plan, collate_fn=self._collate)  # type: ignore[arg-type]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        # The Trainer's own warmup gives the first step a rate of zero.
        share = functools.partial(schedule.share, steps=self.plan.steps, warmup=self.rhythm.warmup, kind=self.rhythm.schedule)
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: share(step))  # type: ignore[arg-type]
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The mean loss of a masked token of the global batch, its gradient accumulated over micro-batches and ranks."""
        model.train()
        self.current = inputs["rows"].tolist()
        self.watch.tokens += len(inputs["ids"])
        loss = backward(self.objective, model, inputs, self.budget, self.accelerator.device)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        norm = float(super()._get_grad_norm(model, grad_norm))
        if norm - norm != 0.0:
            self._stop(f"the gradient norm is {norm}")
        return norm

    def _stop(self, what: str) -> None:
        rows = [f"{row + 1:,}" for row in self.current]
        shown = ", ".join(rows[:20]) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
        raise Refused(
            f"{what} at step {self.state.global_step + 1}; rows of the batch: {shown}",
            "look at these rows; try a lower --lr or --dtype float32",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "grad_norm" in logs:
            self.watch.step(self.state.global_step, logs["loss"], logs["learning_rate"], logs["grad_norm"])

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        assert self.measure
        self.control.should_evaluate = False  # the Trainer asks again at the end of its one epoch
        values = self.measure()
        self.watch.evaluation(self.state.global_step, values)
        return values

    def _prepare_for_training(self, *arguments: Any) -> Any:
        """Raises Refused where several processes would each train a model of its own."""
        prepared = super()._prepare_for_training(*arguments)
        if ranks.count() > 1 and not hasattr(prepared[0], "no_sync"):
            raise Refused("the processes share no gradients", "report this; start one process meanwhile")
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.optimizer and self.lr_scheduler
        weights = {name: value.detach().cpu().contiguous() for name, value in moving(self.objective)}
        optimizer, rates = self.optimizer.state_dict(), self.lr_scheduler.state_dict()

        def fill(folder: str) -> None:
            self._save_rng_state(folder)
            if ranks.first():
                save_file(weights, os.path.join(folder, WEIGHTS))
                torch.save(optimizer, os.path.join(folder, OPTIMIZER_NAME))
                torch.save(rates, os.path.join(folder, SCHEDULER_NAME))
                self.state.save_to_json(os.path.join(folder, "trainer_state.json"))

        self.folder.save(self.state.global_step, fill, self.rhythm.keep, None)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        saved = load_file(os.path.join(checkpoint_path, WEIGHTS))
        with torch.no_grad():
            for name, value in moving(self.objective):
                value.copy_(saved[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            assert self.optimizer and self.lr_scheduler
            for holder, name in ((self.optimizer, OPTIMIZER_NAME), (self.lr_scheduler, SCHEDULER_NAME)):
                holder.load_state_dict(torch.load(os.path.join(checkpoint, name), weights_only=True))


class _Same:
    """A data set whose rows are their own numbers: blocks come from the plan, texts from the collator."""

    def __getitem__(self, item: Any) -> Any:
        return item


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


def moving(objective: Objective) -> list[tuple[str, torch.nn.Parameter]]:
    """Parameters that training changes, by name. Frozen ones are those of the base model."""
    return [(name, parameter) for name, parameter in objective.named_parameters() if parameter.requires_grad]


def backward(objective: Objective, model: Any, batch: dict[str, Any], budget: int, device: torch.device) -> torch.Tensor:
    """Add the gradient of the global batch's mean loss to the parameters. model: the objective, wrapped or not.

    Every rank has the whole batch, so each knows N, the masked tokens of all. The mean over ranks of what is
    returned is the loss; DDP takes the mean of gradients too, hence the factor.
    """
    total = max(masked(batch), 1)
    parts = micro_batches(batch, budget, objective.pad_id, rank=ranks.number(), ranks=ranks.count())
    weight = ranks.count() / total
    if not parts:  # fewer blocks than ranks: all reduce their gradients together
        parts, weight = micro_batches(batch, budget, objective.pad_id)[:1], 0.0
    value = torch.zeros((), device=device)
    for number, part in enumerate(parts):
        silent = number < len(parts) - 1 and hasattr(model, "no_sync")
        with model.no_sync() if silent else contextlib.nullcontext():
            loss = model(moved(part, device)).loss * weight
            loss.backward()
        value = value + loss.detach()
    return value


def arguments(options: Any, steps: int, folder: str, device: torch.device) -> TrainingArguments:
    """Our options as the Trainer wants them; it neither prints nor decides when to save."""
    args = TrainingArguments(
        output_dir=folder,
        use_cpu=device.type == "cpu",
        max_steps=steps,
        num_train_epochs=1,
        per_device_train_batch_size=options.batch,
        ddp_backend=torch.distributed.get_backend() if ranks.count() > 1 else None,
        ddp_find_unused_parameters=True,
        ddp_broadcast_buffers=False,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        optim="adamw_torch_fused",
        seed=options.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
        args._n_gpu = 1  # several GPUs are for torchrun; in one process the Trainer would fall back to DataParallel
    return args
