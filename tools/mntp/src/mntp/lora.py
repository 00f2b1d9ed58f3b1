"""LoRA by peft (Hu et al. 2021): small trained matrices beside frozen weights; and adapters that come with a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from fletching.errors import InputError, UsageError
from fletching.train.run_dir import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def attach(encoder: Any, options: Any) -> Any:
    """peft's model around the encoder, whose linear layers (or those that --lora-targets names) get adapters.

    The first product is random and depends on the seed alone, the second zero: states do not change.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules=list(options.lora_targets) or "all-linear",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            return get_peft_model(encoder, settings)
        except ValueError as error:
            raise UsageError(
                f"--lora-targets {','.join(options.lora_targets)}: {str(error).splitlines()[0]}",
                "name linear layers of the model",
            ) from None


def base_of(model: str, given: Sequence[str]) -> tuple[str, list[str]]:
    """(the model that adapters stand on, these adapters in order). LLM2Vec publishes folders of an adapter alone."""
    config = adapter_config(model)
    if config is None:
        return model, list(given)
    return str(config.get("base_model_name_or_path")), [model, *given]


def adapter_config(name: str) -> dict[str, Any] | None:
    path = found(name, CONFIG)
    return read_json(path) if path else None


def found(name: str, file: str) -> str | None:
    """The path of a file of a folder or of a hub repository; None where it has none."""
    if os.path.isdir(name):
        path = os.path.join(name, file)
        return path if os.path.exists(path) else None
    from transformers.utils import cached_file

    try:
        return cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):
        return None


def merge_into(network: Any, adapter: str) -> None:
    """Add a published LoRA adapter to the weights, in place. It may have been trained on the decoder or on the
    whole language model. Raises InputError where a tensor of it finds no place."""
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    path = found(adapter, WEIGHTS)
    config = adapter_config(adapter)
    if path is None or config is None:
        raise InputError(
            f"{adapter} holds no adapter in safetensors ({CONFIG}, {WEIGHTS})",
            "name a LoRA adapter's folder or hub name",
        )
    weights = load_file(path)
    whole = any(
        name.startswith(f"base_model.model.{network.base_model_prefix}.") for name in weights
    )
    target = network if whole else network.base_model
    try:
        wrapped = PeftModel.from_pretrained(target, adapter)
    except (RuntimeError, ValueError) as error:  # other sizes, other layers
        told = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"the adapter {adapter} does not fit the model: {told}",
            "name the base model that it was trained on",
        ) from None
    outcome: Any = set_peft_model_state_dict(wrapped, weights)
    lost = outcome.unexpected_keys
    if lost:
        raise InputError(
            f"the adapter {adapter} does not fit the model: {lost[0]} finds no place",
            "name the base model that it was trained on",
        )
    wrapped.merge_and_unload()
