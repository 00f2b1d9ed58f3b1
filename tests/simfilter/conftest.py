"""Filtering with vectors that a test chooses, and a tiny cross-encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pairwise import build_cross_encoder, read, write_vectors

from simfilter import cli


@pytest.fixture
def sift(invoke: Callable, write: Callable, tmp_path: Path) -> Callable[..., Any]:
    """sift(rows, vectors, "--min-sim", 0.2): the rows kept, the rows rejected, the JSON summary."""

    def sift(
        rows: list[dict], vectors: dict[str, Any] | None, *options: Any, name: str = "out"
    ) -> tuple[list[dict], list[dict], dict]:
        arguments = (
            ["--vectors", write_vectors(tmp_path / f"{name}.vectors.jsonl", vectors)]
            if vectors is not None
            else []
        )
        out, rejects, summary = (
            tmp_path / f"{name}.{part}" for part in ("kept.jsonl", "rejects.jsonl", "summary.json")
        )
        line = [
            write(tmp_path / f"{name}.in.jsonl", rows),
            *arguments,
            *options,
            "--rejects",
            rejects,
            "--json-summary",
            summary,
            "-o",
            out,
        ]
        ran = invoke(cli.main, *line)
        assert ran.rc == 0, ran.err
        return read(out), read(rejects), json.loads(summary.read_text()) | {"err": ran.err}

    return sift


@pytest.fixture(scope="session")
def cross_encoder(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), model)
