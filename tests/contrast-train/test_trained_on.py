"""What a trained model tells of its training: keys of the texts, and the manner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from contrast_train import cli
from fletching import text_keys, training_index
from fletching.table.key_set import contains_sorted

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "4",
    "--batch-tokens",
    "64",
    "--dtype",
    "float32",
    "--activations",
    "0",
    "--steps",
    "1",
)


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, write: Any) -> Any:
    def train(rows: list[dict[str, Any]], out: str, base: str = model, *argv: Any) -> Path:
        done = invoke(
            cli.main,
            write(tmp_path / f"{out}.jsonl", rows),
            "--model",
            base,
            "-o",
            tmp_path / out,
            *FAST,
            *argv,
        )
        assert done.rc == 0, done.err
        return tmp_path / out

    return train


def known(folder: Path, texts: list[str]) -> list[bool]:
    found = training_index.load(str(folder))
    assert found is not None
    return contains_sorted(found.whole, text_keys.hash_texts(pa.array(texts))).tolist()


def test_the_folder_knows_the_texts_that_were_trained_on_and_no_others(
    train: Any, examples: list[dict[str, Any]]
) -> None:
    """One step of 4 of the 12 rows: queries, positives and negatives of 4 rows, and of no row that was not reached."""
    rows = [row | {"neg": [f"nothing of {row['id']}"]} for row in examples]
    folder = train(rows, "tuned")
    queries = known(folder, [row["query"].upper() for row in rows])
    assert sum(queries) == 4
    assert (
        known(folder, [row["pos"][0] for row in rows])
        == known(folder, [row["neg"][0] for row in rows])
        == queries
    )
    again = train([row for row, reached in zip(rows, queries) if reached], "again", str(folder))
    assert known(again, [row["query"] for row in rows]) == queries


def test_a_model_tuned_twice_knows_what_its_base_was_trained_on(
    train: Any, examples: list[dict[str, Any]]
) -> None:
    first = train(examples[:4], "first")
    second = train(examples[4:8], "second", str(first))
    assert known(second, [row["query"] for row in examples]) == [True] * 8 + [False] * 4


def test_the_lineage_tells_prompts_lengths_and_pooling(
    train: Any, model: str, examples: list[dict[str, Any]]
) -> None:
    folder = train(examples[:4], "tuned", model, "--query-prompt", "query: ", "--query-length", 16)
    manner = json.loads((folder / "fletching.json").read_text())["end"]["trained"]
    assert manner == {
        "prompts": {"query": ["query: "], "document": [""]},
        "lengths": {"query": 16, "document": 64},
        "pooling": "mean",
    }
    prompted = [
        row | {"prompt": f"task {number // 2}: "} for number, row in enumerate(examples[:3])
    ] + [examples[3]]
    several = json.loads((train(prompted, "several") / "fletching.json").read_text())["end"][
        "trained"
    ]
    assert several["prompts"]["query"] == ["", "task 0: ", "task 1: "]
