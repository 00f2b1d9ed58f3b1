"""A teacher behind an OpenAI-compatible embedding server.

Needs the extra `fletching-distill[endpoint]`.
"""

from __future__ import annotations

import os
import re
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
from fletching.text import text_hash

REQUEST_TEXTS = 64  # of one request
KEY_PATTERN = re.compile(r"\bsk-[\w*.-]{6,}")  # part of a key, which a server may quote in an error
RETRIES = 6  # of the client, with growing pauses, on 408, 409, 429, 5xx and lost connections


class ServerTeacher:
    """One model of one server.

    The key comes from the environment and is stored nowhere; vectors are kept as float16 shards.
    Raises InputError where the client is not installed, the key is not set, or the server fails.
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
        try:
            import openai
        except ImportError:
            raise InputError(
                "teachers behind --base-url need the openai package",
                "pip install 'fletching-distill[endpoint]'",
            ) from None
        if api_key_env and not os.environ.get(api_key_env):
            raise InputError(
                f"the environment variable {api_key_env} is not set", f"export {api_key_env}=..."
            )
        self.name, self.prompts = name, prompts
        self.client_error = openai.OpenAIError
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get(api_key_env or "OPENAI_API_KEY") or "none",
            max_retries=RETRIES,
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
        try:
            response = self.client.embeddings.create(
                model=self.name, input=list(texts), encoding_format="float"
            )
            by_index = {item.index: item.embedding for item in response.data}
            return np.array([by_index[i] for i in range(len(texts))], np.float32)
        except self.client_error as error:
            self.cache.flush()
            message = str(error).replace(self.client.api_key, "[key]")
            message = KEY_PATTERN.sub("[key]", message)[:200]
            raise InputError(
                f"the server of --teacher {self.name} failed: {message}",
                "run again: the vectors that it sent are kept",
            ) from None
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"the server of --teacher {self.name} did not send one vector a text",
                "use another server",
            ) from None

    def _check(self, vectors: npt.NDArray[np.float32]) -> None:
        has_shape = vectors.ndim == 2 and vectors.shape[1] == self.dimension
        if not (has_shape and np.isfinite(vectors).all() and vectors.any(1).all()):
            raise InputError(
                f"the server of --teacher {self.name} sent vectors of shape {vectors.shape}, "
                f"expected {self.dimension} finite numbers each",
                "use another server",
            )
