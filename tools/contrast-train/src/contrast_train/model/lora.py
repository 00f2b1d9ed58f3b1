"""LoRA adapters by peft (Hu et al. 2021), also over a 4-bit base (QLoRA, Dettmers et al.
2023).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch

from contrast_train.model import probe
from contrast_train.options import Options
from fletching.errors import InputError, UsageError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import BitsAndBytesConfig

MERGE_TOLERANCE = 1e-3


def four_bit_config() -> BitsAndBytesConfig:
    """How a frozen base is loaded in 4 bits. Raises InputError without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "--lora-4bit needs bitsandbytes, which is not installed",
            "pip install 'fletching-contrast-train[4bit]', or leave it out",
        )
    import bitsandbytes  # noqa: F401  # fails here, and not amid loading, on a machine that it does not fit
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def attach(model: SentenceTransformer, options: Options) -> None:
    """Freeze the transformer and add adapters to its linear layers, or to those of
    --lora-targets.

    The first matrix of an adapter is random and depends on the seed alone, the second is
    zero: vectors do not change. Raises UsageError for targets that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,  # type: ignore[arg-type]  # floats work
        target_modules=list(options.lora_targets) or "all-linear",
    )
    transformer: Any = model[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            transformer.model = get_peft_model(transformer.model, settings)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"--lora-targets {','.join(options.lora_targets)}: {reason}",
                "name linear layers of the model",
            ) from None


def merge(model: SentenceTransformer) -> None:
    """Add the adapters to the weights. Raises InputError where that gives other vectors."""
    before = probe.vectors(model)
    transformer: Any = model[0]
    transformer.model = transformer.model.merge_and_unload()
    if probe.largest_change(before, probe.vectors(model)) > MERGE_TOLERANCE:
        raise InputError(
            "the merged model gives other vectors than the model with adapters",
            "use --no-lora-merge; the checkpoints are in the .run folder",
        )
