"""A sentence-transformers model, loaded safely, with the settings that decide its vectors."""

from __future__ import annotations

import json
import logging
import os
import warnings
from typing import Any

import torch
import xxhash

from fletching.errors import InputError, UsageError


def load(name: str, *, trust_remote_code: bool = False, quantization: Any = None) -> Any:
    """The SentenceTransformer of a folder or hub name, on the CPU, in its stored number type.

    Safetensors only, no remote code unless asked for. quantization: transformers' config of one. Raises InputError where it cannot be had.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    if not os.path.isdir(name) and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"--model {name} is no folder", "check the path")
    settings = {"use_safetensors": True, "dtype": "auto"} | (
        {"quantization_config": quantization} if quantization else {}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SentenceTransformer(
                name, device="cpu", trust_remote_code=trust_remote_code, model_kwargs=settings
            )
    except (
        Exception
    ) as error:  # the hub, transformers and sentence-transformers each raise their own
        raise load_error(name, error) from error
    return model.eval()


def load_error(name: str, error: Exception) -> InputError:
    """What loading raised, in our words."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "contains custom code" in reason:
        return InputError(
            f"--model {name} brings Python of its own",
            "read it, then pass --trust-remote-code to run it",
        )
    fix = (
        "check the folder"
        if os.path.isdir(name)
        else "name a model folder, or a hub name while the hub can be reached"
    )
    return InputError(f"--model {name} cannot be loaded: {reason}", fix)


def fingerprint(model: Any) -> str:
    """xxh3-128 of everything that decides a vector but the prompt, the length and the number type:
    weights, architecture, tokenizer and the chain of modules."""
    modules = [repr(getattr(module, "get_config_dict", dict)()) for module in model]
    config = getattr(getattr(model[0], "model", None), "config", None)
    backend = getattr(getattr(model[0], "tokenizer", None), "backend_tokenizer", None)
    return hash_model(model.state_dict(), modules, config, backend)


def hash_model(
    weights: dict[str, torch.Tensor], modules: list[str], config: Any, tokenizer: Any
) -> str:
    """xxh3-128 of weights, modules, the configuration of transformers and the fast tokenizer behind one of its."""
    whole = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        whole.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    for module in modules:
        whole.update(module.encode())
    if config is not None:
        content = {key: value for key, value in config.to_dict().items() if key not in _NEUTRAL}
        whole.update(json.dumps(content, sort_keys=True, default=str).encode())
    if tokenizer is not None:
        content = json.loads(tokenizer.to_str()) | {
            "padding": None,
            "truncation": None,
        }  # which encoding calls change
        whole.update(json.dumps(content, sort_keys=True).encode())
    return whole.hexdigest()


_NEUTRAL = (
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
)


def resolve_dtype(wanted: str, device: str) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it faster, else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = device == "cpu" and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def resolve_devices(wanted: str | None) -> list[str]:
    """`cuda:0,cuda:1` as given; else every GPU, else Apple's, else the CPU."""
    if wanted:
        names = [name.strip() for name in wanted.split(",")]
        for name in names:
            try:
                torch.zeros(1, device=name)
            except (RuntimeError, AssertionError) as error:
                raise UsageError(
                    f"--device {name} cannot be used: {str(error).splitlines()[0]}",
                    "leave --device out",
                ) from None
        return names
    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def role_prompt(model: Any, role: str, given: str | None) -> str:
    """The prompt of "query" or "document": the option's, else the one saved in the model."""
    if given is not None:
        return given
    prompts = model.prompts or {}
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    named = next((prompts[name] for name in names if prompts.get(name)), None)
    default = prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    return named or default or ""


def role_length(model: Any, role: str, given: int | None) -> int:
    """Tokens a text may have: the option's, else the model's own limit."""
    limit = _position_limit(model)
    if given is not None and given > limit:
        option = "--query-length" if role == "query" else "--doc-length"
        raise UsageError(
            f"{option} {given} is above the {limit} positions of the model", f"pass at most {limit}"
        )
    return given or min(model.max_seq_length or limit, limit)


def _position_limit(model: Any) -> int:
    config: Any = getattr(getattr(model[0], "model", None), "config", None)
    limit = getattr(config, "max_position_embeddings", None) or 1 << 20
    # RoBERTa counts positions from the padding id on.
    offset = (
        (config.pad_token_id + 1)
        if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet")
        else 0
    )
    return limit - offset
