"""--engine: the bytes of one run, with workers that die, on processes of this machine and on Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from engine_runs import LINE, ended, is_there, parent_of, start
from pairwise import random_units, write_vectors
from warm_commands import folder_of_programs

from fletching.shards import running
from hnmine import cli as hnmine
from simfilter import cli as simfilter
from texts2vectors import cli as texts2vectors

pytestmark = pytest.mark.slow  # as a whole: each test starts several commands
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="pip install 'fletching[ray]'")
LOCAL = ["--engine", "local", "--workers", "2"]


def running_pid(folder: Path, process: subprocess.Popen[str], *, but: int = 0) -> int:
    """The process of a shard, as soon as there is one."""
    while process.poll() is None:
        for path in folder.glob("*-of-*[0-9].json"):
            record = json.loads(path.read_text())
            if record["state"] == "running" and record["pid"] != but:
                return record["pid"]
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_a_worker_that_is_killed_is_replaced_and_the_bytes_are_those_of_one_run(
    inputs: Path, engine: str
) -> None:
    line = [*LINE, "--engine", engine, "--workers", "2", "--shards", "3", "-o", "out.parquet"]
    process = start([*line, "--json-summary", "sum.json"], inputs)
    pid = running_pid(inputs / "out.parquet.shards", process)
    # Ray's own worker dies, and the kernel ends its tool; of the local engine the tool dies.
    os.kill(parent_of(pid) if engine == "ray" else pid, signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert (inputs / "out.parquet").read_bytes() == (inputs / "whole.parquet").read_bytes()
    assert "attempt 2 of 3; see out.parquet.shards/" in err
    assert not (inputs / "out.parquet.shards").exists()
    account = json.loads((inputs / "sum.json").read_text())
    assert (account["rows_in"], list(account["dropped"])) == (9000, ["repeated"])


def test_a_shard_that_fails_three_times_is_named_with_its_log_and_its_command(
    inputs: Path,
) -> None:
    lines = (inputs / "v.jsonl").read_text().splitlines(keepends=True)
    (inputs / "v.jsonl").write_text("".join(lines[:-1]))
    code, _, err = ended([*LINE, *LOCAL, "--shards", "3", "-o", "out.parquet"], inputs)
    assert code == 1
    assert "shard 2/3 failed 3 times, at last: exit 1: texts2vectors: " in err
    assert "see out.parquet.shards/00002-of-00003.log" in err
    [fix] = [line for line in err.splitlines() if "run it alone: " in line]
    alone = fix.partition("run it alone: ")[2].split()
    assert alone[0] == "texts2vectors" and "--shard" in alone and "2/3" in alone
    code, table, _ = ended(["fletching", "status", "out.parquet.shards"], inputs)
    assert code == 1
    assert "2 done, 0 running, 1 failed, 0 missing" in table
    assert "attempt 3, exit 1, texts2vectors: " in table

    # What is done stays: mended, the same command runs the one that is missing.
    (inputs / "v.jsonl").write_text("".join(lines))
    code, _, err = ended([*LINE, *LOCAL, "--shards", "3", "-o", "out.parquet"], inputs)
    assert code == 1 and "was made before v.jsonl was changed" in err
    (inputs / "v.jsonl").write_text("".join(lines[:-1]))


def test_ctrl_c_ends_all_workers_and_the_next_run_goes_on(inputs: Path) -> None:
    line = [*LINE, *LOCAL, "--shards", "3", "-o", "out.parquet"]
    process = start(line, inputs)
    first = running_pid(inputs / "out.parquet.shards", process)
    second = running_pid(inputs / "out.parquet.shards", process, but=first)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not is_there(first) and not is_there(second)
    assert not (inputs / "out.parquet").exists()
    code, _, err = ended(line, inputs)
    assert code == 0, err
    assert (inputs / "out.parquet").read_bytes() == (inputs / "whole.parquet").read_bytes()


def test_workers_die_with_an_engine_that_is_killed(inputs: Path) -> None:
    process = start([*LINE, *LOCAL, "-o", "out.parquet"], inputs)
    pid = running_pid(inputs / "out.parquet.shards", process)
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while is_there(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(pid)


def test_shards_of_another_number_or_command_are_not_taken_over(inputs: Path) -> None:
    (inputs / "out.parquet.shards").mkdir()
    one = ["fletching", "shard", "out.parquet.shards", "--", *LINE, "--shard", "0/3"]
    assert ended(one, inputs)[0] == 0
    line = [*LINE, *LOCAL, "-o", "out.parquet"]
    code, _, err = ended([*line, "--shards", "2"], inputs)
    assert code == 1 and "holds shards of 3, and this run has 2" in err
    code, _, err = ended([*line, "--shards", "3", "--limit", "5000"], inputs)
    assert code == 1 and "00000-of-00003.json is of another command" in err


def test_simfilter_and_its_rejects_and_hnmine_are_those_of_one_run(
    invoke: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BESIDE", folder_of_programs() or running.BESIDE)
    texts = [f"text {number}" for number in range(100)]
    rows = [{"id": f"{n}", "query": f"query {n}", "pos": [texts[n % 100]]} for n in range(1200)]
    source = write(tmp_path / "rows.jsonl", rows)
    units = random_units(1300, 8, 0)
    named = dict(zip([*texts, *(row["query"] for row in rows)], units))
    vectors = ["--vectors", write_vectors(tmp_path / "v.jsonl", named)]
    engine = ["--engine", "local", "--workers", "2"]
    mains = {"simfilter": simfilter.main, "hnmine": hnmine.main}
    lines = {
        "simfilter": ["--min-sim", "0.1"],
        "hnmine": ["--range", "1-9", "--negatives", "2"],
    }
    for tool, options in lines.items():
        outputs = [tmp_path / f"{tool}.{way}.parquet" for way in ("whole", "engine")]
        for out, more in zip(outputs, ([], engine)):
            side = ["--rejects", f"{out}.rejects.parquet"] if tool == "simfilter" else []
            ran = invoke(mains[tool], source, *vectors, *options, *side, *more, "-o", out)
            assert ran.rc == 0, ran.err
        whole, joined = outputs
        assert joined.read_bytes() == whole.read_bytes()
        if tool == "simfilter":
            rejects = [Path(f"{out}.rejects.parquet").read_bytes() for out in outputs]
            assert rejects[0] == rejects[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--engine", "spark", "-o", "o.parquet"], "--engine spark is unknown"),
        (["--engine", "local"], "beside the output, which is no file"),
        (["--engine", "local", "--shard", "0/2", "-o", "o.parquet"], "--shard is one"),
        (["--workers", "2", "-o", "o.parquet"], "--workers belongs to --engine"),
        (["--worker-cores", "2", "-o", "o.parquet"], "--worker-cores belongs to --engine"),
        (["--shards", "2", "-o", "o.parquet"], "--shards belongs to --engine"),
    ],
)
def test_what_no_engine_can_run_is_refused(
    invoke: Any, inputs: Path, words: list[str], reason: str
) -> None:
    ran = invoke(
        texts2vectors.main, inputs / "corpus.jsonl", "--vectors", inputs / "v.jsonl", *words
    )
    assert ran.rc == 2 and reason in ran.err


def test_without_ray_one_error_says_how_to_install_it(
    invoke: Any, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = [inputs / "corpus.jsonl", "--vectors", inputs / "v.jsonl", "-o", inputs / "o.parquet"]
    ran = invoke(texts2vectors.main, *line, "--engine", "ray")
    assert ran.rc == 1
    assert ran.err.splitlines()[-1] == "  fix: pip install 'fletching[ray]'"


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["--pad"], "--pad needs the whole pool"), (["--merge", "x"], "--merge is one step of it")],
)
def test_hnmine_refuses_what_parts_of_a_pool_cannot_do(
    invoke: Any, inputs: Path, words: list[str], reason: str
) -> None:
    line = ["x.jsonl", "--model", "m", "--engine", "local", "-o", inputs / "o.parquet"]
    ran = invoke(hnmine.main, *line, *words)
    assert ran.rc == 2 and reason in ran.err


def test_simfilter_refuses_what_needs_all_scores(invoke: Any, inputs: Path) -> None:
    line = ["x.jsonl", "--model", "m", "--engine", "local", "-o", inputs / "o.parquet"]
    ran = invoke(simfilter.main, *line, "--keep-top", "0.5")
    assert ran.rc == 2 and "--keep-top needs all scores" in ran.err
