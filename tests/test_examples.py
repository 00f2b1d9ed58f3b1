"""The recipes of examples/: the harvest keeps its promises, and `make tune` goes from a table to a compared model."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest

from fletching.text import normalise

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
    texts = {name: {normalise(row[column]) for row in rows for column in ("docstring", "function")} for name, rows in harvested.items()}
    assert not (texts["test"] | texts["test-masked"]) & (texts["train"] | texts["dev"])


def test_the_docstring_is_cut_out_of_the_function(harvested):
    kept = [row["id"] for row in harvested["test"] if len(row["docstring"]) > 40 and row["docstring"] in " ".join(row["function"].split())]
    assert not kept


def test_a_masked_row_does_not_hold_its_name(harvested):
    named = {row["id"]: row for row in harvested["test"]}
    for row in harvested["test-masked"]:
        name = re.search(r"def (\w+)", named[row["id"]]["function"])[1]
        assert not re.search(rf"\b{name}\b", row["docstring"] + row["function"]), row["id"]
    masked = sum("def _(" in row["function"] for row in harvested["train"])
    assert 0.45 < masked / len(harvested["train"]) < 0.55


@pytest.fixture
def table(tmp_path, examples) -> Path:
    """120 questions with answers and topics."""
    path = tmp_path / "faq.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "topic"])
        for number in range(10):
            writer.writerows(
                [f"{row['query']} ({number})", f"{number}. {row['pos'][0]}", f"topic {i % 4}"] for i, row in enumerate(examples)
            )
    return path


def tune(run, table, model, *variables):
    settings = [f"CSV={table}", f"MODEL={model}", f"BUILD={table.parent / 'built'}", "TRAIN=--steps 3 --batch 16", *variables]
    return run(["make", "--no-print-directory", "-f", "examples/tune/Makefile", *settings], cwd=ROOT, timeout=300)


def test_tune_goes_from_a_table_to_a_model_and_a_comparison(run, table, model):
    ran = tune(run, table, model, "QUERY=question", "POS=answer", "CATEGORY=topic")
    assert ran.rc == 0, ran.err
    assert "ndcg" in ran.text.lower()
    assert "tuned" in ran.text
    built = table.parent / "built"
    assert (built / "model/model.safetensors").exists()
    again = tune(run, table, model, "QUERY=question", "POS=answer", "CATEGORY=topic")
    assert "== training" not in again.text, "the second run did again what was done"


def test_tune_takes_rows_of_a_category_for_each_others_answers(run, table, model):
    ran = tune(run, table, model, "QUERY=question", "CATEGORY=topic")
    assert ran.rc == 0, ran.err


@pytest.mark.parametrize(("variables", "what"), [((), "QUERY is missing"), (("QUERY=question",), "POS is missing")])
def test_tune_says_what_it_needs(run, table, model, variables, what):
    ran = tune(run, table, model, *variables)
    assert ran.rc == 2
    assert what in ran.err
