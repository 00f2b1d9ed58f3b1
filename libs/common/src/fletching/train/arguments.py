"""Our options as transformers' TrainingArguments. Needs transformers."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import torch
from transformers import TrainingArguments

from fletching.options import TrainingOptions
from fletching.train.distributed import process_group

Arguments = TypeVar("Arguments", bound=TrainingArguments)


@overload
def training_arguments(
    options: TrainingOptions,
    *,
    steps: int,
    folder: str,
    device: torch.device,
    kind: type[Arguments],
    **overrides: Any,  # noqa: ANN401
) -> Arguments: ...


@overload
def training_arguments(
    options: TrainingOptions,
    *,
    steps: int,
    folder: str,
    device: torch.device,
    **overrides: Any,  # noqa: ANN401
) -> TrainingArguments: ...


def training_arguments(
    options: TrainingOptions,
    *,
    steps: int,
    folder: str,
    device: torch.device,
    kind: type[TrainingArguments] = TrainingArguments,
    **overrides: Any,
) -> TrainingArguments:
    """Arguments under which the Trainer neither prints nor decides when to save.

    kind: the class that a tool's Trainer takes. overrides: fields of it that this tool sets
    otherwise.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    fields: dict[str, Any] = {
        "output_dir": folder,
        "use_cpu": device.type == "cpu",
        "max_steps": steps,
        "num_train_epochs": 1,
        "per_device_train_batch_size": options.batch,
        "ddp_backend": backend if process_group.world_size() > 1 else None,
        "ddp_find_unused_parameters": True,  # poolers and heads that no loss reaches
        "ddp_broadcast_buffers": False,  # a collective in every forward pass; no buffer changes
        "learning_rate": options.lr,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.clip,
        "optim": "adamw_torch_fused",
        "seed": getattr(options, "seed", 0),
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": list(options.report_to),
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    fields.update(overrides)
    arguments = kind(**fields)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Several GPUs are for torchrun; in one process the Trainer would fall back to
        # DataParallel.
        arguments._n_gpu = 1
    return arguments
