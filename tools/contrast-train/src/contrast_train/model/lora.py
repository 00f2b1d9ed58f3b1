"""LoRA: small trained matrices beside frozen weights, by peft (Hu et al. 2021; 4-bit base: Dettmers et al. 2023)."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from fletching.errors import InputError, UsageError

PROBE = ["a", "What is the capital of France?", "def add(a, b):\n    return a + b\n" * 3]


def four_bit() -> Any:
    """How a frozen base is loaded in 4 bits. Raises InputError without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "--lora-4bit needs bitsandbytes, which is not installed",
            "pip install 'fletching-contrast-train[4bit]', or leave it out",
        )
    import bitsandbytes  # noqa: F401  # fails here, not in mid-load, where it does not fit the machine
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def attach(model: Any, options: Any) -> None:
    """Freeze the transformer and put adapters beside its linear layers, or those that --lora-targets names.

    The first product is random and depends on the seed alone, the second zero: vectors do not change.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        target_modules=list(options.lora_targets) or "all-linear",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            model[0].model = get_peft_model(model[0].model, settings)
        except ValueError as error:
            raise UsageError(
                f"--lora-targets {','.join(options.lora_targets)}: {str(error).splitlines()[0]}",
                "name linear layers of the model",
            ) from None


def vectors(model: Any) -> torch.Tensor:
    """Vectors (3, D) of the probe."""
    return model.encode(PROBE, convert_to_tensor=True, show_progress_bar=False).float()


def merge(model: Any) -> None:
    """Add the adapters to the weights. Raises InputError where that gives other vectors."""
    before = vectors(model)
    model[0].model = model[0].model.merge_and_unload()
    if not torch.allclose(before, vectors(model), atol=1e-4):
        raise InputError(
            "the merged model gives other vectors than the model with adapters",
            "use --no-lora-merge; the checkpoints stand in the .run folder",
        )
