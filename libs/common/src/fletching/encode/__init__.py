"""Texts to vectors for every tool that needs them: each distinct text once, killed runs resumed.

model     loading, number type, fingerprint, prompts and lengths
cache     vectors on disk, as `vectors` shards
echo      a text twice, pooled over the second time
packed    batches without padding, for the architectures that allow it
encoder   the batch plan and the forward passes
given     vectors that the user brings, in place of a model
rerank    scores of pairs by a cross-encoder
store     many vectors without holding them

Needs the extra `fletching[encode]`. Importing the package imports torch, so tools import it late.
"""

from fletching.encode.encoder import Encoder, default_cache_dir

__all__ = ["Encoder", "default_cache_dir"]
