"""What a model's folder tells of its training: test texts that it saw, and a manner that the options must not contradict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching import training_index

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

LONG = "one two three four five six seven eight nine ten?"
MANNER = {
    "prompts": {"query": [""], "document": [""]},
    "lengths": {"query": 64, "document": 64},
    "pooling": "mean",
}


@pytest.fixture
def tuned(model: str, tmp_path: Path) -> Callable[..., Path]:
    """tuned("name", texts, prompts=…): a copy of the model that says it was trained on these texts, in this manner."""

    def make(
        name: str,
        texts: list[str] | None = None,
        most_runs: int = training_index.MOST_RUNS,
        **manner: Any,
    ) -> Path:
        folder = shutil.copytree(model, tmp_path / name)
        keys = training_index.TrainingIndex(most_runs)
        keys.add(pa.array(texts or [], pa.string()))
        keys.save(str(folder))
        (folder / "fletching.json").write_text(
            json.dumps({"step": {"tool": "contrast-train"}, "end": {"trained": MANNER | manner}})
        )
        return folder

    return make


# --- contamination -------------------------------------------------------------------------------


def test_test_texts_that_a_model_saw_are_flagged_by_the_keys_in_its_folder(
    model, tuned, evaluate, measures, examples, write
):
    near = LONG.replace("one", "zero one").replace("?", " eleven")
    tuned("tuned", [examples[0]["query"].upper(), near, examples[1]["pos"][0], "Nothing of it."])
    test = write("t.jsonl", [*examples, {"query": LONG, "pos": ["A text of its own."]}])
    Path("s.csv").write_text(f'a,b,1\n"{examples[1]["pos"][0]}",d,2\ne,f,3\n')
    ran = evaluate(
        f"base={model}",
        "tuned",
        "--examples",
        test,
        "--sts",
        "s.csv",
        "--dims",
        "32,16",
        "--changed",
        0,
        "-o",
        "out.jsonl",
    )
    assert ran.rc == 0, ran.err
    assert [line for line in ran.text.splitlines() if "!" in line] == [
        "  ! 1 of 13 queries are in the training data of tuned word for word, 1 more nearly so",
        "  ! 1 of 13 relevant documents are in the training data of tuned word for word",
        "  ! 1 of 6 sentences are in the training data of tuned word for word",
    ]
    shares = {
        key: (row["value"], row["count"])
        for key, row in measures("out.jsonl").items()
        if key[2].endswith("_seen")
    }
    assert (
        shares["tuned", "t", "queries_seen"]
        == shares["tuned", "t", "queries_nearly_seen"]
        == (1 / 13, 13)
    )
    assert shares["tuned", "t", "documents_seen"] == (1 / 13, 13)
    assert shares["tuned@16", "s", "sentences_seen"] == (1 / 6, 6)
    assert shares["tuned", "s", "sentences_nearly_seen"] == (0, 6)
    assert {run for run, _, _ in shares} == {
        "tuned",
        "tuned@16",
    }  # nobody knows what the base was trained on


def test_a_clean_model_has_no_flag_but_the_measures_say_that_it_was_looked_at(
    tuned, evaluate, measures, examples, write
):
    tuned("tuned", ["Nothing of it."])
    ran = evaluate("tuned", "--examples", write("t.jsonl", examples), "-o", "out.jsonl")
    assert "!" not in ran.text
    assert measures("out.jsonl")["tuned", "t", "queries_seen"]["value"] == 0


def test_where_runs_are_a_sample_those_outside_of_it_do_not_count(tuned, evaluate, examples, write):
    """1,000 runs known, of which about 300 are kept: the copy of half of the text is still found, another text is not."""
    words = [f"w{number}" for number in range(1007)]
    tuned("tuned", [" ".join(words)], most_runs=300)
    queries = [
        " ".join([*words[:400], *(f"x{number}" for number in range(300))]),
        " ".join(f"y{number}" for number in range(700)),
    ]
    rows = [
        *examples,
        *({"query": query, "pos": [f"answer {number}"]} for number, query in enumerate(queries)),
    ]
    ran = evaluate("tuned", "--examples", write("t.jsonl", rows), "--changed", 0)
    assert (
        "! about 1 of 14 queries are in the training data of tuned, nearly word for word"
        in ran.text
    )


def test_negatives_of_the_training_data_count_as_seen(model, evaluate, examples, write):
    train = write("train.jsonl", [{"query": "q", "pos": ["p"], "neg": [examples[0]["pos"][0]]}])
    ran = evaluate(model, "--examples", write("t.jsonl", examples), "--training", train)
    assert "! 1 of 12 relevant documents are in the training data word for word" in ran.text


def test_a_damaged_file_of_keys_is_refused(tuned, evaluate, examples, write):
    (tuned("tuned") / training_index.NAME).write_bytes(b"PAR1")
    ran = evaluate("tuned", "--examples", write("t.jsonl", examples))
    assert ran.rc == 1
    assert "trained-on.parquet is damaged" in ran.err


# --- clash ---------------------------------------------------------------------------------------

PLAIN = "tuned was trained without a query prompt"


@pytest.mark.parametrize(
    ("manner", "argv", "message"),
    [
        ({}, (), None),
        ({}, ("--query-prompt", "find: "), f"{PLAIN}, --query-prompt asks for 'find: '"),
        (
            {},
            ("--doc-prompt", "text: "),
            "tuned was trained without a document prompt, --doc-prompt asks for 'text: '",
        ),
        (
            {},
            ("--query-length", 8),
            "tuned was trained on query texts of 64 tokens, --query-length asks for 8",
        ),
        (
            {},
            ("--doc-length", 32),
            "tuned was trained on document texts of 64 tokens, --doc-length asks for 32",
        ),
        ({}, ("--query-length", 64), None),
        (
            {"prompts": {"query": ["find: "], "document": [""]}},
            (),
            "was trained with the query prompt 'find: ', its folder now has ''",
        ),
        ({"prompts": {"query": ["find: "], "document": [""]}}, ("--query-prompt", "find: "), None),
        (
            {"prompts": {"query": ["a: ", "b: "], "document": [""]}},
            ("--query-prompt", "find: "),
            None,
        ),
        (
            {"lengths": {"query": 64, "document": 128}},
            (),
            "trained on document texts of 128 tokens, its folder now truncates them after 64",
        ),
        ({"pooling": "cls"}, (), "tuned was trained with cls pooling, its folder now has mean"),
    ],
)
def test_a_clash_with_the_training_is_an_error_unless_it_is_asked_for(
    manner, argv, message, tuned, evaluate, examples, write
):
    tuned("tuned", **manner)
    command = ["tuned", "--examples", write("t.jsonl", examples), *argv]
    ran = evaluate(*command)
    assert ran.rc == (1 if message else 0), ran.err
    if message:
        assert message in ran.err
        assert "--allow-prompt-mismatch" in ran.err
        assert evaluate(*command, "--allow-prompt-mismatch").rc == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--doc-length", 32), "second was trained on document texts of 64 tokens"),
        (("--query-prompt", "find: "), "second was saved with the query prompt 'search: '"),
    ],
)
def test_what_the_last_folder_states_is_refused_before_the_first_model_is_loaded(
    argv, message, model, tuned, evaluate, examples, write
):
    folder = tuned("second")
    saved = {"prompts": {"query": "search: "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    ran = evaluate(f"first={model}", "second", "--examples", write("t.jsonl", examples), *argv)
    assert ran.rc == 1
    assert message in ran.err
    assert "loading" not in ran.err


def test_a_prompt_of_the_data_clashes_with_a_model_that_was_trained_without(
    tuned, evaluate, examples, write
):
    tuned("tuned")
    path = write("t.jsonl", [row | {"prompt": "find: "} for row in examples])
    ran = evaluate("tuned", "--examples", path)
    assert ran.rc == 1
    assert f"{PLAIN}, the test data ask for 'find: '" in ran.err
    assert evaluate("tuned", "--examples", path, "--allow-prompt-mismatch").rc == 0


def test_a_folder_that_reads_more_than_was_trained_is_told(tuned, evaluate, examples, write):
    tuned("tuned", lengths={"query": 16, "document": 64})
    ran = evaluate("tuned", "--examples", write("t.jsonl", examples))
    assert ran.rc == 0
    assert (
        "tuned was trained on query texts of 16 tokens and reads 64 here, as its folder says"
        in ran.err
    )
    assert "document texts of" not in ran.err


@pytest.mark.parametrize("content", ["{", "[]", '{"end": {"trained": {"prompts": 1}}}'])
def test_a_damaged_lineage_is_refused_and_one_of_older_days_is_not(
    content, tuned, evaluate, examples, write
):
    folder = tuned("tuned")
    (folder / "fletching.json").write_text(content)
    command = ["tuned", "--examples", write("t.jsonl", examples)]
    ran = evaluate(*command)
    assert ran.rc == 1
    assert "fletching.json is damaged" in ran.err
    (folder / "fletching.json").write_text('{"step": {}, "end": {}}')
    assert evaluate(*command).rc == 0
