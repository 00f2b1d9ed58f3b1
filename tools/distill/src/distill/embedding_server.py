"""A teacher behind an OpenAI-compatible embedding server.

Needs the extra `fletching-distill[endpoint]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from distill.teacher import Prompts, VectorBatches
from distill.text_dataset import TextDataset
from fletching.encode.vector_cache import open_cache
from fletching.errors import InputError
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.server_address import server_address
from fletching.text import text_hash

REQUEST_TEXTS = 64  # of one request
RETRIES = 6  # of the client, with growing pauses, on 408, 409, 429, 5xx and lost connections
SECONDS = 180.0  # of a whole exchange
MOST_BYTES = 64 << 20  # of a response
FLOAT16_MOST = 65504.0  # vectors are kept as float16


class ServerTeacher:
    """One model of one server.

    The key comes from the environment and is stored nowhere; vectors are kept as float16 shards.
    Raises InputError where the client is not installed or the server fails, UsageError where the
    address is none or the key is not set.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key_env: str | None,
        prompts: Prompts,
        cache: str | None,
    ) -> None:
        self.name, self.prompts = name, prompts
        self.server = server_address(base_url, key_variable=api_key_env)
        try:
            import openai

            from fletching.http_client import ResponseTooLargeError, http_client
        except ImportError:
            raise InputError(
                "teachers behind --base-url need the openai package",
                "pip install 'fletching-distill[endpoint]'",
            ) from None
        self.failures = (openai.OpenAIError, ResponseTooLargeError)
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=self.server.key or "none",
            max_retries=RETRIES,
            timeout=SECONDS,
            http_client=http_client(base_url, seconds=SECONDS, most_bytes=MOST_BYTES),
        )
        self.address = xxhash.xxh3_128_hexdigest(f"{base_url.rstrip('/')} {name}".encode())
        settings = {"model": name, "normalised": False}
        self.cache = open_cache(cache, f"{self.address[:16]}-server", settings, half=True)
        vectors = self._request(["dimension"])
        self.dimension: int = vectors.shape[-1]
        self._check(vectors)

    @property
    def identity(self) -> Lineage:
        """Server, model and prompts; the address is hashed."""
        return {
            "server": self.address,
            "model": self.name,
            "prompts": dict(self.prompts),
            "dimension": self.dimension,
        }

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """Request the vectors of all texts, those in the cache excepted."""
        with report.progress("requesting", len(texts), "texts") as progress:
            start = 0
            for part in texts.parts():
                prompted = [text.prompted(self.prompts) for text in part]
                hashes = [text_hash(text) for text in prompted]
                vectors = {
                    i: vector
                    for i, name in enumerate(hashes)
                    if (vector := self.cache.get(name)) is not None
                }
                progress.advance(len(vectors))
                missing = [i for i in range(len(part)) if i not in vectors]
                for first in range(0, len(missing), REQUEST_TEXTS):
                    positions = missing[first : first + REQUEST_TEXTS]
                    received = self.embed([prompted[i] for i in positions]).astype(np.float16)
                    self.cache.put([hashes[i] for i in positions], received)
                    vectors |= dict(zip(positions, received))
                    progress.advance(len(positions))
                yield start + np.arange(len(part)), np.stack([vectors[i] for i in range(len(part))])
                start += len(part)
        self.cache.flush()

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (texts, dimension) of one request.

        Raises InputError where the server fails, or answers with another number or dimension.
        """
        vectors = self._request(texts)
        self._check(vectors)
        return vectors

    def _request(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        from fletching.http_client import parse_json

        try:
            response = self.client.embeddings.with_raw_response.create(
                model=self.name, input=list(texts), encoding_format="float"
            )
        except self.failures as error:
            self.cache.flush()
            raise InputError(
                f"the server of --teacher {self.name} failed: {self._describe(error)}",
                "run again: the vectors that it sent are kept",
            ) from None
        try:
            items = parse_json(response.content)["data"]
            by_index = {item["index"]: item["embedding"] for item in items}
            if len(items) != len(texts):
                raise ValueError("another number of vectors")
            return np.array([by_index[i] for i in range(len(texts))], np.float32)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            self.cache.flush()
            raise InputError(
                f"the server of --teacher {self.name} did not send one vector a text",
                "use another server; the vectors that it sent before are kept",
            ) from None

    def _describe(self, error: Exception) -> str:
        """A failure in the server's words, in one line and without the key."""
        response = getattr(error, "response", None)
        if response is not None and 300 <= response.status_code < 400:
            target = response.headers.get("location")
            return self.server.describe_redirect(response.status_code, target)
        cause = error.__cause__
        message = f"{error} ({cause})" if cause else str(error)
        return " ".join(self.server.redact_error(message[:10_000]).split())[:300]

    def _check(self, vectors: npt.NDArray[np.float32]) -> None:
        has_shape = vectors.ndim == 2 and vectors.shape[1] == self.dimension
        if not (has_shape and np.isfinite(vectors).all() and vectors.any(1).all()):
            self.cache.flush()
            raise InputError(
                f"the server of --teacher {self.name} sent vectors of shape {vectors.shape}, "
                f"expected {self.dimension} finite numbers each",
                "use another server",
            )
        if np.abs(vectors).max() > FLOAT16_MOST or not vectors.astype(np.float16).any(1).all():
            self.cache.flush()
            raise InputError(
                f"the server of --teacher {self.name} sent a vector beyond the range of float16, "
                f"in which they are kept: its largest number is {np.abs(vectors).max():g}",
                "use a server that normalises its vectors",
            )
