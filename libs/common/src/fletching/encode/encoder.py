"""The encoder: a model as a function from texts to unit vectors.

Texts are taken in windows of fixed size in input order; a window is sorted by token length and
cut into batches of a token budget. The batches depend on the input alone, so a run that was
killed and resumed through the cache computes the same batches, hence the same bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fletching.encode import echo, padding_free, prompt_tokens
from fletching.encode import model as models
from fletching.encode.batching import WINDOW, batches_by_length, deduplicate
from fletching.encode.preprocessing import Preprocessor, TokenizedTexts
from fletching.encode.role_prompts import RolePrompts
from fletching.encode.vector_cache import CacheFolder, Vector, VectorCache
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching.text import text_hash

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHARE_ROWS = 512  # new vectors that are worth a shard when a call ends
CPU_BATCH_TOKENS = 2048
GPU_BATCH_TOKENS = 65_536

Vectors = npt.NDArray[np.float32]
RowNumbers = npt.NDArray[np.int64]
NO_ECHO: dict[Role, str | None] = {"query": None, "document": None}


class Encoder:
    """A model as a function from texts to unit vectors.

    Use it as a context manager: a cache beside the output is removed when the block succeeds.
    half_cache: the cache keeps float16; what it gives back is rounded, what is encoded now is
    not. Raises InputError where the model cannot be loaded or a prompt of the data contradicts
    the model's.
    """

    def __init__(
        self, options: EncodingOptions, report: Report, *, half_cache: bool = False
    ) -> None:
        if options.model is None:
            raise UsageError("--model is missing", "pass --model M: a folder or a hub name")
        self.options = options
        self.report = report
        self.half_cache = half_cache
        self.model = models.load(options.model, trust_remote_code=options.trust_remote_code)
        self.fingerprint = models.fingerprint(self.model)
        self.dimension = models.dimension(self.model, options.model)
        self.devices = models.resolve_devices(options.device)
        self.dtype = models.resolve_dtype(options.dtype, self.devices[0])
        self.echoes: dict[Role, str | None] = {
            "query": options.query_echo,
            "document": options.doc_echo,
        }
        self.prompts: dict[Role, str] = {
            "query": models.role_prompt(self.model, "query", options.query_prompt),
            "document": models.role_prompt(self.model, "document", options.doc_prompt),
        }
        self.role_prompts = RolePrompts(options, report, self.prompts)
        self.lengths: dict[Role, int] = {
            "query": models.role_length(self.model, "query", options.query_length),
            "document": models.role_length(self.model, "document", options.doc_length),
        }
        self.zero_vectors = 0  # of texts without a known token
        self.preprocessor = Preprocessor(self.model, self.lengths, self.echoes)
        self._check_echo()
        # Before the model is copied: every replica takes padding-free batches, or none does.
        self.first_position = self._prepare_padding_free()
        self.replicas = self._replicate()
        default_budget = CPU_BATCH_TOKENS if self.devices[0] == "cpu" else GPU_BATCH_TOKENS
        self.batch_tokens = options.batch_tokens or default_budget
        self.cache_folder = CacheFolder(options)
        self.caches: dict[tuple[int, str | None], VectorCache] = {}

    def _check_echo(self) -> None:
        if self.echoes != NO_ECHO and not self.preprocessor.takes_token_ids:
            raise UsageError(
                f"{self.options.model} prepares its own input, which cannot be repeated",
                "leave --query-echo and --doc-echo out",
            )

    def _prepare_padding_free(self) -> int | None:
        """The first position of padding-free batches; None where batches are padded."""
        on_cpu = set(self.devices) == {"cpu"}
        takes_token_ids = self.preprocessor.takes_token_ids and self.preprocessor.pools_prompts
        if not (takes_token_ids and on_cpu and self.echoes == NO_ECHO):
            return None
        return padding_free.prepare(self.model, "cpu")

    def _replicate(self) -> list[SentenceTransformer]:
        """The model on each device; the first one is the model itself."""
        copies = [copy.deepcopy(self.model) for _ in self.devices[1:]]
        replicas = [self.model, *copies]
        for replica, device in zip(replicas, self.devices):
            replica.to(device, self.dtype)
        return replicas

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if failure is None:
            self._report_truncation()
            if self.zero_vectors:
                self.report.note(
                    f"{self.zero_vectors:,} texts hold no token that the model knows: their "
                    "vectors are zero"
                )
        self.cache_folder.close(succeeded=failure is None)

    def _report_truncation(self) -> None:
        for role, count in self.preprocessor.counts.items():
            if count.truncated:
                share = count.truncated / count.texts
                self.report.note(
                    f"{count.truncated:,} {role} texts ({share:.1%}) "
                    f"cut after {self.lengths[role]} tokens"
                )

    @property
    def settings(self) -> Lineage:
        """What decides the vectors, for the lineage: no path, the same on every machine."""
        settings: Lineage = {
            "fingerprint": self.fingerprint,
            "prompts": self.prompts,
            "lengths": self.lengths,
            "dtype": self._dtype_name,
        }
        if self.echoes != NO_ECHO:
            settings["echoes"] = self.echoes
        if self.options.prompt_template is not None:
            settings["prompt_template"] = self.options.prompt_template
        return settings

    @property
    def _dtype_name(self) -> str:
        return models.dtype_name(self.dtype)

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """Unit vectors of the texts, float32 (n, dimension).

        prompts: one a text (the `prompt` column); None stands for the role's own prompt.
        """
        prompted = self.role_prompts.pairs(texts, role, prompts)
        distinct, number_of_text = deduplicate(prompted)
        vectors = np.empty((len(distinct), self.dimension), np.float32)
        for start in range(0, len(distinct), WINDOW):
            window = distinct[start : start + WINDOW]
            for rows, values in self._encode_window(window, role):
                vectors[start + rows] = values
                if progress:
                    progress.advance(len(rows))
        # The next stage of a pipe may be waiting to reuse these, so they do not wait for the
        # clock.
        if self._cache(role).pending >= SHARE_ROWS:
            self._cache(role).flush()
        return vectors if len(distinct) == len(texts) else vectors[number_of_text]

    def flush(self) -> None:
        """Write the vectors that a kill would lose to the cache."""
        for cache in self.caches.values():
            cache.flush()

    def prompted(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None = None
    ) -> list[str]:
        """The texts after their prompts, as `encode` takes them: what a `text_hash` is of."""
        return [prompt + text for prompt, text in self.role_prompts.pairs(texts, role, prompts)]

    def _encode_window(
        self, texts: list[tuple[str, str]], role: Role
    ) -> Iterator[tuple[RowNumbers, Vectors]]:
        """(rows of the window, their vectors): first the cached ones, then batch by batch."""
        cache = self._cache(role)
        hashes = [self._hash(prompt, text, role) for prompt, text in texts]
        cached: dict[int, Vector] = {}
        for row, name in enumerate(hashes):
            vector = cache.get(name)
            if vector is not None:
                cached[row] = vector
        if cached:
            yield np.fromiter(cached, np.int64), np.stack(list(cached.values()))
        if len(cached) == len(texts):
            return
        window = TokenizedTexts(texts, self.preprocessor.tokenize(texts, role))
        # Batches are planned over all texts of the window: without the cached ones they would
        # differ from those of a run that was not killed.
        lengths = [len(token_row["input_ids"]) for token_row in window.inputs]
        planned = batches_by_length(lengths, self.batch_tokens)
        remaining = [[row for row in batch if row not in cached] for batch in planned]
        batches = [batch for batch in remaining if batch]
        for rows, vectors in self._forward_all(batches, window):
            cache.put([hashes[row] for row in rows], vectors)
            yield np.array(rows), vectors

    def _hash(self, prompt: str, text: str, role: Role) -> str:
        """The cache key of a text: of all that the model reads."""
        separator = self.echoes[role]
        repeated = "" if separator is None else separator + text
        # Where prompts are not pooled, it matters where they end.
        start = "" if self.preprocessor.pools_prompts else f"{len(prompt)}:"
        return text_hash(start + prompt + text + repeated)

    def _cache(self, role: Role) -> VectorCache:
        length = self.lengths[role]
        separator = self.echoes[role]
        if (length, separator) not in self.caches:
            self.caches[length, separator] = self._open_cache(length, separator)
        return self.caches[length, separator]

    def _open_cache(self, length: int, separator: str | None) -> VectorCache:
        key = f"{self.fingerprint[:16]}-{length}-{self._dtype_name}"
        settings: Lineage = {
            "fingerprint": self.fingerprint,
            "length": length,
            "dtype": self._dtype_name,
            "normalised": True,
        }
        if self.half_cache:
            key += "-half"
        if not self.preprocessor.pools_prompts:
            key += "-text-only"
            settings["pools_prompts"] = False
        if separator is not None:
            key += f"-echo-{text_hash(separator)[:16]}"
            settings["echo"] = separator
        return self.cache_folder.open(key, settings, half=self.half_cache)

    def _forward_all(
        self, batches: list[list[int]], window: TokenizedTexts
    ) -> Iterator[tuple[list[int], Vectors]]:
        """(rows, vectors) of each batch, in order; as many at a time as there are devices."""
        devices = len(self.devices)
        if devices == 1:
            for batch in batches:
                yield batch, self._forward(0, batch, window)
            return

        def forward(device: int, batch: list[int]) -> Vectors:
            return self._forward(device, batch, window)

        with ThreadPoolExecutor(devices) as pool:  # kernels run without the interpreter lock
            for start in range(0, len(batches), devices):
                group = batches[start : start + devices]
                yield from zip(group, pool.map(forward, range(len(group)), group))

    @torch.inference_mode()
    def _forward(self, device: int, rows: list[int], window: TokenizedTexts) -> Vectors:
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
            first = self._forward(device, rows[:half], window)
            second = self._forward(device, rows[half:], window)
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
                f"--model {self.options.model} gives no sentence embeddings ({error!r})",
                "name a model whose files are whole: copy or fetch it again",
            ) from None
        return embeddings[: len(rows)].float()  # without the filler of padding-free batches
