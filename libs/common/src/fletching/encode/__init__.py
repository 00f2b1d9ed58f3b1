"""Texts to vectors for every tool that needs them: each distinct text once, killed runs resumed.

model     loading, number type, fingerprint, prompts and lengths
cache     vectors on disk, as `vectors` shards
encoder   the batch plan and the forward passes

Needs the extra `fletching[encode]`. Importing the package imports torch, so tools import it late.
"""

from fletching.encode.encoder import Encoder, cache_beside

__all__ = ["Encoder", "cache_beside"]
