"""The formats of --to: how each writes a traced model and runs what it wrote."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fletching.errors import InputError
from fletching_export.graph import TracedModel
from fletching_export.tokenization import Tokens

Vectors = npt.NDArray[np.float32]  # (texts, dimensions)

# By format: the modules that its extra installs.
MODULES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino", "nncf"),
}


class GraphSession(Protocol):
    """An exported graph, loaded."""

    def __call__(self, tokens: Tokens) -> Vectors:
        """The vectors of some texts."""
        ...


class GraphFormat(Protocol):
    """A format of graphs. file: of the graph in the exported folder; version: of the runtime."""

    name: str
    file: str
    summary: str
    install: str
    version: str

    def write(self, traced: TracedModel, folder: str, dtype: str) -> None:
        """Write the graph with weights of this number type."""
        ...

    def open(self, folder: str, threads: int) -> GraphSession:
        """Load the graph of a folder on the CPU."""
        ...

    def usage(self, inputs: Sequence[str]) -> str:
        """Python that encodes `texts` with this runtime and `tokenizers`, to be run in the folder.

        inputs: of the graph.
        """
        ...


def check_installed(name: str) -> None:
    """Raise InputError where a module of the format's extra is missing."""
    for module in MODULES[name]:
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"--to {name} needs {module}, which is not installed",
                f"pip install 'fletching-export[{name}]'",
            )


def load_format(name: str) -> GraphFormat:
    """The format of --to."""
    if name == "onnx":
        from fletching_export.runtimes.onnx_format import OnnxFormat

        return OnnxFormat()
    from fletching_export.runtimes.openvino_format import OpenVinoFormat

    return OpenVinoFormat()
