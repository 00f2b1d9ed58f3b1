"""A wrong model, a missing file and columns that do not fit are refused before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from suite import COMMANDS

from fletching import early_checks
from fletching.errors import InputError

HEAVY = ("torch", "transformers", "mteb", "sentence_transformers")
LINES = {
    "simfilter": "{input} --model {model} --score-only",
    "hnmine": "{input} --model {model}",
    "contrast-train": "{input} --model {model} -o out",
    "distill": "{input} --teacher {model} -o out",
    "mntp": "{input} --model {model} -o out",
    "mteb-eval": "{model} --examples {input}",
    "texts2vectors": "{input} --model {model}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder in name only, a table with other columns, and rows that fit."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "table.csv").write_text("q,a\nx,y\n")
    (tmp_path / "rows.jsonl").write_text('{"query": "q", "pos": ["p"], "text": "t"}\n')
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("tool", LINES)
def test_what_is_refused_is_refused_without_torch(tool: str, folder: Path) -> None:
    calls = [
        LINES[tool].format(input=source, model=model).split()
        for source, model in (
            ("table.csv", "model"), ("missing.jsonl", "model"), ("rows.jsonl", "./wrong"),
        )
    ]  # fmt: skip
    probe = (
        f"import sys\nfrom {COMMANDS[tool].module}.cli import main\n"
        f"codes = [main(words) for words in {calls!r}]\n"
        f"print(codes, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True, text=True, check=True, env=environment(), cwd=folder,
    )  # fmt: skip
    assert done.stdout == "[1, 1, 1] []\n"
    assert "table.csv has no column" in done.stderr
    assert "missing.jsonl does not exist" in done.stderr
    assert "./wrong is no folder" in done.stderr


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("./wrong", "is no folder"),
        ("/a/b/c", "is no folder"),
        ("org/unknown", "HF_HUB_OFFLINE=1 forbids"),
        ("rows.jsonl", "is a file"),
        ("empty", "holds no model"),
    ],
)
def test_a_name_that_can_be_no_model_is_refused(
    name: str, what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    with pytest.raises(InputError, match=what):
        early_checks.check_model("--model", name)


def test_a_folder_and_a_name_of_the_hub_are_left_to_the_loader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    (folder / "home/hub/models--org--cached").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    early_checks.check_model("--model", "model")
    early_checks.check_model("--model", "org/cached")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    early_checks.check_model("--model", "org/unknown")
