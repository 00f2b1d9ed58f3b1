"""A client of one model behind an OpenAI-compatible `/v1/embeddings`: vLLM, TEI, llama.cpp, Ollama.

Needs the extra `fletching[server]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fletching.errors import InputError
from fletching.server_address import server_address

Vectors = npt.NDArray[np.float32]

RETRIES = 6  # of a request, with growing pauses, on 408, 409, 429, 5xx and lost connections
SECONDS = 180.0  # of a whole exchange
MOST_BYTES = 64 << 20  # of a response
TOO_MUCH = (400, 413, 422)  # statuses of a request with too many texts, or one that is too long
KEPT = "run again: the vectors that it sent are kept"
PROBE = "A probe."  # its vector tells the dimension, and whether the server changes its model
NEIGHBOURS = tuple("word " * count for count in (1, 2, 4, 8, 16, 32, 3, 5))
LEAST_COSINE = 0.99  # of one text's vectors by one model; batches and number types change less


class EmbeddingClient:
    """Texts to vectors of unit length, checked. `embed` may be called by several threads.

    probe: the vector (D,) of PROBE. Raises InputError where the client is not installed or the
    server fails, UsageError where the address is none or the key is not set. The key is stored
    nowhere.
    """

    def __init__(
        self, name: str, *, base_url: str, api_key_env: str | None, connections: int
    ) -> None:
        self.name = name
        self.server = server_address(base_url, key_variable=api_key_env)
        try:
            import openai

            from fletching.http_client import ResponseTooLargeError, http_client
        except ImportError:
            raise InputError(
                "--base-url needs the openai package", "pip install 'fletching[server]'"
            ) from None
        self.failures = (openai.OpenAIError, ResponseTooLargeError)
        client = http_client(
            base_url, seconds=SECONDS, most_bytes=MOST_BYTES, connections=connections
        )
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=self.server.key or "none",
            max_retries=RETRIES,
            timeout=SECONDS,
            http_client=client,
        )
        self.answering_model: object = None  # as the server calls it
        self.dimension = 0
        first = self._request([PROBE])
        self.answering_model = first.get("model")
        vectors = self._vectors(first, 1)
        self.dimension = vectors.shape[-1]
        [self.probe] = self._units(vectors)

    def check_batches(self) -> None:
        """Raise InputError where the probe gets another vector beside other texts.

        Seen: llama.cpp with several slots pools a text's tokens with those of its neighbours.
        """
        texts = [text for neighbour in NEIGHBOURS for text in (PROBE, neighbour)]
        cosine = float((self.embed(texts)[::2] @ self.probe).min())
        if cosine < LEAST_COSINE:
            raise InputError(
                f"the server of --model {self.name} gives a text another vector beside other "
                f"texts: their cosine is {cosine:.3f}",
                "serve it without parallel slots (llama.cpp: --parallel 1), or pass --batch-texts 1"
                " --concurrency 1",
            )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (texts, dimension), in the order of the texts.

        A request that is too large for the server is halved. Raises InputError where the server
        fails, answers with another number, dimension or model, or with a vector of no direction.
        """
        try:
            answer = self._request(texts)
        except _TooMuchError as refusal:
            if len(texts) > 1:
                half = len(texts) // 2
                return np.concatenate([self.embed(texts[:half]), self.embed(texts[half:])])
            raise InputError(
                f"the server of --model {self.name} refuses the text {texts[0][:60]!r}: {refusal}",
                "shorten it, leave it out, or let the server cut texts (TEI: --auto-truncate)",
            ) from None
        model = answer.get("model")
        if model != self.answering_model:
            raise InputError(
                f"the server of --model {self.name} answers with the model {str(model)[:60]!r}, "
                f"before it was {str(self.answering_model)[:60]!r}",
                f"serve one model under this name, then {KEPT}",
            )
        return self._units(self._vectors(answer, len(texts)))

    def _request(self, texts: Sequence[str]) -> dict[str, Any]:
        from fletching.http_client import parse_json

        try:
            response = self.client.embeddings.with_raw_response.create(
                model=self.name, input=list(texts), encoding_format="float"
            )
        except self.failures as error:
            if getattr(error, "status_code", None) in TOO_MUCH:
                raise _TooMuchError(self._describe(error)) from None
            raise InputError(
                f"the server of --model {self.name} failed: {self._describe(error)}", KEPT
            ) from None
        try:
            return dict(parse_json(response.content))
        except (ValueError, TypeError):
            raise self._no_vectors() from None

    def _vectors(self, answer: dict[str, Any], texts: int) -> Vectors:
        """The vectors of an answer in the order of the texts, whatever the server's."""
        try:
            items = answer["data"]
            by_index = {item["index"]: item["embedding"] for item in items}
            if len(items) != texts:
                raise self._no_vectors()
            return np.array([by_index[number] for number in range(texts)], np.float32)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            raise self._no_vectors() from None

    def _no_vectors(self) -> InputError:
        return InputError(
            f"the server of --model {self.name} did not send one vector a text",
            "use another server; the vectors that it sent before are kept",
        )

    def _units(self, vectors: Vectors) -> Vectors:
        """The vectors at length 1. Raises InputError for what has another shape or no direction."""
        width = self.dimension
        has_shape = vectors.ndim == 2 and vectors.shape[1] == width > 0
        if not (has_shape and np.isfinite(vectors).all() and vectors.any(1).all()):
            raise InputError(
                f"the server of --model {self.name} sent vectors of shape {vectors.shape}, "
                f"expected {width or 'some'} finite numbers each, not all of them zero",
                "use another server; the vectors that it sent before are kept",
            )
        # In float64: the squares of large and of small numbers are beyond float32.
        exact = vectors.astype(np.float64)
        units: Vectors = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        return units.astype(np.float32)

    def _describe(self, error: Exception) -> str:
        """A failure in the server's words, in one line and without the key."""
        response = getattr(error, "response", None)
        if response is not None and 300 <= response.status_code < 400:
            target = response.headers.get("location")
            return self.server.describe_redirect(response.status_code, target)
        cause = error.__cause__
        message = f"{error} ({cause})" if cause else str(error)
        return " ".join(self.server.redact_error(message[:10_000]).split())[:300]


class _TooMuchError(Exception):
    """A request that the server refuses for its content, in the server's words."""
