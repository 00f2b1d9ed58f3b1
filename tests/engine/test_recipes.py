"""The recipes of examples/cluster for programs that are no part of our environment, where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from engine_runs import ended

pytestmark = pytest.mark.slow
RECIPES = Path(__file__).parents[2] / "examples" / "cluster"


def needs(program: str) -> Any:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def check(inputs: Path) -> None:
    whole = (inputs / "whole.parquet").read_bytes()
    assert (inputs / "vectors.parquet").read_bytes() == whole


@needs("parallel")
def test_gnu_parallel(inputs: Path) -> None:
    line = ["bash", str(RECIPES / "shell/parallel.sh"), "corpus.jsonl", "vectors.parquet", "3"]
    assert ended(line, inputs, OPTIONS="--vectors v.jsonl")[0] == 0
    check(inputs)


@needs("sbatch")
@pytest.mark.skipif("FLETCHING_TEST_SLURM" not in os.environ, reason="submits jobs of yours")
def test_slurm(inputs: Path) -> None:
    """The folder of the test must be one that all nodes see: pytest --basetemp FOLDER."""
    name = ["--job-name", f"fletching-{uuid.uuid4().hex}"]
    array = [*name, "--parsable", "--array=0-2", "--gpus-per-task=0", "--cpus-per-task=1"]
    recipe = str(RECIPES / "slurm/array.sbatch")
    line = ["sbatch", *array, recipe, "corpus.jsonl", "vectors.parquet"]
    try:
        code, job, err = ended(line, inputs, OPTIONS="--vectors v.jsonl")
        assert code == 0, err
        after = ["--wait", "--kill-on-invalid-dep=yes", f"--dependency=afterok:{job.strip()}"]
        join = "fletching join vectors.parquet.shards -o vectors.parquet"
        code, _, err = ended(["sbatch", *name, *after, "--wrap", join], inputs)
        assert code == 0, err
    finally:
        ended(["scancel", *name], inputs)
    check(inputs)


@needs("snakemake")
def test_snakemake(inputs: Path) -> None:
    shutil.copy(RECIPES / "snakemake/Snakefile", inputs)
    values = ["input=corpus.jsonl", "output=vectors.parquet", "count=3"]
    line = ["snakemake", "-j", "2", "--config", *values, "options=--vectors v.jsonl"]
    code, _, err = ended(line, inputs)
    assert code == 0, err
    check(inputs)


@needs("dvc")
def test_dvc(inputs: Path) -> None:
    shutil.copy(RECIPES / "dvc/dvc.yaml", inputs)
    params = (RECIPES / "dvc/params.yaml").read_text()
    params = params.replace("corpus.parquet", "corpus.jsonl")
    (inputs / "params.yaml").write_text(params.replace("--model M", "--vectors v.jsonl"))
    assert ended(["dvc", "init", "-q", "--no-scm"], inputs)[0] == 0
    code, _, err = ended(["dvc", "repro"], inputs)
    assert code == 0, err
    check(inputs)


@needs("spark-submit")
def test_spark(inputs: Path, write: Any) -> None:
    import pyarrow.parquet as pq

    texts = [json.loads(line)["text"] for line in (inputs / "corpus.jsonl").open()]
    pairs = zip(texts[:100], texts[100:200])
    rows = [{"id": str(n), "query": q, "pos": [p]} for n, (q, p) in enumerate(pairs)]
    write(inputs / "pairs.parquet", rows)
    options = ["--vectors", "v.jsonl", "--min-sim", "0.1"]
    assert ended(["simfilter", "pairs.parquet", *options, "-o", "here.parquet"], inputs)[0] == 0
    recipe = str(RECIPES / "spark/filter_pairs.py")
    code, _, err = ended(["spark-submit", recipe, "pairs.parquet", "kept", *options], inputs)
    assert code == 0, err
    ids = [set(pq.read_table(inputs / name)["id"].to_pylist()) for name in ("kept", "here.parquet")]
    assert ids[0] == ids[1]
