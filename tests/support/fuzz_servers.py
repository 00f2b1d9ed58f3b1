"""Answers of servers: those of a model that writes, and those of one that embeds, mutated on their way."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_mutations
from conftest import SUBJECTS
from fuzz_reader import FuzzedReader
from fuzz_rows import ROWS_OUT, lines_out, rows_read, write_lines
from hostile_server import JSON_HEAD, HostileServer, whole
from llm_server import Server, author

from fletching import cli
from fletching.options import StandardOptions
from fletching.options.fields import option
from fletching.report import Report

ROWS = 3
TEXTS = [text for _, text in SUBJECTS.values()][:4]


@contextlib.contextmanager
def mutated(answer: Any, draw: random.Random, case: Any) -> Iterator[list[str]]:
    """A server whose answers, most of them, are mutated; the undamaged run's are not."""

    def reply(body: Any) -> Iterator[bytes]:
        data = whole(json.dumps(answer(body)).encode())
        if case.seed == "undamaged":  # said, or a next request may meet the closing connection
            yield data.replace(JSON_HEAD, JSON_HEAD + b"connection: close\r\n")
            return
        if draw.random() < 0.1:
            data = whole(json.dumps(answer(body)).replace("the", server.keys[-1]).encode())
        if draw.random() < 0.7:
            names, data = fuzz_mutations.mutate(data, "http", "", draw)
            case.mutations.extend(names)
        yield data

    with HostileServer(reply) as server:
        yield ["--base-url", server.url]


def _completion(body: Any) -> Any:
    if body["messages"][0]["content"].startswith("Say hello"):
        return Server.completion(SCRIPT, body, {"zorvel": "hello"})
    return Server.completion(SCRIPT, body, author(body))


class _Script:
    usage = True


SCRIPT: Any = _Script()


def _examples(folder: Path) -> None:
    rows = [{"id": n, "query": q, "pos": [p]} for n, (q, p) in SUBJECTS.items()]
    write_lines(folder / "in.jsonl", rows[:ROWS])


def _rows_are_ours(folder: Path, got: Any) -> str:
    """Each row of the output is one of the input, with texts beside it; no row twice."""
    with open(folder / "in.jsonl", encoding="utf-8") as lines:
        given = {row["id"]: row for row in map(json.loads, lines)}
    if len({row["id"] for row in got}) != len(got):
        return "a row stands twice"
    for row in got:
        source = given.get(row["id"])
        if source is None or any(row[name] != source[name] for name in source):
            return f"a row that was not given: {row}"
        if not all(isinstance(text, str) and text.strip() for text in row.get("neg") or []):
            return f"an empty text: {row}"
    return ""


@dataclass(frozen=True, kw_only=True)
class ServerOptions(StandardOptions):
    """A server."""

    base_url: str | None = option(None, "its address", metavar="URL")


def _embed(options: ServerOptions, report: Report) -> None:
    from fletching.encode import embedding_client

    embedding_client.RETRIES, embedding_client.SECONDS = 0, 1.0
    client = embedding_client.EmbeddingClient(
        "t", base_url=options.base_url or "", api_key_env="OPENAI_API_KEY", connections=1
    )
    Path(ROWS_OUT).write_text(json.dumps([client.embed(TEXTS).tolist(), client.dimension]))


EMBED = cli.Tool(name="embed", options=ServerOptions, run=_embed, doc="Embed.", usage="")


def _embeddings(body: Any) -> Any:
    vectors = [
        {"object": "embedding", "index": number, "embedding": [1.0, len(text), 2.0, number]}
        for number, text in enumerate(body["input"])
    ]
    return {"object": "list", "data": vectors, "model": "t", "usage": {"prompt_tokens": 1}}


def _embeddings_hold(folder: Path, got: Any) -> str:
    vectors, dimension = got
    if len(vectors) != len(TEXTS) or any(len(vector) != dimension for vector in vectors):
        return f"vectors of another shape: {got}"
    odd = [x for vector in vectors for x in vector if x != x or abs(x) == float("inf")]
    return f"{odd[0]} in a vector" if odd or dimension < 1 else ""


SYNTHGEN = (
    "synthgen in.jsonl --job negatives --model m --journal journal --timeout 1 --retries 1 "
    "--longest-wait 1 --concurrency 1 --max-requests 12 --no-language-check -o out.jsonl"
)

SERVER_READERS = [
    FuzzedReader(
        name="answers to synthgen", line=SYNTHGEN, fill=_examples, files={}, output=lines_out,
        outputs=("out.jsonl",), holds=_rows_are_ours, around=lambda draw, case: mutated(_completion, draw, case),
        weight=30, is_quick=False,
    ),
    FuzzedReader(
        name="answers to encoders", line="embed", program=lambda argv: cli.main(EMBED, argv),
        fill=lambda folder: None, files={}, output=rows_read, outputs=(ROWS_OUT,), holds=_embeddings_hold,
        around=lambda draw, case: mutated(_embeddings, draw, case), weight=25, is_quick=False,
    ),
]  # fmt: skip
