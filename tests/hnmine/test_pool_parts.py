"""Parts of a pool searched one by one and merged: the bytes and the account of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairwise import random_units, write_vectors

from fletching import lineage
from fletching.encode import precomputed
from hnmine import candidate_search, cli

pytestmark = pytest.mark.slow  # as a whole: each test starts many commands

SHARES = (1, 3, 7)


class Mining:
    """One input in a folder, mined whole and by parts with the same options."""

    def __init__(self, folder: Path, *inputs: Any, options: tuple[Any, ...] = ()) -> None:
        self.folder = folder
        self.inputs = [*map(str, inputs)]
        self.options = [*map(str, options)]

    def run(self, name: str, *more: Any) -> tuple[bytes, dict[str, Any]]:
        """The bytes of the output, and the account."""
        out, summary = self.folder / name, self.folder / f"{name}.json"
        line = [*self.inputs, *self.options, *map(str, more), "-o", out, "--json-summary", summary]
        assert cli.main([*map(str, line), "--quiet"]) == 0
        account = json.loads(summary.read_text())
        del account["seconds"]
        return out.read_bytes(), account

    def parts(self, count: int) -> list[str]:
        """The candidates of all parts."""
        for index in range(count):
            self.run(f"{index}-{count}.parquet", "--pool-shard", f"{index}/{count}")
        return [str(self.folder / f"{index}-{count}.parquet") for index in range(count)]

    def merged(self, parts: list[str], *more: Any) -> tuple[bytes, dict[str, Any]]:
        """What a merge of these files writes; it needs no vectors."""
        files = [word for part in parts for word in ("--merge", part)]
        return self.run("merged.parquet", *files, *more)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spelled(name: str, draw: np.random.Generator) -> str:
    return [name, name.upper(), f" {name}"][draw.integers(3)]


def make_inputs(folder: Path, seed: int) -> tuple[Path, str, Path]:
    """Rows (shared queries, old negatives, ids, domains), vectors, and a corpus with copies."""
    draw = np.random.default_rng(seed)
    names = [f"{kind}{number}" for kind in "qt" for number in range(30)]
    spellings = sorted({f"{blank}{form}" for name in names for form in (name, name.upper())
                        for blank in ("", " ")})  # fmt: skip
    vectors = write_vectors(
        folder / "v.jsonl", dict(zip(spellings, random_units(len(spellings), 4, seed)))
    )
    rows = []
    for number in range(24):
        positives = [spelled(f"t{t}", draw) for t in {*draw.integers(0, 30, 2)}]
        row: dict[str, Any] = {
            "id": f"r{number}",
            "query": spelled(f"q{draw.integers(0, 12)}", draw),
            "pos": positives,
            "domain": ["a", "b", None][draw.integers(3)],
        }
        if draw.integers(2):
            row["neg"] = [spelled(f"t{draw.integers(0, 30)}", draw)]
        if draw.integers(2):
            row["pos_ids"] = [f"d{draw.integers(0, 20)}" for _ in positives]
        rows.append(row)
    corpus = [
        {
            "id": f"d{number}",
            "text": spelled(f"t{draw.integers(0, 30)}", draw),
            "domain": ["a", "b", None][draw.integers(3)],
        }
        for number in range(50)
    ]
    return write_rows(folder / "rows.jsonl", rows), vectors, write_rows(folder / "c.jsonl", corpus)


guards = st.lists(
    st.sampled_from(
        [
            ("--max-ratio", 0.8),
            ("--score-margin", 0.1),
            ("--max-score", 0.6),
            ("--min-score", -0.2),
            ("--near-copy", 0.6),
            ("--exclude-qrels", "qrels.tsv"),
            ("--keep-neg",),
            ("--pool-only",),
            ("--raw-range",),
            ("--sample", "weighted"),
            ("--sample", "top"),
            ("--limit", 17),
            ("--seed", 7),
        ]
    ),
    unique_by=lambda words: words[0],
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 999),
    low=st.integers(1, 4),
    width=st.integers(3, 40),
    words=guards,
    count=st.sampled_from(SHARES),
    at_a_time=st.sampled_from([1, 40, 1 << 19]),
)
def test_parts_merged_are_the_bytes_and_the_account_of_one_run(
    tmp_path, monkeypatch, seed, low, width, words, count, at_a_time
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fletching.table.row_units.UNIT", 5)
    monkeypatch.setattr("hnmine.merged_candidates.MERGED_AT_A_TIME", at_a_time)
    Path("qrels.tsv").write_text("query-id\tcorpus-id\tscore\nr1\td3\t1\nr2\td4\t1\nr1\td5\t0\n")
    rows, vectors, corpus = make_inputs(tmp_path, seed)
    options = ["--negatives", 3, "--range", f"{low}-{low + width}"]
    options += [word for each in words for word in each]
    mining = Mining(tmp_path, rows, "--corpus", corpus, options=tuple(options))
    whole = mining.run("whole.parquet", "--vectors", vectors)
    mining.options += ["--vectors", vectors]
    parts = mining.parts(count)
    del mining.options[-2:]
    assert mining.merged(parts) == whole


@pytest.fixture
def mining(tmp_path: Path) -> Mining:
    rows, vectors, corpus = make_inputs(tmp_path, 1)
    options = ("--vectors", vectors, "--range", "1-20", "--max-ratio", 0)
    return Mining(tmp_path, rows, "--corpus", corpus, options=options)


@pytest.mark.parametrize("more", [("--shard", "1/2"), ()], ids=["part of the rows", "reranker"])
def test_parts_go_with_shards_of_the_rows_and_with_a_reranker(
    mining, monkeypatch, more, cross_encoder
):
    monkeypatch.setattr("fletching.table.row_units.UNIT", 5)
    mining.options += [*more] or ["--reranker", cross_encoder, "--reranker-margin", "0.001"]
    whole, account = mining.run("whole.parquet")
    merged, of_merge = mining.merged(mining.parts(3))
    assert (merged, of_merge) == (whole, account)
    assert more or account["measures"]["removed_by_guard"]["positive to --reranker"]


def test_a_pattern_that_the_shell_expanded_is_read_as_parts(mining):
    whole = mining.run("whole.parquet")
    first, *others = mining.parts(3)
    assert mining.run("merged.parquet", "--merge", first, *others) == whole


def test_a_part_reads_the_vectors_of_its_share_and_of_the_rows_alone(mining, monkeypatch):
    """Texts of the rows are in every part; those of the corpus in one."""
    texts = len(Path(mining.options[1]).read_text().splitlines())
    normalise = precomputed._normalise
    kept = []

    def counted(column: pa.FixedSizeListArray) -> Any:
        kept.append(len(column))
        return normalise(column)

    monkeypatch.setattr(precomputed, "_normalise", counted)
    mining.parts(7)
    assert sum(kept) < 7 * texts * 0.8


def refused(mining: Mining, capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The message of a merge that writes nothing."""
    out = mining.folder / "refused.parquet"
    line = [*mining.inputs, *mining.options, *map(str, words), "-o", str(out)]
    capsys.readouterr()
    assert cli.main(line) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_parts_that_are_missing_or_there_twice_are_refused_by_name(mining, capsys):
    first, second, third = mining.parts(3)
    missing = refused(mining, capsys, "--merge", f"{first},{third}")
    assert "part 1/3 of the pool is missing among the 2 files" in missing
    again = refused(mining, capsys, "--merge", f"{first},{second},{third},{second}")
    assert f"{second} and {second} are both part 1/3" in again
    other = refused(mining, capsys, "--merge", f"{first},{mining.parts(7)[1]}")
    assert "1-7.parquet is part 1/7, and" in other and "0-3.parquet is 0/3" in other


def changed(mining: Mining, name: str) -> None:
    """Another run: its options, its rows, its corpus or its vectors."""
    if name == "option":
        mining.options += ["--seed", "3"]
    elif name == "prompt":
        mining.options += ["--doc-prompt", ""]
    elif name == "limit":
        mining.options += ["--limit", "20"]
    else:
        path = Path({"rows": mining.inputs[0], "corpus": mining.inputs[2],
                     "vectors": mining.options[1]}[name])  # fmt: skip
        lines = path.read_text().splitlines(keepends=True)
        lines = lines[:-1] if name != "vectors" else [_turned(line) for line in lines]
        path.write_text("".join(lines))


def _turned(line: str) -> str:
    row = json.loads(line)
    return json.dumps(row | {"vector": [*row["vector"][1:], row["vector"][0] + 0.1]}) + "\n"


REASONS = {
    "option": "was made with --seed 3, and",
    "limit": "was made from other rows than",
    "rows": "was made from other rows than",
    "corpus": "was made from another --corpus than",
    "vectors": "scores positives otherwise than",
}


@pytest.mark.parametrize("name", REASONS)
def test_parts_of_different_runs_are_refused(mining, capsys, name):
    first, second = mining.parts(2)
    changed(mining, name)
    mining.run("1-2.parquet", "--pool-shard", "1/2")
    message = refused(mining, capsys, "--merge", f"{first},{second}")
    assert REASONS[name] in message
    assert "1-2.parquet" in message and "0-2.parquet" in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("option", "was made with --seed 0, and --merge has --seed 3"),
        ("rows", "was made from other rows"),
        ("corpus", "was made from other texts of --corpus"),
    ],
)
def test_a_merge_of_another_input_than_that_of_its_parts_is_refused(mining, capsys, name, reason):
    parts = ",".join(mining.parts(2))
    changed(mining, name)
    assert f"0-2.parquet {reason}" in refused(mining, capsys, "--merge", parts)


def test_a_merge_without_the_corpus_of_its_parts_is_refused(mining, capsys):
    parts = ",".join(mining.parts(2))
    del mining.inputs[1:]
    assert "was made with a --corpus, and --merge has none" in refused(
        mining, capsys, "--merge", parts
    )


def test_files_that_are_no_parts_are_refused(mining, capsys):
    first, second = mining.parts(2)
    rows = refused(mining, capsys, "--merge", f"{first},{mining.inputs[0]}")
    assert "rows.jsonl" in rows
    cut = Path(second)
    cut.write_bytes(cut.read_bytes()[:-100])
    assert "1-2.parquet" in refused(mining, capsys, "--merge", f"{first},{second}")
    table = pq.read_table(first)
    pq.write_table(table.replace_schema_metadata({}), second)
    message = refused(mining, capsys, "--merge", f"{first},{second}")
    assert "1-2.parquet does not say which part of which pool" in message


def test_candidates_of_another_part_under_this_stamp_are_refused(mining, capsys):
    first, second = mining.parts(2)
    metadata = pq.read_table(second).schema.metadata
    end = pq.ParquetFile(first).metadata.metadata[lineage.END_KEY]
    table = pq.read_table(first).replace_schema_metadata(metadata)
    with pq.ParquetWriter(second, table.schema, write_page_checksum=True) as out:
        out.write_table(table)
        out.add_key_value_metadata({lineage.END_KEY: end})
    message = refused(mining, capsys, "--merge", f"{first},{second}")
    assert "1-2.parquet holds candidates of another part" in message


def test_a_part_that_fails_leaves_no_file(mining, monkeypatch):
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(candidate_search, "_lists", fail)
    out = mining.folder / "part.parquet"
    line = [*mining.inputs, *mining.options, "--pool-shard", "0/2", "-o", str(out)]
    before = {path.name for path in mining.folder.iterdir()}
    assert cli.main(line) == 1
    assert {path.name for path in mining.folder.iterdir()} - before <= {"part.parquet.cache"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--pool-shard", "3/3"), "--pool-shard 3/3 is no part of a whole"),
        (("--pool-shard", "0/3", "--pad"), "--pad needs the whole pool"),
        (("--pool-shard", "0/3", "--bm25", "fused"), "--bm25 needs the whole pool"),
        (("--pool-shard", "0/3", "--merge", "x"), "exclude each other"),
        (("--merge", "x", "--score-all", "--reranker", "ce"), "--score-all needs the whole pool"),
        (("--pool-shard", "0/3", "-o", "x.jsonl"), "JSON lines cannot say"),
    ],
)
def test_what_parts_cannot_do_is_refused_before_work(invoke, words, reason):
    ran = invoke(cli.main, "none.jsonl", "--model", "m", *words)
    assert ran.rc == 2 and reason in ran.err


def test_candidates_keep_the_promises_of_their_schema(mining):
    """As `arrowcat --check` does: the reader holds them; ids, order and lengths besides."""
    part = pq.read_table(mining.parts(3)[1])
    assert part.schema.field("text_keys").type == pa.list_(pa.int64())
    for row in part.to_pylist():
        if row["text_keys"] is not None:
            assert row["scores"] == sorted(row["scores"], reverse=True)
            assert len(row["answers"]) <= len(row["text_keys"])
    stamp = lineage.read(part.schema.metadata)
    assert stamp["schema"] == "candidates"
    assert stamp["step"]["options"]["part"]["shard"] == "1/3"
