"""Loading that hides no damage: what libraries only log, or fall back from, is refused.

transformers fills weights that a checkpoint lacks with random ones and logs a report;
sentence-transformers reads pickled weights of later modules, and replaces an activation that it
does not trust by Tanh. For the time of a load, the functions through which all of that passes
are watched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fletching.errors import InputError

Probe = Callable[[], Any]  # vectors or scores of some text by the loaded model, as an array
WHOLE_MODEL = "name a model whose files are whole: copy or fetch it again"
NAMES_SHOWN = 3  # of missing weights
TRUSTED_ACTIVATIONS = "torch."
LOCATION_KEYS = ("subfolder", "token", "cache_folder", "revision", "local_files_only")


@dataclass(frozen=True)
class RandomWeights:
    """A network, and the names of the weights that its checkpoint lacks."""

    network: nn.Module
    names: list[str]


@contextlib.contextmanager
def watch_loading(*, trust_remote_code: bool) -> Iterator[list[RandomWeights]]:
    """Within the block, loading raises InputError for damaged or unsafe parts of a model.

    Gives the weights that were missing and are random now, the same ones in every run; which of
    them matter is known when the model is whole: `refuse_random_weights`.
    """
    import transformers.integrations.peft
    import transformers.modeling_utils
    from sentence_transformers.base.modules import Module

    missing: list[RandomWeights] = []
    load_config: Any = Module.__dict__["load_config"].__func__
    load_weights: Any = Module.__dict__["load_torch_weights"].__func__

    def report(model: nn.Module, *arguments: object, **settings: Any) -> None:  # noqa: ANN401
        info = settings["loading_info"]
        for name, stored, expected in sorted(info.mismatched_keys):
            raise InputError(
                f"{name} is of shape {list(stored)} in its weights and {list(expected)} by its "
                "config.json",
                WHOLE_MODEL,
            )
        if info.missing_keys:
            missing.append(RandomWeights(model, sorted(info.missing_keys)))

    def checked_config(cls: type, *arguments: Any, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
        config: dict[str, Any] = load_config(cls, *arguments, **settings)
        activation = config.get("activation_function")
        is_trusted = trust_remote_code or str(activation).startswith(TRUSTED_ACTIVATIONS)
        if activation is not None and not is_trusted:
            raise InputError(
                f"its module {cls.__name__} has the activation {activation}, which is not torch's",
                "read its code, then pass --trust-remote-code to run it",
            )
        return config

    def checked_weights(cls: Any, *arguments: Any, **settings: Any) -> Any:  # noqa: ANN401
        name = settings.get("model_name_or_path") or arguments[0]
        location = {key: settings[key] for key in LOCATION_KEYS if key in settings}
        if cls.load_file_path(name, filename="model.safetensors", **location) is None:
            raise InputError(
                f"its module {settings.get('subfolder') or cls.__name__} has no "
                "model.safetensors: safetensors only",
                "save the model with safe_serialization=True",
            )
        return load_weights(cls, *arguments, **settings)

    replacements: list[tuple[Any, str, Any]] = [
        (transformers.modeling_utils, "log_state_dict_report", report),
        (transformers.integrations.peft, "log_state_dict_report", report),
        (Module, "load_config", classmethod(checked_config)),
        (Module, "load_torch_weights", classmethod(checked_weights)),
    ]
    with contextlib.ExitStack() as stack, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for owner, name, replacement in replacements:
            stack.callback(setattr, owner, name, vars(owner)[name])
            setattr(owner, name, replacement)
        yield missing


def refuse_random_weights(missing: list[RandomWeights], probe: Probe) -> None:
    """Raise InputError where what the model computes depends on weights that were missing.

    A whole part that nothing reads (the pooler of a checkpoint that was trained without one)
    may be missing: made NaN for a moment, it leaves the probe finite.
    """
    for each in missing:
        tensors = dict(each.network.state_dict())
        absent = [name for name in each.names if name in tensors]
        parts = {name.split(".")[0] for name in each.names}
        stored = [name for name in tensors if name.split(".")[0] in parts]
        is_part = len(absent) == len(each.names) == len(stored)
        if not is_part or _is_read([tensors[name] for name in absent], probe):
            shown = ", ".join(each.names[:NAMES_SHOWN])
            more = len(each.names) - NAMES_SHOWN
            raise InputError(
                f"its weights lack {shown}" + (f" and {more:,} more" if more > 0 else ""),
                WHOLE_MODEL,
            )


@torch.no_grad()
def _is_read(weights: list[torch.Tensor], probe: Probe) -> bool:
    """Does the probe depend on one of these weights?"""
    if not all(weight.is_floating_point() for weight in weights):
        return True
    copies = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.fill_(torch.nan)
        return not np.isfinite(np.asarray(probe())).all()
    finally:
        for weight, copy in zip(weights, copies):
            weight.copy_(copy)
