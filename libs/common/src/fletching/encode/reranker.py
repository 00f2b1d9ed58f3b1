"""A cross-encoder as a function from (query, text) pairs to scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fletching.encode import model as models
from fletching.encode.batching import batches_by_length, deduplicate
from fletching.encode.checked_loading import refuse_random_weights, watch_loading
from fletching.encode.vector_cache import CacheFolder
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage
from fletching.report import Progress
from fletching.text import text_hash

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

WINDOW = 8192  # pairs sorted together, across queries
CPU_BATCH_TOKENS = 4096
GPU_BATCH_TOKENS = 65_536
SPECIAL_TOKENS = 8  # about, around and between the texts of a pair
CHARACTERS_PER_TOKEN = 4

PROBE = ("a", "b")  # its score says which weights are read

Scores = npt.NDArray[np.float32]
Pair = tuple[str, str]


class Reranker:
    """Raw scores (logits) of a sentence-transformers CrossEncoder with one output.

    Each distinct pair is scored once, in batches of pairs of similar length, whichever query
    they belong to. Use it as a context manager: scores are cached as an Encoder's vectors are,
    so that a killed run resumes. Raises InputError where the model cannot be loaded or has
    several outputs.

    option: the option that names the model, for errors.
    """

    def __init__(self, name: str, options: EncodingOptions, *, option: str = "--reranker") -> None:
        self.device = models.resolve_devices(options.device)[0]
        self.model = _load(name, option, trust_remote_code=options.trust_remote_code)
        self.fingerprint = models.fingerprint(self.model)
        # int8 is for vectors, whose cost is printed; rerankers decide what an answer is.
        dtype_name = "auto" if options.dtype == "int8" else options.dtype
        self.dtype = models.resolve_dtype(dtype_name, self.device)
        self.model.to(self.device, self.dtype)
        default_budget = CPU_BATCH_TOKENS if self.device == "cpu" else GPU_BATCH_TOKENS
        self.batch_tokens = options.batch_tokens or default_budget
        self.cache_folder = CacheFolder(options)
        key = f"reranker-{self.fingerprint[:16]}-{self.settings['dtype']}"
        self.cache = self.cache_folder.open(key, self.settings | {"normalised": False})

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cache_folder.close(succeeded=failure is None)

    @property
    def settings(self) -> Lineage:
        """What decides the scores, for the lineage."""
        dtype_name = str(self.dtype).removeprefix("torch.")
        return {"fingerprint": self.fingerprint, "dtype": dtype_name}

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> Scores:
        """The score of each pair (queries[i], texts[i]), float32 (n,)."""
        pairs, number_of_pair = deduplicate(zip(queries, texts))
        scores = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), WINDOW):
            window = pairs[start : start + WINDOW]
            scores[start : start + len(window)] = self._score_window(window, progress)
        return scores[number_of_pair]

    def _score_window(self, pairs: list[Pair], progress: Progress | None) -> Scores:
        scores = np.empty(len(pairs), np.float32)
        hashes = [text_hash(f"{len(query)}:{query}{text}") for query, text in pairs]
        is_cached = np.zeros(len(pairs), bool)
        for row, name in enumerate(hashes):
            vector = self.cache.get(name)
            if vector is not None:
                scores[row] = vector[0]
                is_cached[row] = True
        # Batches are planned over all pairs: without the cached ones they would differ from
        # those of a run that was not killed.
        lengths = [_estimate_tokens(pair) for pair in pairs]
        for planned in batches_by_length(lengths, self.batch_tokens):
            batch = [row for row in planned if not is_cached[row]]
            if batch:
                scores[batch] = self._forward([pairs[row] for row in batch])
                self.cache.put([hashes[row] for row in batch], scores[batch][:, None])
            if progress:
                progress.advance(len(planned))
        return scores

    @torch.inference_mode()
    def _forward(self, pairs: list[Pair]) -> Scores:
        """The scores (n,) of one batch. Raises InputError where one is not finite."""
        features = {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in self.model.preprocess([list(pair) for pair in pairs]).items()
        }
        scores: torch.Tensor = self.model(features)["scores"].float().reshape(len(pairs))
        is_finite = torch.isfinite(scores)
        if not is_finite.all():
            query, _ = pairs[int(torch.nonzero(~is_finite)[0])]
            raise InputError(
                f"the reranker gives no finite score for {query[:60]!r}",
                "try --dtype float32",
            )
        values: Scores = scores.cpu().numpy()
        return values


def _load(name: str, option: str, *, trust_remote_code: bool) -> CrossEncoder:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from sentence_transformers import CrossEncoder

    models.silence_loading()
    try:
        with watch_loading(trust_remote_code=trust_remote_code) as missing:
            model: CrossEncoder = CrossEncoder(
                name,
                device="cpu",
                trust_remote_code=trust_remote_code,
                model_kwargs={"use_safetensors": True, "dtype": "auto"},
            ).eval()
        refuse_random_weights(missing, lambda: model.predict([PROBE], show_progress_bar=False))
    except InputError as error:
        raise models.load_error(name, error, option) from error
    # The hub, transformers and sentence-transformers each raise their own exceptions.
    except Exception as error:
        raise InputError(
            f"{option} {name} cannot be loaded: {models.first_line(error)}",
            "name the folder or hub name of a cross-encoder",
        ) from error
    if model.num_labels != 1:
        raise InputError(
            f"{option} {name} gives {model.num_labels} scores for a pair",
            "name a cross-encoder with one output",
        )
    return model


def _estimate_tokens(pair: Pair) -> int:
    query, text = pair
    return SPECIAL_TOKENS + (len(query) + len(text)) // CHARACTERS_PER_TOKEN
