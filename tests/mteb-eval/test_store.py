"""The trap of mteb's cache, and what our store of results does instead."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


def ndcg(measures, path, task="test"):
    return {
        run: row["value"]
        for (run, row_task, name), row in measures(path).items()
        if name == "ndcg_at_10" and row_task == task
    }


def test_mteb_gives_a_destroyed_model_the_score_of_its_sister_and_we_do_not(
    model, destroyed, evaluate, measures, examples, write, tmp_path
):
    import mteb
    from sentence_transformers import SentenceTransformer

    from fletching.report import Report
    from mteb_eval import evaluation
    from mteb_eval.data.examples_collection import read_examples
    from mteb_eval.data.local_tasks import LocalRetrieval

    evaluation.silence_libraries()
    path = write("test.jsonl", examples)

    def by_mteb(folder, cache):
        task = LocalRetrieval(read_examples(Report("test", quiet=True), "test", [path]))
        result = mteb.evaluate(
            SentenceTransformer(folder, device="cpu"), task, cache=cache, show_progress_bar=False
        )
        return result[0].scores["test"][0]["ndcg_at_10"]

    shared = mteb.ResultCache(tmp_path / "mteb")
    good, trapped, true = (
        by_mteb(model, shared),
        by_mteb(destroyed, shared),
        by_mteb(destroyed, None),
    )
    assert trapped == good != true  # the trap is real in this version of mteb

    for folder in (model, destroyed):  # one run after the other, same results folder, same name
        assert (
            evaluate(
                f"m={folder}",
                "--examples",
                path,
                "--results",
                "results",
                "-o",
                f"{Path(folder).name}.jsonl",
            ).rc
            == 0
        )
    assert ndcg(measures, f"{Path(model).name}.jsonl")["m"] == pytest.approx(good, abs=1e-4)
    assert ndcg(measures, f"{Path(destroyed).name}.jsonl")["m"] == pytest.approx(true, abs=1e-4)


def test_a_second_run_takes_everything_from_the_results_and_writes_the_same_bytes(
    model, destroyed, evaluate, examples, write
):
    command = [
        model,
        destroyed,
        "--examples",
        write("test.jsonl", examples),
        "--results",
        "results",
    ]
    first, second = (evaluate(*command, "-o", name) for name in ("one.parquet", "two.parquet"))
    assert first.out == second.out
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()
    assert "taken from" not in first.err
    assert second.err.count("taken from results") == 2
    assert not Path("one.parquet.cache").exists()


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        (["--query-prompt", "query: "], True),
        (["--doc-length", "4"], True),
        (["--dtype", "bfloat16"], True),
        (["--dims", "8"], True),
        (["--quantise", "binary"], True),
        (["--metrics", "map_at_10"], False),
        (["--seed", "5"], False),
    ],
)
def test_what_decides_a_vector_makes_a_new_result_and_what_does_not_takes_the_old_one(
    changed, again, model, evaluate, examples, write
):
    command = [model, "--examples", write("test.jsonl", examples), "--results", "results"]
    assert evaluate(*command).rc == 0
    before = len(os.listdir("results/observed"))
    assert evaluate(*command, *changed).rc == 0
    assert (len(os.listdir("results/observed")) > before) == again


def test_changed_data_under_the_same_name_are_evaluated_anew(
    model, evaluate, measures, examples, write
):
    evaluate(model, "--examples", write("test.jsonl", examples), "--results", "r", "-o", "a.jsonl")
    evaluate(
        model, "--examples", write("test.jsonl", examples[:6]), "--results", "r", "-o", "b.jsonl"
    )
    counts = [{row["count"] for row in measures(path).values()} for path in ("a.jsonl", "b.jsonl")]
    assert counts == [{12}, {6}]


def test_results_are_read_by_mteb_itself(model, destroyed, evaluate, measures, examples, write):
    import mteb

    assert (
        evaluate(
            f"a={model}",
            f"b={destroyed}",
            "--examples",
            write("test.jsonl", examples),
            "-o",
            "out.jsonl",
        ).rc
        == 0
    )
    written = sorted(Path("out.results/results").glob("*/*/test.json"))
    assert len(written) == 2
    scores = {
        path.parts[-3]: json.loads(path.read_text())["scores"]["test"][0]["ndcg_at_10"]
        for path in written
    }
    ours = ndcg(measures, "out.jsonl")
    assert scores == {
        f"local__{run}": pytest.approx(value, abs=1e-5) for run, value in ours.items()
    }
    table = mteb.ResultCache(Path("out.results")).load_results(require_model_meta=False)
    assert len(table.model_results) == 2


def test_the_files_of_mteb_are_whole_where_a_disk_fills_up(
    model, evaluate, examples, write, monkeypatch
):
    import mteb

    command = [model, "--examples", write("test.jsonl", examples), "--results", "results"]
    evaluate(*command)
    evaluate(*command[:2], f"other={command[2]}", *command[3:])
    files = {path: path.read_bytes() for path in Path("results/results").glob("*/*/*")}
    names = {path.name for path in files}
    assert names == {"model_meta.json", "other.json", "run_settings.jsonl", "test.json"}
    [settings] = [content for path, content in files.items() if path.suffix == ".jsonl"]
    assert len(settings.splitlines()) == 2  # those of the first task stay

    def to_disk(self, path):
        path.write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(mteb.TaskResult, "to_disk", to_disk)
    ran = evaluate(*command)
    assert ran.rc == 1
    assert "no space left" in ran.err
    assert {path: path.read_bytes() for path in Path("results/results").glob("*/*/*")} == files


def test_a_damaged_result_is_refused_with_its_name(model, evaluate, examples, write):
    command = [model, "--examples", write("test.jsonl", examples), "--results", "results"]
    evaluate(*command)
    (kept,) = Path("results/observed").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    ran = evaluate(*command)
    assert ran.rc == 1
    assert kept.name in ran.err
    assert "delete it" in ran.err


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_tasks_it_had_finished(
    model, evaluate, examples, write, tmp_path
):
    sets = [f"t{number}={write(f't{number}.jsonl', examples[number:])}" for number in range(4)]
    command = [model, "--results", "results", "-o", "out.jsonl"]
    for item in sets:
        command += ["--examples", item]
    program = Path(sys.executable).parent / "mteb-eval"
    child = subprocess.Popen(
        [str(program), *command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    folder = tmp_path / "results" / "observed"
    while child.poll() is None and not (
        folder.exists() and any(name.endswith(".parquet") for name in os.listdir(folder))
    ):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = len([name for name in os.listdir(folder) if name.endswith(".parquet")])
    assert done >= 1
    assert not (tmp_path / "out.jsonl").exists() or done == 4
    ran = evaluate(*command)
    assert ran.rc == 0
    assert ran.err.count("taken from results") >= done
    assert len(Path("out.jsonl").read_text().splitlines()) == 4 * 3


def test_one_encoding_serves_all_dimensions_and_number_types(
    model, evaluate, examples, write, monkeypatch
):
    from fletching.encode.forward_pass import ForwardPass

    passes = []
    forward = ForwardPass.vectors
    monkeypatch.setattr(
        ForwardPass,
        "vectors",
        lambda self, device, rows, *rest: (
            passes.append(len(rows)) or forward(self, device, rows, *rest)
        ),
    )
    path, masked = (
        write("test.jsonl", examples),
        write("masked.jsonl", [row | {"query": row["query"].lower()} for row in examples]),
    )
    command = [
        "--examples",
        path,
        "--examples",
        masked,
        "--dims",
        "32,8,4",
        "--quantise",
        "int8,binary",
    ]
    assert evaluate(model, *command).rc == 0
    assert sum(passes) == 12 * 3  # queries, lower-cased queries, documents: each once
