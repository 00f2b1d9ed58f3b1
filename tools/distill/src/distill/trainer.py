"""transformers' Trainer with our data path, schedule, checkpoints and watching, as contrast-train has it.

A plain loop would be as short today, but devices, fused optimisers and what accelerate brings come with the Trainer.
What it overrides, and why: the dataloader (batches come from the order, and resuming is a skip), log (no prints), the
gradient norm (a non-finite one stops the run), saving and loading (atomic, safetensors, no pickled arguments).
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from distill.objective import Collator, Objective
from distill.texts import Texts
from fletching.errors import Refused
from fletching.train import schedule
from fletching.train.folder import RunFolder
from fletching.train.order import Order
from fletching.train.watch import Watch

WEIGHTS = "weights.safetensors"


class DistillTrainer(Trainer):
    """One run."""

    def __init__(
        self,
        *,
        objective: Objective,
        args: TrainingArguments,
        texts: Texts,
        order: Order,
        collator: Collator,
        folder: RunFolder,
        watch: Watch,
        rhythm: Rhythm,
    ) -> None:
        self.texts, self.order, self.collator = texts, order, collator
        self.folder, self.watch, self.rhythm = folder, watch, rhythm
        self.objective: Objective = objective
        self.current: list[int] = []
        super().__init__(model=objective, args=args, data_collator=collator, callbacks=[rhythm])  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        # The whole run is one epoch to the Trainer: our order knows the real ones, and resuming is a skip.
        return DataLoader(range(len(self.texts)), batch_sampler=self.order, collate_fn=self.collator)  # type: ignore[arg-type]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        # The Trainer's own warmup gives the first step a rate of zero.
        share = functools.partial(schedule.share, steps=self.order.steps, warmup=self.rhythm.warmup, kind=self.rhythm.schedule)
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: share(step))  # type: ignore[arg-type]
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> torch.Tensor:
        return model(**inputs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self.current = inputs["rows"].tolist()
        self.watch.tokens += len(inputs["input_ids"])
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        norm = float(super()._get_grad_norm(model, grad_norm))
        if norm - norm != 0.0:
            self._stop(f"the gradient norm is {norm}")
        return norm

    def _stop(self, what: str) -> None:
        ids = [self.texts[row].id for row in self.current]
        shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
        raise Refused(
            f"{what} at step {self.state.global_step + 1}; rows of the batch: {shown}",
            "look at these rows; try a lower --lr or --dtype float32",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "grad_norm" in logs:
            parts = {f"loss_{name}": float(value) for name, value in self.objective.parts.items()}
            self.watch.put(self.state.global_step, None, parts)
            self.watch.step(self.state.global_step, logs["loss"], logs["learning_rate"], logs["grad_norm"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        def fill(folder: str) -> None:
            save_model(self.objective, os.path.join(folder, WEIGHTS))
            self._save_optimizer_and_scheduler(folder)
            self._save_rng_state(folder)
            self.state.save_to_json(os.path.join(folder, "trainer_state.json"))

        self.folder.save(self.state.global_step, fill, self.rhythm.keep, None)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        load_model(self.objective, os.path.join(checkpoint_path, WEIGHTS))


class Rhythm(TrainerCallback):
    """When to save, and at which learning rate to step. warmup: steps."""

    def __init__(self, steps: int, *, save_every: int, keep: int, warmup: int, schedule: schedule.Kind) -> None:
        self.steps, self.save_every, self.keep, self.warmup, self.schedule = steps, save_every, keep, warmup, schedule

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = state.global_step == self.steps
        control.should_log = True
        control.should_save = not last and state.global_step % self.save_every == 0
        control.should_training_stop = last


def arguments(options: Any, steps: int, folder: str, device: torch.device, *, lr: float, weight_decay: float) -> TrainingArguments:
    """Our options as the Trainer wants them; it neither prints nor decides when to save."""
    args = TrainingArguments(
        output_dir=folder,
        use_cpu=device.type == "cpu",
        max_steps=steps,
        num_train_epochs=1,
        per_device_train_batch_size=options.batch,
        learning_rate=lr,
        weight_decay=weight_decay,
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
