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

from contrast_train.data.collator import structure_of
from contrast_train.losses import Result
from contrast_train.training.collapse_monitor import mean_cosine
from contrast_train.training.gradcache import dealt, global_loss, micro_batches, padded, together

Loss = Callable[
    ..., Result
]  # queries (Q, D), documents (N, D), structure, settings such as temperature
LOWEST_TEMPERATURE = (
    0.01  # of a learned one, as in CLIP: below it the gradient of one pair drowns the others
)


class Objective(nn.Module):
    """Embeds by micro-batches, then takes `loss` over the whole global batch.

    model: a SentenceTransformer over token ids; the trainer puts its wrapped form here.
    batch_tokens: tokens of one micro-batch, padding included. autocast: bfloat16, or None for the
    model's own type. keep_tokens: activations of so many tokens stay in memory and are not computed
    twice. learned_temperature: where the loss's temperature starts, if it is learned; its logarithm is a
    parameter, saved with the checkpoints. Vectors, similarities and losses are float32 whatever the model
    computes in.
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
        learned_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.mean_cosine = torch.zeros(())  # between the texts of the newest batch
        self.batch_tokens, self.keep_tokens, self.autocast = batch_tokens, keep_tokens, autocast
        self.pad_id, self.left_padding = pad_id, left_padding
        place = next(model.parameters()).device
        self.log_temperature = (
            nn.Parameter(torch.tensor(learned_temperature, device=place).log())
            if learned_temperature
            else None
        )

    @property
    def temperature(self) -> float | None:
        """The learned temperature as it stands; None where it is fixed."""
        return (
            None
            if self.log_temperature is None
            else max(self.log_temperature.exp().item(), LOWEST_TEMPERATURE)
        )

    def forward(self, features: list[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        (batch,) = features
        tokens, lengths = batch["input_ids"], batch["lengths"]
        queries = int(batch["queries"])
        structure = structure_of(batch)

        settings = {} if self.temperature is None else {"temperature": self.temperature}
        slope = torch.zeros((), device=tokens.device)

        def of_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
            self.mean_cosine = mean_cosine(vectors)
            found = self.loss(vectors[:queries], vectors[queries:], structure, **settings)
            slope.copy_(found.log_temperature)
            return found.value, torch.cat([found.queries, found.documents])

        prompts = batch.get("prompt_tokens")
        embed = functools.partial(self.embed, tokens, lengths, prompt_tokens=prompts)
        parts = micro_batches(lengths, self.batch_tokens, prompts)
        keep = len(parts) if len(parts) == 1 else self.keep_tokens // self.batch_tokens
        value = global_loss(
            embed,
            parts,
            len(lengths),
            of_vectors,
            tokens.device,
            keep=keep,
            no_sync=getattr(self.model, "no_sync", None),
        )
        if self.log_temperature is None or not torch.is_grad_enabled():
            return value
        # Adds nothing to the value, and the slope to the parameter's gradient.
        return value + (self.log_temperature - self.log_temperature.detach()) * slope

    def embed(
        self, tokens: Tensor, lengths: Tensor, texts: Tensor, prompt_tokens: Tensor | None = None
    ) -> Tensor:
        """Vectors float32 (n, D) of these texts, all with equally many prompt_tokens to leave out of pooling."""
        ids, mask = padded(tokens, lengths, texts, self.pad_id, self.left_padding)
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "modality": "text"}
        if prompt_tokens is not None:
            features["prompt_length"] = int(prompt_tokens[texts[0]])
        with torch.autocast(ids.device.type, self.autocast) if self.autocast else nullcontext():
            vectors = self.model(features)["sentence_embedding"]
        return vectors if vectors.dtype == torch.float64 else vectors.float()

    @torch.no_grad()
    def embed_all(
        self,
        token_lists: list[list[int]],
        device: torch.device,
        prompt_tokens: list[int] | None = None,
    ) -> Tensor:
        """Vectors float32 (len(token_lists), D) without training: dropout off, shared out among ranks."""
        was_training = self.model.training
        self.model.eval()
        tokens = torch.tensor([token for text in token_lists for token in text], device=device)
        lengths = torch.tensor([len(text) for text in token_lists], device=device)
        prompts = torch.tensor(prompt_tokens, device=device) if prompt_tokens is not None else None
        mine, idle = dealt(micro_batches(lengths, self.batch_tokens, prompts))
        vectors = together(
            mine,
            [self.embed(tokens, lengths, part, prompts) for part in mine],
            idle,
            len(token_lists),
        )
        self.model.train(was_training)
        return vectors
