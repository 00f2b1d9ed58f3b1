"""What a model consists of, and whether the weights of two can be blended.

Models are compared as they were loaded, not by their files, which every version of the libraries
writes in another way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fletching.early_checks import check_model
from fletching.encode import model as models
from fletching.encode.model import NEUTRAL_CONFIG_KEYS
from fletching.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER = "adapter_config.json"
# Settings that do not decide how a vector is computed from the weights.
FREE_KEYS = frozenset(
    (*NEUTRAL_CONFIG_KEYS, "architectures", "max_seq_length", "truncation", "padding")
)
FIX = "blend models that were tuned from one base, with one tokenizer and one pooling"
LONGEST_VALUE = 60  # characters in an error

Parts = Mapping[str, Any]  # JSON values by name


def check_weights(path: str) -> None:
    """Raise InputError for a path that is no model, and for an adapter without its base."""
    check_model("the model", path)
    if os.path.isfile(os.path.join(path, ADAPTER)):
        raise InputError(
            f"{path} holds an adapter and not whole weights",
            "merge it into its base first, e.g. train without --no-lora-merge",
        )


def load(path: str, *, trust_remote_code: bool) -> SentenceTransformer:
    """The model of a folder or hub name. Raises InputError where it cannot be loaded."""
    return models.load(path, trust_remote_code=trust_remote_code, option="the model")


def parts_of(model: SentenceTransformer) -> dict[str, Any]:
    """Everything but values of weights that decides a vector."""
    modules: list[Any] = list(model)
    parts: dict[str, Any] = {"modules": [type(module).__name__ for module in modules]}
    for number, module in enumerate(modules):
        settings: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        as_json = json.dumps(settings, default=str)
        kind = type(module).__name__
        parts[f"module {number} ({kind})"] = json.loads(as_json)
    transformer: Any = getattr(modules[0], "model", None)
    if hasattr(transformer, "config"):
        parts["config"] = json.loads(transformer.config.to_json_string(use_diff=False))
    tokenizer = getattr(modules[0], "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts["tokenizer"] = json.loads(backend.to_str())
    parts["similarity"] = str(model.similarity_fn_name)
    parts["shapes"] = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return parts


def check_alike(first: Parts, other: Parts, names: tuple[str, str]) -> None:
    """Raise InputError, with the key that differs, unless both compute alike. names: of the two."""
    for part in dict.fromkeys([*first, *other]):
        all_differences = differences(first.get(part), other.get(part))
        difference = next(all_differences, "")
        if difference:
            raise InputError(f"{names[0]} and {names[1]} are no blend: {part}{difference}", FIX)


def differences(one: object, two: object, key: str = "") -> Iterator[str]:
    """Each key under which two JSON values differ, with both values."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in sorted({*one, *two} - FREE_KEYS):
            inner = f"{key}.{name}" if key else name
            yield from differences(one.get(name), two.get(name), inner)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for number, pair in enumerate(zip(one, two)):
            yield from differences(*pair, f"{key}[{number}]")
    elif one != two:
        named = f": `{key}`" if key else ""
        yield f"{named} is {_shown(one)} in the first and {_shown(two)} in the second"


def _shown(value: object) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
