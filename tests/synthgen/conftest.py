"""A scripted server for each test, and synthgen called on it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server

from fletching_synthgen import cli

TASKS = [
    {
        "id": "t1",
        "text": "Given a question about birds, find a passage that answers it.",
        "type": "short-long",
    },
    {"id": "t2", "text": "Tell from a letter who wrote it.", "type": "long-short"},
    {"id": "t3", "text": "Given a proverb, find another one.", "type": "short-short"},
    {"id": "t4", "text": "Given a report, find another report on it.", "type": "long-long"},
    {"id": "t5", "text": "Retrieve texts that say nearly the same.", "type": "sts"},
    {
        "id": "t6",
        "text": "Retrieve the translation.",
        "type": "bitext",
        "language": "en",
        "target_language": "sw",
    },
]
TEXTS = [
    {"id": f"d{i}", "text": text}
    for i, text in enumerate(
        [
            "The owl hunts at night, when mice leave their holes.",
            "Yeast fills bread with gas, so the dough rises.",
        ]
    )
]
EXAMPLES = [
    {"id": "e1", "query": "when does the owl hunt", "pos": ["The owl hunts at night."], "price": 3},
    {
        "id": "e2",
        "query": "why does bread rise",
        "pos": ["Yeast fills bread with gas.", "Gas lifts the dough."],
        "neg": ["Bread is baked in an oven."],
        "price": 4,
    },
]


@pytest.fixture(autouse=True)
def away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No journal in the user's cache, no key of the user's, no proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tasks() -> list[dict[str, Any]]:
    return [task | {"source": "mine"} for task in TASKS]


@pytest.fixture
def texts() -> list[dict[str, Any]]:
    return [text | {"domain": "zoo"} for text in TEXTS]


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    return [dict(row) for row in EXAMPLES]


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """serve(write=..., fault=...): a server that runs until the test ends."""
    running: list[Server] = []

    def serve(**how: Any) -> Server:
        running.append(Server(**how).__enter__())
        return running[-1]

    yield serve
    for server in running:
        server.__exit__()


@pytest.fixture
def generate(invoke: Any, write: Any, tmp_path: Path) -> Callable[..., Any]:
    """generate(server, rows, "--per-row", 2): what it left behind, with `rows` (of OUT), `rejects` and `summary`."""

    def generate(
        server: Server | str, rows: list[dict[str, Any]] | None, *words: Any, name: str = "out"
    ) -> Any:
        url = server if isinstance(server, str) else server.url
        inputs = [write(tmp_path / "in.jsonl", rows)] if rows is not None else []
        out, rejects, summary = (
            tmp_path / f"{name}{end}.json" for end in ("", "-rejects", "-summary")
        )
        out, rejects = out.with_suffix(".jsonl"), rejects.with_suffix(".jsonl")
        done = invoke(
            cli.main,
            *inputs,
            "--model",
            "m",
            "--base-url",
            url,
            "-o",
            out,
            "--rejects",
            rejects,
            "--json-summary",
            summary,
            *words,
        )
        object.__setattr__(done, "rows", read(out))
        object.__setattr__(done, "rejects", read(rejects))
        object.__setattr__(
            done, "summary", json.loads(summary.read_text()) if summary.exists() else {}
        )
        return done

    return generate


def read(path: Path) -> list[dict[str, Any]]:
    return (
        [_without_nulls(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        if path.exists()
        else []
    )


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """JSON lines name a column with a null where no row before had a value."""
    return {name: value for name, value in row.items() if value is not None}
