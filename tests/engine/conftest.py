"""Texts with vectors made beforehand: shards of texts2vectors then cost a start of Python each."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from engine_runs import LINE, start

from fletching.text import text_hash

TEXTS = 9000  # three units of texts2vectors


@pytest.fixture(scope="session")
def shared_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    draw = random.Random(0)
    texts = [f"text {draw.randrange(TEXTS)}" for _ in range(TEXTS)]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    vectors = [
        {"text_hash": text_hash(text), "vector": [draw.gauss(0, 1) for _ in range(4)]}
        for text in dict.fromkeys(texts)
    ]
    for name, lines in (("corpus", rows), ("v", vectors)):
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(content)
    start([*LINE, "-q", "-o", "whole.parquet"], folder).wait()
    return folder


@pytest.fixture
def inputs(shared_inputs: Path, tmp_path: Path) -> Path:
    """A folder with corpus.jsonl, v.jsonl, and whole.parquet, which one run made of them."""
    for path in filter(Path.is_file, shared_inputs.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
