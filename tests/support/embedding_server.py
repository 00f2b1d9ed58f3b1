"""A server of embeddings whose vectors tell their texts, for tests of tools with --base-url."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from hostile_server import ERROR_HEAD, HostileServer, whole

DIMENSION = 16


def vector(text: str) -> list[float]:
    """A vector near those of texts that share words with this one."""
    total = np.zeros(DIMENSION)
    for word in text.lower().strip(".?,").split():
        total += np.random.default_rng([ord(letter) for letter in word]).normal(size=DIMENSION)
    return [round(float(number), 5) for number in total]


class EmbeddingServer(HostileServer):
    """dies_after: requests that are answered; None for all. Answers come in reverse order."""

    def __init__(self, dies_after: int | None = None) -> None:
        super().__init__(self.reply)
        self.left = dies_after

    def reply(self, body: Any) -> Iterator[bytes]:
        if self.left == 0:
            return iter([whole(b"{}", ERROR_HEAD)])
        self.left = None if self.left is None else self.left - 1
        items = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
        content = {"object": "list", "data": items[::-1], "model": body["model"]}
        return iter([whole(json.dumps(content).encode(), extra=b"connection: close\r\n")])

    def texts(self) -> list[str]:
        """What was asked for, in order."""
        return [text for body in self.requests for text in body["input"]]
