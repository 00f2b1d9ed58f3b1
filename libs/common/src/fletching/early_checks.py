"""Wrong models and wrong inputs, found before torch is imported, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from fletching.errors import InputError, UsageError
from fletching.options.fields import describe
from fletching.report import Report

# One of these is in every folder that sentence-transformers, transformers or peft loads.
MODEL_FILES = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
)

ToolOptions = TypeVar("ToolOptions")
OpenInputs = Callable[[ToolOptions, Report], object]


def check_models(options: object) -> None:
    """Check every option that names a model, unless a server runs it. Raises InputError."""
    is_served = bool(getattr(options, "base_url", None))
    for name, option in describe(type(options)).items():
        value = getattr(options, name)
        if name == "model" and is_served:
            continue
        if option.details.get("is_model") and value:
            for model in value if option.is_list else [value]:
                check_model(option.flag, model)


def check_model(flag: str, name: str) -> None:
    """Raise InputError for a model that cannot be there.

    A name that is no path may be one of the hub, which is looked at later.
    """
    if os.path.isdir(name):
        if not any(os.path.exists(os.path.join(name, file)) for file in MODEL_FILES):
            raise InputError(
                f"{flag} {name} holds no model: there is no {' or '.join(MODEL_FILES[:2])}",
                "name the folder that holds them",
            )
    elif os.path.exists(name):
        raise InputError(f"{flag} {name} is a file", "name the model's folder")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{flag} {name} is no folder", "check the path")
    elif os.environ.get("HF_HUB_OFFLINE") == "1" and not is_cached(name):
        raise InputError(
            f"{flag} {name} is no folder, and HF_HUB_OFFLINE=1 forbids fetching it",
            "check the path, or fetch the model first",
        )


def is_cached(name: str) -> bool:
    """May the hub's cache hold the model?"""
    if "SENTENCE_TRANSFORMERS_HOME" in os.environ:
        return True
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(home, "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    names = (name, f"sentence-transformers/{name}")
    folders = ["models--" + each.replace("/", "--") for each in names]
    return any(os.path.isdir(os.path.join(cache, folder)) for folder in folders)


def check_inputs(
    options: ToolOptions, inputs: Sequence[str], *, tool: str, open_inputs: OpenInputs[ToolOptions]
) -> None:
    """Open the inputs as the tool will, and forget them. Raises what opening raises.

    What can be read only once (stdin, a pipe) or is far away (a URL) is left for later.
    open_inputs: called with the options and a report that prints nothing.
    """
    if inputs and all(map(_can_be_read_twice, inputs)):
        open_inputs(options, Report(tool, quiet=True))


def _can_be_read_twice(name: str) -> bool:
    if name == "-" or "://" in name:
        return False
    return not os.path.exists(name) or os.path.isfile(name) or os.path.isdir(name)


def check_page(path: str) -> None:
    """Raise UsageError where --html cannot be written, which would show only after the work."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"the folder of --html {path} does not exist", f"mkdir -p {folder}")
    if os.path.isdir(path):
        raise UsageError(f"--html {path} is a folder", "name a file, e.g. page.html")
