"""Imported last by the process that commands are forked from: the tools' own code, and a heap at rest.

A forked command would import its own modules each time, and its first full garbage collection would walk over, and so
copy, each page of what torch and its like have left: half a second a command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil

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


hide_way_here()
for command in PROGRAMS.values():  # first what registers itself, in the order of a user's command
    importlib.import_module(f"{command.module}.cli")
for name in ["fletching", *(command.module for command in PROGRAMS.values())]:
    import_whole(name)
gc.collect()
gc.freeze()
