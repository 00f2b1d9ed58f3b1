"""The loss of a global batch as a module: tensors of the collator in, one scalar out.

It has the shape of a sentence-transformers loss (features, labels) and imports none of that library.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from contrast_train.collate import structure_of
from contrast_train.gradcache import dealt, global_loss, micro_batches, padded, together
from contrast_train.losses import Result, Structure

Loss = Callable[[Tensor, Tensor, Structure], Result]  # queries (Q, D), documents (N, D), structure


class Objective(nn.Module):
    """Embeds by micro-batches, then takes `loss` over the whole global batch.

    model: a SentenceTransformer over token ids; the trainer puts its wrapped form here.
    batch_tokens: tokens of one micro-batch, padding included. autocast: bfloat16, or None for the
    model's own type. keep_tokens: activations of so many tokens stay in memory and are not computed
    twice. Vectors, similarities and losses are float32 whatever the model computes in.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        batch_tokens: int = 1024,
        keep_tokens: int = 0,
        autocast: torch.dtype | None = None,
        pad_id: int = 0,
        left_padding: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.batch_tokens, self.keep_tokens, self.autocast = batch_tokens, keep_tokens, autocast
        self.pad_id, self.left_padding = pad_id, left_padding

    def forward(self, features: list[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        (batch,) = features
        tokens, lengths = batch["input_ids"], batch["lengths"]
        queries = int(batch["queries"])
        structure = structure_of(batch)

        def of_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
            value, *gradients = self.loss(vectors[:queries], vectors[queries:], structure)
            return value, torch.cat(gradients)

        embed = functools.partial(self.embed, tokens, lengths)
        parts = micro_batches(lengths, self.batch_tokens)
        keep = len(parts) if len(parts) == 1 else self.keep_tokens // self.batch_tokens
        return global_loss(embed, parts, len(lengths), of_vectors, tokens.device, keep=keep, no_sync=getattr(self.model, "no_sync", None))

    def embed(self, tokens: Tensor, lengths: Tensor, texts: Tensor) -> Tensor:
        """Vectors float32 (n, D) of these texts."""
        ids, mask = padded(tokens, lengths, texts, self.pad_id, self.left_padding)
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "modality": "text"}
        with torch.autocast(ids.device.type, self.autocast) if self.autocast else nullcontext():
            vectors = self.model(features)["sentence_embedding"]
        return vectors if vectors.dtype == torch.float64 else vectors.float()

    @torch.no_grad()
    def embed_all(self, token_lists: list[list[int]], device: torch.device) -> Tensor:
        """Vectors float32 (len(token_lists), D) without training: dropout off, shared out among ranks."""
        was_training = self.model.training
        self.model.eval()
        tokens = torch.tensor([token for text in token_lists for token in text], device=device)
        lengths = torch.tensor([len(text) for text in token_lists], device=device)
        mine, idle = dealt(micro_batches(lengths, self.batch_tokens))
        vectors = together(mine, [self.embed(tokens, lengths, part) for part in mine], idle, len(token_lists))
        self.model.train(was_training)
        return vectors
