"""A model behind an embedding server, in place of one that runs in this process.

Requests are planned by number and estimated tokens of the texts, in their order, so that they do
not depend on how many are in flight; answers are taken in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import numpy.typing as npt

from fletching.encode.batching import WINDOW, deduplicate
from fletching.encode.embedding_client import LEAST_COSINE, PROBE, EmbeddingClient, Vectors
from fletching.encode.role_prompts import RolePrompts
from fletching.encode.vector_cache import CacheFolder, Vector
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching.text import text_hash

REQUEST_TOKENS = 16_384  # of one request, estimated
CHARACTERS_PER_TOKEN = 4
PROBED_TEXTS = 8192  # after so many, the server is probed again
RowNumbers = npt.NDArray[np.int64]


class ServerEncoder:
    """A `TextEncoder` by --base-url. Use it as a context manager, as an Encoder.

    half_cache: the cache keeps float16. Raises InputError where the server fails, or the vectors
    in the cache are of another model.
    """

    def __init__(
        self, options: EncodingOptions, report: Report, *, half_cache: bool = False
    ) -> None:
        self.options = options
        self.prompts: dict[Role, str] = {
            "query": options.query_prompt or "",
            "document": options.doc_prompt or "",
        }
        self.role_prompts = RolePrompts(options, report, self.prompts)
        self.devices = options.device.split(",") if options.device else ["cpu"]
        self.name = options.model or ""
        self.client = EmbeddingClient(
            self.name,
            base_url=options.base_url or "",
            api_key_env=options.api_key_env,
            connections=options.concurrency,
        )
        self.dimension = self.client.dimension
        if options.batch_texts > 1:
            self.client.check_batches()
        self.unprobed = 0  # texts since the last probe
        self.cache_folder = CacheFolder(options)
        half = "-half" if half_cache else ""
        self.cache = self.cache_folder.open(
            f"{text_hash(self.name)[:16]}-{self.dimension}-server{half}",
            {"served_model": self.name, "dimension": self.dimension, "normalised": True},
            half=half_cache,
        )
        self._check_cached_probe()

    def _check_cached_probe(self) -> None:
        """The cache, which goes by the model's name, must hold vectors of the model served now."""
        try:
            cached = self.cache.get(text_hash(PROBE))
            if cached is not None:
                self._check_probe(cached, "the vectors in the cache are of another model than")
            self.has_cached_probe = cached is not None
        except InputError:
            self.cache_folder.close(succeeded=False)
            raise

    def _check_probe(self, vector: Vector, what: str) -> None:
        cosine = float(vector.astype(np.float32) @ self.client.probe)
        if cosine < LEAST_COSINE:
            raise InputError(
                f"{what} --model {self.name} of the server now: "
                f"one text's vectors have a cosine of {cosine:.3f}",
                f"serve the model of before, or remove {self.cache_folder.path or 'the output'}",
            )

    def __enter__(self) -> ServerEncoder:
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
        """What decides the vectors, for the lineage; not where the server is."""
        settings: Lineage = {
            "served_model": self.name,
            "dimension": self.dimension,
            "prompts": self.prompts,
        }
        if self.options.prompt_template is not None:
            settings["prompt_template"] = self.options.prompt_template
        return settings

    def prompted(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None = None
    ) -> list[str]:
        """The texts after their prompts, as they are sent."""
        return [prompt + text for prompt, text in self.role_prompts.pairs(texts, role, prompts)]

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Vectors:
        """Unit vectors of the texts, float32 (n, dimension), as Encoder.encode gives them."""
        distinct, number_of_text = deduplicate(self.prompted(texts, role, prompts))
        vectors = np.empty((len(distinct), self.dimension), np.float32)
        for start in range(0, len(distinct), WINDOW):
            window = distinct[start : start + WINDOW]
            for rows, values in self._encode_window(window):
                vectors[start + rows] = values
                if progress:
                    progress.advance(len(rows))
        if self.unprobed >= PROBED_TEXTS:
            self.unprobed = 0
            [probe] = self.client.embed([PROBE])
            self._check_probe(probe, "during this run, the server changed its model:")
        return vectors[number_of_text]

    def flush(self) -> None:
        """Write the vectors that a kill would lose to the cache."""
        self.cache.flush()

    def _keep(self, hashes: list[str], vectors: Vectors) -> None:
        """Put the vectors of one request into the cache, the probe before the first ones."""
        if not self.has_cached_probe:
            self.cache.put([text_hash(PROBE)], self.client.probe[None])
            self.has_cached_probe = True
        self.unprobed += len(hashes)
        self.cache.put(hashes, vectors)

    def _encode_window(self, texts: list[str]) -> Iterator[tuple[RowNumbers, Vector]]:
        """(rows of the window, their vectors): first the cached ones, then request by request."""
        hashes = [text_hash(text) for text in texts]
        cached: dict[int, Vector] = {}
        for row, name in enumerate(hashes):
            vector = self.cache.get(name)
            if vector is not None:
                cached[row] = vector
        if cached:
            yield np.fromiter(cached, np.int64), np.stack(list(cached.values()))
        # Planned over all texts of the window, as a run that was not killed plans them.
        planned = self._plan(texts)
        remaining = [[row for row in batch if row not in cached] for batch in planned]
        batches = [batch for batch in remaining if batch]
        failure: InputError | None = None
        # Not as a context manager: an interrupt does not wait for what is in flight.
        pool = ThreadPoolExecutor(self.options.concurrency)
        answers: list[Future[Vectors]] = [
            pool.submit(self.client.embed, [texts[row] for row in batch]) for batch in batches
        ]
        try:
            for rows, answer in zip(batches, answers):
                try:
                    vectors = answer.result()
                except CancelledError:
                    continue
                except InputError as error:  # what is paid for in later answers is kept
                    failure = failure or error
                    pool.shutdown(wait=False, cancel_futures=True)
                    continue
                self._keep([hashes[row] for row in rows], vectors)
                if failure is None:
                    yield np.array(rows), vectors
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def _plan(self, texts: list[str]) -> list[list[int]]:
        """Row numbers by request, in order, within --batch-texts and --batch-tokens.

        A text of more tokens is a request by itself.
        """
        budget = self.options.batch_tokens or REQUEST_TOKENS
        batches: list[list[int]] = []
        tokens = 0
        for row, text in enumerate(texts):
            size = 1 + len(text) // CHARACTERS_PER_TOKEN
            is_full = not batches or len(batches[-1]) == self.options.batch_texts
            if is_full or tokens + size > budget:
                batches.append([])
                tokens = 0
            batches[-1].append(row)
            tokens += size
        return batches
