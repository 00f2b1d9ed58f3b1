"""LoRA by peft (Hu et al. 2021): adapters to train, and published adapters to merge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from fletching.errors import InputError, UsageError
from fletching.train.checkpoint_check import read_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from mntp.options import Options

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def attach(encoder: PreTrainedModel, options: Options) -> PeftModel:
    """The encoder with adapters beside its linear layers, or beside those of --lora-targets.

    Matrix A is random and depends on the seed alone, B is zero: states do not change.
    Raises UsageError for targets that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    alpha: Any = options.lora_alpha or 2 * options.lora_rank  # peft takes fractions too
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=alpha,
        lora_dropout=options.lora_dropout,
        target_modules=list(options.lora_targets) or "all-linear",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            return get_peft_model(encoder, config)
        except ValueError as error:
            targets, reason = ",".join(options.lora_targets), str(error).splitlines()[0]
            raise UsageError(
                f"--lora-targets {targets}: {reason}", "name linear layers of the model"
            ) from None


def base_of(model: str, adapters: Sequence[str]) -> tuple[str, list[str]]:
    """(the base model, the adapters to merge in order).

    LLM2Vec publishes folders that hold an adapter alone; its configuration names the base.
    """
    config = adapter_config(model)
    if config is None:
        return model, list(adapters)
    return str(config.get("base_model_name_or_path")), [model, *adapters]


def adapter_config(name: str) -> dict[str, Any] | None:
    """peft's configuration of an adapter's folder or hub name; None for what is no adapter."""
    path = file_of(name, CONFIG)
    return read_json(path) if path else None


def file_of(name: str, file: str) -> str | None:
    """The path of a file of a folder or of a hub repository; None where it has none."""
    if os.path.isdir(name):
        path = os.path.join(name, file)
        return path if os.path.exists(path) else None
    from transformers.utils.hub import cached_file

    try:
        return cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):
        return None


def merge_into(network: PreTrainedModel, adapter: str) -> None:
    """Add a published LoRA adapter to the weights, in place.

    It may have been trained on the decoder or on the whole language model.
    Raises InputError where it does not fit the model.
    """
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    path = file_of(adapter, WEIGHTS)
    if path is None or adapter_config(adapter) is None:
        raise InputError(
            f"{adapter} holds no adapter in safetensors ({CONFIG}, {WEIGHTS})",
            "name a LoRA adapter's folder or hub name",
        )
    weights = load_file(path)
    prefix = f"base_model.model.{network.base_model_prefix}."
    has_head = any(name.startswith(prefix) for name in weights)
    target: Any = network if has_head else network.base_model
    try:
        adapted = PeftModel.from_pretrained(target, adapter)
    except (RuntimeError, ValueError) as error:  # other sizes, other layers
        raise _misfit(adapter, str(error).strip().splitlines()[-1].strip()) from None
    result: Any = set_peft_model_state_dict(adapted, weights)
    if result.unexpected_keys:
        raise _misfit(adapter, f"the model has no {result.unexpected_keys[0]}")
    missing = sorted(name for name in result.missing_keys if ".lora_" in name)
    if missing:  # which would be zeros or random
        raise _misfit(adapter, f"its weights lack {missing[0]}")
    merged: Any = adapted
    merged.merge_and_unload()


def _misfit(adapter: str, reason: str) -> InputError:
    return InputError(
        f"the adapter {adapter} does not fit the model: {reason}",
        "name the base model that it was trained on",
    )
