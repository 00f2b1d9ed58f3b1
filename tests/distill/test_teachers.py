"""Where teacher vectors come from, and that they are never misaligned."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.text import text_hash
from fletching_distill import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = ("--batch", "5", "--steps", "2", "--dtype", "float32")
DIM = 6


def vector(text: str) -> list[float]:
    """A vector that the text alone decides."""
    return (
        np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))
        .normal(size=DIM)
        .astype(np.float32)
        .tolist()
    )


def put(
    path: Path, texts: list[str], prompt: str = "", ids: list[str] | None = None, half: bool = False
) -> Path:
    columns: dict[str, Any] = {"text_hash": [text_hash(prompt + text) for text in texts]}
    columns |= {"id": ids} if ids else {}
    vectors = np.array([vector(text) for text in texts], np.float16 if half else np.float32)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def texts(corpus: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in corpus]


@pytest.fixture
def learn(invoke: Any, model: str, tmp_path: Path, write: Any, corpus: list[dict[str, Any]]) -> Any:
    def learn(
        *argv: Any,
        rows: list[dict[str, Any]] = corpus,
        out: str = "student",
        name: str = "texts.jsonl",
    ) -> Any:
        return invoke(
            cli.main,
            write(tmp_path / name, rows),
            "--model",
            model,
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )

    return learn


def weights(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.safetensors")))


def test_vectors_are_joined_by_hash_whatever_their_order(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    straight = put(tmp_path / "a.parquet", texts)
    reversed_rows = put(tmp_path / "b.parquet", texts[::-1])
    assert learn("--vectors", straight, out="a").rc == 0
    assert learn("--vectors", reversed_rows, out="b").rc == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    other = put(tmp_path / "c.parquet", texts, half=True)
    assert learn("--vectors", other, out="c").rc == 0


def test_shards_of_a_folder_are_one_teacher_and_files_are_several(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    (tmp_path / "shards").mkdir()
    put(tmp_path / "shards" / "1.parquet", texts[:5])
    put(tmp_path / "shards" / "2.parquet", texts[5:])
    whole = put(tmp_path / "whole.parquet", texts)
    assert (
        learn("--vectors", tmp_path / "shards", out="a").rc
        == learn("--vectors", whole, out="b").rc
        == 0
    )
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    done = learn("--vectors", f"{whole},{whole}", "--teacher-weights", "1,0", out="two")
    assert f"teacher vectors of {2 * DIM} dimensions" in done.err


def test_missing_and_extra_rows_are_refused_with_counts(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    done = learn("--vectors", put(tmp_path / "few.parquet", [*texts[:-3], "other"]))
    assert done.rc == 1
    assert "no vector for 3 of 12 texts" in done.err and "1 for no text of the input" in done.err
    more = put(tmp_path / "more.parquet", [*texts, "one", "two"])
    done = learn("--vectors", more)
    assert done.rc == 1
    assert "2 vectors for no text of the input" in done.err
    assert learn("--vectors", more, "--allow-extra").rc == 0


def test_another_prompt_is_refused_with_counts(
    learn: Any, tmp_path: Path, texts: list[str], corpus: list[dict[str, Any]]
) -> None:
    ids = [row["id"] for row in corpus]
    prompted = put(tmp_path / "v.parquet", texts, "passage: ", ids)
    done = learn("--vectors", prompted)
    assert done.rc == 1
    assert (
        "no vector for 12 of 12 texts" in done.err
        and "12 of them are there by id, with another text or prompt" in done.err
    )
    assert "--teacher-doc-prompt" in done.err
    assert learn("--vectors", prompted, "--teacher-doc-prompt", "passage: ").rc == 0


def test_a_vector_of_zeros_is_refused(learn: Any, tmp_path: Path, texts: list[str]) -> None:
    values = np.array([vector(text) for text in texts], np.float32)
    values[3] = 0
    np.save(tmp_path / "v.npy", values)
    assert (
        "row 4: the vector is zero or not finite (1 such rows)"
        in learn("--vectors", tmp_path / "v.npy").err
    )
    columns = {"text_hash": [text_hash(text) for text in texts]}
    table = pa.table(
        columns | {"vector": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM)}
    )
    pq.write_table(table, tmp_path / "v.parquet")
    assert "a vector of zeros" in learn("--vectors", tmp_path / "v.parquet").err


def test_plain_arrays_go_by_row_and_give_what_vectors_files_give(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    values = np.array([vector(text) for text in texts], np.float32)
    np.save(tmp_path / "v.npy", values)
    values.tofile(tmp_path / "v.f32")
    assert learn("--vectors", tmp_path / "v.npy", out="a").rc == 0
    assert learn("--vectors", tmp_path / "v.f32", "--teacher-dim", DIM, out="b").rc == 0
    assert learn("--vectors", put(tmp_path / "v.parquet", texts), out="c").rc == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == weights(tmp_path / "c")


def test_rows_that_are_dropped_keep_the_others_aligned(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    """A blank and a repeated text are in the text file and in the array; no later row moves."""
    gapped = [texts[0], " ", texts[1], texts[0], *texts[2:]]
    np.save(tmp_path / "gapped.npy", np.array([vector(text) for text in gapped], np.float32))
    rows = [{"id": f"r{i}", "text": text} for i, text in enumerate(gapped)]
    kept = [{"id": row["id"], "text": row["text"]} for i, row in enumerate(rows) if i not in (1, 3)]
    assert learn("--vectors", tmp_path / "gapped.npy", rows=rows, out="a").rc == 0
    assert learn("--vectors", put(tmp_path / "v.parquet", texts), rows=kept, out="b").rc == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_an_array_of_other_rows_or_another_dimension_is_refused(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    values = np.array([vector(text) for text in texts], np.float32)
    np.save(tmp_path / "short.npy", values[:-1])
    assert (
        "11 rows of 6, but the input has 12 texts" in learn("--vectors", tmp_path / "short.npy").err
    )
    values.tofile(tmp_path / "v.f32")
    assert (
        "24 rows of 3, but the input has 12 texts"
        in learn("--vectors", tmp_path / "v.f32", "--teacher-dim", "3").err
    )
    assert (
        "no whole number of rows of 7"
        in learn("--vectors", tmp_path / "v.f32", "--teacher-dim", "7").err
    )
    np.save(tmp_path / "v.npy", values)
    assert (
        "6 dimensions, --teacher-dim says 5"
        in learn("--vectors", tmp_path / "v.npy", "--teacher-dim", "5").err
    )
    examples = [{"query": text, "pos": [text]} for text in texts]
    assert (
        "goes by row"
        in learn("--vectors", tmp_path / "v.npy", rows=examples, name="examples.jsonl").err
    )


def test_queries_with_their_prompt_are_read_as_texts(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    """RAG-Retrieval's format for distillation: JSON lines of `query` and `prompt_for_query`, and headerless rows."""
    np.array([vector(text) for text in texts], np.float32).tofile(tmp_path / "v.f32")
    rows = [{"query": text, "prompt_for_query": "find: "} for text in texts]
    done = learn(
        "--vectors", tmp_path / "v.f32", "--teacher-dim", DIM, rows=rows, name="distill.jsonl"
    )
    assert done.rc == 0, done.err
    assert "reading column `query` as `text`" in done.err
    again = learn(
        "--vectors",
        put(tmp_path / "v.parquet", texts, "find: "),
        rows=rows,
        name="distill.jsonl",
        out="b",
    )
    assert again.rc == 0, again.err


def test_limit_reads_as_many_rows_as_the_array_must_have(
    learn: Any, tmp_path: Path, texts: list[str]
) -> None:
    np.save(tmp_path / "v.npy", np.array([vector(text) for text in texts[:8]], np.float32))
    assert "8 in" in learn("--vectors", tmp_path / "v.npy", "--limit", "8").err


def test_encoded_vectors_are_kept_as_float16_and_used_again(
    invoke: Any, tmp_path: Path, model: str, write: Any, corpus: Any
) -> None:
    path = write(tmp_path / "texts.jsonl", corpus)
    argv = [path, "--teacher", model, "--cache", tmp_path / "cache", *FAST]
    assert invoke(cli.main, *argv, "-o", tmp_path / "a").rc == 0
    shards = sorted((tmp_path / "cache").rglob("*.arrow"))
    assert [pa.ipc.open_file(str(shard)).schema.field("vector").type for shard in shards] == [
        pa.list_(pa.float16(), 32)
    ]
    before = [shard.stat().st_mtime_ns for shard in shards]
    assert invoke(cli.main, *argv, "-o", tmp_path / "b").rc == 0
    assert [
        shard.stat().st_mtime_ns for shard in sorted((tmp_path / "cache").rglob("*.arrow"))
    ] == before
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    by_hash = invoke(
        cli.main,
        path,
        "--vectors",
        tmp_path / "cache" / shards[0].parent.name,
        "--model",
        model,
        *FAST,
        "-o",
        tmp_path / "c",
    )
    assert by_hash.rc == 0, by_hash.err
    assert weights(tmp_path / "a") == weights(tmp_path / "c")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--teacher", "/none"), "--teacher /none is no folder"),
        (("--teacher-length", "999"), "--teacher-length 999 is above"),
    ],
)
def test_what_is_wrong_with_a_teacher_names_its_option(
    learn: Any, model: str, argv: tuple[str, ...], message: str
) -> None:
    done = learn(*(("--teacher", model) if "--teacher" not in argv else ()), *argv)
    assert done.rc in (1, 2)
    assert message in done.err


# --- servers -------------------------------------------------------------------------------------


class EmbeddingHandler(BaseHTTPRequestHandler):
    """POST /v1/embeddings as OpenAI defines it, answers in reverse order; `faults` are taken one a request."""

    faults: list[str] = []
    requests: list[dict[str, Any]] = []
    keys: list[str | None] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append(body)
        type(self).keys.append(self.headers["Authorization"])
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            self.answer(
                int(fault),
                {"error": {"message": f"no: {self.headers['Authorization']}", "type": "server"}},
            )
            return
        data = [
            {"index": i, "embedding": vector(text), "object": "embedding"}
            for i, text in enumerate(body["input"])
        ]
        data = data[1:] if fault == "short" else data
        for item in data if fault == "wide" else []:
            item["embedding"] = [*item["embedding"], 1.0]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self.answer(
            200, {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}
        )

    def answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    EmbeddingHandler.faults, EmbeddingHandler.requests, EmbeddingHandler.keys = [], [], []
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running = ThreadingHTTPServer(("127.0.0.1", 0), EmbeddingHandler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/v1"
    running.shutdown()
    running.server_close()


def test_a_server_teaches_what_its_vectors_teach(
    learn: Any, tmp_path: Path, texts: list[str], server: str
) -> None:
    EmbeddingHandler.faults = ["", "", "503"]  # the first two requests are probes
    done = learn("--teacher", "big", "--base-url", server, out="a")
    assert done.rc == 0, done.err
    assert EmbeddingHandler.requests[-1]["model"] == "big"
    halves = put(tmp_path / "v.parquet", texts, half=True)
    assert learn("--vectors", halves, out="b").rc == 0
    assert (
        learn("--teacher", "big", "--base-url", server, "--teacher-doc-prompt", "p: ", out="c").rc
        == 0
    )
    assert all(text.startswith("p: ") for text in EmbeddingHandler.requests[-1]["input"])
    assert weights(tmp_path / "b") != weights(tmp_path / "c")
    length = ("--teacher-length", "9")
    assert "set the limit" in learn("--teacher", "big", "--base-url", server, *length).err


def test_the_key_comes_from_the_environment_and_is_stored_nowhere(
    learn: Any, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = (
        "--teacher",
        "big",
        "--base-url",
        server,
        "--api-key-env",
        "MY_KEY",
        "--cache",
        tmp_path / "cache",
    )
    assert "MY_KEY is not set" in learn(*argv).err
    monkeypatch.setenv("MY_KEY", "sk-secret-1234567")
    done = learn(*argv)
    assert done.rc == 0, done.err
    assert set(EmbeddingHandler.keys) == {"Bearer sk-secret-1234567"}
    EmbeddingHandler.faults = ["401"]
    refused = learn(*argv, out="other").err
    assert "401" in refused and "sk-secret" not in refused
    for path in [*(tmp_path / "student").rglob("*"), *(tmp_path / "cache").rglob("*")]:
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()


def test_vectors_of_a_server_are_not_requested_again(
    learn: Any, tmp_path: Path, server: str, corpus: list[dict[str, Any]]
) -> None:
    rows = [
        {"id": str(i), "text": f"{row['text']} {i}"} for i, row in enumerate(corpus * 11)
    ]  # three requests
    one_by_one = ("--concurrency", "1", "--batch-texts", "64")
    argv = ("--teacher", "big", "--base-url", server, *one_by_one)
    EmbeddingHandler.faults = ["", "", "", "", "401"]
    done = learn(*argv, rows=rows)
    assert done.rc == 1
    assert "the vectors that it sent are kept" in done.err
    before = len(EmbeddingHandler.requests)
    assert learn(*argv, rows=rows).rc == 0
    assert [len(body["input"]) for body in EmbeddingHandler.requests[before:]] == [1, 16, 4]


@pytest.mark.parametrize(
    ("fault", "message"), [("short", "one vector a text"), ("wide", "expected 6 finite numbers")]
)
def test_answers_that_do_not_fit_are_refused(
    learn: Any, server: str, fault: str, message: str
) -> None:
    EmbeddingHandler.faults = ["", "", fault]
    done = learn("--teacher", "big", "--base-url", server)
    assert done.rc == 1
    assert message in done.err


def test_two_vectors_of_one_text_are_refused(learn: Any, tmp_path: Path, texts: list[str]) -> None:
    path = put(tmp_path / "v.parquet", [*texts, texts[1]])
    assert learn("--vectors", path).rc == 0
    table = pq.read_table(path)
    other = pa.concat_tables([table, put_other(tmp_path, texts[0])])
    pq.write_table(other, path)
    done = learn("--vectors", path, out="other")
    assert done.rc == 1
    row = len(texts) + 2
    assert f"row {row}: the text {text_hash(texts[0])} has another vector" in done.err


def put_other(folder: Path, text: str) -> pa.Table:
    """A row with this text's hash and the vector of another text."""
    table = pq.read_table(put(folder / "other.parquet", [text + " changed"]))
    return table.set_column(0, "text_hash", pa.array([text_hash(text)]))
