"""The README of the library tells the truth: its code runs, and the modules offer the names it lists."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest

from fletching.io import Reader
from fletching.report import Report

LIBRARY = Path(__file__).resolve().parents[2] / "libs" / "common"
README = (LIBRARY / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ROWS = re.findall(r"^\| `(fletching[\w.]*)` \| (.*) \|$", README, re.MULTILINE)


def test_the_code_runs_from_the_first_block_to_the_last(tmp_path, monkeypatch, examples, model):
    monkeypatch.chdir(tmp_path)
    long = {"id": "long", "query": "q" * 100, "pos": ["p"]}
    lines = [json.dumps(row) for row in [*examples, long]]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), "utf-8")
    module = types.ModuleType("readme")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, "readme", module)
    names = vars(module)
    for block in BLOCKS:
        code = compile(block.replace("all-MiniLM-L6-v2", model), "README.md", "exec")
        exec(code, names)
    assert names["code"] == 0
    assert Reader(Report("t"), ["out.parquet"], "examples").read_all().num_rows == len(examples)
    assert names["tools"] == ["shortqueries"]
    assert names["third"] == {"n": 3}
    assert "neg" in names["wider"].names
    assert len(names["vectors"]) == 1


@pytest.mark.parametrize(("module", "text"), ROWS, ids=[module for module, _ in ROWS])
def test_a_module_offers_the_names_that_are_listed(module, text):
    offered = importlib.import_module(module)
    listed = re.findall(r"`([A-Za-z_]\w*)(?=[(`])", text)
    exempt = {"drop", "add", "note", "progress", "measures", "neg", "vectors", "TextEncoder"}
    for name in set(listed) - exempt:
        assert hasattr(offered, name), f"{module} has no {name}"


def test_every_public_module_is_listed():
    listed = {module for module, _ in ROWS}
    package = LIBRARY / "src" / "fletching"
    modules = {f"fletching.{path.stem}" for path in package.glob("*.py") if path.stem[0] != "_"}
    internal = {"fletching.help", "fletching.arrow_types"}
    rooms = {f"fletching.{path.parent.name}" for path in package.glob("*/__init__.py")}
    assert modules - internal <= listed
    assert rooms <= listed


def test_every_variable_of_ours_is_explained():
    variables: set[str] = set()
    for path in (LIBRARY / "src").rglob("*.py"):
        variables |= set(re.findall(r"FLETCHING_[A-Z_]+", path.read_text("utf-8")))
    assert variables == set(re.findall(r"^\| `(FLETCHING_[A-Z_]+)", README, re.MULTILINE))
