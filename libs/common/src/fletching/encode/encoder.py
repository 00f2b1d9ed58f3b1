"""The encoder: a model as a function from texts to unit vectors.

Texts are taken in windows of fixed size in input order; a window is sorted by token length and
cut into batches of a token budget. The batches depend on the input alone, so a run that was
killed and resumed through the cache computes the same batches, hence the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fletching.encode import int8_layers, int8_linear, packed_linear
from fletching.encode import model as models
from fletching.encode.batching import WINDOW, batches_by_length, deduplicate
from fletching.encode.forward_pass import ForwardPass, Vectors
from fletching.encode.int8_cost import Float32Reference
from fletching.encode.int8_layers import LayerChoice
from fletching.encode.preprocessing import NO_ECHO, Preprocessor, TokenizedTexts
from fletching.encode.role_prompts import RolePrompts
from fletching.encode.vector_cache import CacheFolder, Vector, VectorCache
from fletching.errors import UsageError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching.text import text_hash

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHARE_ROWS = 512  # new vectors that are worth a shard when a call ends
CPU_BATCH_TOKENS = 2048
GPU_BATCH_TOKENS = 65_536

RowNumbers = npt.NDArray[np.int64]


class Encoder:
    """A model as a function from texts to unit vectors.

    Use it as a context manager: a cache beside the output is removed when the block succeeds.
    half_cache: the cache keeps float16; what it gives back is rounded, what is encoded now is
    not. model: loaded already, in place of the one that the options name; it is moved to the
    device and converted, so it is the encoder's from then on. Raises InputError where the model
    cannot be loaded or a prompt of the data contradicts the model's.
    """

    def __init__(
        self,
        options: EncodingOptions,
        report: Report,
        *,
        half_cache: bool = False,
        model: SentenceTransformer | None = None,
    ) -> None:
        if options.model is None:
            raise UsageError("--model is missing", "pass --model M: a folder or a hub name")
        self.options = options
        self.report = report
        self.half_cache = half_cache
        if model is None:
            model = models.load(options.model, trust_remote_code=options.trust_remote_code)
        self.model = model
        self.fingerprint = models.fingerprint(self.model)
        self.dimension = models.dimension(self.model, options.model)
        self.devices = models.resolve_devices(options.device)
        self.dtype = models.resolve_dtype(options.dtype, self.devices[0])
        if self.dtype == torch.int8:
            int8_linear.check(self.devices)
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
        self.preprocessor = Preprocessor(self.model, self.lengths, self.echoes)
        self._check_echo()
        default_budget = CPU_BATCH_TOKENS if self.devices[0] == "cpu" else GPU_BATCH_TOKENS
        batch_tokens = options.batch_tokens or default_budget
        self.reference: Float32Reference | None = None  # where there is int8 to compare with it
        self.int8_choice: LayerChoice | None = None
        if self.dtype == torch.int8:
            self.reference = Float32Reference(
                self.preprocessor, self.role_prompts, batch_tokens=batch_tokens
            )
            self.int8_choice = int8_layers.choose(self.reference)
            report.note(f"--dtype int8: {self.int8_choice.describe()}")
        self.forward_pass = ForwardPass(
            self.model,
            self.preprocessor,
            self.devices,
            dtype=torch.float32 if self.int8_choice else self.dtype,
            batch_tokens=batch_tokens,
            convert=self._convert if set(self.devices) == {"cpu"} else None,
        )
        self.cache_folder = CacheFolder(options)
        self.caches: dict[tuple[int, str | None], VectorCache] = {}

    def _check_echo(self) -> None:
        if self.echoes != NO_ECHO and not self.preprocessor.takes_token_ids:
            raise UsageError(
                f"{self.options.model} prepares its own input, which cannot be repeated",
                "leave --query-echo and --doc-echo out",
            )

    def _convert(self, transformer: nn.Module) -> None:
        """Replace the layers of a replica on a CPU by faster ones."""
        if self.int8_choice:
            int8_linear.quantise_layers(transformer, self.int8_choice.layers)
        if packed_linear.is_available():
            packed_linear.pack_layers(transformer)

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
            zero_vectors = self.forward_pass.zero_vectors
            if zero_vectors:
                self.report.note(
                    f"{zero_vectors:,} texts hold no token that the model knows: their vectors "
                    "are zero"
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
        choice = self.int8_choice
        return choice.number_type if choice else models.dtype_name(self.dtype)

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
        if self.reference is not None:
            self.reference.note_cosines(window, role, int8=self.forward_pass, report=self.report)
        # Batches are planned over all texts of the window: without the cached ones they would
        # differ from those of a run that was not killed.
        lengths = [len(token_row["input_ids"]) for token_row in window.inputs]
        planned = batches_by_length(lengths, self.forward_pass.batch_tokens)
        remaining = [[row for row in batch if row not in cached] for batch in planned]
        batches = [batch for batch in remaining if batch]
        for rows, vectors in self.forward_pass.batches(batches, window):
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
