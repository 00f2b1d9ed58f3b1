"""What texts2vectors writes: hashes, ids, order, types, dimensions, shards, and the same bytes after a kill."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_server import DIMENSION, EmbeddingServer, vector

from fletching.encode import embedding_client
from fletching.text import text_hash
from texts2vectors import cli

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or waits for a server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_client, "RETRIES", 0)
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def unit(text: str) -> Any:
    values = np.array(vector(text))
    return values / np.linalg.norm(values)


def matrix(table: pa.Table) -> Any:
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return flat.reshape(table.num_rows, -1)


@pytest.fixture
def by_server(invoke: Any, tmp_path: Path, write: Any) -> Any:
    """by_server(rows, "--role", "query"): (the table written, the summary, the texts sent)."""

    def by_server(rows: list[dict[str, Any]], *argv: Any) -> Any:
        source = write(tmp_path / "rows.jsonl", rows)
        out, summary = tmp_path / "out.parquet", tmp_path / "summary.json"
        with EmbeddingServer() as server:
            line = ["--base-url", server.url, "--model", "m", "--json-summary", summary]
            done = invoke(cli.main, source, *line, "-o", out, *argv)
        assert done.rc == 0, done.err
        return (
            pq.read_table(out),
            json.loads(summary.read_text()),
            server.texts()[17:],
        )  # behind the probes

    return by_server


def test_each_distinct_text_has_one_row_in_order_of_appearance(by_server: Any) -> None:
    rows = [
        {"id": "a", "text": "first", "title": "The"},
        {"id": "b", "text": "second", "prompt": "p: "},
        {"id": "c", "text": "The first"},
        {"id": "d", "text": ""},
    ]
    table, account, _ = by_server(rows[:3])
    assert table["id"].to_pylist() == ["a", "b"]
    assert table["text_hash"].to_pylist() == [text_hash("The first"), text_hash("p: second")]
    np.testing.assert_allclose(matrix(table), [unit("The first"), unit("p: second")], atol=1e-6)
    assert table["vector"].type == pa.list_(pa.float32(), DIMENSION)
    assert (account["rows_in"], account["rows_out"]) == (3, 2)
    assert account["dropped"] == {"repeated": 1}


EXAMPLES = [
    {"id": "1", "query": "one?", "pos": ["one."], "pos_ids": ["p1"], "neg": ["two."]},
    {"id": "2", "query": "two?", "pos": ["two.", "deux"], "neg": None},
]


@pytest.mark.parametrize(
    ("role", "texts", "ids"),
    [
        (None, ["q one?", "q two?", "one.", "two.", "deux"], ["1", "2", "p1", None, None]),
        ("query", ["q one?", "q two?"], ["1", "2"]),
        ("document", ["one.", "two.", "deux"], ["p1", None, None]),
    ],
)
def test_examples_are_queries_and_documents(
    role: str | None, texts: list[str], ids: list[str | None], by_server: Any
) -> None:
    argv = ["--role", role] if role else []
    table, account, _ = by_server(EXAMPLES, "--query-prompt", "q ", *argv)
    assert table["text_hash"].to_pylist() == [text_hash(text) for text in texts]
    assert table["id"].to_pylist() == ids
    added, dropped = account["added"], account["dropped"]
    assert 2 + sum(added.values()) == account["rows_out"] + sum(dropped.values())
    assert dropped.get("queries", 0) == (2 if role == "document" else 0)


def test_texts_may_be_queries(by_server: Any) -> None:
    rows = [{"id": "a", "text": "one"}]
    _, _, sent = by_server(rows, "--role", "query", "--query-prompt", "q ", "--doc-prompt", "d ")
    assert sent == ["q one"]
    _, _, sent = by_server(rows, "--query-prompt", "q ", "--doc-prompt", "d ")
    assert sent == ["d one"]


def test_types_and_first_dimensions(by_server: Any) -> None:
    rows = [{"id": str(number), "text": f"word{number}"} for number in range(20)]
    whole = matrix(by_server(rows)[0])
    half = by_server(rows, "--vector-type", "float16")[0]
    assert half["vector"].type == pa.list_(pa.float16(), DIMENSION)
    assert matrix(half).tobytes() == whole.astype(np.float16).tobytes()
    short = by_server(rows, "--dimensions", 5)[0]
    expected = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(matrix(short), expected, atol=1e-6)


def test_more_dimensions_than_there_are_and_lengths_of_a_server_are_refused(
    invoke: Any, tmp_path: Path, write: Any
) -> None:
    source = write(tmp_path / "rows.jsonl", [{"id": "a", "text": "one"}])
    with EmbeddingServer() as server:
        line = [source, "--base-url", server.url, "--model", "m", "-o", tmp_path / "o.parquet"]
        done = invoke(cli.main, *line, "--dimensions", 17)
        assert (done.rc, "above the 16" in done.err) == (2, True)
        assert invoke(cli.main, *line, "--doc-length", 17).rc == 2
    assert not list(tmp_path.glob("o.parquet*"))


@pytest.mark.parametrize("dies_after", [3, 6])
def test_a_run_that_was_cut_goes_on_to_the_same_bytes_and_asks_for_the_rest_alone(
    dies_after: int, invoke: Any, tmp_path: Path, write: Any
) -> None:
    rows = [{"id": str(number), "text": f"word{number} common"} for number in range(100)]
    source = write(tmp_path / "rows.jsonl", rows)
    options = ["--model", "m", "--vector-type", "float16", "--dimensions", 7, "--batch-texts", 10]

    def encode(out: Path, dies_after: int | None) -> tuple[Any, list[str]]:
        with EmbeddingServer(dies_after) as server:
            done = invoke(cli.main, source, *options, "--base-url", server.url, "-o", out)
            return done, server.texts()

    first, paid = encode(tmp_path / "cut.parquet", dies_after)
    assert first.rc == 1
    assert "the vectors that it sent are kept" in first.err
    assert not (tmp_path / "cut.parquet").exists()
    again, rest = encode(tmp_path / "cut.parquet", None)
    assert again.rc == 0, again.err
    assert len(rest) == 117 - 10 * (dies_after - 2)  # 17 texts in the two requests of the probe
    assert set(paid) | set(rest) >= {row["text"] for row in rows}
    assert encode(tmp_path / "whole.parquet", None)[0].rc == 0
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "cut.parquet.cache").exists()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Texts of three units, each sixth one of an earlier unit too, and vectors of all of them."""
    folder = tmp_path_factory.mktemp("many")
    numbers = [number % 1500 if number % 6 == 0 else number for number in range(9500)]
    texts = [f"text {number}" for number in numbers]
    ids = [str(row) for row in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), folder / "texts.parquet")
    distinct = list(dict.fromkeys(texts))
    vectors = np.random.default_rng(0).normal(size=(len(distinct), 4)).astype(np.float32)
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    hashes = [text_hash(text) for text in distinct]
    pq.write_table(pa.table({"text_hash": hashes, "vector": values}), folder / "given.parquet")
    return str(folder / "texts.parquet"), str(folder / "given.parquet")


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_end_to_end_are_the_whole(
    count: int, many: tuple[str, str], invoke: Any, tmp_path: Path
) -> None:
    texts, given = many
    whole, summary = tmp_path / "whole.parquet", tmp_path / "summary.json"
    assert invoke(cli.main, texts, "--vectors", given, "-o", whole).rc == 0
    parts = []
    for index in range(count):
        out = tmp_path / f"{index}.parquet"
        line = [texts, "--vectors", given, "--shard", f"{index}/{count}", "-o", out]
        done = invoke(cli.main, *line, "--json-summary", summary)
        assert done.rc == 0, done.err
        account = json.loads(summary.read_text())
        assert account["rows_in"] == 9500
        assert account["rows_out"] + sum(account["dropped"].values()) == 9500
        is_empty = account["dropped"].get("in other shards") == 9500
        assert is_empty == ("units of 4,096, so 9,500 of them fill 3" in done.err)
        parts.append(pq.read_table(out))
    table = pq.read_table(whole)
    assert pa.concat_tables(parts).equals(table)
    assert len(set(table["text_hash"].to_pylist())) == table.num_rows < 9500


def test_a_stream_comes_in_and_goes_out(many: tuple[str, str], invoke: Any) -> None:
    _, given = many
    rows = b'{"id": "a", "text": "text 7"}\n{"id": "b", "text": "text 8"}\n'
    done = invoke(cli.main, "--vectors", given, stdin=rows)
    assert done.rc == 0, done.err
    table = pa.ipc.open_stream(io.BytesIO(done.out)).read_all()
    assert table["text_hash"].to_pylist() == [text_hash("text 7"), text_hash("text 8")]


def test_a_text_without_a_vector_is_named(many: tuple[str, str], invoke: Any) -> None:
    done = invoke(cli.main, "--vectors", many[1], stdin=b'{"id": "a", "text": "another"}\n')
    assert done.rc == 1
    assert "has no vector for the document 'another'" in done.err


def test_one_text_in_two_roles_needs_one_length(
    invoke: Any, many: tuple[str, str], tmp_path: Path, write: Any
) -> None:
    source = write(tmp_path / "rows.jsonl", [{"id": "1", "query": "text 1", "pos": ["text 1"]}])
    line = [source, "--vectors", many[1], "-o", tmp_path / "out.parquet"]
    done = invoke(cli.main, *line, "--query-length", 8)
    assert (done.rc, "--role query" in done.err) == (2, True)
    assert invoke(cli.main, *line, "--query-length", 8, "--role", "query").rc == 0
