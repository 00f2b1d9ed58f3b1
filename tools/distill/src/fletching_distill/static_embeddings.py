"""The initial weights of a static student: one vector a token, taken from the teacher.

A static model's vector of a text is the mean of its tokens' embeddings. An embedding is the
teacher's vector of the token alone, centred, projected on the first principal axes, and scaled
down where the token is frequent: by a / (a + relative frequency).
Tulkens and van Dongen 2024 (Model2Vec); the weights: Arora et al. 2017 (SIF).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fletching.report import Report
from fletching.text import surrounding_tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

SIF = 1e-4  # a
TOKENS = 1024  # one-token texts in a forward pass


def static_model(
    teacher: SentenceTransformer,
    texts: Iterable[list[str]],
    *,
    dimension: int | None,
    report: Report,
) -> tuple[SentenceTransformer, Tensor | None]:
    """(a model of one StaticEmbedding, its axes (teacher's dimension, `dimension`) if reduced).

    teacher: a model over token ids, on the CPU. texts: in parts, for the frequencies of tokens.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = bare_tokenizer(teacher)
    vectors = token_vectors(teacher, tokenizer.get_vocab_size(), report)
    embeddings, axes = reduce_dimensions(vectors, dimension or vectors.shape[1])
    weights = sif_weights(tokenizer, texts, len(embeddings))
    module = StaticEmbedding(
        tokenizer, embedding_weights=(embeddings * weights[:, None]).contiguous()
    )
    prompts: Any = dict(teacher.prompts or {})
    return SentenceTransformer(modules=[module], device="cpu", prompts=prompts), axes


def bare_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """A copy of the model's tokenizer that neither pads nor truncates.

    A copy, since StaticEmbedding removes the padding in place.
    """
    from tokenizers import Tokenizer

    first_module: Any = model[0]
    tokenizer = Tokenizer.from_str(first_module.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def sif_weights(tokenizer: Tokenizer, texts: Iterable[list[str]], size: int) -> Tensor:
    """a / (a + relative frequency) of each token in the texts, float32 (size,)."""
    counts = np.zeros(size, np.int64)
    for part in texts:
        for encoding in tokenizer.encode_batch(part, add_special_tokens=False):
            np.add.at(counts, encoding.ids, 1)
    frequencies = counts / max(counts.sum(), 1)
    return torch.from_numpy(SIF / (SIF + frequencies)).float()


@torch.inference_mode()
def token_vectors(teacher: SentenceTransformer, size: int, report: Report) -> Tensor:
    """The teacher's vector of each token of the vocabulary alone, float32 (size, D)."""
    first_module: Any = teacher[0]
    before, after = surrounding_tokens(first_module.tokenizer)
    vectors = []
    with report.progress("token vectors", size, "tokens") as progress:
        for first in range(0, size, TOKENS):
            tokens = range(first, min(first + TOKENS, size))
            ids = torch.tensor([[*before, token, *after] for token in tokens])
            features: dict[str, Any] = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "modality": "text",
            }
            vectors.append(teacher(features)["sentence_embedding"].float())
            progress.advance(len(ids))
    return torch.cat(vectors)


def reduce_dimensions(vectors: Tensor, dimension: int) -> tuple[Tensor, Tensor | None]:
    """(centred vectors on their first principal axes (n, dimension), these axes (D, dimension)).

    All D dimensions are left as they are, without axes.
    """
    centred = vectors - vectors.mean(0)
    if dimension >= vectors.shape[1]:
        return centred, None
    _, axes = torch.linalg.eigh((centred.T @ centred).double())  # rising eigenvalues
    first_axes = axes.flip(1)[:, :dimension].float()
    # The sign of an eigenvector is arbitrary: its largest component becomes positive.
    largest = first_axes.gather(0, first_axes.abs().argmax(0, keepdim=True))
    first_axes = first_axes * largest.sign()
    return centred @ first_axes, first_axes
