"""Our options as transformers' Trainer wants them."""

from __future__ import annotations

from typing import Any

import torch

from fletching.train import ranks

TEMPERATURE_RATE = 50  # times --lr: Adam moves the logarithm by about one rate a step


def training_arguments(options: Any, steps: int, folder: str, device: torch.device) -> Any:
    """The Trainer neither prints nor decides when to save."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    args = SentenceTransformerTrainingArguments(
        output_dir=folder,
        use_cpu=device.type == "cpu",
        max_steps=steps,
        num_train_epochs=1,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate,
        ddp_backend=("nccl" if device.type == "cuda" else "gloo") if ranks.count() > 1 else None,
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
        learning_rate_mapping={"log_temperature": TEMPERATURE_RATE * options.lr} if options.learn_temperature else {},
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
        args._n_gpu = 1  # several GPUs are for torchrun; in one process the Trainer would fall back to DataParallel
    return args
