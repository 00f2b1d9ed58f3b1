"""Mining, filtering, evaluation, distillation and training encode the same text of a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from suite import call

from fletching.text import text_hash

pytestmark = pytest.mark.slow

TASK = "Given a question, find its answer."
TEMPLATE = ("--prompt-template", "Instruct: {}\\nQuery: ")
COMPLETE = f"Instruct: {TASK}\nQuery: "
COMMANDS = {
    "simfilter": "{input} --model {model} --score-only --cache cache -o out.jsonl",
    "hnmine": "{input} --model {model} --negatives 1 --range 1-4 --cache cache -o out.jsonl",
    "mteb-eval": "{model} --examples own={input} --cache cache -o out.jsonl",
    "texts2vectors": "{input} --model {model} --cache cache -o out.jsonl",
    "distill": "{input} --teacher {model} --student-layers 1 --steps 1 --batch 4 --cache cache -o d",
}


@pytest.fixture
def rows(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"prompt": TASK} for row in examples]


def encoded(folder: Path) -> set[str]:
    """The hashes of all texts, with their prompts, that the cache holds."""
    shards = [pa.ipc.open_file(path) for path in (folder / "cache").rglob("*.arrow")]
    return {name for shard in shards for name in shard.read_all()["text_hash"].to_pylist()}


@pytest.mark.parametrize("tool", COMMANDS)
def test_every_encoder_puts_the_same_prompt_before_a_query(
    tool: str, rows: list[dict[str, Any]], model: str, tmp_path: Path, write: Any
) -> None:
    path = write(tmp_path / "rows.jsonl", rows)
    words = COMMANDS[tool].format(input=path, model=model).split()
    ran = call([tool, *words, *TEMPLATE], cwd=tmp_path)
    assert ran.rc == 0, ran.err
    assert "has no blank or line end" not in ran.err
    assert {text_hash(COMPLETE + row["query"]) for row in rows} <= encoded(tmp_path)
    assert not {text_hash(TASK + row["query"]) for row in rows} & encoded(tmp_path)


def test_training_puts_it_there_too(
    rows: list[dict[str, Any]], model: str, tmp_path: Path, write: Any
) -> None:
    path = write(tmp_path / "rows.jsonl", rows)
    line = ["contrast-train", path, "--model", model, "-o", tmp_path / "d", "--steps", "1"]
    ran = call([*map(str, line), "--batch", "4", *TEMPLATE])
    assert ran.rc == 0, ran.err
    trained = json.loads((tmp_path / "d/fletching.json").read_text())["end"]["trained"]
    assert trained["prompts"]["query"] == [COMPLETE]
    measured = call(["mteb-eval", str(tmp_path / "d"), "--examples", path, *TEMPLATE])
    assert measured.rc == 0, measured.err
    glued = call(["mteb-eval", str(tmp_path / "d"), "--examples", path])
    assert glued.rc == 1
    assert "the test data ask for" in glued.err


@pytest.mark.parametrize("tool", [*COMMANDS, "contrast-train"])
def test_a_prompt_that_runs_into_its_query_is_told(
    tool: str, rows: list[dict[str, Any]], model: str, tmp_path: Path, write: Any
) -> None:
    path = write(tmp_path / "rows.jsonl", rows)
    train = "{input} --model {model} --batch 4 --dry-run"
    words = COMMANDS.get(tool, train).format(input=path, model=model).split()
    ran = call([tool, *words], cwd=tmp_path)
    assert ran.rc == 0, ran.err
    assert ran.err.count("has no blank or line end") == 1
    assert repr(TASK) in ran.err
    assert "--prompt-template" in ran.err
