"""A sentence-transformers model, loaded safely, with the settings that decide its vectors."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
import xxhash

from fletching.encode.checked_loading import refuse_random_weights, watch_loading
from fletching.encode.instruction_set import multiplies_bf16
from fletching.encode.plain_text import without_chat_template
from fletching.errors import InputError, UsageError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig
    from transformers.utils.quantization_config import QuantizationConfigMixin

# Keys of a transformers config that change no vector.
NEUTRAL_CONFIG_KEYS = (
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
)
PROBE = "a"  # its vector says which weights are read
# RoBERTa's family counts positions from the padding id on.
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
UNLIMITED = 1 << 20  # tokens, where a model names no limit


class PromptSource(Protocol):
    """What brings prompts by name: a SentenceTransformer, or what its folder states."""

    @property
    def prompts(self) -> Mapping[str, str | None]:
        """Prompts by name."""

    @property
    def default_prompt_name(self) -> str | None:
        """The one of texts whose role has none."""


def load(
    name: str,
    *,
    trust_remote_code: bool = False,
    quantization: QuantizationConfigMixin | None = None,
    option: str = "--model",
) -> SentenceTransformer:
    """The model of a folder or hub name, on the CPU, in its stored dtype.

    Safetensors only, and no remote code unless it is trusted. option: the one that names the
    model. Raises InputError where it cannot be loaded, or lacks weights that its vectors depend on.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from sentence_transformers import SentenceTransformer

    silence_loading()
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if is_path and not os.path.isdir(name):
        raise InputError(f"{option} {name} is no folder", "check the path")
    model_kwargs: dict[str, Any] = {"use_safetensors": True, "dtype": "auto"}
    if quantization is not None:
        model_kwargs["quantization_config"] = quantization
    try:
        with (
            warnings.catch_warnings(),
            watch_loading(trust_remote_code=trust_remote_code) as missing,
        ):
            warnings.simplefilter("ignore")
            model = SentenceTransformer(
                name, device="cpu", trust_remote_code=trust_remote_code, model_kwargs=model_kwargs
            )
        refuse_random_weights(missing, lambda: model.encode(PROBE, show_progress_bar=False))
    # The hub, transformers and sentence-transformers each raise their own exceptions.
    except Exception as error:
        raise load_error(name, error, option) from error
    return without_chat_template(model, name).eval()


def dimension(model: SentenceTransformer, name: str) -> int:
    """The dimension of the vectors. Raises InputError where the model's files name none."""
    dimension: object = model.get_embedding_dimension()
    if not isinstance(dimension, int) or dimension < 1:
        raise InputError(
            f"--model {name} has vectors of {dimension!r} dimensions",
            "name a model whose files are whole: copy or fetch it again",
        )
    return dimension


def silence_loading() -> None:
    """No progress bars, and no warnings that a user cannot act on."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load_error(name: str, error: Exception, option: str = "--model") -> InputError:
    """What loading raised, with a fix. option: the one that names the model."""
    reason = first_line(error)
    if isinstance(error, InputError):
        return InputError(f"{option} {name} cannot be used: {error.what}", error.fix)
    if "contains custom code" in reason:
        return InputError(
            f"{option} {name} brings its own Python code",
            "read it, then pass --trust-remote-code to run it",
        )
    fix = "name a model folder, or a hub name while the hub can be reached"
    if "third-party code" in reason:  # sentence-transformers' word for modules of its folder
        fix = "read it, then pass --trust-remote-code to run it"
    elif os.strerror(errno.ENOMEM) in reason:
        fix = "use a smaller model, or a machine with more memory"
    elif os.path.isdir(name):
        fix = "check the folder"
    return InputError(f"{option} {name} cannot be loaded: {reason}", fix)


def fingerprint(model: SentenceTransformer | CrossEncoder) -> str:
    """xxh3-128 of everything that decides a vector except prompt, length and dtype.

    That is: weights, architecture, tokenizer and the chain of modules.
    """
    transformer: Any = model[0]
    tokenizer = getattr(transformer, "tokenizer", None)
    return hash_model(
        model.state_dict(),
        [repr(getattr(module, "get_config_dict", dict)()) for module in model],
        config=getattr(getattr(transformer, "model", None), "config", None),
        tokenizer=getattr(tokenizer, "backend_tokenizer", None),
    )


def hash_model(
    weights: Mapping[str, torch.Tensor],
    modules: Sequence[str],
    config: PretrainedConfig | None,
    tokenizer: Tokenizer | None,
) -> str:
    """xxh3-128 of weights, module descriptions, config and the fast tokenizer's backend."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    for module in modules:
        digest.update(module.encode())
    if config is not None:
        content = config.to_dict()
        for key in NEUTRAL_CONFIG_KEYS:
            content.pop(key, None)
        digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    if tokenizer is not None:
        content = json.loads(tokenizer.to_str())
        content |= {"padding": None, "truncation": None}  # encoding calls change these
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """The torch dtype of --dtype.

    `auto` is bfloat16 where the hardware multiplies it faster, else float32.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    is_faster = device == "cpu" and multiplies_bf16()
    return torch.bfloat16 if is_faster else torch.float32


def dtype_name(dtype: torch.dtype | None) -> str:
    """The name of a number type as --dtype takes it; None: float32."""
    return str(dtype or torch.float32).removeprefix("torch.")


def resolve_devices(names: str | None) -> list[str]:
    """The devices of --device (`cuda:0,cuda:1`); None: every GPU, else Apple's, else the CPU.

    Raises UsageError where one cannot be used.
    """
    if names:
        devices = [name.strip() for name in names.split(",")]
        for device in devices:
            _check_device(device)
        return devices
    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"--device {device} cannot be used: {str(error).splitlines()[0]}",
            "leave --device out",
        ) from None


def role_prompt(model: PromptSource, role: str, option: str | None) -> str:
    """The prompt of a role: the option's, else the one saved in the model, else none."""
    if option is not None:
        return option
    saved = model.prompts or {}
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    for name in names:
        if saved.get(name):
            return _checked_prompt(saved[name])
    default = saved.get(model.default_prompt_name) if model.default_prompt_name else None
    return _checked_prompt(default or "")


def _checked_prompt(saved: object) -> str:
    """A prompt saved in a model. Raises InputError where it is no text."""
    if isinstance(saved, str):
        return saved
    raise InputError(
        f"the model has the prompt {str(saved)[:60]!r}, which is no text",
        "correct config_sentence_transformers.json in its folder",
    )


def role_length(model: SentenceTransformer, role: str, option: int | None) -> int:
    """The largest number of tokens of a text: the option's, else the model's own limit.

    Raises UsageError where the model has fewer positions.
    """
    limit = _position_limit(model)
    if option is not None and option > limit:
        flag = "--query-length" if role == "query" else "--doc-length"
        raise UsageError(
            f"{flag} {option} is above the {limit} positions of the model", f"pass at most {limit}"
        )
    return option or min(_own_length(model) or limit, limit)


def _own_length(model: SentenceTransformer) -> int | None:
    """The limit saved in the model, if there is one: static embeddings say infinity.

    Raises InputError for no number of tokens.
    """
    saved: object = model.max_seq_length
    if saved == math.inf:
        return None
    if saved is None or (isinstance(saved, int) and saved >= 0):
        return saved
    if isinstance(saved, float) and saved.is_integer() and saved >= 0:
        return int(saved)
    raise InputError(
        f"the model's largest number of tokens is {str(saved)[:60]}",
        "correct model_max_length in its tokenizer_config.json, or max_seq_length",
    )


def _position_limit(model: SentenceTransformer) -> int:
    config: Any = getattr(getattr(model[0], "model", None), "config", None)
    positions: int = getattr(config, "max_position_embeddings", None) or UNLIMITED
    if getattr(config, "model_type", "") in POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    return positions
