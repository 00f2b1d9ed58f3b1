"""A server of --teacher that fails is told with the options of teachers; tests/common has its tricks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_server import TRICKS, HostileServer, whole

from fletching.encode import embedding_client
from fletching_distill import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads a model


def test_a_redirect_is_not_followed_and_the_teacher_is_named(
    invoke: Any, model: str, tmp_path: Path, write: Any, corpus: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(embedding_client, "RETRIES", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seen: list[Any] = []

    def answer(body: Any) -> Iterator[bytes]:
        seen.append(body)
        items = [{"index": i, "embedding": [1.0, 2.0, 3.0]} for i in range(len(body["input"]))]
        content = json.dumps({"data": items, "model": "t"}).encode()
        good = whole(content, extra=b"connection: close\r\n")
        return iter([good]) if len(seen) < 3 else TRICKS["redirect"]()

    source = write(tmp_path / "texts.jsonl", corpus)
    fixed = ("--model", model, "-o", tmp_path / "student", "--batch", 5, "--steps", 1)
    with HostileServer(answer) as server:
        done = invoke(cli.main, source, *fixed, "--teacher", "t", "--base-url", server.url)
    assert done.rc == 1
    assert "the server of --teacher t" in done.err
    assert "http://169.254.169.254/meta" in done.err
    assert len(seen) == 3
    assert not (tmp_path / "student").exists()
