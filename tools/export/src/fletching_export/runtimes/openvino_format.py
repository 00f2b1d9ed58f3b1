"""OpenVINO, read from the ONNX graph; int8 by nncf's compression of weights.

The graph is read by the runtime itself: `openvino.convert_model` reports each conversion to its
vendor.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino

from fletching.table import atomic
from fletching_export.graph import VECTORS, TracedModel
from fletching_export.runtimes.graph_format import Vectors
from fletching_export.runtimes.onnx_format import input_lines, save
from fletching_export.tokenization import Tokens

SETTINGS: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 on some processors
NO_REPORTS = "NNCF_CI"  # set, nncf reports no use to its vendor

USAGE = """\
import numpy as np, openvino
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")  # truncates and pads by itself
model = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})

def encode(texts, prompt=""):
    tokens = tokenizer.encode_batch([prompt + text for text in texts])
    inputs = {{
{inputs}
    }}
    return model(inputs)["{output}"]"""


class OpenVinoFormat:
    """`openvino/openvino_model.xml` with its weights in the .bin beside it."""

    name = "openvino"
    file = "openvino/openvino_model.xml"
    summary = "OpenVINO"
    install = "pip install openvino tokenizers"
    version = f"openvino {openvino.__version__.split('-')[0]}"

    def write(self, traced: TracedModel, folder: str, dtype: str) -> None:
        """Write the graph with weights of this number type; activations stay float32."""
        path = os.path.join(folder, self.file)
        os.makedirs(os.path.dirname(path))
        source = path.replace(".xml", ".onnx")
        save(traced.program.model_proto, source)
        model = openvino.Core().read_model(source)
        if dtype == "int8":
            model = _compressed(model)
        openvino.save_model(model, path, compress_to_fp16=dtype == "float16")
        del model  # its weights are mapped from the file
        atomic.remove(source)
        atomic.remove(source + "_data")

    def open(self, folder: str, threads: int) -> OpenVinoSession:
        """Load the graph of a folder on the CPU."""
        return OpenVinoSession(os.path.join(folder, self.file), threads)

    def usage(self, inputs: Sequence[str]) -> str:
        """Python that encodes `texts`."""
        return USAGE.format(file=self.file, inputs=input_lines(inputs), output=VECTORS)


class OpenVinoSession:
    """A graph in OpenVINO."""

    def __init__(self, path: str, threads: int) -> None:
        settings = {**SETTINGS, "INFERENCE_NUM_THREADS": threads}
        self.model = openvino.Core().compile_model(path, "CPU", settings)

    def __call__(self, tokens: Tokens) -> Vectors:
        """The vectors of some texts."""
        return np.array(self.model(tokens)[VECTORS], dtype=np.float32)


def _compressed(model: openvino.Model) -> openvino.Model:
    """Weights as int8 per channel; nncf writes its progress to stdout, which is data here."""
    os.environ.setdefault(NO_REPORTS, "1")
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        compressed: openvino.Model = nncf.compress_weights(
            model, mode=nncf.CompressWeightsMode.INT8_ASYM
        )
    return compressed
