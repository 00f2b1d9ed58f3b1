"""The command line: what is refused before any work, and lines that can be run by hand."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment
from tune_fakes import model_folder

from fletching.errors import InputError, UsageError
from fletching_tune.cli import main
from fletching_tune.steps.step import list_value

pytestmark = pytest.mark.slow  # as a whole: what one runs while typing ends in a minute


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([("q", "a")] * 50, "too few", id="all duplicates"),
        pytest.param([(f"q {n}", f"a {n}") for n in range(8)], "too few", id="few rows"),
        pytest.param([(f"q {n}", "a") for n in range(50)], "one and the same answer", id="one document"),
        pytest.param([(f"q {n}", f"a {n % 2}") for n in range(50)], "no row is left for", id="two documents"),
        pytest.param([], "too few", id="no rows"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_split_is_refused_before_training(
    rows, words, programs, tune, tmp_path
):
    model_folder("base", 0)
    write_rows(tmp_path / "faq.csv", rows)
    with pytest.raises(InputError, match=words) as error:
        tune()
    assert error.value.fix
    assert "probe" not in programs.started


def test_a_budget_that_is_too_small_names_the_one_that_is_enough(faq, tune, programs):
    programs.row_seconds = 1.0
    with pytest.raises(InputError, match="too small for one candidate") as error:
        tune(budget="5m")
    assert not [name for name in programs.started if name.startswith("train")]
    assert tune(budget=error.value.fix.removeprefix("pass --budget ")).verdict


def test_require_gain_is_the_exit_code(faq, tune, programs):
    assert tune(require_gain=True).code == 0
    programs.learned = {}
    kept = tune(require_gain=True, seed=1)
    assert kept.code == 1
    assert kept.out.splitlines()[-1].startswith("verdict: NO GAIN: keep the base base")
    assert sorted(path.name for path in Path("tuned").iterdir()) == [
        "commands.sh",
        "report.html",
        "verdict.json",
    ]


def test_what_a_run_leaves(faq, tune):
    done = tune()
    assert done.out.splitlines()[-1] == done.verdict["line"]
    card = Path("tuned/README.md").read_text()
    assert card.startswith("# card\n")
    assert "## Held-out comparison" in card
    assert "the table" in card
    assert done.verdict["model"] == "tuned"
    assert [row["low"] for row in done.verdict["candidates"]] == sorted(
        (row["low"] for row in done.verdict["candidates"]), reverse=True
    )


def test_what_a_candidate_forgets_is_said_and_may_exclude_it(faq, tune, programs):
    done = tune()
    assert done.verdict["findings"]["winner"].startswith("anchored-")
    assert "choice    anchored-" in done.out and "keeps 60% of the guard" in done.out
    shares = {row["candidate"]: row["kept"] for row in done.verdict["candidates"]}
    assert shares[done.verdict["findings"]["winner"]] == pytest.approx(0.6)
    nearer = tune(guard_share=0.75)
    assert shares[nearer.verdict["findings"]["winner"]] >= 0.75
    assert nearer.executed == ["test"]
    none = tune(guard_share=0.99)
    assert none.verdict["outcome"] == "NO GAIN"
    assert "no candidate keeps 99% of the guard" in none.out.splitlines()[-1]


def test_a_machine_that_slows_down_ends_near_the_budget_and_decides_the_same_again(
    faq, tune, programs, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr("fletching_tune.steps.runner.time.monotonic", lambda: clock[0])

    def tick(step):
        is_slow = step.program == "contrast-train" and step.name != "probe"
        clock[0] += 60 if is_slow else 10

    programs.after = tick
    done = tune(budget="8m")
    assert 4 * 60 < done.verdict["seconds"] < 8 * 60
    assert any("would exceed the budget: left out" in note for note in done.notes)
    assert "would exceed the budget" in Path("tuned/report.html").read_text()
    assert tune(budget="8m").executed == []


def test_a_budget_that_was_exceeded_is_said(faq, tune, programs, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("fletching_tune.steps.runner.time.monotonic", lambda: clock[0])
    programs.after = lambda step: clock.__setitem__(0, clock[0] + 300 * (step.name == "test"))
    done = tune(budget="3m")
    assert any("the machine was slower" in note for note in done.notes)
    assert "the machine was slower" in Path("tuned/report.html").read_text()


def test_held_out_tables_replace_the_split(faq, tune, programs):
    for name in ("dev", "test"):
        write_rows(Path(f"{name}.csv"), [(f"{name} {n}", f"to {name} {n}") for n in range(120)])
    done = tune(dev=("dev.csv",), test=("test.csv",))
    assert done.executed[:3] == ["pairs-train", "pairs-dev", "pairs-test"]
    assert done.verdict["findings"]["queries"] == 120


def commands() -> list[str]:
    return Path("tuned/commands.sh").read_text().splitlines()


def test_each_answer_of_a_row_is_a_document_of_its_own(tune, tmp_path, programs):
    model_folder(str(tmp_path / "base"), 0.0)
    with open("faq.csv", "w", encoding="utf-8", newline="") as file:
        rows = [(f"question {n}", f"answer {n}", f"another {n}") for n in range(60)]
        csv.writer(file).writerows([("question", "answer", "more"), *rows])
    tune(pos=("answer", "more"), mode="list", to="plan")
    texts = pq.read_table("tuned.tune/documents.parquet")["text"].to_pylist()
    assert sorted(texts) == sorted(text for row in rows for text in row[1:])


def test_lists_of_a_sample_of_the_rows_are_of_all_answers_that_are_trained_on(
    faq, tune, programs, monkeypatch
):
    monkeypatch.setattr("fletching_tune.contest.MOST_LISTED_ROWS", 30)
    tune(candidates="hybrid")
    searched = pq.read_table("tuned.tune/hybrid-documents.parquet")["text"].to_pylist()
    rows = pq.read_table("tuned.tune/pairs/train.parquet")["pos"].to_pylist()
    assert sorted(searched) == sorted(text for row in rows for text in row)
    [lists] = [line for line in commands() if line.startswith("hnmine ")]
    assert lists.startswith("hnmine tuned.tune/hybrid-rows.parquet ")
    assert " --corpus tuned.tune/hybrid-documents.parquet " in lists


def test_a_recipe_that_has_all_its_updates_is_trained_once_and_can_still_win(
    faq, tune, programs, monkeypatch
):
    programs.learned["hybrid"] = 0.2
    monkeypatch.setattr("fletching_tune.training_shape.FEWEST_UPDATES", 300)
    done = tune()
    assert done.executed.count("train-hybrid-60") == 1
    lines = [line for line in commands() if line.startswith("contrast-train ")]
    assert len(lines) == len(set(lines))
    longer = {name for name in done.executed if name.startswith("train-")}
    assert {"anchored", "infonce"} <= {name.split("-")[1] for name in longer}
    assert "hybrid-60" in done.verdict["findings"]["winner"]
    assert done.verdict["findings"]["curve"] == [], "its updates do not follow from the rows"


def test_other_vectors_of_documents_are_other_models(faq, tune, programs):
    tune(candidates="hybrid,gentle", to="train")
    programs.vectors = "by another encoder"
    Path("tuned.tune/stamps/hybrid-vectors.json").unlink()
    again = tune(candidates="hybrid,gentle", to="train")
    assert any(name.startswith("train-hybrid-") for name in again.executed)
    assert not any(name.startswith("train-gentle-") for name in again.executed)


def test_a_corpus_is_counted_and_searched(faq, tune, programs):
    texts = [{"id": f"t{n}", "text": f"text {n}"} for n in range(70)]
    pq.write_table(pa.Table.from_pylist(texts), "more.parquet")
    done = tune(corpus=("more.parquet",))
    assert any("dev ranks 370 documents" in note for note in done.notes)
    script = Path("tuned/commands.sh").read_text()
    assert "--eval-corpus tuned.tune/documents.parquet --eval-corpus more.parquet" in script
    Path("more.parquet").unlink()
    pq.write_table(pa.Table.from_pylist(texts[:50]), "more.parquet")
    executed = tune(corpus=("more.parquet",)).executed
    assert {"dev", "mine"} <= set(executed)
    assert not {"split", "probe"} & set(executed)


def test_held_out_tables_that_are_trained_on_are_refused(faq, tune):
    with pytest.raises(InputError, match="every query of --dev is in TABLE too"):
        tune(dev=("faq.csv",), test=("faq.csv",))


def test_few_queries_say_what_they_can_show(tune, tmp_path, programs):
    model_folder("base", 0)
    write_rows(tmp_path / "faq.csv", [(f"q {n}", f"a {n}") for n in range(120)])
    assert any("queries show differences of 0.0" in note for note in tune().notes)


def test_examples_need_no_columns(tune, programs):
    model_folder("base", 0)
    rows = [{"query": f"q {n}", "pos": [f"a {n}", f"b {n}"], "neg": None} for n in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), "faq.parquet")
    done = tune(inputs=("faq.parquet",), query=None, pos=())
    assert done.verdict["outcome"] in ("WIN", "MARGINAL")
    kept = pq.read_table("tuned.tune/pairs/train.parquet")["pos"].to_pylist()
    assert all(len(answers) == 2 for answers in kept)


def test_what_examples_hold_is_kept_under_any_name_and_the_rest_is_named(tune, programs):
    model_folder("base", 0)
    rows = [
        {"anchor": f"q {n}", "positive": f"a {n}", "instruction": "Find: "}
        | ({"negative": [f"n {n}"], "pos_scores": [0.5]} if n % 2 else {})
        for n in range(100)
    ]
    Path("faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = tune(inputs=("faq.jsonl",), query=None, pos=(), to="plan")
    assert any("`pos_scores` of faq.jsonl take no part" in note for note in done.notes)
    for row in pq.read_table("tuned.tune/pairs/train.parquet").to_pylist():
        number = int(row["query"].removeprefix("q "))
        assert row["pos"] == [f"a {number}"] and row["instruction"] == "Find: "
        assert row["neg"] == ([f"n {number}"] if number % 2 else None)


def test_a_table_without_names_of_columns_is_refused_with_its_columns(faq, tune, programs):
    with pytest.raises(UsageError, match="it has `question`, `answer`, `topic`") as error:
        tune(query=None, pos=())
    assert "--query COL --pos COL" in error.value.fix
    assert programs.started == []


def test_printed_commands_run_by_hand_with_blanks_and_quotes_in_every_name(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model_folder("the base", 0)
    table = 'Ann\'s "faq" & more, 1.csv'
    with open(table, "w", encoding="utf-8", newline="") as file:
        rows = [(f"q {n}", f"a {n}", f"n{n}|m{n}") for n in range(60)]
        csv.writer(file).writerows([("the question, asked", "Bob's $answer", "other names"), *rows])
    line = [
        table, "--query", "the question, asked", "--pos", "Bob's $answer", "--pos", "other names", "--mode", "list",
        "--separator", "other names=|", "--model", "the base", "-o", "out of Ann's",
    ]  # fmt: skip
    assert main([*line, "--print-commands"]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[-1].startswith("# ")
    Path("out of Ann's.tune/pairs").mkdir(parents=True)
    Path("out of Ann's.tune/summaries").mkdir()
    subprocess.run(["bash", "-ec", printed[0]], check=True, env=environment(), capture_output=True)
    rows = pq.read_table("out of Ann's.tune/pairs/all.parquet").to_pylist()
    assert rows[7]["pos"] == ["a 7", "n7", "m7"]
    assert (
        json.loads(Path("out of Ann's.tune/summaries/pairs-all.json").read_text())["rows_out"] == 60
    )


def test_a_value_of_a_list_keeps_its_comma():
    assert list_value("plain name") == "plain name"
    assert list_value('a,b "c"') == '"a,b ""c"""'


def test_rows_of_a_category_answer_each_other_without_a_corpus(faq, tune):
    done = tune(pos=(), category="topic")
    assert "documents" not in done.executed
    assert done.verdict["line"].startswith("verdict: ")
    assert "--mode group" in Path("tuned/commands.sh").read_text()
