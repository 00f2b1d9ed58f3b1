"""`fletching completion SHELL`, tried in the shells themselves; config schemas; manual pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import build_man
import pytest
from conftest import built_once
from suite import PROGRAMS

from fletching import completion, dispatch
from fletching.errors import UsageError

# Presses Tab after each line of stdin: the last word is what has been typed of it.
PRESS_TAB = """
source "$1"
while IFS=$'\\t' read -ra COMP_WORDS; do
  [[ ${COMP_WORDS[-1]} == - ]] && COMP_WORDS[-1]=""
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  $(complete -p "${COMP_WORDS[0]}" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
  echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """The folder of completion.bash, .zsh and .fish."""

    def build(folder: Path) -> None:
        for shell in completion.SHELLS:
            (folder / f"completion.{shell}").write_text(completion.script(shell), "utf-8")

    return built_once(tmp_path_factory, "completion", build)


def test_bash_completes_names_options_choices_and_files(scripts, tmp_path):
    (tmp_path / "faq.csv").touch()
    expected = {
        "csv2pairs --mo": "--mode",
        "csv2pairs --mode g": "group",
        "csv2pairs -o fa": "faq.csv",
        "fletching csv2": "csv2pairs",
        "fletching csv2pairs --mode li": "list",
        "fletching completion -": "bash zsh fish",
        "contrast-train --loss cose": "cosent",
        "mteb-eval --print-c": "--print-config",
        "fletching-tune --dry": "--dry-run",
    }
    lines = "".join("\t".join(line.split(" ")) + "\n" for line in expected)
    shown = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB, "bash", scripts / "completion.bash"],
        input=lines, capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert dict(zip(expected, shown.stdout.splitlines(), strict=True)) == expected
    assert shown.stderr == ""


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_with_the_help_of_each_option(scripts):
    line = f"source {scripts}/completion.fish; complete -C 'fletching csv2pairs --quer'"
    shown = subprocess.run(
        ["fish", "--no-config", "-c", line], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("--query\tcolumn of the query")


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_script_for_every_program(scripts):
    line = f'autoload -U compinit; compinit -u -D; eval "$(<{scripts}/completion.zsh)"; '
    line += "print -l ${(k)_comps[(R)_shtab_*]}"
    shown = subprocess.run(["zsh", "-f", "-c", line], capture_output=True, text=True, check=True)
    assert {"fletching", "csv2pairs", "fletching-tune"} <= set(shown.stdout.split())


def test_the_program_prints_the_script_and_names_the_shells_it_knows(capsys):
    assert dispatch.main(["completion", "tcsh"]) == 2
    assert "pass one of bash, zsh, fish" in capsys.readouterr().err
    assert dispatch.main(["completion"]) == 2
    assert "fletching completion SHELL" in capsys.readouterr().err


def test_every_option_of_every_installed_tool_is_completed():
    tools = {tool.name for tool in completion.installed_tools()}
    assert tools >= {name for name, command in PROGRAMS.items() if not command.heavy}
    with pytest.raises(UsageError):
        completion.find_tool("nothing")


@pytest.mark.slow
def test_the_commands_of_shards_are_completed_too(capsys):
    assert dispatch.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for word in ("shard", "status", "join"):
        assert f" {word} " in script
    assert "--json" in script


def test_the_schema_of_configs_by_name(capsys):
    assert dispatch.main(["schema-config", "tune"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$id"].endswith("/schemas/config/fletching-tune.json")
    assert schema["properties"]["budget"]["default"]


def test_manual_pages_hold_every_option_and_format_without_a_warning(tmp_path, capsys):
    build_man.main(str(tmp_path))
    pages = {path.stem: path for path in tmp_path.glob("*.1")}
    assert set(PROGRAMS) | {"fletching"} <= pages.keys()
    for tool in completion.installed_tools():
        text = pages[tool.name].read_text("utf-8").replace("\\-", "-") if tool.name in pages else ""
        for action in completion.parser_of(tool)._actions:
            flags = [flag for flag in action.option_strings if flag.startswith("--")]
            if text and flags and flags[0] not in completion.INFORMATION:
                assert any(re.search(rf"{flag}[ \\,]", text) for flag in flags), flags
    if shutil.which("groff"):
        line = ["groff", "-man", "-ww", "-Tutf8", *map(str, pages.values())]
        done = subprocess.run(line, capture_output=True, text=True, env=os.environ)
        warned = [one for one in done.stderr.splitlines() if "cannot adjust" not in one]
        assert warned == [] and "csv2pairs" in done.stdout
    assert "man pages:" in capsys.readouterr().out
    assert "fletching completion bash|zsh|fish" in dispatch.overview()
