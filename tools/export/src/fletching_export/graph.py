"""The pipeline of a model (transformer, pooling, dense, normalise) as one graph of torch.

Batch and sequence are dynamic. It has two outputs: `sentence_embedding`, the vectors, and
`last_hidden_state`, from which servers that pool by themselves start.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.sentence_transformer.modules import (
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from torch import Tensor, nn
from torch.export import Dim

from fletching.encode.model import first_line, load
from fletching.errors import InputError
from fletching_export.sample_texts import SAMPLES

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch.onnx import ONNXProgram

VECTORS = "sentence_embedding"
HIDDEN_STATES = "last_hidden_state"
ANOTHER_MODEL = "serve it with sentence-transformers, or export a model of another architecture"
OURS = "sentence_transformers."  # modules that are code of the library


def load_exportable(name: str) -> SentenceTransformer:
    """The model of a folder or hub name in float32.

    Raises InputError for one that cannot be loaded, or whose parts no graph can be made of.
    """
    try:
        model = load(name, option="the model").float()
    except InputError as error:
        if "--trust-remote-code" in error.fix:
            raise InputError(error.what, "export a model of the libraries' classes") from None
        raise
    first: Any = model[0]
    if not isinstance(first, Transformer | StaticEmbedding):
        raise InputError(
            f"{name} begins with the module {type(first).__name__}, which is not exported",
            ANOTHER_MODEL,
        )
    for module in list(model)[1:]:
        kind = type(module)
        if not kind.__module__.startswith(OURS):
            raise InputError(f"{name} has a module of its own code, {kind.__name__}", ANOTHER_MODEL)
        if isinstance(module, Pooling) and not module.include_prompt and any(prompts_of(model)):
            raise InputError(
                f"{name} leaves the tokens of its prompts out of pooling, which no graph of texts "
                "can know",
                ANOTHER_MODEL,
            )
    return model


def prompts_of(model: SentenceTransformer) -> list[str]:
    """The texts of the model's prompts."""
    return [prompt or "" for prompt in (model.prompts or {}).values()]


class SentenceGraph(nn.Module):
    """The modules of a model, from token inputs to vectors.

    names: of the inputs. truncate_dim: the first dimensions are kept, and normalised again where
    the model normalises.
    """

    def __init__(
        self, model: SentenceTransformer, names: list[str], truncate_dim: int | None
    ) -> None:
        super().__init__()
        self.pipeline = nn.ModuleList(list(model))
        self.names = names
        self.truncate_dim = truncate_dim
        self.is_normalised = any(isinstance(module, Normalize) for module in model)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (batch, dimensions) and hidden states (batch, tokens, width)."""
        features: dict[str, Any] = dict(zip(self.names, inputs))
        first, *others = self.pipeline
        features = self.start(first, features)
        hidden_states = features["token_embeddings"]
        for module in others:
            features = module(features)
        return self.cut(features[VECTORS]), hidden_states

    def start(self, first: nn.Module, features: dict[str, Any]) -> dict[str, Any]:
        """The features after the first module."""
        result: dict[str, Any] = first(features)
        return result

    def cut(self, vectors: Tensor) -> Tensor:
        """The first dimensions of vectors, of length 1 again where they were."""
        if self.truncate_dim is None:
            return vectors
        kept = vectors[:, : self.truncate_dim]
        return nn.functional.normalize(kept, dim=-1) if self.is_normalised else kept


class StaticGraph(SentenceGraph):
    """A model of static embeddings: the mean of the rows of its table over real tokens."""

    def start(self, first: nn.Module, features: dict[str, Any]) -> dict[str, Any]:
        """An EmbeddingBag as a gather and a masked mean, which every runtime has."""
        table: Any = first.embedding
        tokens = nn.functional.embedding(features["input_ids"], table.weight)
        mask = features["attention_mask"].unsqueeze(-1).to(tokens.dtype)
        count = mask.sum(1).clamp(min=1)
        return {"token_embeddings": tokens, VECTORS: (tokens * mask).sum(1) / count}


@dataclass(frozen=True)
class TracedModel:
    """A model as an ONNX program. names: of the inputs."""

    program: ONNXProgram
    names: list[str]


def trace(model: SentenceTransformer, name: str, truncate_dim: int | None) -> TracedModel:
    """Trace the pipeline of a model, with dynamic batch and sequence.

    Raises InputError where torch's exporter cannot follow it, with the reason in one line.
    """
    names, inputs = _sample_inputs(model)
    kind = StaticGraph if isinstance(model[0], StaticEmbedding) else SentenceGraph
    graph = kind(model, names, truncate_dim).eval()
    dynamic = [{0: Dim.DYNAMIC, 1: Dim.DYNAMIC}] * len(names)
    try:
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                inputs,
                input_names=names,
                output_names=[VECTORS, HIDDEN_STATES],
                dynamic_shapes={"inputs": tuple(dynamic)},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises exceptions of every kind
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        config = getattr(getattr(model[0], "model", None), "config", None)
        architecture = getattr(config, "model_type", type(model[0]).__name__)
        raise InputError(
            f"{name} ({architecture}) cannot be exported: torch's exporter stops at "
            f"{type(cause).__name__}: {first_line(cause)[:200]}",
            ANOTHER_MODEL,
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return TracedModel(program, names)


def _sample_inputs(model: SentenceTransformer) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and tensors of two texts of several tokens: neither dimension is 0 or 1."""
    texts = list(SAMPLES[:2])
    if isinstance(model[0], StaticEmbedding):
        ids = torch.zeros((2, 3), dtype=torch.long)
        return ["input_ids", "attention_mask"], (ids, torch.ones_like(ids))
    features = model.preprocess(texts)
    tensors = {key: value for key, value in features.items() if isinstance(value, Tensor)}
    return list(tensors), tuple(tensors.values())


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """No warnings about the exporter's own parts, which a user cannot act on."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
