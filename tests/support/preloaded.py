"""Imported last by the process that commands are forked from: the tools' own code, and a heap at rest.

A forked command would import its own modules each time, and its first full garbage collection would walk over, and so
copy, each page of what torch and its like have left: half a second a command. Such a process has no threads and no
device: nothing here may compute.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import tempfile
import weakref

import torch
from suite import FOLDERS_OF_TESTS, PROGRAMS


def hide_way_here() -> None:
    """Take from PYTHONPATH what the server was started with: no command is to see the tests' own modules."""
    folders = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    others = [folder for folder in folders if folder and folder not in FOLDERS_OF_TESTS]
    if others:
        os.environ["PYTHONPATH"] = os.pathsep.join(others)


def import_whole(package: str) -> None:
    """All modules of a package, but for those whose extra is not installed."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)


def import_what_comes_late() -> None:
    """What libraries import or build at the first use of a model, a trainer, an exit."""
    late = [
        "tabulate",
        "openai.resources.chat.completions",
        "openai.lib",
        "jiter",
        "torch.profiler",
    ]
    late += [f"transformers.models.{name}.modeling_{name}" for name in ("bert", "qwen3", "llama")]
    late += ["transformers.models.bert.tokenization_bert"]
    if torch.version.cuda is None:  # it looks for a device, and CUDA does not survive a fork
        late.append("deepspeed")
    for name in late:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        mapping = importlib.import_module("transformers.conversion_mapping")
        mapping.get_checkpoint_conversion_mapping("bert")


def forget_torch_at_exit() -> None:
    """Keep torch from taking its operators down, one by one, before a process that ends anyway."""
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        alive = finalizer.peek()
        if alive is not None and alive[1].__module__ == "torch.library":
            finalizer.atexit = False


hide_way_here()
for command in PROGRAMS.values():  # first what registers itself, in the order of a user's command
    importlib.import_module(f"{command.module}.cli")
for name in ["fletching", *(command.module for command in PROGRAMS.values())]:
    import_whole(name)
import_what_comes_late()
forget_torch_at_exit()
tempfile.tempdir = None  # a library has asked; TMPDIR of a command may be another
gc.collect()
gc.freeze()
