"""The recipes of examples/: the harvest keeps its promises, and `make tune` goes from a table to a compared model."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pairwise import build_cross_encoder

from fletching.text import normalise

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "dev", "test", "test-masked")


@pytest.fixture(scope="module")
def harvested(run, tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("tables")
    ran = run([sys.executable, ROOT / "examples/code-search/harvest.py", folder])
    assert ran.rc == 0, ran.err
    tables = {}
    for name in SPLITS:
        with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    return tables


def test_a_module_stands_in_one_split(harvested):
    modules = {name: {row["module"] for row in rows} for name, rows in harvested.items()}
    assert not modules["train"] & modules["test"]
    assert not modules["train"] & modules["dev"]
    assert modules["test"] == modules["test-masked"]
    assert min(len(rows) for rows in harvested.values()) > 200


def test_no_text_of_test_stands_in_train(harvested):
    texts = {
        name: {normalise(row[column]) for row in rows for column in ("docstring", "function")}
        for name, rows in harvested.items()
    }
    assert not (texts["test"] | texts["test-masked"]) & (texts["train"] | texts["dev"])


def test_the_docstring_is_cut_out_of_the_function(harvested):
    kept = [
        row["id"]
        for row in harvested["test"]
        if len(row["docstring"]) > 40 and row["docstring"] in " ".join(row["function"].split())
    ]
    assert not kept


def test_a_masked_row_does_not_hold_its_name(harvested):
    named = {row["id"]: row for row in harvested["test"]}
    for row in harvested["test-masked"]:
        name = re.search(r"def (\w+)", named[row["id"]]["function"])[1]
        assert not re.search(rf"\b{name}\b", row["docstring"] + row["function"]), row["id"]
    masked = sum("def _(" in row["function"] for row in harvested["train"])
    assert 0.45 < masked / len(harvested["train"]) < 0.55


def test_code_search_goes_by_stages_or_by_one_command(run, tmp_path):
    settings = ["MODEL=base", f"BUILD={tmp_path}", "BUDGET=7m", "-n"]
    stages, tuned = (
        make(run, "code-search", *target, *settings).text for target in ((), ("tune",))
    )
    assert all(name in stages for name in ("simfilter", "hnmine", "contrast-train", "mteb-eval"))
    assert "fletching-tune" not in stages
    assert "--dev" in tuned and "--budget 7m" in tuned and "simfilter" not in tuned


@pytest.fixture
def table(tmp_path, examples) -> Path:
    """120 questions with answers and topics."""
    path = tmp_path / "faq.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "topic"])
        for number in range(10):
            writer.writerows(
                [f"{row['query']} ({number})", f"{number}. {row['pos'][0]}", f"topic {i % 4}"]
                for i, row in enumerate(examples)
            )
    return path


def tune(run, table, model, *variables):
    settings = [
        f"CSV={table}",
        f"MODEL={model}",
        f"OUT={table.parent / 'built'}",
        *variables,
    ]
    return run(
        ["make", "--no-print-directory", "-f", "examples/tune/Makefile", *settings],
        cwd=ROOT,
        timeout=300,
    )


def test_tune_goes_from_a_table_to_a_verdict(run, table, model):
    line = (
        "QUERY=question",
        "POS=answer",
        "CATEGORY=topic",
        "BUDGET=9m",
        "ARGS=--candidates infonce",
    )
    ran = tune(run, table, model, *line)
    assert ran.rc == 0, ran.err
    assert "nDCG@10" in ran.text
    verdict = json.loads((table.parent / "built" / "verdict.json").read_text())
    assert ran.text.splitlines()[-1] == verdict["line"]
    assert "contrast-train" in (table.parent / "built" / "commands.sh").read_text()
    again = tune(run, table, model, *line)
    assert again.text == ran.text
    assert "contrast-train" not in again.err, "the second run did again what was done"


@pytest.mark.parametrize(
    ("variables", "what"), [((), "QUERY is missing"), (("QUERY=question",), "POS is missing")]
)
def test_tune_says_what_it_needs(run, table, model, variables, what):
    ran = tune(run, table, model, *variables)
    assert ran.rc == 2
    assert what in ran.err


@pytest.fixture
def claims(tmp_path) -> Path:
    """A BEIR folder: 40 documents, 40 train and 20 test queries; every other train query has a document judged irrelevant."""
    data = tmp_path / "data"
    (data / "qrels").mkdir(parents=True)
    with gzip.open(data / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"_id": f"d{i}", "title": f"Title {i}", "text": f"text {i}"}) + "\n"
            for i in range(40)
        )
    lines = [json.dumps({"_id": f"q{i}", "text": f"claim {i}"}) for i in range(60)]
    (data / "queries.jsonl").write_text("\n".join(lines) + "\n")
    header = "query-id\tcorpus-id\tscore\n"
    (data / "qrels" / "train.tsv").write_text(
        header + "".join(f"q{i}\td{i % 40}\t1\nq{i}\td{(i + 1) % 40}\t{i % 2}\n" for i in range(40))
    )
    (data / "qrels" / "test.tsv").write_text(
        header + "".join(f"q{i}\td{i % 40}\t1\n" for i in range(40, 60))
    )
    return data


def test_scifact_splits_its_train_queries_once_and_leaves_the_test_split_alone(
    run, tmp_path, claims
):
    ran = run([sys.executable, ROOT / "examples/scifact/split.py", claims, tmp_path / "out"])
    assert ran.rc == 0, ran.err
    every, part = (
        [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").open()]
        for name in ("all", "part")
    )
    dev = {
        line.split("\t")[0]
        for line in (tmp_path / "out" / "beir" / "qrels" / "dev.tsv").read_text().splitlines()[1:]
    }
    assert [row["id"] for row in every] == [f"q{i}" for i in range(40)] and 2 < len(dev) < 38
    assert part == [row for row in every if row["id"] not in dev] and dev < {
        row["id"] for row in every
    }
    for row in every:
        number = int(row["id"][1:])
        judged = [number, (number + 1) % 40] if number % 2 else [number]
        assert row["pos_ids"] == [f"d{i}" for i in judged] and row["pos"] == [
            f"Title {i} text {i}" for i in judged
        ]
    assert (tmp_path / "out" / "beir" / "qrels" / "test.tsv").read_text() == (
        claims / "qrels" / "test.tsv"
    ).read_text()
    assert len((tmp_path / "out" / "corpus.jsonl").read_text().splitlines()) == 40


def make(run, recipe, *variables):
    return run(
        ["make", "--no-print-directory", "-f", f"examples/{recipe}/Makefile", *variables],
        cwd=ROOT,
        timeout=300,
    )


def test_scifact_is_mined_trained_and_compared(run, tmp_path, claims, model):
    settings = [
        f"DATA={claims}",
        f"MODEL={model}",
        f"BUILD={tmp_path / 'built'}",
        "TRAIN=--steps 2 --batch 4",
    ]
    ran = make(run, "scifact", *settings)
    assert ran.rc == 0, ran.err
    assert re.search(r"nDCG@10 .*0\.\d+ .*0\.\d+", ran.text)
    mined = pq.read_table(tmp_path / "built" / "all.mined.parquet")
    assert len(mined) == 40 and any(mined["neg"].to_pylist())
    planned = make(
        run, "scifact", *settings, "test", "dev", "-n"
    ).text  # the test split is done; dev has rows and a split of its own
    assert (
        "all.mined" not in planned
        and "part.mined.parquet" in planned
        and "--beir-split dev" in planned
    )


@pytest.mark.parametrize(("loss", "own"), [("kl", True), ("margin-mse", False)])
def test_scores_of_a_cross_encoder_teach_a_model(run, tmp_path, write, examples, model, loss, own):
    """With a cross-encoder that is there, and with one that the recipe trains on the mined rows."""
    rows, built = write(tmp_path / "rows.jsonl", examples), tmp_path / "built"
    settings = [f"PAIRS={rows}", f"TEST={rows}", f"MODEL={model}", f"BUILD={built}", f"LOSS={loss}"]
    settings += [] if own else [f"RERANKER={build_cross_encoder(tmp_path / 'judge', model)}"]
    small = (
        "MINE=--negatives 2 --range 1-6",
        "TRAIN=--steps 2 --batch 4",
        "JUDGE=--epochs 9 --length 60 --batch 9 --lr 1e-3",
    )
    ran = make(run, "score-distill", *settings, *small)
    assert ran.rc == 0, ran.err
    assert "plain" in ran.text and "tuned" in ran.text
    assert (built / "model/model.safetensors").exists()
    assert (built / "reranker/model.safetensors").exists() == own
    if own:  # it has learned the rows that it was given, and says how well
        assert "reranker.py: positives score" in ran.err
        scored = pq.read_table(built / "scored.parquet").to_pylist()
        assert (
            sum(row["pos_scores"][0] > max(row["neg_scores"]) for row in scored) > len(scored) / 2
        )
    assert "PAIRS is missing" in make(run, "score-distill", settings[1]).err


def test_two_students_are_distilled_and_compared(run, tmp_path, model):
    (tmp_path / "text.txt").write_text(
        " = Owls = \n The owl hunts at night , when mice leave . Bread rises . The tide follows the moon 's pull .\n",
        "utf-8",
    )
    settings = [
        f"TEXT={tmp_path / 'text.txt'}",
        f"MODEL={model}",
        f"BUILD={tmp_path / 'built'}",
        "BOTH=--limit 300",
    ]
    ran = make(
        run,
        "distill",
        *settings,
        "SMALL=--student-layers 1 --steps 2",
        "STATIC=--student static --steps 2",
    )
    assert ran.rc == 0, ran.err
    assert all(name in ran.text for name in ("teacher", "small", "static"))
    texts = (tmp_path / "built/texts.jsonl").read_text("utf-8")
    assert (
        '"The owl hunts at night, when mice leave."' in texts
        and '"The tide follows the moon\'s pull."' in texts
    )
    whole = (
        "The owl hunts at night, when mice leave. Bread rises. The tide follows the moon's pull."
    )
    assert f'"{whole}"' in texts
    assert "Owls" not in texts and '"Bread rises."' not in texts
