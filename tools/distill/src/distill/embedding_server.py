"""A teacher behind an OpenAI-compatible embedding server. Needs the extra `fletching-distill[endpoint]`."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import xxhash

from distill.teachers import Found
from distill.text_dataset import Texts
from fletching.encode.vector_cache import VectorCache
from fletching.errors import InputError
from fletching.report import Report
from fletching.text import text_hash

TEXTS = 64  # of one request
KEYLIKE = re.compile(
    r"\bsk-[\w*.-]{6,}"
)  # in error texts, where a server may show a part of the key
RETRIES = 6  # of the client, with growing pauses, on 408, 409, 429, 5xx and lost connections


class Server:
    """One model of one server. The key comes from the environment and is kept nowhere; answers are kept as float16 shards."""

    def __init__(
        self,
        name: str,
        base_url: str,
        key_name: str | None,
        prompts: dict[str, str],
        cache: str | None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise InputError(
                "teachers behind --base-url need the openai package",
                "pip install 'fletching-distill[endpoint]'",
            ) from None
        if key_name and not os.environ.get(key_name):
            raise InputError(
                f"the environment variable {key_name} is not set", f"export {key_name}=..."
            )
        self.name, self.prompts, self.failures = name, prompts, openai.OpenAIError
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get(key_name or "OPENAI_API_KEY") or "none",
            max_retries=RETRIES,
        )
        self.address = xxhash.xxh3_128_hexdigest(f"{base_url.rstrip('/')} {name}".encode())
        self.cache = VectorCache(
            cache, f"{self.address[:16]}-server", {"model": name, "normalised": False}, half=True
        )
        self.dimension = len(self.ask(["dimension"])[0])

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "server": self.address,
            "model": self.name,
            "prompts": self.prompts,
            "dimension": self.dimension,
        }

    def vectors(self, texts: Texts, report: Report) -> Found:
        with report.progress("asking", len(texts), "texts") as progress:
            start = 0
            for part in texts.parts():
                prompted = [text.prompted(self.prompts) for text in part]
                hashes = [text_hash(text) for text in prompted]
                known = [self.cache.get(name) for name in hashes]
                new = [place for place, vector in enumerate(known) if vector is None]
                progress.advance(len(part) - len(new))
                for first in range(0, len(new), TEXTS):
                    places = new[first : first + TEXTS]
                    found = self.ask([prompted[place] for place in places]).astype(np.float16)
                    self.cache.put([hashes[place] for place in places], found)
                    for place, vector in zip(places, found):
                        known[place] = vector
                    progress.advance(len(places))
                yield start + np.arange(len(part)), np.stack(known)  # type: ignore[arg-type]
                start += len(part)
        self.cache.flush()

    def ask(self, texts: list[str]) -> np.ndarray:
        """float32 (texts, D). Raises InputError where the server fails, or answers with another number or dimension."""
        try:
            reply = self.client.embeddings.create(
                model=self.name, input=texts, encoding_format="float"
            )
            found = {item.index: item.embedding for item in reply.data}
            vectors = np.array([found[place] for place in range(len(texts))], np.float32)
        except self.failures as error:
            self.cache.flush()
            told = KEYLIKE.sub("[key]", str(error).replace(self.client.api_key, "[key]"))[:200]
            raise InputError(
                f"the server of --teacher {self.name} failed: {told}",
                "run again: what it gave is kept",
            ) from None
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"the server of --teacher {self.name} did not give one vector a text",
                "ask another server",
            ) from None
        dimension = getattr(self, "dimension", vectors.shape[-1])
        if (
            vectors.ndim != 2
            or vectors.shape[1] != dimension
            or not np.isfinite(vectors).all()
            or not vectors.any(1).all()
        ):
            raise InputError(
                f"the server of --teacher {self.name} gave vectors of shape {vectors.shape}, expected {dimension} finite numbers each",
                "ask another server",
            )
        return vectors
