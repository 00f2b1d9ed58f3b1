"""ONNX, by ONNX Runtime: its float16 conversion and its dynamic quantisation."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime

from fletching.table import atomic
from fletching_export.graph import VECTORS, TracedModel
from fletching_export.runtimes.graph_format import Vectors
from fletching_export.tokenization import Tokens

LARGEST_FILE = 1_800_000_000  # bytes of weights that fit into one protobuf beside the graph
WEIGHTS_SUFFIX = "_data"
ERRORS_ONLY = 3  # a log level of ONNX Runtime

USAGE = """\
import numpy as np, onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")  # truncates and pads by itself
session = onnxruntime.InferenceSession("{file}")

def encode(texts, prompt=""):
    tokens = tokenizer.encode_batch([prompt + text for text in texts])
    inputs = {{
{inputs}
    }}
    return session.run(["{output}"], inputs)[0]"""


class OnnxFormat:
    """`onnx/model.onnx`; weights beyond 2 GB lie in a file beside it."""

    name = "onnx"
    file = "onnx/model.onnx"
    summary = "ONNX Runtime"
    install = "pip install onnxruntime tokenizers"
    version = f"onnxruntime {onnxruntime.__version__}"

    def write(self, traced: TracedModel, folder: str, dtype: str) -> None:
        """Write the graph with weights of this number type; inputs and outputs keep theirs."""
        path = os.path.join(folder, self.file)
        os.makedirs(os.path.dirname(path))
        model = traced.program.model_proto
        # Shapes that the optimiser left behind contradict those that quantisation infers.
        del model.graph.value_info[:]
        if dtype == "float16":
            model = _in_float16(model)
        if dtype == "int8":
            _write_quantised(model, path)
        else:
            save(model, path)

    def open(self, folder: str, threads: int) -> OnnxSession:
        """Load the graph of a folder on the CPU."""
        return OnnxSession(os.path.join(folder, self.file), threads)

    def usage(self, inputs: Sequence[str]) -> str:
        """Python that encodes `texts`."""
        return USAGE.format(file=self.file, inputs=input_lines(inputs), output=VECTORS)


def input_lines(inputs: Sequence[str]) -> str:
    """The items of a Python dict with the inputs of a graph, a line each."""
    return "\n".join(
        f'        "{name}": np.array([each.{ATTRIBUTES[name]} for each in tokens]),'
        for name in inputs
    )


# By input of a graph: the attribute of an encoding of `tokenizers`.
ATTRIBUTES = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class OnnxSession:
    """A graph in ONNX Runtime."""

    def __init__(self, path: str, threads: int) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = ERRORS_ONLY
        self.session = onnxruntime.InferenceSession(
            path, settings, providers=["CPUExecutionProvider"]
        )

    def __call__(self, tokens: Tokens) -> Vectors:
        """The vectors of some texts."""
        [vectors] = self.session.run([VECTORS], tokens)
        return np.asarray(vectors, dtype=np.float32)


def save(model: onnx.ModelProto, path: str) -> None:
    """Write a model, its weights beside it where one file cannot hold them."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    is_large = size > LARGEST_FILE
    onnx.save(
        model,
        path,
        save_as_external_data=is_large,
        location=os.path.basename(path) + WEIGHTS_SUFFIX if is_large else None,
    )


def _in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True
    )
    return converted


def _write_quantised(model: onnx.ModelProto, path: str) -> None:
    """Weights as int8 per channel, activations quantised as they come.

    Unsigned, since signed weights saturate on processors without VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path + ".float32"
    save(model, whole)
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            whole,
            path,
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=os.path.exists(whole + WEIGHTS_SUFFIX),
        )
    finally:
        logging.disable(logging.NOTSET)
        atomic.remove(whole)
        atomic.remove(whole + WEIGHTS_SUFFIX)
