"""The batch plan and the forward passes.

Texts are taken in windows of fixed size in input order; a window is sorted by token length and cut into
batches of a token budget. The plan depends on the input alone, so a run that was killed and resumed
through the cache computes the same batches, hence the same bytes.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch

from fletching.encode import echo, padding_free
from fletching.encode import model as models
from fletching.encode.vector_cache import VectorCache
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Progress, Report
from fletching.text import text_hash

Role = Literal["query", "document"]
WINDOW = 4096  # distinct texts sorted together
SHARE_ROWS = 512  # as many new vectors are written when a call ends
PAD_TO = 8  # row lengths are padded to a multiple of this


def default_cache_dir(options: Any) -> str | None:
    """Where vectors are kept when --cache is not given: beside the output, until it is complete."""
    path = getattr(options, "output", None)
    return f"{path}.cache" if path and path != "-" else None


class Encoder:
    """A model as a function from texts to unit vectors.

    Use it as a context manager: a cache that was made beside the output goes when the block succeeds.
    half_cache: the cache keeps float16; what it gives back is rounded, what is encoded now is not.
    Raises InputError where the model cannot be loaded or a prompt of the data contradicts the model's.
    """

    def __init__(
        self, options: EncodingOptions, report: Report, *, half_cache: bool = False
    ) -> None:
        self.options, self.report, self.half_cache = options, report, half_cache
        if options.model is None:
            raise UsageError("--model is missing", "pass --model M: a folder or a hub name")
        self.model = models.load(options.model, trust_remote_code=options.trust_remote_code)
        self.fingerprint = models.fingerprint(self.model)
        self.dimension: int = self.model.get_embedding_dimension() or 0
        self.devices = models.resolve_devices(options.device)
        self.dtype = models.resolve_dtype(options.dtype, self.devices[0])
        self.echoes = {"query": options.query_echo, "document": options.doc_echo}
        self.echoed = self.echoes != {"query": None, "document": None}
        # Before the model is copied: every replica must take packed batches, or none.
        packs = self._takes_ids and set(self.devices) == {"cpu"} and not self.echoed
        self.first_position = padding_free.prepare(self.model, "cpu") if packs else None
        self.replicas = [
            copy.deepcopy(self.model) if i else self.model for i in range(len(self.devices))
        ]
        self.replicas = [
            replica.to(device, self.dtype) for replica, device in zip(self.replicas, self.devices)
        ]
        self.budget = options.batch_tokens or (2048 if self.devices[0] == "cpu" else 65_536)
        self.prompts = {
            role: models.role_prompt(self.model, role, given)
            for role, given in (("query", options.query_prompt), ("document", options.doc_prompt))
        }
        self.lengths = {
            role: models.role_length(self.model, role, given)
            for role, given in (("query", options.query_length), ("document", options.doc_length))
        }
        self.temporary = default_cache_dir(options) if options.cache is None else None
        self.caches: dict[tuple[int, str | None], VectorCache] = {}
        if self.echoed and not self._takes_ids:
            raise UsageError(
                f"{options.model} prepares its own input, which cannot be said twice",
                "leave --query-echo and --doc-echo out",
            )
        self.seen: dict[str, int] = {"query": 0, "document": 0}
        self.cut: dict[str, int] = {"query": 0, "document": 0}

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        if (
            failure is not None or not self.temporary
        ):  # else the folder goes, or went with that of a reranker
            for cache in self.caches.values():
                cache.flush()
        if failure is None:
            for role, rows in self.cut.items():
                if rows:
                    share = rows / self.seen[role]
                    self.report.note(
                        f"{rows:,} {role} texts ({share:.1%}) cut after {self.lengths[role]} tokens"
                    )
            if self.temporary:
                shutil.rmtree(self.temporary, ignore_errors=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the vectors, for the lineage: no path, the same on every machine."""
        dtype = str(self.dtype).removeprefix("torch.")
        found = {
            "fingerprint": self.fingerprint,
            "prompts": self.prompts,
            "lengths": self.lengths,
            "dtype": dtype,
        }
        return found | ({"echoes": self.echoes} if self.echoed else {})

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Unit vectors of the texts, float32 [len(texts), dimension].

        prompts: one a text (the `prompt` column); None stands for the role's own prompt.
        """
        prompted = [
            self._prompted(text, role, prompt)
            for text, prompt in zip(texts, prompts or [None] * len(texts))
        ]
        places: dict[tuple[str, str], int] = {}
        where = [places.setdefault(pair, len(places)) for pair in prompted]
        distinct = list(places)
        vectors = np.empty((len(distinct), self.dimension), np.float32)
        for start in range(0, len(distinct), WINDOW):
            window = distinct[start : start + WINDOW]
            for rows, values in self._window(window, role):
                vectors[start + rows] = values
                if progress:
                    progress.advance(len(rows))
        # The next stage of a pipe may be waiting to reuse these, so they do not wait for the clock.
        if len(self._cache(role).fresh) >= SHARE_ROWS:
            self._cache(role).flush()
        return vectors if len(distinct) == len(where) else vectors[where]

    def _prompted(self, text: str, role: Role, prompt: str | None) -> tuple[str, str]:
        own = self.prompts[role]
        if prompt is not None and own and prompt != own:
            source = "--query-prompt" if self.options.query_prompt is not None else "the model"
            raise InputError(
                f"the data asks for the {role} prompt {prompt[:40]!r}, {source} for {own[:40]!r}",
                "drop the column `prompt`, or pass the data's prompt as --query-prompt",
            )
        return (own if prompt is None else prompt), text

    def _window(
        self, window: list[tuple[str, str]], role: Role
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows of the window, their vectors), first the cached ones, then batch by batch."""
        cache = self._cache(role)
        between = self.echoes[role]
        hashes = [
            text_hash(prompt + text + ("" if between is None else between + text))
            for prompt, text in window
        ]
        known = {
            row: vector
            for row, name in enumerate(hashes)
            if (vector := cache.get(name)) is not None
        }
        if known:
            yield np.fromiter(known, int), np.stack(list(known.values()))
        if len(known) == len(window):
            return
        inputs = self._tokenize(window, role)
        batches = [[row for row in batch if row not in known] for batch in self._plan(inputs)]
        for rows, vectors in self._forward_all(
            [batch for batch in batches if batch], window, inputs
        ):
            cache.put([hashes[row] for row in rows], vectors)
            yield np.array(rows), vectors

    def _cache(self, role: Role) -> VectorCache:
        length, between = self.lengths[role], self.echoes[role]
        if (length, between) not in self.caches:
            dtype = str(self.dtype).removeprefix("torch.")
            key = f"{self.fingerprint[:16]}-{length}-{dtype}" + ("-half" if self.half_cache else "")
            settings = {
                "fingerprint": self.fingerprint,
                "length": length,
                "dtype": dtype,
                "normalised": True,
            }
            if between is not None:
                key, settings = (
                    f"{key}-echo-{text_hash(between)[:16]}",
                    settings | {"echo": between},
                )
            self.caches[length, between] = VectorCache(
                self.options.cache or self.temporary, key, settings, half=self.half_cache
            )
        return self.caches[length, between]

    def _tokenize(self, window: list[tuple[str, str]], role: Role) -> list[dict[str, list[int]]]:
        """Token ids of each text, cut to the role's length; empty for models without a tokenizer of ids."""
        if not self._takes_ids:
            return [{"input_ids": [0] * (1 + len(text) // 4)} for _, text in window]
        if (between := self.echoes[role]) is not None:
            rows, cut = echo.rows(self.model[0].tokenizer, window, between, self.lengths[role])
            self.seen[role] += len(window)
            self.cut[role] += cut
            return rows
        encoded = self.model[0].tokenizer(
            [prompt + text for prompt, text in window],
            truncation="longest_first",
            max_length=self.lengths[role],
        )
        self.seen[role] += len(window)
        if encoded.is_fast:
            self.cut[role] += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        return [dict(zip(encoded, values)) for values in zip(*encoded.values())]

    @property
    def _takes_ids(self) -> bool:
        """A plain transformer over token ids whose pooling counts the prompt. Any other chain of modules
        (static embeddings, routers, chat templates, prompts left out of pooling) prepares its own input."""
        first = self.model[0]
        is_plain = (
            type(first).__name__ == "Transformer"
            and set(first.modality_config) == {"text"}
            and hasattr(first.tokenizer, "pad")
        )
        return is_plain and all(getattr(module, "include_prompt", True) for module in self.model)

    def _plan(self, inputs: list[dict[str, list[int]]]) -> list[list[int]]:
        """Rows by falling length, cut where the padded batch would pass the token budget."""
        lengths = [len(row["input_ids"]) for row in inputs]
        batches: list[list[int]] = []
        for row in sorted(range(len(inputs)), key=lambda row: (-lengths[row], row)):
            if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > self.budget:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _forward_all(
        self, batches: list[list[int]], window: list, inputs: list
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        if len(self.devices) == 1:
            yield from ((batch, self._forward(0, batch, window, inputs)) for batch in batches)
            return
        with ThreadPoolExecutor(
            len(self.devices)
        ) as pool:  # kernels run without the interpreter lock
            for start in range(0, len(batches), len(self.devices)):
                group = batches[start : start + len(self.devices)]
                yield from zip(
                    group,
                    pool.map(
                        lambda device, batch: self._forward(device, batch, window, inputs),
                        range(len(group)),
                        group,
                    ),
                )

    @torch.inference_mode()
    def _forward(self, device: int, rows: list[int], window: list, inputs: list) -> np.ndarray:
        """Unit vectors of one batch [len(rows), D]; out of memory halves the batch and goes on."""
        replica = self.replicas[device]
        try:
            features = self._features(
                replica, [window[row] for row in rows], [inputs[row] for row in rows]
            )
            features = {
                name: value.to(self.devices[device]) if isinstance(value, torch.Tensor) else value
                for name, value in features.items()
            }
            made = (
                echo.embed(replica, features)
                if "pooled" in features
                else replica(features)["sentence_embedding"]
            )
            vectors = made[: len(rows)].float()  # (rows, D), without the filler of packed batches
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise InputError(
                    "out of memory with a single text",
                    "cut it with --doc-length, or use a larger device",
                ) from None
            torch.cuda.empty_cache()
            self.budget = max(self.budget // 2, 1)
            half = len(rows) // 2
            parts = [
                self._forward(device, part, window, inputs) for part in (rows[:half], rows[half:])
            ]
            return np.concatenate(parts)
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        if not torch.isfinite(vectors).all():
            bad = int(torch.nonzero(~torch.isfinite(vectors).all(1))[0])
            raise InputError(
                f"the model gives no finite vector for {window[rows[bad]][1][:60]!r}",
                "try --dtype float32",
            )
        return vectors.cpu().numpy()

    def _features(
        self, replica: Any, texts: list[tuple[str, str]], inputs: list[dict[str, list[int]]]
    ) -> dict[str, Any]:
        if self.first_position is not None:
            return padding_free.features(inputs, self.first_position)
        if "second" in inputs[0]:
            return echo.features(self.model[0].tokenizer, inputs, PAD_TO)
        if self._takes_ids:
            padded = self.model[0].tokenizer.pad(
                inputs, padding=True, pad_to_multiple_of=PAD_TO, return_tensors="pt"
            )
            return {**padded, "modality": "text"}
        prompt = texts[0][0]
        if any(other != prompt for other, _ in texts):
            return replica.preprocess([own + text for own, text in texts])
        return replica.preprocess([text for _, text in texts], prompt=prompt or None)
