"""The forward pass: tokenized texts to unit vectors, on one device or several."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fletching.encode import echo, padding_free, prompt_tokens
from fletching.encode.preprocessing import NO_ECHO, Preprocessor, TokenizedTexts
from fletching.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]


class ForwardPass:
    """A model on each of its devices; on the first it is the model itself, not a copy.

    dtype: of weights and activations. batch_tokens: the budget of a batch, halved where a device
    runs out of memory. convert: replaces layers of the transformer by faster ones, in place.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        preprocessor: Preprocessor,
        devices: Sequence[str],
        *,
        dtype: torch.dtype,
        batch_tokens: int,
        convert: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.preprocessor = preprocessor
        self.devices = devices
        self.batch_tokens = batch_tokens
        self.zero_vectors = 0  # of texts without a known token
        # Before the model is copied: every replica takes padding-free batches, or none does.
        self.first_position = self._prepare_padding_free(model)
        self.replicas = [model, *(copy.deepcopy(model) for _ in devices[1:])]
        for replica, device in zip(self.replicas, devices):
            replica.to(device, dtype)
            if convert is not None:
                convert(replica[0])

    def _prepare_padding_free(self, model: SentenceTransformer) -> int | None:
        """The first position of padding-free batches; None where batches are padded."""
        inputs = self.preprocessor
        if not (inputs.takes_token_ids and inputs.pools_prompts) or inputs.echoes != NO_ECHO:
            return None
        return padding_free.prepare(model, "cpu") if set(self.devices) == {"cpu"} else None

    def batches(
        self, batches: Sequence[list[int]], window: TokenizedTexts
    ) -> Iterator[tuple[list[int], Vectors]]:
        """(rows, vectors) of each batch, in order; as many at a time as there are devices."""
        devices = len(self.devices)
        if devices == 1:
            for batch in batches:
                yield batch, self.vectors(0, batch, window)
            return

        def forward(device: int, batch: list[int]) -> Vectors:
            return self.vectors(device, batch, window)

        with ThreadPoolExecutor(devices) as pool:  # kernels run without the interpreter lock
            for start in range(0, len(batches), devices):
                group = batches[start : start + devices]
                yield from zip(group, pool.map(forward, range(len(group)), group))

    @torch.inference_mode()
    def vectors(self, device: int, rows: list[int], window: TokenizedTexts) -> Vectors:
        """Unit vectors (rows, D) of one batch; out of memory halves the batch and continues.

        device: its number in `devices`.
        """
        try:
            embeddings = self._embed(device, rows, window)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise InputError(
                    "out of memory with a single text",
                    "cut it with --doc-length, or use a larger device",
                ) from None
            torch.cuda.empty_cache()
            self.batch_tokens = max(self.batch_tokens // 2, 1)
            half = len(rows) // 2
            first = self.vectors(device, rows[:half], window)
            second = self.vectors(device, rows[half:], window)
            return np.concatenate([first, second])
        self._check_nonzero(embeddings, [window.texts[row] for row in rows])
        vectors = torch.nn.functional.normalize(embeddings, dim=1)
        is_finite = torch.isfinite(vectors).all(dim=1)
        if not is_finite.all():
            worst = int(torch.nonzero(~is_finite)[0])
            _, text = window.texts[rows[worst]]
            raise InputError(
                f"the model gives no finite vector for {text[:60]!r}",
                "try --dtype float32",
            )
        return vectors.cpu().numpy()

    def _check_nonzero(self, embeddings: torch.Tensor, texts: list[tuple[str, str]]) -> None:
        """Raise InputError for a vector of zeros, which no direction belongs to.

        A table of tokens gives it for a text of unknown tokens; there it is counted.
        """
        is_zero = ~embeddings.any(dim=1)
        if not is_zero.any():
            return
        if not self.preprocessor.takes_token_ids:
            self.zero_vectors += int(is_zero.sum())
            return
        _, text = texts[int(torch.nonzero(is_zero)[0])]
        raise InputError(
            f"the model gives a vector of zeros for {text[:60]!r}", "leave such texts out"
        )

    def _embed(self, device: int, rows: list[int], window: TokenizedTexts) -> torch.Tensor:
        """Sentence embeddings (rows, D) in float32, not yet of unit length."""
        replica = self.replicas[device]
        if self.first_position is not None:
            batch = padding_free.collate(window.take(rows).inputs, self.first_position)
        else:
            batch = self.preprocessor.collate(window.take(rows), replica)
        features = {
            name: value.to(self.devices[device]) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
        try:
            if echo.POOLING_MASK in features:
                embeddings = echo.embed(replica, features)
            elif prompt_tokens.PROMPT_TOKENS in features:
                embeddings = prompt_tokens.embed(replica, features)
            else:
                embeddings = replica(features)["sentence_embedding"]
        except torch.OutOfMemoryError:
            raise
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            # Modules that do not give each other what they take.
            raise InputError(
                f"the model gives no sentence embeddings ({error!r})",
                "name a model whose files are whole: copy or fetch it again",
            ) from None
        return embeddings[: len(rows)].float()  # without the filler of padding-free batches
