"""FAISS, which the extras [cpu] and [gpu] install; the exact search does without."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

from fletching.errors import UsageError

# All of them install the folder `faiss`: of two, the files of the one installed last are there.
DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")
INSTALL = "pip install 'fletching-hnmine[cpu]', or [gpu] on a machine with CUDA"


def is_installed() -> bool:
    """Can FAISS be loaded? Raises UsageError where two of its packages overwrite each other."""
    installed = [name for name in DISTRIBUTIONS if _is_distribution_installed(name)]
    if len(installed) > 1:
        raise UsageError(
            f"{' and '.join(installed)} are both installed, and both own the folder `faiss`",
            f"pip uninstall -y {' '.join(installed)}, then {INSTALL}",
        )
    return importlib.util.find_spec("faiss") is not None


def load_faiss(option: str) -> ModuleType:
    """The module `faiss`. Raises UsageError, naming the option that needs it, where it lacks."""
    if not is_installed():
        raise UsageError(f"{option} needs FAISS, which is not installed", INSTALL)
    return importlib.import_module("faiss")


def _is_distribution_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
