"""Options of tools that load a model or call a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options.fields import option, override, required
from fletching.options.headings import MODEL


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """A tool that runs a neural network."""

    batch_tokens: int | None = option(
        None,
        "tokens in one forward pass, or in one request to a server [by hardware]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
        rows=False,
    )
    device: str | None = option(
        None,
        "cpu, cuda, cuda:1, mps [the fastest available]",
        metavar="D",
        group=MODEL,
        advanced=True,
        rows=False,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "number type of the weights and activations", group=MODEL, advanced=True
    )
    trust_remote_code: bool = option(
        False,
        "run Python code from the model's folder",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DeviceOptions):
    """A tool that may run or train a sentence-transformers model."""

    model: str | None = option(
        None,
        "sentence-transformers model: a folder or a hub name",
        metavar="M",
        group=MODEL,
        is_model=True,
    )
    query_prompt: str | None = option(
        None,
        "prepended to each query [the model's own]",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    doc_prompt: str | None = option(
        None,
        "prepended to each document [the model's own]",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    query_length: int | None = option(
        None,
        "truncate queries after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
    )
    doc_length: int | None = option(
        None,
        "truncate documents after N tokens [the model's own]",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RequiredModelOptions(ModelOptions):
    """A tool that cannot run without a model."""

    model: str = required(
        "sentence-transformers model: a folder or a hub name",
        metavar="M",
        group=MODEL,
        is_model=True,
    )


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """A tool that keeps vectors on disk."""

    cache: str | None = option(
        None,
        "keep vectors here and reuse them; default: beside OUT until the run succeeds",
        metavar="DIR",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class PromptTemplateOptions:
    """A tool that reads or writes the `prompt` of rows."""

    prompt_template: str | None = option(
        None,
        "completes the `prompt` of rows, e.g. 'Instruct: {}\\nQuery: '; complete ones stay",
        metavar="TEXT",
        placeholder="{}",
        group=MODEL,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A tool that calls an OpenAI-compatible server."""

    base_url: str | None = option(
        None,
        "OpenAI-compatible server, e.g. http://localhost:8000/v1 [OpenAI's]",
        metavar="URL",
        group=MODEL,
        rows=False,
    )
    api_key_env: str | None = option(
        None,
        "environment variable that holds the API key [OPENAI_API_KEY]",
        metavar="NAME",
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ConcurrencyOptions:
    """A tool that sends several requests at a time."""

    concurrency: int = option(
        32,
        "requests in flight",
        metavar="N",
        low=1,
        high=2048,
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
@override(
    "base_url",
    None,
    because="without a server the model runs in this process",
    help="OpenAI-compatible server that runs the model: vLLM, TEI, llama.cpp …",
)
@override(
    "api_key_env",
    None,
    because="only the server of --base-url has a key",
    help="environment variable that holds the API key [OPENAI_API_KEY, for OpenAI's server only]",
)
@override("concurrency", 8, because="each request holds many texts, which a server batches")
class EmbeddingServerOptions(ServerOptions, ConcurrencyOptions):
    """A tool that may have its texts embedded by a server."""

    batch_texts: int = option(
        32,
        "texts in one request to --base-url",
        metavar="N",
        low=1,
        group=MODEL,
        advanced=True,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(PromptTemplateOptions, CacheOptions, EmbeddingServerOptions, ModelOptions):
    """A tool that turns texts into vectors."""

    # More than trainers take.
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = option(  # type: ignore[assignment]
        "auto",
        "number type of the weights and activations; int8 is for CPUs, and its cost is printed",
        group=MODEL,
        advanced=True,
    )
    query_echo: str | None = option(
        None,
        "echo embeddings: encode each query twice, joined by TEXT, and pool over the second",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    doc_echo: str | None = option(
        None,
        "the same for documents; for causal models, and never saved in a model",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class PoolingOptions:
    """A tool that makes a sentence encoder of a bare transformer."""

    pooling: str | None = option(
        None,
        "pooling of a bare transformer [mean; last token if causal]",
        metavar="MODE",
        choices="fletching.pooling:POOLINGS",
        group=MODEL,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class VectorsOptions:
    """A tool that takes vectors computed before, in place of a model."""

    vectors: tuple[str, ...] = option(
        (),
        "precomputed `vectors` of all queries and texts, in place of --model",
        metavar="FILE",
        group=MODEL,
        advanced=True,
        rows=False,
    )
