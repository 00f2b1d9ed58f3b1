"""Mining with vectors that a test chooses, and a tiny cross-encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pairwise import build_cross_encoder, read, write_vectors

from hnmine import cli


@pytest.fixture
def run_hnmine(invoke: Callable, write: Callable, tmp_path: Path) -> Callable[..., Any]:
    """run_hnmine(rows, vectors, "--negatives", 2): the rows written and the JSON summary."""

    def run_hnmine(
        rows: list[dict],
        vectors: dict[str, Any] | None,
        *options: Any,
        corpus: list[dict] | None = None,
        name: str = "out",
    ) -> tuple[list[dict], dict]:
        arguments = (
            ["--vectors", write_vectors(tmp_path / f"{name}.vectors.jsonl", vectors)]
            if vectors is not None
            else []
        )
        texts = ["--corpus", write(tmp_path / f"{name}.corpus.jsonl", corpus)] if corpus else []
        out, summary = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.summary.json"
        line = [
            write(tmp_path / f"{name}.in.jsonl", rows),
            *arguments,
            *texts,
            *options,
            "--json-summary",
            summary,
            "-o",
            out,
        ]
        ran = invoke(cli.main, *line)
        assert ran.rc == 0, ran.err
        return read(out), json.loads(summary.read_text()) | {"err": ran.err}

    return run_hnmine


@pytest.fixture(scope="session")
def cross_encoder(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), model)
