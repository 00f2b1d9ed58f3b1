"""Texts to vectors for every tool that needs them: each distinct one once, runs resumed.

memmap_buffer  vectors beyond memory, and products over them
model          loading, dtype, fingerprint, prompts and lengths of a sentence-transformers model
opening        a model, a server or files of vectors, as the options ask for it
role_prompts   what is prepended to a text
batching       distinct texts, and batches of similar length
vector_cache   vectors on disk, as `vectors` shards
echo           a text twice, pooled over its second occurrence
padding_free   batches without padding, for the architectures that allow it
preprocessing  texts to token ids, and padded batches of them
packed_linear  float32 layers by oneDNN, for CPUs
int8_linear    linear layers in int8, for CPUs
int8_layers    which of them become int8
int8_cost      how far their vectors are from those of float32
encoder        a model as a `TextEncoder`
server_encoder, embedding_client  a model behind an embedding server as a `TextEncoder`
precomputed    `vectors` files as a `TextEncoder`
stated_model   the model that made a file of vectors
reranker       scores of pairs by a cross-encoder

`instruction_set` says what the CPU multiplies with.

Needs the extra `fletching[encode]`. Importing the package imports nothing; a model needs torch and
transformers, which take seconds, and precomputed vectors need neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # mypy checks that these are interchangeable
    from fletching.encode.encoder import Encoder
    from fletching.encode.precomputed import PrecomputedEmbeddings
    from fletching.encode.server_encoder import ServerEncoder
    from fletching.encode.vector_cache import default_cache_dir
    from fletching.protocols import TextEncoder

    TEXT_ENCODERS: tuple[type[TextEncoder], ...] = (
        Encoder,
        PrecomputedEmbeddings,
        ServerEncoder,
    )

__all__ = ["Encoder", "default_cache_dir"]

_HOMES = {"Encoder": "encoder", "default_cache_dir": "vector_cache"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attributes are of any type)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
