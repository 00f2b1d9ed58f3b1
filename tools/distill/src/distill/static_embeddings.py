"""The first weights of a static student: one vector a token, taken from the teacher.

A static model's vector of a text is the mean of its tokens' rows. A row is the teacher's vector of the token alone,
centred, on the first principal axes, and shortened where the token is frequent: a / (a + share of the token).
Tulkens and van Dongen 2024 (Model2Vec); the weights: Arora et al. 2017 (SIF).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fletching.report import Report

SIF = 1e-4
TOKENS = 1024  # one-token texts in a forward pass


def static_model(
    teacher: Any, texts: Iterable[list[str]], dimension: int | None, report: Report
) -> tuple[Any, Tensor | None]:
    """(a SentenceTransformer of one StaticEmbedding, the axes (teacher's dimension, `dimension`) where it has fewer).

    teacher: a SentenceTransformer over token ids, on the CPU; texts: what the tokens are counted in, in parts.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    # A copy, since StaticEmbedding takes the padding away.
    tokenizer = Tokenizer.from_str(teacher[0].tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = token_vectors(teacher, tokenizer.get_vocab_size(), report)
    counts = np.zeros(len(rows), np.int64)
    for part in texts:
        for encoding in tokenizer.encode_batch(part, add_special_tokens=False):
            np.add.at(counts, encoding.ids, 1)
    rows, axes = principal(rows, dimension or rows.shape[1])
    weights = torch.from_numpy(SIF / (SIF + counts / max(counts.sum(), 1))).float()
    module = StaticEmbedding(tokenizer, embedding_weights=(rows * weights[:, None]).contiguous())
    return SentenceTransformer(
        modules=[module], device="cpu", prompts=dict(teacher.prompts or {})
    ), axes


@torch.inference_mode()
def token_vectors(teacher: Any, size: int, report: Report) -> Tensor:
    """The teacher's vector of each token of the vocabulary alone, float32 (size, D)."""
    tokenizer = teacher[0].tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    start = next(place for place in range(len(framed)) if framed[place : place + len(bare)] == bare)
    before, after = framed[:start], framed[start + len(bare) :]
    found = []
    with report.progress("token vectors", size, "tokens") as progress:
        for first in range(0, size, TOKENS):
            ids = torch.tensor(
                [[*before, token, *after] for token in range(first, min(first + TOKENS, size))]
            )
            features = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "modality": "text",
            }
            found.append(teacher(features)["sentence_embedding"].float())
            progress.advance(len(ids))
    return torch.cat(found)


def principal(rows: Tensor, dimension: int) -> tuple[Tensor, Tensor | None]:
    """Centred rows on their first principal axes (n, dimension), and these axes (D, dimension); all of D: left as they stand."""
    centred = rows - rows.mean(0)
    if dimension >= rows.shape[1]:
        return centred, None
    _, axes = torch.linalg.eigh((centred.T @ centred).double())  # rising eigenvalues
    chosen = axes.flip(1)[:, :dimension].float()
    chosen = (
        chosen * chosen.gather(0, chosen.abs().argmax(0, keepdim=True)).sign()
    )  # eigenvectors have no sign of their own
    return centred @ chosen, chosen
