"""The whole chain through real pipes of installed scripts: from a table to a model and its figures, with stages replaced and killed."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import SUBJECTS, environment
from test_every_tool_broken import waits_for_more

from fletching import lineage
from fletching.io import Reader
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

PYTHON = shlex.quote(sys.executable)
BY_PYARROW = """
import sys, pyarrow as pa, pyarrow.compute as pc
rows = pa.ipc.open_stream(sys.stdin.buffer)
out = pa.ipc.new_stream(sys.stdout.buffer, rows.schema)
for batch in rows:
    out.write_batch(batch.filter(pc.less(pc.utf8_length(batch["query"]), 45)))
out.close()
"""
BY_DUCKDB = """
import sys, duckdb, pyarrow as pa
rows = pa.ipc.open_stream(sys.stdin.buffer).read_all()
short = duckdb.sql("SELECT * FROM rows WHERE length(query) < 45").to_arrow_table()
with pa.ipc.new_stream(sys.stdout.buffer, short.schema) as out:
    out.write_table(short)
"""
BY_JSON = """
import sys, json
for line in open("pairs.jsonl", encoding="utf-8"):
    row = json.loads(line)
    if len(row["query"]) < 45:
        print(json.dumps({"query": row["query"], "pos": row["pos"], "domain": row.get("domain")}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A table of 40 questions about a dozen subjects, a held-out part of it, and the model."""
    folder = tmp_path_factory.mktemp("pipeline")
    draw = random.Random(0)
    forms = [
        "{}",
        "Please tell me: {}",
        "I want to know. {}",
        "A question for the expert in such matters: {}",
    ]
    rows = [
        (form.format(query), answer, name)
        for form in forms
        for name, (query, answer) in SUBJECTS.items()
    ][:40]
    draw.shuffle(rows)
    for name, part in {"table.csv": rows, "test.csv": rows[:12]}.items():
        lines = [
            ",".join('"' + cell.replace('"', '""') + '"' for cell in row)
            for row in [("question", "answer", "subject"), *part]
        ]
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "model").symlink_to(model)
    for name, code in {
        "short.py": BY_PYARROW,
        "by_duckdb.py": BY_DUCKDB,
        "by_json.py": BY_JSON,
    }.items():
        (folder / name).write_text(code)
    return folder


CSV2PAIRS = "csv2pairs table.csv --query question --pos answer"


def steps(path: Path) -> list[str]:
    return lineage.tools(Reader(Report("test"), [str(path)], "examples").lineage_nodes[0])


def short_rows(folder: Path) -> int:
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        return sum(len(row["question"]) < 45 for row in csv.DictReader(file))


def test_from_a_table_to_a_tuned_model_and_its_figures(folder: Path, run: Any) -> None:
    mined = run(
        f"{CSV2PAIRS} | simfilter --model model --min-sim -1 | hnmine --model model --negatives 2 --range 1-8 -o train.parquet",
        cwd=folder,
    )
    assert mined.rc == 0, mined.err
    assert [line.split(":")[0] for line in mined.err.splitlines() if " in, " in line] == [
        "csv2pairs",
        "simfilter",
        "hnmine",
    ]
    table = pq.read_table(folder / "train.parquet")
    assert table.num_rows == 40
    for row in table.to_pylist():
        assert not set(row["neg"]) & set(row["pos"])
        assert len(row["neg"]) == len(row["neg_scores"]) <= 2
    assert any(table["neg"].to_pylist())
    assert steps(folder / "train.parquet") == ["csv2pairs", "simfilter", "hnmine"]

    trained = run(
        "contrast-train train.parquet --model model -o tuned --steps 4 --batch 16 --lr 1e-3",
        cwd=folder,
        timeout=300,
    )
    assert trained.rc == 0, trained.err
    made = json.loads((folder / "tuned" / "fletching.json").read_text())
    assert lineage.tools(made["step"]) == ["csv2pairs", "simfilter", "hnmine", "contrast-train"]

    line = "csv2pairs test.csv --query question --pos answer -o test.parquet"
    line += " && mteb-eval base=model tuned=tuned --examples own=test.parquet -o figures.parquet"
    judged = run(line, cwd=folder, timeout=300)
    assert judged.rc == 0, judged.err
    assert "nDCG@10" in judged.text
    assert {"base", "tuned"} <= {
        word for line in judged.text.splitlines() for word in line.split()[:1]
    }
    figures = pq.read_table(folder / "figures.parquet").to_pylist()
    ndcg = {row["run"]: row["value"] for row in figures if row["name"] == "ndcg_at_10"}
    assert set(ndcg) >= {"base", "tuned"}
    # The table is small, so the model was trained on the very rows it is tested on: mteb-eval knows it by the keys in its folder.
    assert {row["run"]: row["value"] for row in figures if row["name"] == "queries_seen"} == {
        "tuned": 1.0
    }
    assert "queries are in the training data of tuned word for word" in judged.text
    assert ndcg["tuned"] > ndcg["base"]


def test_a_stage_may_be_a_script_of_ten_lines_and_the_lineage_tells_of_it(
    folder: Path, run: Any
) -> None:
    line = f"{CSV2PAIRS} | {PYTHON} short.py | simfilter --model model --score-only -o by-script.parquet"
    done = run(line, cwd=folder, timeout=300)
    assert done.rc == 0, done.err
    assert pq.read_metadata(folder / "by-script.parquet").num_rows == short_rows(folder) > 0
    assert steps(folder / "by-script.parquet") == ["csv2pairs", lineage.UNKNOWN, "simfilter"]


def test_a_stage_may_be_duckdb(folder: Path, run: Any) -> None:
    line = f"{CSV2PAIRS} --domain subject | {PYTHON} by_duckdb.py | csv2pairs --query query --pos pos --domain domain -o by-duckdb.parquet"
    done = run(line, cwd=folder)
    assert done.rc == 0, done.err
    assert pq.read_metadata(folder / "by-duckdb.parquet").num_rows == short_rows(folder) > 0


def test_a_stage_may_be_a_script_that_reads_and_writes_json_lines(folder: Path, run: Any) -> None:
    line = f"{CSV2PAIRS} --domain subject -o pairs.jsonl && {PYTHON} by_json.py | simfilter --model model --score-only -o scored.parquet"
    done = run(line, cwd=folder)
    assert done.rc == 0, done.err
    table = pq.read_table(folder / "scored.parquet")
    assert table.num_rows == short_rows(folder)
    assert {"domain", "pos_scores"} <= set(table.column_names)
    assert steps(folder / "scored.parquet") == ["simfilter"]


@pytest.mark.parametrize("pipefail", ["-o", "+o"])
def test_kill_9_of_the_first_tool_leaves_no_output_and_a_clear_message(
    pipefail: str, folder: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "table")
    feed = os.open(
        tmp_path / "table", os.O_RDWR
    )  # the table never ends: the tool waits for more of it
    os.write(feed, b"question,answer\nwhy,because\n")
    line = "(echo $BASHPID > pid; exec csv2pairs --query question --pos answer < table) | csv2pairs --query query --pos pos -o out.parquet"
    bash = ["bash", pipefail, "pipefail", "-c", line]
    with subprocess.Popen(
        bash,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment(),
        text=True,
    ) as pipe:
        deadline = time.monotonic() + 60
        while not (
            (tmp_path / "pid").exists()
            and (pid := (tmp_path / "pid").read_text().strip())
            and waits_for_more(int(pid))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(int(pid), signal.SIGKILL)
        _, err = pipe.communicate(timeout=60)
    os.close(feed)
    assert pipe.returncode == 1
    told = [line for line in err.splitlines() if line.startswith(("csv2pairs: ", "  fix: "))]
    assert len(told) == 2
    assert told[0].startswith("csv2pairs: stdin ")
    assert "the program before" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pid", "table"]


def test_a_failure_in_the_first_stage_stops_all_without_pipefail(folder: Path, run: Any) -> None:
    again = "csv2pairs --query query --pos pos"
    line = f"set +o pipefail; csv2pairs table.csv --query nothing --pos answer | {again} | {again} -o never.parquet"
    done = run(line, cwd=folder)
    assert done.rc == 1
    assert not (folder / "never.parquet").exists()
    told = done.err.splitlines()
    assert sum(line.startswith("csv2pairs: ") for line in told) == 3
    assert any("has no column `nothing`" in line for line in told)
    assert "Traceback" not in done.err


def test_the_chain_written_by_two_hash_seeds_is_the_same_to_the_byte(
    folder: Path, run: Any
) -> None:
    written = []
    for seed in ("1", "2"):
        first = f"{CSV2PAIRS} --category subject --negatives 3 --shortfall widen"
        line = f"{first} | hnmine --model model --negatives 2 --keep-neg -o seed-{seed}.parquet"
        done = run(line, cwd=folder, env={"PYTHONHASHSEED": seed})
        assert done.rc == 0, done.err
        written.append((folder / f"seed-{seed}.parquet").read_bytes())
    assert written[0] == written[1]
