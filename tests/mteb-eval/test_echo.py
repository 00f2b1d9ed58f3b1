"""Echo embeddings in an evaluation: other vectors, other results, and no trace in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bare_models
import pyarrow.parquet as pq

from fletching import lineage


def test_an_echoed_model_is_another_model_to_the_results_and_the_cache(
    evaluate: Any, examples: Any, write: Any, tmp_path: Path
) -> None:
    folder = bare_models.build(tmp_path / "decoder", "llama")
    before = sorted((path.name, path.read_bytes()) for path in Path(folder).iterdir())
    rows = write(tmp_path / "test.jsonl", examples)
    kept = (
        "--examples",
        rows,
        "--results",
        tmp_path / "results",
        "--cache",
        tmp_path / "cache",
        "--doc-length",
        128,
    )
    figures_by_echo = {}
    for name, argv in {
        "plain": (),
        "query": ("--query-echo", " again: "),
        "both": ("--query-echo", " again: ", "--doc-echo", "\n"),
    }.items():
        done = evaluate(folder, *kept, *argv, "-o", tmp_path / f"{name}.parquet")
        assert done.rc == 0, done.err
        figures_by_echo[name] = [
            row["value"] for row in pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        ]
    assert len({tuple(values) for values in figures_by_echo.values()}) == 3, (
        "an echo changed no figure"
    )
    options = lineage.read(pq.read_schema(tmp_path / "both.parquet").metadata)["step"]["options"]
    assert (options["query_echo"], options["doc_echo"]) == (" again: ", "\n")
    assert sorted((path.name, path.read_bytes()) for path in Path(folder).iterdir()) == before
