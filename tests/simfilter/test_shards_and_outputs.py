"""Shards, killed runs, memory, and files that appear together."""

from __future__ import annotations

import json

import pytest
from pairwise import write_vectors

from fletching.io import parquet
from simfilter import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

# A run that dies by its own hand after 90 % of the forward passes, as a machine does: no handler runs.
KILLED = """
import os, signal, sys
from fletching.encode import forward_pass, vector_cache
from simfilter import cli

vector_cache.SHARD_SECONDS = 0
passed = 0
forward = forward_pass.ForwardPass.vectors


def counted(self, device, rows, *rest):
    global passed
    passed += len(rows)
    print("passed", len(rows), file=sys.stderr)
    if passed > 4500 and "--kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, device, rows, *rest)


forward_pass.ForwardPass.vectors = counted
sys.exit(cli.main([word for word in sys.argv[1:] if word != "--kill"]))
"""


def test_shards_in_order_are_the_whole_byte_for_byte(
    invoke, write, examples, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("fletching.table.row_units.UNIT", 2)
    arguments = [
        write(tmp_path / "in.jsonl", examples),
        "--model",
        model,
        "--min-sim",
        0.3,
        "--rank-within",
        3,
    ]
    assert invoke(cli.main, *arguments, "-o", tmp_path / "whole.jsonl").rc == 0
    for i in range(4):
        ran = invoke(cli.main, *arguments, "--shard", f"{i}/4", "-o", tmp_path / f"{i}.jsonl")
        assert ran.rc == 0 and "in other shards" in ran.err
    assert (
        b"".join((tmp_path / f"{i}.jsonl").read_bytes() for i in range(4))
        == (tmp_path / "whole.jsonl").read_bytes()
    )


def test_scored_shards_and_one_keep_top_are_keep_top_of_the_whole(
    invoke, write, examples, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("fletching.table.row_units.UNIT", 2)
    source = write(tmp_path / "in.jsonl", examples)
    assert (
        invoke(
            cli.main, source, "--model", model, "--keep-top", 0.5, "-o", tmp_path / "whole.jsonl"
        ).rc
        == 0
    )
    parts = [tmp_path / f"{i}.parquet" for i in range(3)]
    for i, path in enumerate(parts):
        assert (
            invoke(
                cli.main, source, "--model", model, "--score-only", "--shard", f"{i}/3", "-o", path
            ).rc
            == 0
        )
    assert (
        invoke(
            cli.main, *parts, "--use-scores", "--keep-top", 0.5, "-o", tmp_path / "merged.jsonl"
        ).rc
        == 0
    )
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
def test_a_run_that_was_killed_encodes_little_again_and_gives_the_same_bytes(
    run, write, model, tmp_path
):
    rows = [
        {"id": str(i), "query": f"how {i}", "pos": [f"so {i} " * (1 + i % 9)]} for i in range(2500)
    ]
    source = write(tmp_path / "in.jsonl", rows)
    line = ["simfilter", source, "--model", model, "--min-sim", "0", "-o"]
    killed = run(["python", "-c", KILLED, *line[1:], tmp_path / "a.jsonl", "--kill"])
    assert (
        killed.rc == -9
        and not (tmp_path / "a.jsonl").exists()
        and (tmp_path / "a.jsonl.cache").exists()
    )
    again = run(["python", "-c", KILLED, *line[1:], tmp_path / "a.jsonl"])
    assert again.rc == 0, again.err
    passes = [line for line in again.err.splitlines() if line.startswith("passed")]
    encoded = sum(int(each.split()[1]) for each in passes)
    assert encoded < 0.2 * 5000  # a tenth was left, and the pass that died
    assert not (tmp_path / "a.jsonl.cache").exists()
    assert run([*line, tmp_path / "b.jsonl"]).rc == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_memory_does_not_grow_with_the_rows_under_a_threshold(run, tmp_path):
    """Three times the rows, at most 15 MB more (all rows would be 64): they pass in batches. Precomputed vectors, so that rows alone count."""
    write_vectors(tmp_path / "v.jsonl", {"q": [1.0, 0], "p" * 400: [1.0, 0.5]})
    row = json.dumps({"query": "q", "pos": ["p" * 400]}) + "\n"
    code = "import sys\nfrom simfilter import cli\nassert cli.main(sys.argv[1:]) == 0\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    peak = {}
    for rows in (80_000, 240_000):
        (tmp_path / f"{rows}.jsonl").write_text(row * rows)
        ran = run(
            [
                "python",
                "-c",
                code,
                tmp_path / f"{rows}.jsonl",
                "--vectors",
                tmp_path / "v.jsonl",
                "--min-sim",
                "0",
                "-o",
                tmp_path / f"{rows}.parquet",
            ]
        )
        assert ran.rc == 0, ran.err
        peak[rows] = int(ran.text.split()[1]) / 1024
    assert peak[240_000] < peak[80_000] + 15, peak


def test_the_model_is_not_loaded_where_it_is_not_needed(sift, tmp_path):
    rows = [{"query": "q", "pos": ["x"], "pos_scores": [0.4]}]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")  # loading it would fail
    assert (
        len(sift(rows, None, "--use-scores", "--min-sim", 0.3, "--model", tmp_path / "none")[0])
        == 1
    )


def test_output_and_rejects_appear_together_or_not_at_all(invoke, write, tmp_path, monkeypatch):
    rows = [{"query": "owl", "pos": ["owl"]}, {"query": "owl", "pos": ["iron"]}]
    vectors = write_vectors(tmp_path / "v.jsonl", {"owl": [1, 0], "iron": [0, 1]})
    line = [write(tmp_path / "in.jsonl", rows), "--vectors", vectors, "--min-sim", 0.5]
    outputs = [tmp_path / "kept.parquet", tmp_path / "rejects.parquet"]
    close = parquet.ParquetSink.close

    def full(self, end):
        if (
            end["rows"] and "reject_reason" not in self.writer.schema.names
        ):  # the disk is full when the main output ends
            raise OSError(28, "No space left on device")
        close(self, end)

    with monkeypatch.context() as broken:
        broken.setattr(parquet.ParquetSink, "close", full)
        ran = invoke(cli.main, *line, "-o", outputs[0], "--rejects", outputs[1])
    assert ran.rc == 1
    assert "no space left" in ran.err
    assert not [path for path in outputs if path.exists()]
    assert invoke(cli.main, *line, "-o", outputs[0], "--rejects", outputs[1]).rc == 0
    assert all(path.exists() for path in outputs)
