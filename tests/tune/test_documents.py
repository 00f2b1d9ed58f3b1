"""Documents in place of a table: generated queries, split by document, judged by people's where there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tune_fakes import model_folder

from fletching.errors import UsageError

pytestmark = pytest.mark.slow  # as a whole: what one runs while typing ends in a minute

OF_DOCUMENTS: dict[str, Any] = {
    "inputs": ("docs/",),
    "query": None,
    "pos": (),
    "documents": True,
}
OF_LLM = {"llm": "http://localhost:1/v1", "llm_model": "a-model"}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """60 documents of two sections; the folder `base` is the model."""
    model_folder(str(tmp_path / "base"), 0.0)
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(60):
        sections = [
            f"# Chapter {number} on subject\n",
            *(
                f"## Part {letter} of chapter {number}\n\n"
                f"This sentence opens part {letter}{number} here. "
                + " ".join(f"Fact {number * 7 + fact} follows in {letter}." for fact in range(5))
                for letter in "ab"
            ),
        ]
        (folder / f"{number:02}.md").write_text("\n\n".join(sections))
    return folder


def rows_of(name: str) -> list[dict[str, Any]]:
    return pq.read_table(f"tuned.tune/pairs/{name}.parquet").to_pylist()


def test_a_folder_becomes_a_verdict_over_generated_queries(docs, tune, programs):
    programs.learned["hybrid"] = 0.2
    done = tune(**OF_DOCUMENTS)
    assert done.verdict["outcome"] == "WIN"
    assert " generated queries" in done.verdict["line"]
    assert any(note.startswith("documents: 60 in, 120 texts; ") for note in done.notes)
    sides = {name: {row["document"] for row in rows_of(name)} for name in ("train", "dev", "test")}
    assert all(sides.values())
    assert not sides["train"] & sides["dev"] | sides["train"] & sides["test"]
    assert not sides["dev"] & sides["test"]
    assert len(set().union(*sides.values())) == 60
    assert {"texts", "queries", "pairs-generated", "round-trip", "split"} <= set(done.executed)


def test_lists_are_learned_against_the_fixed_vectors_of_their_documents(
    docs, tune, programs, monkeypatch
):
    """Of more rows than are seen, a sample is listed."""
    monkeypatch.setattr("fletching_tune.contest.MOST_LISTED_ROWS", 30)
    programs.learned["hybrid"] = 0.2
    tune(**OF_DOCUMENTS)
    lines = Path("tuned/commands.sh").read_text().splitlines()
    [sample] = [line for line in lines if line.endswith(" -o tuned.tune/hybrid-rows.parquet")]
    assert sample.startswith("arrowcat tuned.tune/pairs/train.parquet --sample 30 ")
    [lists] = [line for line in lines if line.startswith("hnmine ")]
    assert lists.split()[1] == "tuned.tune/hybrid-rows.parquet"
    [vectors] = [line for line in lines if line.startswith("texts2vectors ")]
    assert vectors.split()[1] == "tuned.tune/hybrid.parquet"
    trained = [
        line for line in lines if line.startswith("contrast-train tuned.tune/hybrid.parquet")
    ]
    assert len(trained) >= 3
    for line in trained:
        assert " --document-vectors tuned.tune/hybrid-vectors.parquet --batch 32 " in line


def test_the_best_candidate_is_the_mean_of_three_seeds(docs, tune, programs):
    programs.learned["hybrid"] = 0.1
    done = tune(**OF_DOCUMENTS, seed=7)
    names = [row["candidate"] for row in done.verdict["candidates"]]
    [mean] = [name for name in names if f"blend-{name}" in names and name.endswith("-3seeds")]
    best = mean.removesuffix("-3seeds")
    assert best not in names
    lines = Path("tuned/commands.sh").read_text().splitlines()
    folders = [f"tuned.tune/models/{best}{seed}" for seed in ("", "-seed1", "-seed2")]
    for number, folder in enumerate(folders):
        [line] = [line for line in lines if line.endswith(f" -o {folder}")]
        assert f"--seed {7 + number} " in line
    [line] = [line for line in lines if line.endswith(f"/{mean}")]
    assert line.startswith(
        f"blend-models {' '.join(folders)} --weights 0.333333,0.333333,0.333333 "
    )
    [line] = [line for line in lines if line.endswith(f"/blend-{mean}")]
    assert " --weights 0.7,0.3 " in line


def test_on_a_machine_that_slows_down_the_other_seeds_are_shorter(
    docs, tune, programs, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr("fletching_tune.steps.runner.time.monotonic", lambda: clock[0])

    def tick(step):
        if step.program == "contrast-train" and step.name != "probe":
            clock[0] += 1.9 * int(step.argv[step.argv.index("--steps") + 1])

    programs.after, programs.row_seconds = tick, 0.06
    settings = {**OF_DOCUMENTS, "budget": "10m", "candidates": "anchored,infonce"}
    done = tune(**settings)
    shorter = [note for note in done.notes if "to keep to the budget" in note]
    assert [note.partition(" of 50 with ")[2][:6] for note in shorter] == ["seed 1", "seed 2"]
    assert not any("are compared" in note for note in done.notes), "both finalists are in time"
    assert any(row["candidate"].endswith("-3seeds") for row in done.verdict["candidates"])
    assert 8 * 60 < done.verdict["seconds"] < 10 * 60
    assert tune(**settings).executed == []


def training_words() -> list[list[str]]:
    lines = Path("tuned/commands.sh").read_text().splitlines()
    trained = [line.split() for line in lines if line.startswith("contrast-train ")]
    return [words for words in trained if "--dry-run" not in words]


def test_generated_queries_choose_among_models_and_not_among_steps(docs, tune, programs):
    tune(**OF_DOCUMENTS, candidates="anchored,infonce")
    trained = training_words()
    assert trained
    for words in trained:
        assert words[words.index("--eval-every") + 1] == words[words.index("--steps") + 1]


def test_one_candidate_alone_is_trained_without_evaluations(docs, tune, programs):
    programs.learned["hybrid"] = 0.1
    done = tune(**OF_DOCUMENTS)
    assert len(training_words()) == 3
    assert not any("--eval" in words for words in training_words())
    assert done.verdict["outcome"] == "WIN"
    assert done.verdict["findings"]["dev"]["value"] > 0.05


def test_a_seed_that_found_nothing_is_no_part_of_the_mean(docs, tune, programs):
    programs.failing_seeds = (1,)
    done = tune(**OF_DOCUMENTS, candidates="anchored,gentle")
    [note] = [note for note in done.notes if "never better than the base" in note]
    assert note.endswith("-seed1 was never better than the base on dev: left out of the mean")
    lines = Path("tuned/commands.sh").read_text().splitlines()
    [mean] = [line for line in lines if line.startswith("blend-models ") and "-2seeds" in line][:1]
    assert "-seed2 --weights 0.5,0.5 " in mean and "-seed1 " not in mean


def test_the_second_run_redoes_nothing_and_a_changed_document_what_follows(docs, tune, programs):
    programs.learned["hybrid"] = 0.1
    tune(**OF_DOCUMENTS)
    assert tune(**OF_DOCUMENTS).executed == []
    (docs / "60.md").write_text("# New\n\nA new document with a sentence. And one. And one more.")
    again = tune(**OF_DOCUMENTS, to="split")
    assert again.executed[:2] == ["texts", "queries"]


def test_queries_of_people_are_the_test_and_search_the_texts_as_they_are(docs, tune, programs):
    tune(**OF_DOCUMENTS, to="split")
    texts = pq.read_table("tuned.tune/texts.parquet").to_pylist()
    with open("people.jsonl", "w", encoding="utf-8") as file:
        for text in texts[:30]:
            row = {"query": f"q {text['id']}", "pos": [text["text"]], "pos_ids": [text["id"]]}
            file.write(json.dumps(row) + "\n")
    searched = []
    programs.after = lambda step: searched.append(step) if step.name == "test" else None
    programs.learned["hybrid"] = -0.2  # generated queries refuse what is surely worse …
    assert tune(**OF_DOCUMENTS, test=("people.jsonl",)).verdict["outcome"] == "NO GAIN"
    assert not searched
    programs.learned["hybrid"] = 0.0  # … and leave the rest to those of people
    shutil.rmtree("tuned.tune/models")
    done = tune(**OF_DOCUMENTS, test=("people.jsonl",))
    assert done.verdict["findings"]["dev"]["low"] < 0
    assert done.verdict["findings"]["test"]
    assert "people's queries decide" in done.verdict["findings"]["choice"]
    assert " 30 held-out queries" in done.verdict["line"]
    assert {row["query"][:2] for row in rows_of("test")} == {"q "}
    [step] = searched
    assert step.inputs[1] == "tuned.tune/texts.parquet"
    assert len(rows_of("train")) + len(rows_of("dev")) == len(rows_of("all"))


def test_of_a_beir_folder_the_test_judgements_count(docs, tune, programs):
    tune(**OF_DOCUMENTS, to="split")
    texts = pq.read_table("tuned.tune/texts.parquet").to_pylist()[:40]
    qrels = Path("people", "qrels")
    qrels.mkdir(parents=True)
    corpus = [{"_id": text["id"], "text": text["text"]} for text in texts]
    queries = [{"_id": f"q{number}", "text": f"q {number}"} for number in range(len(texts))]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        Path("people", f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, numbers in (("train", range(25)), ("test", range(25, 40))):
        judged = [f"q{number}\t{texts[number]['id']}\t1\n" for number in numbers]
        (qrels / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    tune(**OF_DOCUMENTS, test=("people",), to="split")
    assert {row["query"] for row in rows_of("test")} == {f"q {number}" for number in range(25, 40)}


def test_an_llm_is_paid_once_and_its_time_is_not_part_of_the_budget(docs, tune, programs):
    done = tune(**OF_DOCUMENTS, **OF_LLM)
    assert done.verdict["outcome"] == "WIN"
    [line] = [line for line in Path("tuned/commands.sh").read_text().splitlines() if line.startswith("synthgen ")]  # fmt: skip
    for word in ("--job queries", "--per-row 3", "--journal tuned.tune/llm-journal"):
        assert word in line
    assert "--no-evidence" not in line
    Path("tuned.tune/stamps/queries-of-llm.json").unlink()
    (docs / "60.md").write_text("# New\n\nA new document with a sentence. And one. And one more.")
    tune(**OF_DOCUMENTS, **OF_LLM, llm_requests=5, to="split")
    assert Path("tuned.tune/llm-journal/responses").read_text() == "121"


def test_what_an_llm_writes_joins_the_queries_of_the_texts(docs, tune, programs):
    """One positive a text, whoever asks for it, and a document on one side."""
    done = tune(**OF_DOCUMENTS, **OF_LLM, to="split")
    assert any("queries generated (240 written by the LLM)" in note for note in done.notes)
    rows = rows_of("generated")
    assert {row["kind"] for row in rows} == {"heading", "written"}
    positives: dict[str, set[str]] = {}
    for row in rows:
        for text, positive in zip(row["pos_ids"], row["pos"], strict=True):
            positives.setdefault(text, set()).add(positive)
    assert len(positives) == 120 and all(len(texts) == 1 for texts in positives.values())
    assert "prompt" not in rows_of("train")[0]
    train = {row["document"] for row in rows_of("train")}
    assert not train & {row["document"] for row in rows_of("dev")}


def test_a_small_llm_is_asked_for_one_query_at_a_time(docs, tune, programs):
    tune(**OF_DOCUMENTS, **OF_LLM, llm_single=True)
    lines = Path("tuned/commands.sh").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("synthgen ")]
    assert "--queries-per-request 1 --no-evidence --answer-tokens 100" in line


def test_a_corpus_of_texts_does_without_docs2texts(docs, tune, programs):
    sentences = " ".join(f"Fact {fact} follows it." for fact in range(4))
    with open("corpus.jsonl", "w", encoding="utf-8") as file:
        for number in range(80):
            text = f"Opening number {number} says so. {sentences} Ending number {number} says so."
            file.write(json.dumps({"id": str(number), "title": f"On part {number}", "text": text}) + "\n")  # fmt: skip
    done = tune(**OF_DOCUMENTS | {"inputs": ("corpus.jsonl",)}, to="split")
    assert "texts" in done.executed
    assert "docs2texts" not in "".join(programs.started)
    assert {row["kind"] for row in rows_of("generated")} >= {"title", "cloze"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query": "question"}, "--query names columns of a table"),
        ({"llm": "http://localhost:1/v1"}, "--llm and --llm-model come together"),
        ({"documents": False, "query": "q", "pos": ("a",), **OF_LLM}, "--llm belongs to --documents"),
        ({"documents": False, "query": "q", "pos": ("a",), "llm_single": True}, "--llm belongs to"),
        ({"dev": ("x.csv",), "test": ("y.csv",)}, "--dev does not go with --documents"),
        ({"inputs": ()}, "there is no table"),
    ],
)  # fmt: skip
def test_options_that_contradict_documents_are_refused(options, words, docs, tune):
    with pytest.raises(UsageError, match=words):
        tune(**OF_DOCUMENTS | options)
