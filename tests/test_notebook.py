"""The notebook runs from the top in a fresh folder; what takes minutes is shortened to its first stage."""

from __future__ import annotations

import re

import nbclient
import nbformat
import pytest
from conftest import environment_with_warm_commands
from suite import ROOT
from test_readme import base_model

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

NOTEBOOK = ROOT / "examples" / "notebook" / "tune_faq.ipynb"
__all__ = ["base_model"]


def is_slow(cell) -> bool:
    return "slow" in cell.metadata.get("tags", [])


def test_the_notebook_is_valid_and_holds_no_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert all(cell.source for cell in cells)


def test_the_notebook_runs_from_the_top(base_model, tmp_path, monkeypatch):
    """Without a network, on the weights of the package."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name, value in environment_with_warm_commands(MODEL=base_model).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    slow = [cell for cell in notebook.cells if is_slow(cell)]
    notebook.cells = [cell for cell in notebook.cells if not is_slow(cell)]
    [tuning] = [cell for cell in slow if "fletching tune" in cell.source]
    tuning.source += " --to split"
    notebook.cells.append(tuning)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = "".join(str(output) for cell in cells for output in cell.outputs)
    assert "fix: " not in said and "Traceback" not in said, said
    assert "976 questions" in said and re.search(r"tuned\b.*\+0\.\d+ .*better", said, re.S), said
    assert (tmp_path / "run.html").exists() and (tmp_path / "page.html").exists()
    assert list((tmp_path / "tuned.tune" / "pairs").glob("*.parquet"))
