"""The loss of a global batch as a module: tensors of the collator in, one scalar out.

It has the shape of a sentence-transformers loss (features, labels) and imports none of that
library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from contrast_train.losses.selection import LossFunction
from contrast_train.losses.structure import LossResult, PairStructure
from contrast_train.training.collapse_monitor import mean_cosine
from contrast_train.training.gradcache import GradCache, RankShare
from contrast_train.training.micro_batches import (
    FILL_TO,
    pack_texts,
    pad_texts,
    split_among_ranks,
)
from contrast_train.training.row_gradients import RowGradients

LOWEST_TEMPERATURE = (
    0.01  # of a learned one, as in CLIP: below it one pair's gradient drowns the others
)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """How texts are embedded.

    batch_tokens: tokens of one micro-batch, padding included. keep_tokens: activations of so
    many tokens stay in memory and are not computed twice. autocast: bfloat16, or None for the
    model's own dtype. first_position: of a model that takes packed batches, the position id of
    a text's first token; None: it takes padded ones. row_gradients: token embeddings get
    their gradient row by row; for one process whose weights are whole.
    """

    batch_tokens: int = 1024
    keep_tokens: int = 0
    autocast: torch.dtype | None = None
    first_position: int | None = None
    row_gradients: bool = False
    pad_id: int = 0
    left_padding: bool = False


class ContrastObjective(nn.Module):
    """Embeds by micro-batches, then takes `loss` over the whole global batch.

    model: a SentenceTransformer over token ids; the trainer puts its wrapped form here.
    step_seed: of the dropout of the next batch, see GradCache. micro_batches_for: the number of
    ranks that micro-batches are cut for, so that all of them have work; it stays when a run goes
    on with another number, and dropout with it.
    learned_temperature: the initial value, where the temperature is learned; its logarithm is
    a parameter, saved with the checkpoints. Vectors, similarities and losses are float32
    whatever dtype the model computes in.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        settings: EmbeddingSettings | None = None,
        *,
        learned_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.settings = settings or EmbeddingSettings()
        self.row_gradients = RowGradients(model) if self.settings.row_gradients else None
        self.step_seed: int | None = None
        self.micro_batches_for = 1
        self.mean_cosine = torch.zeros(())  # between the texts of the newest batch
        self.log_temperature: nn.Parameter | None = None
        if learned_temperature:
            device = next(model.parameters()).device
            initial = torch.tensor(learned_temperature, device=device).log()
            self.log_temperature = nn.Parameter(initial)

    @property
    def temperature(self) -> float | None:
        """The current value of a learned temperature; None where it is fixed."""
        if self.log_temperature is None:
            return None
        return max(self.log_temperature.exp().item(), LOWEST_TEMPERATURE)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep a learned temperature at its floor, after each update.

        Below it the loss would not change, and the parameter would sink further at each step.
        """
        if self.log_temperature is not None:
            self.log_temperature.clamp_(min=math.log(LOWEST_TEMPERATURE))

    def forward(self, features: list[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of one batch of the collator, without its prefix; `labels` are not read."""
        (batch,) = features
        device = batch["input_ids"].device
        slope = torch.zeros((), device=device)  # of the loss for log temperature

        def _loss_of_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
            if not len(batch["rows"]):
                return vectors.new_zeros(()), torch.zeros_like(vectors)
            self.mean_cosine = mean_cosine(vectors)
            result = self._apply_loss(batch, vectors)
            slope.copy_(result.log_temperature)
            gradient = torch.cat([result.queries, result.documents])
            return result.value, gradient[: len(vectors)]  # documents may not be trained

        if self.row_gradients and torch.is_grad_enabled():
            self.row_gradients.prepare()
        micro_batches = self.split(batch["lengths"], batch.get("prompt_tokens"))
        embed = functools.partial(self.embed, batch)
        cache = GradCache(
            embed,
            micro_batches,
            device=device,
            keep=self.count_kept(batch["lengths"], micro_batches),
            no_sync=getattr(self.model, "no_sync", None),
            seed=self.step_seed,
        )
        value = cache.cache_step(_loss_of_vectors)
        if self.log_temperature is None or not torch.is_grad_enabled():
            return value
        # Adds nothing to the value, and the slope to the parameter's gradient.
        return value + (self.log_temperature - self.log_temperature.detach()) * slope

    def _apply_loss(self, batch: Mapping[str, Tensor], vectors: Tensor) -> LossResult:
        """The loss over vectors (Q + N, D), queries first; (Q, D) where documents have theirs."""
        queries = int(batch["queries"])
        documents = batch.get("document_vectors", vectors[queries:])
        pairs = PairStructure.from_tensors(batch)
        settings = {} if self.temperature is None else {"temperature": self.temperature}
        return self.loss(vectors[:queries], documents, pairs, **settings)

    def split(self, lengths: Tensor, prompt_tokens: Tensor | None) -> list[Tensor]:
        """The micro-batches of texts of these lengths, of all ranks."""
        return split_among_ranks(
            lengths,
            self.settings.batch_tokens,
            prompt_tokens,
            ranks=self.micro_batches_for,
            packed=self.settings.first_position is not None,
        )

    def count_kept(self, lengths: Tensor, micro_batches: list[Tensor]) -> int:
        """How many micro-batches keep their activations; a single one always does."""
        if len(micro_batches) == 1:
            return 1
        tokens = torch.tensor([_tokens_of(lengths[texts]) for texts in micro_batches])
        return int((tokens.cumsum(0) <= self.settings.keep_tokens).sum())

    def embed(self, batch: Mapping[str, Tensor], texts: Tensor) -> Tensor:
        """Vectors float32 (n, D) of these texts (n,) of a batch.

        All of them have the same number of prompt tokens, which are left out of pooling.
        """
        features = self._features(batch, texts)
        prompt_tokens = batch.get("prompt_tokens")
        if prompt_tokens is not None:
            features["prompt_length"] = int(prompt_tokens[texts[0]])
        dtype, device = self.settings.autocast, texts.device.type
        with torch.autocast(device, dtype) if dtype else nullcontext():
            vectors: Tensor = self.model(features)["sentence_embedding"]
        vectors = vectors[: len(texts)]  # without filler
        return vectors if vectors.dtype == torch.float64 else vectors.float()

    def _features(self, batch: Mapping[str, Tensor], texts: Tensor) -> dict[str, Any]:
        settings = self.settings
        if settings.first_position is not None:
            return pack_texts(
                batch["input_ids"],
                batch["lengths"],
                texts,
                first_position=settings.first_position,
                fill_to=FILL_TO if settings.autocast else 1,
            )
        input_ids, mask = pad_texts(
            batch["input_ids"],
            batch["lengths"],
            texts,
            pad_id=settings.pad_id,
            left=settings.left_padding,
        )
        return {"input_ids": input_ids, "attention_mask": mask, "modality": "text"}

    @torch.no_grad()
    def embed_all(
        self,
        token_lists: list[list[int]],
        device: torch.device,
        prompt_tokens: list[int] | None = None,
    ) -> Tensor:
        """Vectors float32 (len(token_lists), D) without training: dropout off, divided among
        ranks.
        """
        was_training = self.model.training
        self.model.eval()
        batch = {
            "input_ids": torch.tensor([token for ids in token_lists for token in ids]).to(device),
            "lengths": torch.tensor([len(ids) for ids in token_lists]).to(device),
        }
        if prompt_tokens is not None:
            batch["prompt_tokens"] = torch.tensor(prompt_tokens).to(device)
        micro_batches = self.split(batch["lengths"], batch.get("prompt_tokens"))
        share = RankShare.of_this_rank(micro_batches)
        pieces = [self.embed(batch, micro_batch) for micro_batch in share.micro_batches]
        vectors = share.gather(pieces, len(token_lists))
        self.model.train(was_training)
        return vectors


def _tokens_of(lengths: Tensor) -> int:
    """Tokens of a micro-batch, padded to its longest text."""
    return len(lengths) * int(lengths.max())
