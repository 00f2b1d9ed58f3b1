"""A cross-encoder as a function from (query, text) pairs to scores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fletching.encode import model as models
from fletching.encode.encoder import default_cache_dir
from fletching.encode.vector_cache import VectorCache
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.report import Progress
from fletching.text import text_hash

WINDOW = 8192  # pairs sorted together, across queries


class Reranker:
    """Raw scores (logits) of a sentence-transformers CrossEncoder with one output.

    Each distinct pair is scored once, in batches of pairs of like length, whichever query they belong to. Use it as a
    context manager: scores are kept like the vectors of an Encoder, so a run that was killed goes on where it was.
    """

    def __init__(self, name: str, options: EncodingOptions) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        from sentence_transformers import CrossEncoder

        self.device = models.resolve_devices(options.device)[0]
        try:
            self.model = CrossEncoder(
                name,
                device="cpu",
                trust_remote_code=options.trust_remote_code,
                model_kwargs={"use_safetensors": True, "dtype": "auto"},
            ).eval()
        except (
            Exception
        ) as error:  # the hub, transformers and sentence-transformers each raise their own
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"--reranker {name} cannot be loaded: {reason}",
                "name the folder or hub name of a cross-encoder",
            ) from error
        if self.model.num_labels != 1:
            raise InputError(
                f"--reranker {name} gives {self.model.num_labels} scores for a pair",
                "name a cross-encoder with one output",
            )
        self.fingerprint = models.fingerprint(self.model)
        self.dtype = models.resolve_dtype(options.dtype, self.device)
        self.model.to(self.device, self.dtype)
        self.budget = options.batch_tokens or (4096 if self.device == "cpu" else 65_536)
        self.temporary = default_cache_dir(options) if options.cache is None else None
        key = f"reranker-{self.fingerprint[:16]}-{self.settings['dtype']}"
        self.cache = VectorCache(
            options.cache or self.temporary, key, self.settings | {"normalised": False}
        )

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        if failure is None and self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            self.cache.flush()

    @property
    def settings(self) -> dict[str, str]:
        """What decides the scores, for the lineage."""
        return {"fingerprint": self.fingerprint, "dtype": str(self.dtype).removeprefix("torch.")}

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray:
        """The score of each pair (queries[i], texts[i]), float32 [n]."""
        places: dict[tuple[str, str], int] = {}
        where = [places.setdefault(pair, len(places)) for pair in zip(queries, texts)]
        pairs = list(places)
        scores = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), WINDOW):
            window = range(start, min(start + WINDOW, len(pairs)))
            hashes = {
                row: text_hash(f"{len(pairs[row][0])}:{pairs[row][0]}{pairs[row][1]}")
                for row in window
            }
            known = {
                row: kept[0] for row in window if (kept := self.cache.get(hashes[row])) is not None
            }
            scores[list(known)] = list(known.values())
            # Batches are planned over all pairs: with those of a killed run left out, the others stay as they were.
            for planned in self._plan(pairs, window):
                batch = [row for row in planned if row not in known]
                if batch:
                    scores[batch] = self._forward([pairs[row] for row in batch])
                    self.cache.put([hashes[row] for row in batch], scores[batch][:, None])
                if progress:
                    progress.advance(len(planned))
        return scores[where]

    def _plan(self, pairs: list[tuple[str, str]], rows: range) -> list[list[int]]:
        """Rows by falling length, cut where the padded batch would pass the token budget (4 characters a token)."""
        length = {row: 8 + (len(pairs[row][0]) + len(pairs[row][1])) // 4 for row in rows}
        batches: list[list[int]] = []
        for row in sorted(rows, key=lambda row: (-length[row], row)):
            if not batches or (len(batches[-1]) + 1) * length[batches[-1][0]] > self.budget:
                batches.append([])
            batches[-1].append(row)
        return batches

    @torch.inference_mode()
    def _forward(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        features = self.model.preprocess([list(pair) for pair in pairs])
        features = {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        scores = self.model(features)["scores"].float().reshape(len(pairs))
        if not torch.isfinite(scores).all():
            bad = int(torch.nonzero(~torch.isfinite(scores))[0])
            raise InputError(
                f"the reranker gives no finite score for {pairs[bad][0][:60]!r}",
                "try --dtype float32",
            )
        return scores.cpu().numpy()
