"""What the tests of simfilter and hnmine share: files of chosen vectors, a tiny cross-encoder, rows read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash


def write_vectors(path: Path, vectors: dict[str, Iterable[float]]) -> str:
    """A `vectors` file that gives each text (prompt and all) this vector."""
    rows = [
        {
            "text_hash": xxhash.xxh3_128_hexdigest(text.encode()),
            "vector": [float(x) for x in vector],
        }
        for text, vector in vectors.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def random_units(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def read(path: Any) -> list[dict[str, Any]]:
    """The rows of JSON lines, without their nulls: the first line names the columns that have none but nulls."""
    rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def cosine(left: Iterable[float], right: Iterable[float]) -> float:
    a, b = np.asarray(left, float), np.asarray(right, float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def build_cross_encoder(folder: Path, tokenizer: str) -> str:
    """A random BERT with one output over the words of the tiny model."""
    import torch
    import transformers

    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    settings = dict(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = transformers.BertForSequenceClassification(
            transformers.BertConfig(vocab_size=len(words), **settings)
        )
        torch.nn.init.normal_(network.bert.embeddings.word_embeddings.weight, std=1.0)
        torch.nn.init.normal_(network.classifier.weight, std=1.0)
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)
