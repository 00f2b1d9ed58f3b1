"""The formats by the values of --to."""

from __future__ import annotations

import importlib.util

from fletching.errors import InputError
from fletching_export.runtimes.graph_format import GraphFormat

# By format: the modules that its extra installs.
MODULES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
}


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
