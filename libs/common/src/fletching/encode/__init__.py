"""Texts to vectors for every tool that needs them: each distinct one once, runs resumed.

memmap_buffer  vectors beyond memory, and products over them
model          loading, dtype, fingerprint, prompts and lengths of a sentence-transformers model
batching       distinct texts, and batches of similar length
vector_cache   vectors on disk, as `vectors` shards
echo           a text twice, pooled over its second occurrence
padding_free   batches without padding, for the architectures that allow it
preprocessing  texts to token ids, and padded batches of them
encoder        a model as a `TextEncoder`
precomputed    `vectors` files as a `TextEncoder`
reranker       scores of pairs by a cross-encoder

Needs the extra `fletching[encode]`. Importing the package imports torch, so tools import it
late.
"""

from typing import TYPE_CHECKING

from fletching.encode.encoder import Encoder
from fletching.encode.vector_cache import default_cache_dir

if TYPE_CHECKING:  # mypy checks that these are interchangeable
    from fletching.encode.precomputed import PrecomputedEmbeddings
    from fletching.protocols import TextEncoder

    TEXT_ENCODERS: tuple[type[TextEncoder], ...] = (Encoder, PrecomputedEmbeddings)

__all__ = ["Encoder", "default_cache_dir"]
