"""Several tasks in one run: files of weights and prompts, folders of JSONL, templates, configs of other trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrast_train import cli
from contrast_train.data import task_mixing
from contrast_train.data.task_folders import files_by_task
from contrast_train.data.task_mixing import TaskSettings
from fletching.prompts import InstructionTemplate

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROOT = Path(__file__).resolve().parents[2]
FAST = (
    "--batch",
    "4",
    "--batch-tokens",
    "64",
    "--lr",
    "1e-3",
    "--dtype",
    "float32",
    "--activations",
    "0",
)


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path) -> Any:
    def train(*argv: Any, out: str = "tuned") -> Any:
        return invoke(cli.main, "--model", model, "-o", tmp_path / out, *FAST, *argv)

    return train


@pytest.fixture
def folder(tmp_path: Path, write: Any, examples: list[dict[str, Any]]) -> Path:
    """nq.train.jsonl with 8 rows, go/train with 4 (a JSON array, as CodeSearchNet's), and test rows that are no input."""
    (tmp_path / "data/go/train").mkdir(parents=True)
    (tmp_path / "data/go/test").mkdir()
    write(
        tmp_path / "data/nq.train.jsonl",
        [{"query": row["query"], "positive": row["pos"]} for row in examples[:8]],
    )
    rows = [
        {"query": row["query"], "positive": row["pos"][0], "negative": examples[0]["pos"][0]}
        for row in examples[8:]
    ]
    (tmp_path / "data/go/train/0.jsonl").write_text(json.dumps(rows))
    write(tmp_path / "data/go/test/0.jsonl", [{"query": "held out", "positive": "never read"}])
    return tmp_path / "data"


def test_the_task_of_a_row_is_the_name_of_its_file(train: Any, folder: Path) -> None:
    done = train(folder, "--limit", "11", "--dry-run")
    assert done.rc == 0, done.err
    assert "tasks by file name: go, nq" in done.err
    assert "task nq: 7 rows in batches of 4 and 3, seen 1 x, 0 left out" in done.err
    assert "task go: 4 rows" in done.err
    assert "11 in, 0 out" in done.err


def test_a_folder_of_parquet_is_one_input_and_a_rows_own_task_stays(
    folder: Path, tmp_path: Path, write: Any, examples: list[dict[str, Any]], train: Any
) -> None:
    write(folder / "part.parquet", examples)
    assert files_by_task(str(folder)) == []
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    write(
        labelled / "x.jsonl",
        [row | {"task": "labels" if i % 2 else None} for i, row in enumerate(examples)],
    )
    done = train(labelled, "--dry-run")
    assert "task labels: 6 rows" in done.err
    assert "task x: 6 rows" in done.err


def test_tasks_have_weights_and_prompts_and_the_model_keeps_them(
    train: Any, folder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    file = tmp_path / "tasks.yaml"
    file.write_text(
        "nq: {weight: 0.5, query-prompt: 'owl: '}\nsquad: {}\ngo: {weight: 2, query-prompt: 'bread: ', doc-prompt: 'iron: '}\n"
    )
    done = train(folder, "--tasks", file, "--epochs", "1")
    assert done.rc == 0, done.err
    assert "task nq: 8 rows in batches of 4, seen 0.5 x, 4 left out" in done.err
    assert "task go: 4 rows in batches of 4, seen 2 x, 0 left out" in done.err
    assert "12 in, 8 out (4 left out by the plan)" in done.err
    assert "without a row: squad" in done.err
    tuned = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    assert {name: tuned.prompts[name] for name in ("nq", "go", "go-document")} == {
        "nq": "owl: ",
        "go": "bread: ",
        "go-document": "iron: ",
    }
    card = (tmp_path / "tuned/README.md").read_text()
    assert '"weight": 0.5' in card
    assert str(tmp_path) not in card
    assert train(folder, "--epochs", "1", out="plain").rc == 0
    assert (tmp_path / "plain/model.safetensors").read_bytes() != (
        tmp_path / "tuned/model.safetensors"
    ).read_bytes()


def test_prompts_of_tasks_stand_before_their_texts(tmp_path: Path, write: Any) -> None:
    from arranged import arrange

    from contrast_train.data import examples_table
    from contrast_train.data.dataset import TrainingDataset
    from fletching.io import Reader
    from fletching.prompts import QueryPrompts
    from fletching.report import Report

    rows = [{"query": "a", "pos": ["p"], "task": "x"}, {"query": "b", "pos": ["p"], "task": "y"}]
    rows.append({"query": "c", "pos": ["p"], "task": None, "prompt": "mine"})
    report = Report("test", quiet=True)
    source = Reader(report, [write(tmp_path / "rows.jsonl", rows)], "examples")
    path = str(tmp_path / "rows.arrow")
    examples_table.write(source, path, report, prompts=QueryPrompts("Instruct: {}\n", report))
    opened = TrainingDataset.open(path, task_prompts={"x": ("X ", "DX "), "y": ("Y ", None)})
    queries, documents, structure = arrange([opened[0, i] for i in range(3)], "q: ", "d: ")
    assert queries == [("X ", "a"), ("Y ", "b"), ("Instruct: mine\n", "c")]
    assert documents == [("DX ", "p"), ("d: ", "p")]
    assert len(structure.masked_pairs) == 6, "the same text under another prompt answers as well"


def test_held_out_rows_have_the_prompts_of_their_tasks() -> None:
    import pyarrow as pa

    from contrast_train.training.retrieval_evaluator import EvaluationPrompts, RetrievalEvaluator

    table = pa.table(
        {
            "query": ["a", "b", "c"],
            "pos": [["p"], ["p"], ["r"]],
            "task": ["x", None, "x"],
            "prompt": [None, None, "own"],
        }
    )
    prompts = EvaluationPrompts(
        query="q: ",
        document="d: ",
        of_task={"x": ("X ", "DX ")},
        template=InstructionTemplate.parse("<{}> "),
    )
    evaluator = RetrievalEvaluator(table.to_batches(), "dev", prompts)
    assert evaluator.queries == [("X ", "a"), ("q: ", "b"), ("<own> ", "c")]
    assert evaluator.documents == [("DX ", "p"), ("d: ", "p"), ("DX ", "r")]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({"nqq": {}}, 1, "did you mean nq?"),
        ({"squad": {}}, 1, "tasks of the data: "),
        ({"nq": {"wieght": 2}}, 2, "did you mean weight?"),
        ({"nq": {"weight": "2"}}, 2, "weight of task nq is '2'"),
        ({"nq": {"weight": -1}}, 2, "from 0 on"),
        ({"nq": 2}, 2, "nq is 2"),
        ('{"nq": {}, "go": {}, "nq": {"weight": 2}}', 2, "the key `nq` appears twice"),
        (
            {"nq": {"query-prompt": "x: "}, "go": {"doc-prompt": "y: "}},
            1,
            "the model or --doc-prompt for 'z: '",
        ),
    ],
)
def test_a_file_of_tasks_that_does_not_fit_is_refused(
    train: Any, folder: Path, tmp_path: Path, content: Any, code: int, message: str
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "tasks.json").write_text(text)
    done = train(folder, "--tasks", tmp_path / "tasks.json", "--doc-prompt", "z: ")
    assert done.rc == code
    assert message in done.err
    assert not (tmp_path / "tuned.run").exists()


def test_a_prompt_of_the_row_and_another_of_its_task_clash() -> None:
    from collections import Counter

    from fletching.errors import InputError

    rows_by_prompt: Counter[tuple[str, str | None]] = Counter({("nq", None): 3, ("nq", "row: "): 1})
    with pytest.raises(InputError, match="rows of task nq ask for the prompt 'row: '"):
        task_mixing.merge_prompts(
            rows_by_prompt, {"nq": TaskSettings(query_prompt="task: ")}, "tasks.json"
        )
    assert task_mixing.merge_prompts(rows_by_prompt, {}, None) == {None: 3, "row: ": 1}
    with pytest.raises(InputError, match="a prompt named query already"):
        task_mixing.saved_prompts(
            {"query": "q: "}, {"query": TaskSettings(query_prompt="other: ")}, ""
        )
    assert (
        task_mixing.saved_prompts({}, {"a": TaskSettings(doc_prompt="d: ")}, "")["document"]
        == "d: "
    )


@pytest.mark.parametrize(
    ("argv", "seen"),
    [
        (
            "--task-cap 3 --batch 2",
            "task nq: 8 rows in batches of 2 and 1, seen 0.375 x, 5 left out",
        ),
        (
            "--task-temperature 100 --batch 2",
            "task nq: 8 rows in batches of 2, seen 0.75 x, 2 left out",
        ),
        ("--mix-tasks", "task nq: 8 rows in batches shared by 2 tasks, seen 1 x, 0 left out"),
        ("--drop-last --batch 5 --epochs 1", "task nq: 8 rows in batches shared by 2 tasks"),
    ],
)
def test_options_of_the_plan(train: Any, folder: Path, argv: str, seen: str) -> None:
    argv = argv.replace("--drop-last --batch 5", "--drop-last --mix-tasks --batch 5")
    done = train(folder, "--dry-run", *argv.split())
    assert done.rc == 0, done.err
    assert seen in done.err
    if "drop-last" in argv:
        assert "2 steps of up to 5 rows, 2 an epoch" in done.err


def test_a_template_without_a_place_is_wrong_usage(train: Any, folder: Path) -> None:
    assert "has no {}" in train(folder, "--prompt-template", "Instruct: ").err


RECIPES = {
    "csn": [{"query": "q", "positive": "p", "negative": "n"}],
    "e5": [{"query": "q", "positive": "p", "negative": "n"}],
    "bge": [{"query": "q", "pos": ["p"], "neg": ["n", "m"]}],
    "conretriever": [
        {"query": "q", "positive": ["p"], "negative": ["n"], "instruction": "find it"}
    ],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs(
    train: Any,
    tmp_path: Path,
    write: Any,
    examples: list[dict[str, Any]],
    name: str,
    monkeypatch: Any,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (shape,) = RECIPES[name]
    rows = []
    for i, row in enumerate(examples):
        texts = {
            "q": row["query"],
            "p": row["pos"][0],
            "n": examples[i - 1]["pos"][0],
            "m": examples[i - 2]["pos"][0],
        }
        rows.append(
            {
                key: texts.get(value, value)
                if isinstance(value, str)
                else [texts[text] for text in value]
                for key, value in shape.items()
            }
        )
    write(
        folder
        / ("go.jsonl" if name == "csn" else "nq.jsonl" if name == "e5" else "synthetic.jsonl"),
        rows,
    )
    monkeypatch.chdir(ROOT)
    small = [
        "--query-length",
        "48",
        "--doc-length",
        "24",
        *(["--epochs", "0.1"] if name in ("bge", "conretriever") else ["--steps", "1"]),
    ]
    done = train(folder, "--config", ROOT / f"examples/recipes/{name}.json", *small)
    assert done.rc == 0, done.err
    prompts = json.loads((tmp_path / "tuned/config_sentence_transformers.json").read_text())[
        "prompts"
    ]
    saved = {"csn": "query", "bge": "query", "e5": "nq", "conretriever": "query"}[name]
    assert prompts[saved].startswith(("Find ", "Instruct: Find ", "find it\n"))
