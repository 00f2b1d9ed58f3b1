"""Every tool that encodes reads what texts2vectors writes, and takes a server in place of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SUBJECTS, build_model
from embedding_server import EmbeddingServer
from suite import call

import arrowcat.cli
import hnmine.cli
import simfilter.cli
from fletching.encode import embedding_client
from texts2vectors import cli

pytestmark = pytest.mark.slow  # as a whole: each test loads models

EXACT = ("--dtype", "float32", "--device", "cpu")
MINE = ("--negatives", 3, "--range", "1-5", "--max-ratio", 0)
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with prompts: its vectors are of prompted texts."""
    return build_model(tmp_path_factory.mktemp("prompted") / "model", prompts=PROMPTS)


@pytest.fixture
def vectors(invoke: Any, prompted: str, tmp_path: Path, write: Any, examples: Any) -> Any:
    """(the examples, their vectors in two files: one of queries, one of documents)."""
    source = write(tmp_path / "rows.parquet", examples)
    files = []
    for role in PROMPTS:
        files.append(str(tmp_path / f"{role}.parquet"))
        line = [source, "--model", prompted, *EXACT, "--role", role, "-o", files[-1]]
        done = invoke(cli.main, *line)
        assert done.rc == 0, done.err
    return source, files


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_mining_and_filtering_by_vectors_are_those_by_the_model(
    invoke: Any, vectors: Any, prompted: str, tmp_path: Path
) -> None:
    """The prompts come from the files."""
    source, files = vectors
    tools = {
        "mined": (hnmine.cli.main, *MINE),
        "scored": (simfilter.cli.main, "--score-only"),
    }
    for name, (main, *options) in tools.items():
        by_model, by_file = tmp_path / f"{name}-m.parquet", tmp_path / f"{name}-f.parquet"
        done = invoke(main, source, "--model", prompted, *EXACT, *options, "-o", by_model)
        assert done.rc == 0, done.err
        done = invoke(main, source, "--vectors", ",".join(files), *options, "-o", by_file)
        assert done.rc == 0, done.err
        for expected, row in zip(rows_of(by_model), rows_of(by_file), strict=True):
            assert row.get("neg") == expected.get("neg")
            np.testing.assert_allclose(row["pos_scores"], expected["pos_scores"], atol=1e-5)


def test_files_of_two_models_are_refused(invoke: Any, vectors: Any, tmp_path: Path) -> None:
    source, files = vectors
    other = tmp_path / "other.parquet"
    another = build_model(tmp_path / "another", seed=1)
    assert invoke(cli.main, source, "--model", another, *EXACT, "-o", other).rc == 0
    done = invoke(simfilter.cli.main, source, "--vectors", f"{files[0]},{other}", "--score-only")
    assert done.rc == 1
    assert "other.parquet holds vectors of another model than" in done.err
    both = tmp_path / "both.arrow"
    assert invoke(arrowcat.cli.main, files[0], other, "-o", both).rc == 0
    done = invoke(simfilter.cli.main, source, "--vectors", both, "--score-only")
    assert done.rc == 1
    assert "both.arrow holds vectors of two models" in done.err


def test_arrowcat_passes_on_what_files_state(invoke: Any, vectors: Any, tmp_path: Path) -> None:
    source, files = vectors
    joined, out = tmp_path / "joined.arrow", tmp_path / "scored.parquet"
    assert invoke(arrowcat.cli.main, *files, "-o", joined).rc == 0
    scores = []
    for argv in (("--vectors", ",".join(files)), ("--vectors", joined)):
        done = invoke(simfilter.cli.main, source, *argv, "--score-only", "-o", out)
        assert done.rc == 0, done.err
        scores.append([row["pos_scores"] for row in rows_of(out)])
    assert scores[0] == scores[1]


def test_a_student_learns_from_the_vectors(model: str, tmp_path: Path, write: Any) -> None:
    """Shards as a folder; a text that two of them hold, encoded in two batches, is no conflict."""
    rows = [{"id": name, "text": answer} for name, (_, answer) in SUBJECTS.items()]
    source = write(tmp_path / "texts.parquet", rows)
    (tmp_path / "shards").mkdir()
    for name, part in (("a", rows[:7]), ("b", rows[5:])):
        part_of = write(tmp_path / f"{name}.parquet", part)
        line = ["texts2vectors", part_of, "--model", model, "--vector-type", "float16"]
        done = call([*line, "-o", str(tmp_path / "shards" / f"{name}.parquet")])
        assert done.rc == 0, done.err
    line = ["distill", source, "--vectors", str(tmp_path / "shards"), "--model", model]
    done = call([*line, "--steps", "1", "--batch", "4", "-o", str(tmp_path / "student")])
    assert done.rc == 0, done.err
    assert (tmp_path / "student" / "model.safetensors").exists()


def test_an_evaluation_by_vectors_is_that_by_the_model(
    vectors: Any, prompted: str, tmp_path: Path
) -> None:
    """And of a server, beside both; results of other vectors of that name are not taken over."""
    source, files = vectors
    both = tmp_path / "both"
    both.mkdir()
    for number, path in enumerate(files):
        (both / f"{number}.parquet").symlink_to(path)
    out = tmp_path / "figures.parquet"
    with EmbeddingServer() as server:
        line = ["mteb-eval", f"model={prompted}", "served=m", "--base-url", server.url]
        line += ["--vectors", f"file={both}", "--examples", f"own={source}", "--device", "cpu"]
        done = call([*map(str, line), "-o", str(out)])
    assert done.rc == 0, done.err
    rows = rows_of(out)
    by_run = {
        run: {row["name"]: row["value"] for row in rows if row["run"] == run}
        for run in ("model", "file", "served")
    }
    metrics = by_run["model"].keys()
    assert metrics
    assert metrics <= by_run["served"].keys()
    assert by_run["model"] == pytest.approx({name: by_run["file"][name] for name in metrics})


@pytest.mark.parametrize("tool", [hnmine.cli.main, simfilter.cli.main])
def test_a_server_stands_in_for_the_model(
    tool: Any, invoke: Any, tmp_path: Path, write: Any, examples: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(embedding_client, "RETRIES", 0)
    source = write(tmp_path / "rows.parquet", examples)
    options = MINE if tool is hnmine.cli.main else ("--score-only",)
    vectors, by_file, by_server = (tmp_path / f"{name}.parquet" for name in ("v", "f", "s"))
    with EmbeddingServer() as server:
        served = ("--base-url", server.url, "--model", "m", "--query-prompt", "q: ")
        assert invoke(cli.main, source, *served, "-o", vectors).rc == 0
        asked = len(server.requests)
        done = invoke(tool, source, *served, *options, "-o", by_server)
        assert done.rc == 0, done.err
        assert len(server.requests) > asked
    done = invoke(tool, source, "--vectors", vectors, *options, "-o", by_file)
    assert done.rc == 0, done.err
    drop = ("neg_scores", "pos_scores")
    for expected, row in zip(rows_of(by_server), rows_of(by_file), strict=True):
        np.testing.assert_allclose(row["pos_scores"], expected["pos_scores"], atol=1e-5)
        assert {k: v for k, v in row.items() if k not in drop} == {
            k: v for k, v in expected.items() if k not in drop
        }
